"""Nothing of a lab is forgotten: all of it is listed, and what was left behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.lab.aws import audit, destroy
from ansible.module_utils.lab.aws.audit import NOBODY, Found, Item
from ansible.module_utils.lab.aws.destroy import Wish
from ansible.module_utils.lab.aws.names import Names
from ansible.module_utils.lab.aws.session import AwsError
from ansible.module_utils.lab.aws.variables import Spec

from tests.unit.aws.kit import PRICES, Faulty, Quick, build, once, wish

BUCKET = "gpulab-123456789012-lab"


def kinds(found: Found, lab: str) -> list[str]:
    return sorted(item.kind for item in found.items if item.lab == lab)


def test_all_of_a_lab_is_listed(aws: Faulty, tmp_path: Path) -> None:
    build(aws, wish(tmp_path, monthly_budget=50, budget_email="me@example.org"))
    found = audit.look(aws, PRICES)
    assert kinds(found, "lab") == [
        "bucket", "budget", "host", "instance profile", "key pair", "role", "role", "schedule",
        "security group", "volume", "volume",
    ]  # fmt: skip
    assert kinds(found, NOBODY) == []
    assert not found.denied
    costs = {item.kind: item.month for item in found.items}
    assert costs["host"] == pytest.approx(0.531 * 730)
    assert sum(item.month or 0 for item in found.items if item.kind == "volume") == (
        pytest.approx(12.8)
    )
    text = audit.report(found, "a note")
    assert text[-1] == (
        f"The labs' sum if all stays as it is: ${0.531 * 730 + 12.8:.2f} a month, and buckets"
        " (a note)."
    )


def test_two_labs_are_told_apart(aws: Faulty, spec: Spec, tmp_path: Path) -> None:
    build(aws, spec)
    build(aws, wish(tmp_path, name="two", state_dir=tmp_path / "two"))
    found = audit.look(aws, PRICES)
    assert kinds(found, "lab") == kinds(found, "two")


def test_nothing_is_left_after_destroy_with_all(aws: Faulty, spec: Spec) -> None:
    build(aws, spec)
    names = Names("lab", "us-east-1")
    wishes = Wish("lab", delete_data=True, delete_bucket=BUCKET)
    steps = destroy.make_plan(wishes, names, destroy.look(aws, names, BUCKET))
    destroy.carry_out(aws, steps, Quick())
    found = audit.look(aws, PRICES)
    assert audit.report(found, "") == ["Nothing of any lab is in this region."]


def leave_behind(aws: Faulty) -> None:
    zone = {"AvailabilityZone": "us-east-1a"}
    aws.inner.call("ec2", "CreateVolume", Size=50, **zone)
    volume = aws.inner.call("ec2", "CreateVolume", Size=20, **zone)["VolumeId"]
    aws.inner.call("ec2", "CreateSnapshot", VolumeId=volume)
    aws.inner.call("ec2", "DeleteVolume", VolumeId=volume)
    aws.inner.call("ec2", "AllocateAddress", Domain="vpc")
    aws.inner.call("ec2", "CreateSecurityGroup", GroupName="gpulab-old", Description="old")
    aws.inner.call("ec2", "CreateSecurityGroup", GroupName="theirs", Description="theirs")
    aws.inner.call("ec2", "CreateKeyPair", KeyName="gpulab-old")
    aws.inner.call("ec2", "CreateKeyPair", KeyName="theirs")
    aws.inner.call(
        "iam", "CreateRole", RoleName="gpulab-old-us-east-1", AssumeRolePolicyDocument="{}"
    )
    aws.inner.call("iam", "CreateRole", RoleName="theirs", AssumeRolePolicyDocument="{}")
    aws.inner.call("s3", "CreateBucket", Bucket="gpulab-123456789012-old")
    aws.inner.call("s3", "CreateBucket", Bucket="theirs")


def test_leftovers_are_listed_apart(aws: Faulty) -> None:
    leave_behind(aws)
    found = audit.look(aws, PRICES)
    assert {item.lab for item in found.items} == {NOBODY}
    assert kinds(found, NOBODY) == [
        "address", "bucket", "key pair", "role", "security group", "snapshot", "volume",
    ]  # fmt: skip
    costs = {item.kind: item.month for item in found.items}
    assert costs["volume"] == pytest.approx(4.0)
    assert costs["snapshot"] == pytest.approx(1.0)
    assert costs["address"] == pytest.approx(3.65)
    assert "$8.65 a month. It may be somebody else's" in audit.report(found, "")[-1]


def test_what_is_used_by_others_is_theirs(aws: Faulty) -> None:
    image = aws.inner.call("ec2", "DescribeImages")["Images"][0]["ImageId"]
    aws.inner.call(
        "ec2", "RunInstances", ImageId=image, MinCount=1, MaxCount=1, InstanceType="t3.micro"
    )
    assert audit.look(aws, PRICES).items == ()


@pytest.mark.parametrize(
    ("operation", "kind"),
    [("ListSchedules", "schedules"), ("DescribeBudgets", "budgets"), ("ListRoles", "roles"),
     ("ListBuckets", "buckets"), ("DescribeAddresses", "addresses")],
)  # fmt: skip
def test_what_may_not_be_looked_at_is_said(
    aws: Faulty, spec: Spec, operation: str, kind: str
) -> None:
    build(aws, spec)
    aws.before = once(operation, "AccessDeniedException")
    found = audit.look(aws, PRICES)
    assert list(found.denied) == [kind]
    assert audit.report(found, "")[0].startswith(f"{kind} could not be looked at: ")
    assert kinds(found, "lab")


def test_other_errors_are_errors(aws: Faulty) -> None:
    aws.before = once("DescribeVolumes", "RequestLimitExceeded")
    with pytest.raises(AwsError, match="throttled"):
        audit.look(aws, PRICES)


@pytest.mark.parametrize(("tags", "name", "idle", "lab"), [
    ({"Project": "gpulab", "Lab": "a"}, "", False, "a"), ({"Project": "gpulab"}, "", True, "?"),
    ({}, "gpulab-a", False, NOBODY), ({}, "mygpulab-a", False, None), ({}, "", True, NOBODY),
    ({"Project": "x"}, "", False, None),
])  # fmt: skip
def test_whose_a_thing_is(tags: dict[str, str], name: str, idle: bool, lab: Any) -> None:
    assert audit.owner(tags, name, idle) == lab


def test_an_unknown_price_is_not_nothing() -> None:
    assert Item("a", "host", "i-1", "m9z.huge", None).cells()[-1] == "?"
    assert Item("a", "key pair", "k", "").cells()[-1] == "-"
