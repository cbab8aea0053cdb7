"""A lab's life in an AWS in memory, with faults put in its way."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.lab.aws import apply, launch, plan, preflight, seen
from ansible.module_utils.lab.aws.names import Names
from ansible.module_utils.lab.aws.session import AwsError
from ansible.module_utils.lab.aws.things import Rule
from ansible.module_utils.lab.aws.variables import Spec, openings
from ansible.module_utils.lab.aws.work import Work
from ansible.module_utils.lab.errors import LabError

from tests.unit.aws.conftest import put, quota_of
from tests.unit.aws.kit import HERE, IMAGES, Faulty, Quick, build, look, once, refuse, wish

NAMES = Names("lab", "us-east-1")
# Each call that changes something, in the order of a first run.
WRITES = [
    "ImportKeyPair",
    "CreateSecurityGroup",
    "AuthorizeSecurityGroupIngress",
    "CreateBucket",
    "PutBucketTagging",
    "PutBucketEncryption",
    "PutPublicAccessBlock",
    "PutBucketPolicy",
    "CreateRole",
    "PutRolePolicy",
    "CreateInstanceProfile",
    "AddRoleToInstanceProfile",
    "CreateRole",
    "PutRolePolicy",
    "RunInstances",
    "ModifyInstanceAttribute",
    "CreateSchedule",
    "CreateVolume",
    "AttachVolume",
]


def whole(aws: Faulty, spec: Spec) -> None:
    """See that the lab is whole, and there once."""
    target, there, _, steps = look(aws, spec)
    assert steps == []
    (host,) = there.hosts(NAMES)
    assert host.state == "running"
    assert (host.tokens, host.hop_limit) == ("required", 1)
    assert there.protected
    assert there.on_shutdown == "stop"
    (data,) = there.data_volumes()
    assert (data.attached_to, data.zone, data.size) == (host.id, host.zone, 100)
    (group,) = there.groups
    assert group.rules == {Rule("tcp", 22, 22, HERE["GPULAB_CALLER_CIDR"])}
    assert there.bucket and there.bucket.encrypted and there.bucket.blocked
    assert host.tags["Bucket"] == target.bucket
    assert host.tags["LoginUser"] == "admin"


def test_looking_changes_nothing(aws: Faulty, spec: Spec) -> None:
    _, _, _, steps = look(aws, spec)
    assert steps
    assert aws.writes() == []
    assert not spec.state_dir.exists()


def test_a_first_run_and_a_second(aws: Faulty, spec: Spec) -> None:
    build(aws, spec)
    assert aws.writes() == WRITES
    whole(aws, spec)
    aws.calls.clear()
    assert build(aws, spec) == []
    assert aws.writes() == []


def test_disks_are_encrypted(aws: Faulty, spec: Spec) -> None:
    build(aws, spec)
    disks = aws.inner.call("ec2", "DescribeVolumes")["Volumes"]
    assert sorted((d["Size"], d["VolumeType"], d["Encrypted"]) for d in disks) == [
        (60, "gp3", True),
        (100, "gp3", True),
    ]


@pytest.mark.parametrize("operation", WRITES)
def test_a_refused_call_is_named_and_mended_by_the_next_run(
    aws: Faulty, spec: Spec, operation: str
) -> None:
    aws.before = once(operation, "UnauthorizedOperation")
    with pytest.raises(LabError, match=operation):
        build(aws, spec)
    build(aws, spec)
    whole(aws, spec)


@pytest.mark.parametrize("operation", WRITES)
def test_a_run_killed_after_a_call_is_mended_by_the_next(
    aws: Faulty, spec: Spec, operation: str
) -> None:
    aws.die_after(operation)
    with pytest.raises(KeyboardInterrupt):
        build(aws, spec)
    build(aws, spec)
    whole(aws, spec)
    assert len(aws.inner.call("ec2", "DescribeVolumes")["Volumes"]) == 2


def test_the_same_token_for_every_try(aws: Faulty, spec: Spec) -> None:
    """The reply is lost, the run dies; the next one asks with the token that was sent before."""

    def lose(name: str, _params: dict[str, Any]) -> None:
        if name == "RunInstances":
            raise refuse(name, "ReadTimeoutError")

    aws.before = lose
    for _ in range(2):
        with pytest.raises(AwsError):
            build(aws, spec)
    first = launch.token_file(spec.state_dir).read_text()
    aws.before = lambda *_: None
    build(aws, spec)
    (sent,) = aws.named("RunInstances")
    assert sent["ClientToken"] in first
    assert not launch.token_file(spec.state_dir).exists(), "the next host needs another token"


def test_another_request_gets_another_token(tmp_path: Path) -> None:
    one = launch.client_token(tmp_path, {"SubnetId": "a"})
    assert launch.client_token(tmp_path, {"SubnetId": "a"}) == one
    assert launch.client_token(tmp_path, {"SubnetId": "b"}) != one
    launch.token_file(tmp_path).write_text("{half")
    assert launch.client_token(tmp_path, {"SubnetId": "a"})


def test_a_new_profile_needs_time_to_spread(aws: Faulty, spec: Spec) -> None:
    left = [3]

    def spread(name: str, _params: dict[str, Any]) -> None:
        if name == "RunInstances" and left[0]:
            left[0] -= 1
            text = "Value (gpulab-lab-us-east-1) for parameter iamInstanceProfile.name is invalid"
            raise refuse(name, "InvalidParameterValue", text)

    aws.before = spread
    build(aws, spec)
    whole(aws, spec)


def test_a_profile_that_never_spreads_ends(aws: Faulty, spec: Spec) -> None:
    def never(name: str, _params: dict[str, Any]) -> None:
        if name == "RunInstances":
            raise refuse(name, "InvalidParameterValue", "Invalid IAM Instance Profile name")

    aws.before = never
    with pytest.raises(AwsError, match="Invalid IAM Instance Profile name"):
        build(aws, spec)


def test_no_room_in_one_zone_goes_on_to_the_next(aws: Faulty, spec: Spec) -> None:
    aws.before = once("RunInstances", "InsufficientInstanceCapacity", times=2)
    build(aws, spec)
    whole(aws, spec)
    _, there, _, _ = look(aws, spec)
    host, data = there.host(NAMES), there.data()
    assert host and data and host.zone == data.zone == "us-east-1c"


def test_no_room_anywhere_says_so(aws: Faulty, spec: Spec) -> None:
    aws.before = once("RunInstances", "InsufficientInstanceCapacity", times=99)
    with pytest.raises(LabError, match=r"no g4dn.xlarge in us-east-1a .*g4dn.xlarge in us-east-1f"):
        build(aws, spec)
    _, there, _, _ = look(aws, spec)
    assert there.instances == ()
    assert there.volumes == (), "a volume would bind the lab to a zone without room"


def test_an_existing_volume_binds_the_zone(aws: Faulty, spec: Spec) -> None:
    aws.before = once("RunInstances", "InsufficientInstanceCapacity", times=99)
    aws.inner.call(
        "ec2",
        "CreateVolume",
        AvailabilityZone="us-east-1b",
        Size=100,
        TagSpecifications=[
            {
                "ResourceType": "volume",
                "Tags": [
                    {"Key": "Project", "Value": "gpulab"},
                    {"Key": "Lab", "Value": "lab"},
                    {"Key": "Role", "Value": "data"},
                ],
            }
        ],
    )
    with pytest.raises(LabError, match=r"binds the lab to us-east-1b"):
        build(aws, spec)


def test_a_full_quota_is_refused_before_anything_is_made(
    aws: Faulty, spec: Spec, monkeypatch: pytest.MonkeyPatch
) -> None:
    from moto.servicequotas.models import ServiceQuotasBackend  # noqa: PLC0415

    monkeypatch.setattr(ServiceQuotasBackend, "get_service_quota", quota_of(0.0))
    with pytest.raises(LabError) as caught:
        build(aws, spec)
    assert str(caught.value) == (
        "g4dn.xlarge needs 4 vCPUs, but the quota L-DB2E81BA (Running On-Demand G and VT"
        " instances) in us-east-1 is 0, of which 0 are in use: ask for more with `aws"
        " service-quotas request-service-quota-increase --service-code ec2 --quota-code L-DB2E81BA"
        " --desired-value 4 --region us-east-1` (hours to days)"
    )
    assert aws.writes() == []


def test_what_runs_counts_for_the_quota(aws: Faulty, spec: Spec, tmp_path: Path) -> None:
    build(aws, spec)
    build(aws, wish(tmp_path, name="two", state_dir=tmp_path / "two"))
    with pytest.raises(LabError, match="of which 8 are in use"):
        build(aws, wish(tmp_path, name="three", state_dir=tmp_path / "three"))


def test_an_image_is_found_by_its_name(aws: Faulty, spec: Spec) -> None:
    target, _, _, _ = look(aws, spec)
    assert target.image and target.image.id.startswith("ami-")
    assert target.login_user == "admin"


def test_a_missing_image_names_the_parameter(aws: Faulty, spec: Spec) -> None:
    put(IMAGES["debian_13"]["x86_64"], "ami-00000000")
    with pytest.raises(LabError, match="There is no image ami-00000000 in us-east-1"):
        look(aws, spec)


def test_drift_is_put_right_and_said(aws: Faulty, spec: Spec) -> None:
    build(aws, spec)
    _, there, _, _ = look(aws, spec)
    group, host = there.groups[0].id, there.hosts(NAMES)[0].id
    world = apply.permission(Rule("tcp", 22, 22, "0.0.0.0/0"))
    aws.inner.call("ec2", "AuthorizeSecurityGroupIngress", GroupId=group, IpPermissions=[world])
    unsafe = {"InstanceId": host, "HttpTokens": "optional", "HttpEndpoint": "enabled"}
    aws.inner.call("ec2", "ModifyInstanceMetadataOptions", **unsafe)
    aws.inner.call(
        "ec2", "ModifyInstanceAttribute", InstanceId=host, DisableApiTermination={"Value": False}
    )
    aws.inner.call("s3", "DeletePublicAccessBlock", Bucket="gpulab-123456789012-lab")
    aws.inner.call(
        "iam", "PutRolePolicy", RoleName=NAMES.role, PolicyName="bucket",
        PolicyDocument=json.dumps(plan.policy("another-bucket")),
    )  # fmt: skip
    said = build(aws, spec)
    assert "Remove from security group gpulab-lab: tcp 22 from 0.0.0.0/0 (not in lab.yml)" in said
    assert len(said) == 5
    whole(aws, spec)


def test_ports_open_and_close_with_the_variables(aws: Faulty, spec: Spec) -> None:
    build(aws, spec)
    network = "2001:db8::/32"
    ports = openings([8888, {"port": "6817-6819", "sources": [network]}])
    said = build(aws, replace(spec, access="public", open_ports=ports))
    assert said == [
        "Allow tcp 6817-6819 from 2001:db8::/32",
        "Allow tcp 8888 from 198.51.100.7/32",
    ]
    assert build(aws, replace(spec, access="public", open_ports=ports)) == []
    said = build(aws, spec)
    assert len(said) == 2
    whole(aws, spec)


def test_the_rule_follows_the_caller(aws: Faulty, spec: Spec) -> None:
    build(aws, spec)
    moved = {"GPULAB_CALLER_CIDR": "203.0.113.9/32"}
    _, _, _, steps = look(aws, spec, environ=moved)
    assert [step.do for step in steps] == ["close", "open"]


def test_a_stopped_host_is_started_with_its_new_type(
    aws: Faulty, spec: Spec, tmp_path: Path
) -> None:
    build(aws, spec)
    _, there, _, _ = look(aws, spec)
    aws.inner.call("ec2", "StopInstances", InstanceIds=[there.hosts(NAMES)[0].id])
    _, _, _, steps = look(aws, wish(tmp_path, instance_type="g5.xlarge"))
    assert [step.do for step in steps] == ["change_type", "start", "set_schedule"]
    build(aws, wish(tmp_path, instance_type="g5.xlarge"))
    _, there, _, _ = look(aws, wish(tmp_path, instance_type="g5.xlarge"))
    assert [(i.type, i.state) for i in there.instances] == [("g5.xlarge", "running")]


def running(aws: Faulty, spec: Spec) -> tuple[str, str]:
    _, there, _, _ = look(aws, spec)
    (host,) = there.hosts(NAMES)
    return host.type, host.state


def test_a_running_host_changes_its_type(aws: Faulty, spec: Spec, tmp_path: Path) -> None:
    build(aws, spec)
    aws.calls.clear()
    more = wish(tmp_path, instance_type="g5.xlarge")
    target, _, _, steps = look(aws, more)
    assert [step.do for step in steps] == ["stop_host", "change_type", "start", "set_schedule"]
    assert any("what runs on it ends" in warning for warning in target.warnings)
    build(aws, more)
    assert running(aws, more) == ("g5.xlarge", "running")
    assert aws.writes()[:3] == ["StopInstances", "ModifyInstanceAttribute", "StartInstances"]
    assert build(aws, more) == []


@pytest.mark.parametrize(
    "operation", ["StopInstances", "ModifyInstanceAttribute", "StartInstances", "UpdateSchedule"]
)
def test_a_change_killed_midway_is_mended(
    aws: Faulty, spec: Spec, tmp_path: Path, operation: str
) -> None:
    build(aws, spec)
    more = wish(tmp_path, instance_type="g5.xlarge")
    aws.die_after(operation)
    with pytest.raises(KeyboardInterrupt):
        build(aws, more)
    build(aws, more)
    assert running(aws, more) == ("g5.xlarge", "running")
    assert build(aws, more) == []


def test_the_data_volume_grows_in_use_and_never_shrinks(
    aws: Faulty, spec: Spec, tmp_path: Path
) -> None:
    build(aws, spec)
    more = wish(tmp_path, data_gb=150)
    assert [step.do for step in look(aws, more)[3]] == ["grow_volume"]
    (said,) = build(aws, more)
    assert "from 100 to 150 GB" in said
    assert build(aws, more) == []
    target, there, _, steps = look(aws, spec)
    assert steps == []
    assert there.data_volumes()[0].size == 150
    assert any("cannot make a volume smaller" in warning for warning in target.warnings)


def test_a_volume_that_was_changed_today_says_so(aws: Faulty, spec: Spec, tmp_path: Path) -> None:
    build(aws, spec)
    aws.before = once("ModifyVolume", "VolumeModificationRateExceeded")
    with pytest.raises(LabError, match=r"within the last six hours.* -e lab_data_gb=100"):
        build(aws, wish(tmp_path, data_gb=150))


def refuse_types(*full: str) -> Any:
    """Have no room for these types, for starts by what the instance has become."""
    now = {"type": "g4dn.xlarge"}

    def hook(name: str, params: dict[str, Any]) -> None:
        if name == "ModifyInstanceAttribute" and "InstanceType" in params:
            now["type"] = params["InstanceType"]["Value"]
        wanted = params.get("InstanceType") if name == "RunInstances" else now["type"]
        if name in ("RunInstances", "StartInstances") and wanted in full:
            raise refuse(name, "InsufficientInstanceCapacity")

    return hook


def halted(aws: Faulty, spec: Spec) -> None:
    build(aws, spec)
    _, there, _, _ = look(aws, spec)
    aws.inner.call("ec2", "StopInstances", InstanceIds=[there.hosts(NAMES)[0].id])


def test_a_start_without_room_takes_the_next_type(aws: Faulty, tmp_path: Path) -> None:
    spec = wish(tmp_path, instance_types=["g5.xlarge", "g6.xlarge"])
    halted(aws, spec)
    aws.before = refuse_types("g4dn.xlarge", "g5.xlarge")
    said = build(aws, spec)
    assert any("to g6.xlarge: there is no g5.xlarge (Insufficient" in text for text in said)
    assert running(aws, spec) == ("g6.xlarge", "running")
    # It will do as it is; the next start tries the wanted one again.
    assert build(aws, spec) == []
    target, there, _, _ = look(aws, spec)
    assert preflight.summary(target, there)["price_hour"] == pytest.approx(0.8048 + 0.005, abs=0.02)
    aws.before = lambda *_: None
    aws.inner.call("ec2", "StopInstances", InstanceIds=[there.hosts(NAMES)[0].id])
    build(aws, spec)
    assert running(aws, spec) == ("g4dn.xlarge", "running")


def test_a_start_without_any_room_ends_within_a_minute(aws: Faulty, tmp_path: Path) -> None:
    spec = wish(tmp_path, instance_types=["g5.xlarge"])
    halted(aws, spec)
    aws.before = refuse_types("g4dn.xlarge", "g5.xlarge")
    target, there, _, steps = look(aws, spec)
    work = Work(aws, target, there, clock=Quick())
    with pytest.raises(LabError) as caught:
        apply.carry_out(work, steps)
    assert work.clock.now() <= 60
    said = str(caught.value)
    assert "AWS has free now in us-east-1a no g4dn.xlarge (InsufficientInstanceCapacity)" in said
    assert "no g5.xlarge" in said
    assert "the data volume cannot leave this one: playbooks/retire.yml" in said
    assert running(aws, spec) == ("g4dn.xlarge", "stopped"), "as it was"


def test_a_launch_without_room_takes_the_next_type(aws: Faulty, tmp_path: Path) -> None:
    spec = wish(tmp_path, instance_types=["g5.xlarge"])
    aws.before = refuse_types("g4dn.xlarge")
    build(aws, spec)
    assert running(aws, spec) == ("g5.xlarge", "running")
    assert build(aws, spec) == []


def test_a_terminated_host_is_replaced_and_its_data_kept(aws: Faulty, spec: Spec) -> None:
    build(aws, spec)
    _, there, _, _ = look(aws, spec)
    old, data = there.hosts(NAMES)[0].id, there.data_volumes()[0].id
    aws.inner.call(
        "ec2", "ModifyInstanceAttribute", InstanceId=old, DisableApiTermination={"Value": False}
    )
    aws.inner.call("ec2", "TerminateInstances", InstanceIds=[old])
    build(aws, spec)
    whole(aws, spec)
    _, there, _, _ = look(aws, spec)
    assert there.hosts(NAMES)[0].id != old
    assert there.data_volumes()[0].id == data


FOREIGN: list[tuple[str, str, dict[str, Any]]] = [
    ("ec2", "CreateKeyPair", {"KeyName": "gpulab-lab"}),
    ("ec2", "CreateSecurityGroup", {"GroupName": "gpulab-lab", "Description": "theirs"}),
    ("iam", "CreateRole", {"RoleName": NAMES.role, "AssumeRolePolicyDocument": "{}"}),
    ("iam", "CreateInstanceProfile", {"InstanceProfileName": NAMES.role}),
    ("s3", "CreateBucket", {"Bucket": "gpulab-123456789012-lab"}),
]


@pytest.mark.parametrize(("service", "operation", "params"), FOREIGN, ids=lambda x: str(x)[:20])
def test_what_others_have_made_is_not_touched(
    aws: Faulty, spec: Spec, service: str, operation: str, params: dict[str, Any]
) -> None:
    aws.inner.call(service, operation, **params)
    with pytest.raises(LabError, match="Project=gpulab and Lab=lab"):
        build(aws, spec)
    assert aws.writes() == []


def test_a_foreign_host_of_the_same_name_is_not_touched(aws: Faulty, spec: Spec) -> None:
    image = aws.inner.call("ec2", "DescribeImages")["Images"][0]["ImageId"]
    tags = [{"Key": "Name", "Value": "gpulab-lab"}]
    aws.inner.call(
        "ec2", "RunInstances", ImageId=image, MinCount=1, MaxCount=1, InstanceType="t3.micro",
        TagSpecifications=[{"ResourceType": "instance", "Tags": tags}],
    )  # fmt: skip
    with pytest.raises(LabError, match=r"The instance i-\w+ \(Name gpulab-lab\) exists"):
        build(aws, spec)
    assert aws.writes() == []


def test_a_lost_key_is_explained(aws: Faulty, spec: Spec) -> None:
    build(aws, spec)
    (spec.state_dir / "id_ed25519").unlink()
    aws.calls.clear()
    with pytest.raises(LabError, match=r"is lost.*put the right file back.*playbooks/destroy\.yml"):
        build(aws, spec)
    assert aws.writes() == []
    assert not (spec.state_dir / "id_ed25519").exists()


def test_another_key_is_refused(aws: Faulty, spec: Spec) -> None:
    build(aws, spec)
    (spec.state_dir / "id_ed25519").unlink()
    from ansible.module_utils.lab.aws import keys  # noqa: PLC0415

    keys.make(spec.state_dir, "other")
    with pytest.raises(LabError, match="is not the private key of the key pair gpulab-lab"):
        build(aws, spec)


def test_a_loose_key_is_mended(aws: Faulty, spec: Spec) -> None:
    build(aws, spec)
    (spec.state_dir / "id_ed25519").chmod(0o644)
    assert build(aws, spec) == [f"Keep others from reading {spec.state_dir / 'id_ed25519'}"]
    whole(aws, spec)


def test_a_bucket_of_the_users_own_is_used_as_it_is(aws: Faulty, tmp_path: Path) -> None:
    spec = wish(tmp_path, bucket="my-data")
    with pytest.raises(LabError, match="aws s3 mb s3://my-data"):
        build(aws, spec)
    aws.inner.call("s3", "CreateBucket", Bucket="my-data")
    build(aws, spec)
    assert not [call for call in aws.writes() if "Bucket" in call or "PublicAccess" in call]
    assert build(aws, spec) == []
    policy = aws.inner.call("iam", "GetRolePolicy", RoleName=NAMES.role, PolicyName="bucket")
    resources = [s["Resource"] for s in policy["PolicyDocument"]["Statement"]]
    assert resources == [["arn:aws:s3:::my-data"], ["arn:aws:s3:::my-data/*"]]


def test_the_host_reaches_no_more_of_the_bucket_than_its_prefix(
    aws: Faulty, spec: Spec, tmp_path: Path
) -> None:
    build(aws, spec)
    bucket = look(aws, spec)[0].bucket
    narrower = wish(tmp_path, bucket_prefix="imagenet/2012")
    assert build(aws, narrower) == [f"Limit role {NAMES.role} to bucket {bucket}/imagenet/2012"]
    policy = aws.inner.call("iam", "GetRolePolicy", RoleName=NAMES.role, PolicyName="bucket")
    assert policy["PolicyDocument"] == plan.policy(bucket, "imagenet/2012")
    assert build(aws, narrower) == []


def test_start_makes_nothing(aws: Faulty, spec: Spec) -> None:
    with pytest.raises(LabError, match=r"no host of the lab lab in us-east-1 to start"):
        look(aws, spec, may_create=False)


def test_the_inventory_looks_where_the_lab_is(aws: Faulty, spec: Spec) -> None:
    with pytest.raises(LabError, match="export AWS_REGION=us-east-1"):
        look(aws, spec, inventory_region="eu-west-1")
    assert aws.calls == []


def test_waiting_ends(aws: Faulty, spec: Spec) -> None:
    build(aws, spec)
    target, there, _, _ = look(aws, spec)
    work = Work(aws, target, there, clock=Quick())
    with pytest.raises(LabError, match=r"stopped is not so after 600 s"):
        launch.wait_for_state(work, there.hosts(NAMES)[0].id, "stopped")


def test_an_instance_that_aws_does_not_know_yet(aws: Faulty) -> None:
    assert seen.fresh(aws, "i-0123456789abcdef0") is None
    assert seen.not_terminated(aws, ["i-0123456789abcdef0"]) == []
