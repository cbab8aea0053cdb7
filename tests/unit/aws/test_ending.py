"""Stopping, destroying, and what is said of the costs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from ansible.module_utils.lab.aws import destroy, power, status
from ansible.module_utils.lab.aws.destroy import Wish
from ansible.module_utils.lab.aws.lock import lock
from ansible.module_utils.lab.aws.names import Names
from ansible.module_utils.lab.aws.plan import Step
from ansible.module_utils.lab.aws.session import AwsError
from ansible.module_utils.lab.aws.things import Snapshot
from ansible.module_utils.lab.aws.variables import Spec
from ansible.module_utils.lab.errors import LabError

from tests.unit.aws.kit import PRICES, Faulty, Quick, build, instance, once, volume, wish

NAMES = Names("lab", "us-east-1")
BUCKET = "gpulab-123456789012-lab"


def take_away(aws: Faulty, spec: Spec, wishes: Wish) -> list[Step]:
    """Do what a run of the module does."""
    destroy.check_name(wishes, NAMES)
    there = destroy.look(aws, NAMES, BUCKET)
    destroy.check_bucket(wishes, there, BUCKET)
    steps = destroy.make_plan(wishes, NAMES, there)
    destroy.carry_out(aws, steps, Quick())
    destroy.prove(wishes, NAMES, destroy.look(aws, NAMES, BUCKET))
    return steps


@pytest.mark.parametrize("typed", ["", "LAB", "lab ", "other", "yes"])
def test_only_the_name_destroys(typed: str) -> None:
    with pytest.raises(LabError, match="nothing is deleted"):
        destroy.check_name(Wish(typed, delete_data=True, delete_bucket=""), NAMES)


def test_data_and_bucket_are_kept_and_named(aws: Faulty, spec: Spec) -> None:
    build(aws, spec)
    wishes = Wish("lab", delete_data=False, delete_bucket="")
    take_away(aws, spec, wishes)
    there = destroy.look(aws, NAMES, BUCKET)
    (data,) = there.volumes
    lines = "\n".join(destroy.kept(wishes, NAMES, there, spec))
    assert f"data volume {data.id} (100 GB)" in lines
    assert "-e delete_data=true" in lines
    assert f"-e delete_bucket={BUCKET}" in lines
    assert take_away(aws, spec, wishes) == []


def test_nothing_is_left_where_all_is_asked_for(aws: Faulty, spec: Spec) -> None:
    build(aws, spec)
    # moto takes a policy's condition for met: its "not without TLS" would refuse everything.
    aws.inner.call("s3", "DeleteBucketPolicy", Bucket=BUCKET)
    for number in range(3):
        aws.inner.call("s3", "PutObject", Bucket=BUCKET, Key=f"a/{number}", Body=b"x")
    aws.inner.call("s3", "CreateMultipartUpload", Bucket=BUCKET, Key="unfinished")
    wishes = Wish("lab", delete_data=True, delete_bucket=BUCKET)
    assert take_away(aws, spec, wishes)
    ec2 = aws.inner
    assert ec2.call("ec2", "DescribeVolumes")["Volumes"] == []
    assert ec2.call("ec2", "DescribeKeyPairs")["KeyPairs"] == []
    assert ec2.call("s3", "ListBuckets")["Buckets"] == []
    assert ec2.call("iam", "ListRoles")["Roles"] == []
    assert ec2.call("iam", "ListInstanceProfiles")["InstanceProfiles"] == []
    groups = ec2.call("ec2", "DescribeSecurityGroups")["SecurityGroups"]
    assert [group["GroupName"] for group in groups] == ["default"]
    assert take_away(aws, spec, wishes) == []


def test_a_half_destroyed_lab_is_destroyed(aws: Faulty, spec: Spec) -> None:
    build(aws, spec)
    aws.before = once("DeleteRole", "UnauthorizedOperation")
    wishes = Wish("lab", delete_data=True, delete_bucket=BUCKET)
    with pytest.raises(LabError, match="DeleteRole"):
        take_away(aws, spec, wishes)
    left = [step.do for step in take_away(aws, spec, wishes)]
    assert left == ["delete_role", "delete_schedule", "delete_role", "delete_bucket"]


def test_what_is_still_held_is_tried_again(aws: Faulty, spec: Spec) -> None:
    build(aws, spec)
    aws.before = once("DeleteSecurityGroup", "DependencyViolation", times=3)
    take_away(aws, spec, Wish("lab", delete_data=False, delete_bucket=""))


def test_what_is_held_for_ever_ends(aws: Faulty, spec: Spec) -> None:
    build(aws, spec)
    aws.before = once("DeleteSecurityGroup", "DependencyViolation", times=999)
    with pytest.raises(LabError, match="DependencyViolation"):
        take_away(aws, spec, Wish("lab", delete_data=False, delete_bucket=""))


def test_a_protected_host_goes_by_its_typed_name_alone(aws: Faulty, spec: Spec) -> None:
    build(aws, spec)
    host = power.find(aws, NAMES)
    assert host
    with pytest.raises(AwsError, match="OperationNotPermitted"):
        aws.inner.call("ec2", "TerminateInstances", InstanceIds=[host.id])
    aws.calls.clear()
    with pytest.raises(LabError, match="nothing is deleted"):
        take_away(aws, spec, Wish("other", delete_data=True, delete_bucket=BUCKET))
    assert aws.calls == []
    take_away(aws, spec, Wish("lab", delete_data=False, delete_bucket=""))
    assert aws.writes()[:2] == ["ModifyInstanceAttribute", "TerminateInstances"]


@pytest.mark.parametrize("named", ["my-data", "gpulab-123456789012-other"])
def test_another_bucket_is_never_deleted(aws: Faulty, spec: Spec, named: str) -> None:
    build(aws, spec)
    with pytest.raises(LabError, match=f"own bucket is {BUCKET}: nothing is deleted"):
        take_away(aws, spec, Wish("lab", delete_data=False, delete_bucket=named))
    assert "TerminateInstances" not in aws.writes()


def test_other_labs_are_left_alone(aws: Faulty, spec: Spec, tmp_path: Path) -> None:
    build(aws, spec)
    other = wish(tmp_path, name="two", state_dir=tmp_path / "two")
    build(aws, other)
    take_away(aws, spec, Wish("lab", delete_data=True, delete_bucket=BUCKET))
    assert build(aws, other) == []


def test_left_overs_are_an_error() -> None:
    there = destroy.Things((instance(),), (), (), None, None, None, None, (), (), ())
    with pytest.raises(LabError, match="there is still: i-0a"):
        destroy.prove(Wish("lab", delete_data=False, delete_bucket=""), NAMES, there)


def test_images_are_named_and_kept(spec: Spec) -> None:
    there = destroy.Things((), (), (), None, None, None, None, (), ("ami-1",), ("snap-1",))
    lines = "\n".join(destroy.kept(Wish("lab", True, ""), NAMES, there, spec))
    assert "playbooks/bake.yml -e lab_name=lab -e bake_prune=true -e bake_keep=0" in lines
    assert "delete-snapshot" in lines


def test_stopping(aws: Faulty, spec: Spec) -> None:
    build(aws, spec)
    host = power.find(aws, NAMES)
    assert host
    assert power.stop(aws, host, Quick()).state == "stopped"


def test_stopping_what_has_just_stopped_itself(aws: Faulty, spec: Spec) -> None:
    build(aws, spec)
    host = power.find(aws, NAMES)
    assert host
    aws.inner.call("ec2", "StopInstances", InstanceIds=[host.id])
    aws.before = once("StopInstances", "IncorrectInstanceState")
    assert power.stop(aws, host, Quick()).state == "stopped"


def test_there_is_nothing_to_stop(aws: Faulty) -> None:
    assert power.find(aws, NAMES) is None


def test_two_runs_at_once(tmp_path: Path) -> None:
    said = r"Another run \(process \d+\) is changing the lab lab"
    with lock(tmp_path / "lab"), pytest.raises(LabError, match=said), lock(tmp_path / "lab"):
        pytest.fail("the second run got the lock")
    with lock(tmp_path / "lab"):
        pass


NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
RATES = status.Rates(PRICES, "us-east-1", NOW)
SNAPSHOT = Snapshot("snap-1", 20, {"Project": "gpulab", "Lab": "old"})


def test_the_table_of_costs() -> None:
    running = instance(
        launched=NOW - timedelta(hours=10), public_ip="198.51.100.1", zone="us-east-1a"
    )
    made = NOW - timedelta(hours=10)
    disks = (
        volume(attached_to="i-0a", created=made),
        volume(id="vol-0r", size=60, attached_to="i-0a", tags={"Lab": "lab"}, created=made),
        volume(id="vol-0x", size=50, tags={"Project": "gpulab", "Lab": "old", "Role": "data"}),
    )
    rows = status.lines(status.Found((running,), disks, (SNAPSHOT,)), RATES)
    assert [(r.lab, r.state, r.disks_gb, r.stopped_month) for r in rows] == [
        ("lab", "running", 160, 12.8),
        ("old", "no host", 50, 5.0),
    ]
    assert rows[0].spent.dollars == pytest.approx(10 * 0.531 + 10 * 12.8 / 730)
    assert rows[0].spent.whole
    head, first, second = status.table(rows)
    assert head.split() == ["LAB", "HOST", "STATE", "TYPE", "ADDRESS", "UP", "RUNNING", "THIS",
                            "MONTH", "STOPPED", "DISKS", "BUCKET"]  # fmt: skip
    for said in ("10 h 0 min", "$0.549/h", "$5.49", "$12.80/month"):
        assert said in first
    assert "no host" in second
    (note,) = status.footer(rows, RATES)
    assert PRICES["date"] in note


def test_a_data_volume_that_is_not_attached_is_its_labs() -> None:
    (row,) = status.lines(status.Found((instance(),), (volume(),)), RATES)
    assert row.volumes == ("vol-0a",)


def test_a_stopped_host_says_what_it_would_cost() -> None:
    stopped = instance(state="stopped", stopped_because="User initiated (2026-11-01 10:00:00 GMT)")
    (row,) = status.lines(status.Found((stopped,)), RATES)
    assert row.cells()[5:8] == ("-", "$0.531/h", "$5.31")


def test_nothing_there_is_said() -> None:
    assert status.footer([], RATES) == [
        "There is no lab in this region, and nothing of one that costs."
    ]


@pytest.mark.parametrize(
    ("hours", "text"), [(0, "0 min"), (0.99, "59 min"), (5.17, "5 h 10 min"), (76.2, "3 d 4 h")]
)
def test_spans(hours: float, text: str) -> None:
    assert status.span(hours) == text
