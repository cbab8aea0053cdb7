"""Carries out a plan, one step after the other; a run that is killed is mended by the next."""

from __future__ import annotations

import hashlib
import json
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import LabError
from . import keys, seen
from .lock import write_private
from .names import DATA_DEVICE, POLICY, write_tags
from .plan import HOP_LIMIT, TRUST, Step
from .preflight import Target
from .seen import Instance, Rule, Seen
from .session import Aws, AwsError, unless

# AWS answers with these where another zone may still have room.
NO_CAPACITY = {"InsufficientInstanceCapacity", "InsufficientHostCapacity", "Unsupported"}
NOT_YET = {"InvalidInstanceID.NotFound", "InvalidGroup.NotFound", "InvalidKeyPair.NotFound"}
EXISTS = {"EntityAlreadyExists", "EntityAlreadyExistsException"}
MINUTE = 60.0


@dataclass
class Clock:
    """Time, so that the tests need not wait."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    def until(self, done: Callable[[], bool], seconds: float, what: str) -> None:
        """Ask until it is so. Raises LabError after `seconds`."""
        end, pause = self.now() + seconds, 0.5
        while not done():
            if self.now() >= end:
                raise LabError(
                    f"{what} is not so after {seconds:.0f} s: look at it in the EC2 console, then"
                    " run the same command again; it goes on where it stopped"
                )
            self.sleep(pause)
            pause = min(pause * 1.5, 5.0)


@dataclass
class Work:
    """A build on its way: what is wanted, what was there, and what has been made since."""

    aws: Aws
    target: Target
    there: Seen
    clock: Clock = field(default_factory=Clock)
    run: keys.Run = keys.run
    group_id: str = ""
    host: Instance | None = None
    volume_id: str = ""
    said: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        group = self.there.group(self.target.vpc_id)
        data = self.there.data()
        self.group_id = group.id if group else ""
        self.host = self.there.host(self.target.names)
        self.volume_id = data.id if data else ""

    def ec2(self, operation: str, **params: Any) -> Mapping[str, Any]:
        """Call EC2."""
        return self.aws.call("ec2", operation, **params)

    def host_id(self) -> str:
        """Return the id of the host, which is there by now."""
        if self.host is None:
            raise LabError("The host is not there: run the same command again")
        return self.host.id

    def tags_for(self, kind: str, **more: str) -> list[dict[str, Any]]:
        """TagSpecifications for one resource."""
        tags = write_tags(self.target.names.tags(**more))
        return [{"ResourceType": kind, "Tags": tags}]


def carry_out(work: Work, steps: Sequence[Step]) -> None:
    """Carry out the steps in order. Raises LabError at the first that fails."""
    keys.prepare(work.target.spec.state_dir)
    for step in steps:
        STEPS[step.do](work, step)
        work.said.append(step.text)


def _tighten_key(work: Work, _step: Step) -> None:
    keys.tighten(keys.look(work.target.spec.state_dir))


def _make_key(work: Work, _step: Step) -> None:
    keys.make(work.target.spec.state_dir, work.target.names.common, work.run)


def _import_key(work: Work, _step: Step) -> None:
    key = keys.look(work.target.spec.state_dir)
    work.ec2(
        "ImportKeyPair",
        KeyName=work.target.names.common,
        PublicKeyMaterial=f"{key.public_key} {work.target.names.common}\n".encode(),
        TagSpecifications=work.tags_for("key-pair"),
    )


def _create_group(work: Work, _step: Step) -> None:
    made = work.ec2(
        "CreateSecurityGroup",
        GroupName=work.target.names.common,
        Description=f"GPU lab {work.target.names.lab}: SSH from its user",
        VpcId=work.target.vpc_id,
        TagSpecifications=work.tags_for("security-group"),
    )
    work.group_id = made["GroupId"]


def permission(rule: Rule) -> dict[str, Any]:
    """Put one rule into AWS's form."""
    source: dict[str, Any]
    if rule.source.startswith("sg-"):
        source = {"UserIdGroupPairs": [{"GroupId": rule.source}]}
    elif rule.source.startswith("pl-"):
        source = {"PrefixListIds": [{"PrefixListId": rule.source}]}
    elif ":" in rule.source:
        source = {"Ipv6Ranges": [{"CidrIpv6": rule.source}]}
    else:
        source = {"IpRanges": [{"CidrIp": rule.source}]}
    ports = {} if rule.protocol == "-1" else {"FromPort": rule.from_port, "ToPort": rule.to_port}
    return {"IpProtocol": rule.protocol, **ports, **source}


def _close(work: Work, step: Step) -> None:
    wanted = [permission(step.args["rule"])]
    unless(
        {"InvalidPermission.NotFound"},
        lambda: work.ec2("RevokeSecurityGroupIngress", GroupId=work.group_id, IpPermissions=wanted),
    )


def _open(work: Work, step: Step) -> None:
    wanted = [permission(step.args["rule"])]
    unless(
        {"InvalidPermission.Duplicate"},
        lambda: work.ec2(
            "AuthorizeSecurityGroupIngress", GroupId=work.group_id, IpPermissions=wanted
        ),
    )


def _create_bucket(work: Work, _step: Step) -> None:
    name, region = work.target.bucket, work.target.spec.region
    # S3 tags a bucket in a second call; this note tells the next run that the bucket is ours.
    write_private(work.target.spec.state_dir / "making_bucket", name)
    place = {} if region == "us-east-1" else {"LocationConstraint": region}
    unless(
        {"BucketAlreadyOwnedByYou"},
        lambda: work.aws.call(
            "s3",
            "CreateBucket",
            Bucket=name,
            **({"CreateBucketConfiguration": place} if place else {}),
        ),
    )


def _tag_bucket(work: Work, _step: Step) -> None:
    tags = {"TagSet": write_tags(work.target.names.tags())}
    work.aws.call("s3", "PutBucketTagging", Bucket=work.target.bucket, Tagging=tags)
    (work.target.spec.state_dir / "making_bucket").unlink(missing_ok=True)


def _encrypt_bucket(work: Work, _step: Step) -> None:
    rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}
    work.aws.call(
        "s3",
        "PutBucketEncryption",
        Bucket=work.target.bucket,
        ServerSideEncryptionConfiguration={"Rules": [rule]},
    )


def _block_bucket(work: Work, _step: Step) -> None:
    switches = "BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"
    work.aws.call(
        "s3",
        "PutPublicAccessBlock",
        Bucket=work.target.bucket,
        PublicAccessBlockConfiguration=dict.fromkeys(switches, True),
    )


def _create_role(work: Work, _step: Step) -> None:
    unless(
        EXISTS,
        lambda: work.aws.call(
            "iam",
            "CreateRole",
            RoleName=work.target.names.role,
            AssumeRolePolicyDocument=json.dumps(TRUST),
            Description=f"GPU lab {work.target.names.lab}: its bucket and nothing else",
            Tags=write_tags(work.target.names.tags()),
        ),
    )


def _put_policy(work: Work, step: Step) -> None:
    work.aws.call(
        "iam",
        "PutRolePolicy",
        RoleName=work.target.names.role,
        PolicyName=POLICY,
        PolicyDocument=json.dumps(step.args["policy"]),
    )


def _create_profile(work: Work, _step: Step) -> None:
    unless(
        EXISTS,
        lambda: work.aws.call(
            "iam",
            "CreateInstanceProfile",
            InstanceProfileName=work.target.names.role,
            Tags=write_tags(work.target.names.tags()),
        ),
    )


def _fill_profile(work: Work, _step: Step) -> None:
    name = work.target.names.role
    unless(
        {"LimitExceeded", "LimitExceededException"},
        lambda: work.aws.call(
            "iam", "AddRoleToInstanceProfile", InstanceProfileName=name, RoleName=name
        ),
    )


def _launch(work: Work, step: Step) -> None:
    """Launch in the first zone that has room."""
    full = []
    for subnet in work.target.subnets:
        try:
            instance_id = _run_instance(work, _launch_request(work, step, subnet.id))
        except AwsError as error:
            if error.code not in NO_CAPACITY:
                raise
            full.append(f"{subnet.zone} ({error.code})")
            continue
        _wait_running(work, instance_id)
        token_file(work.target.spec.state_dir).unlink(missing_ok=True)
        return
    data = work.there.data()
    bound = f"; the data volume {data.id} binds the lab to {data.zone}" if data else ""
    raise LabError(
        f"AWS has no {work.target.spec.instance_type} free now in {', '.join(full)}{bound}: run the"
        " same command again later, or choose another type with -e lab_instance_type=…"
    )


def _launch_request(work: Work, step: Step, subnet_id: str) -> dict[str, Any]:
    target, image = work.target, work.target.image
    if image is None:
        raise LabError(f"The image {target.spec.image} is not there: run the same command again")
    root_tags = work.tags_for("volume", Role="root")
    return {
        "ImageId": image.id,
        "InstanceType": target.spec.instance_type,
        "MinCount": 1,
        "MaxCount": 1,
        "KeyName": target.names.common,
        "SecurityGroupIds": [work.group_id],
        "SubnetId": subnet_id,
        "IamInstanceProfile": {"Name": target.names.role},
        "InstanceInitiatedShutdownBehavior": "stop",
        "MetadataOptions": {
            "HttpTokens": "required",
            "HttpPutResponseHopLimit": HOP_LIMIT,
            "HttpEndpoint": "enabled",
            "InstanceMetadataTags": "enabled",
        },
        "BlockDeviceMappings": [
            {
                "DeviceName": image.root_device,
                "Ebs": {
                    "VolumeSize": target.spec.root_gb,
                    "VolumeType": "gp3",
                    "Encrypted": True,
                    "DeleteOnTermination": True,
                },
            }
        ],
        "TagSpecifications": [
            {"ResourceType": "instance", "Tags": write_tags(step.args["tags"])},
            *root_tags,
        ],
    }


def _run_instance(work: Work, request: Mapping[str, Any]) -> str:
    """Ask for one instance, with one token for every try, so that AWS never makes two."""
    token = client_token(work.target.spec.state_dir, request)
    end = work.clock.now() + 2 * MINUTE
    while True:
        try:
            made = work.ec2("RunInstances", ClientToken=token, **request)
            return str(made["Instances"][0]["InstanceId"])
        except AwsError as error:
            # IAM needs some seconds until EC2 knows a new instance profile.
            spreading = "iamInstanceProfile" in str(error) or "Instance Profile" in str(error)
            if not (spreading or error.code in NOT_YET) or work.clock.now() >= end:
                raise
        work.clock.sleep(3)


def token_file(state_dir: Path) -> Path:
    """Where the token of a launch on its way is kept."""
    return state_dir / "client_token.json"


def client_token(state_dir: Path, request: Mapping[str, Any]) -> str:
    """Return the token of this very request: a rerun gets the one that was sent before.

    Another request needs another token, or AWS answers IdempotentParameterMismatch.
    """
    digest = hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()
    path = token_file(state_dir)
    try:
        kept = json.loads(path.read_text())
    except (OSError, ValueError):
        kept = {}
    if kept.get("request") == digest:
        return str(kept["token"])
    token = uuid.uuid4().hex
    write_private(path, json.dumps({"request": digest, "token": token}))
    return token


def _wait_running(work: Work, instance_id: str) -> None:
    """Wait until the host runs and has its public address."""

    def running() -> bool:
        work.host = fresh(work.aws, instance_id)
        if work.host is None:
            return False
        if work.host.state in ("stopping", "stopped", "shutting-down", "terminated"):
            raise LabError(_fell(work, work.host))
        return work.host.state == "running" and bool(work.host.public_ip)

    work.clock.until(running, 5 * MINUTE, f"Instance {instance_id} running with a public address")


def _fell(work: Work, host: Instance) -> str:
    raw = work.ec2("DescribeInstances", InstanceIds=[host.id])["Reservations"][0]["Instances"][0]
    reason = raw.get("StateReason", {}).get("Message", "no reason given")
    return f"The host {host.id} became {host.state} instead of running ({reason}): run it again"


def fresh(aws: Aws, instance_id: str) -> Instance | None:
    """Look at one instance again; None while AWS does not know it yet."""
    answer = unless(
        NOT_YET, lambda: aws.call("ec2", "DescribeInstances", InstanceIds=[instance_id])
    )
    if not answer or not answer["Reservations"]:
        return None
    return seen.read_instance(answer["Reservations"][0]["Instances"][0])


def _attribute(work: Work, **what: Any) -> None:
    work.ec2("ModifyInstanceAttribute", InstanceId=work.host_id(), **what)


def _protect(work: Work, _step: Step) -> None:
    _attribute(work, DisableApiTermination={"Value": True})


def _keep_on_shutdown(work: Work, _step: Step) -> None:
    _attribute(work, InstanceInitiatedShutdownBehavior={"Value": "stop"})


def _set_groups(work: Work, _step: Step) -> None:
    _attribute(work, Groups=[work.group_id])


def _change_type(work: Work, _step: Step) -> None:
    _attribute(work, InstanceType={"Value": work.target.spec.instance_type})


def _tag_host(work: Work, step: Step) -> None:
    work.ec2("CreateTags", Resources=[work.host_id()], Tags=write_tags(step.args["tags"]))


def _require_tokens(work: Work, _step: Step) -> None:
    work.ec2(
        "ModifyInstanceMetadataOptions",
        InstanceId=work.host_id(),
        HttpTokens="required",
        HttpPutResponseHopLimit=HOP_LIMIT,
        HttpEndpoint="enabled",
        InstanceMetadataTags="enabled",
    )


def _set_profile(work: Work, _step: Step) -> None:
    """Exchange whatever profile the host has for its own."""
    found = work.aws.pages(
        "ec2",
        "DescribeIamInstanceProfileAssociations",
        "IamInstanceProfileAssociations",
        Filters=[{"Name": "instance-id", "Values": [work.host_id()]}],
    )
    current = [a for a in found if a["State"] in ("associating", "associated")]
    profile = {"Name": work.target.names.role}
    if current:
        work.ec2(
            "ReplaceIamInstanceProfileAssociation",
            AssociationId=current[0]["AssociationId"],
            IamInstanceProfile=profile,
        )
    else:
        work.ec2(
            "AssociateIamInstanceProfile",
            InstanceId=work.host_id(),
            IamInstanceProfile=profile,
        )


def _start(work: Work, _step: Step) -> None:
    start(work)


def start(work: Work) -> None:
    """Start the host and wait until it runs. Raises LabError."""
    host_id = work.host_id()
    wait_for_state(work, host_id, "stopped", unless_stopping=True)
    try:
        work.ec2("StartInstances", InstanceIds=[host_id])
    except AwsError as error:
        if error.code not in NO_CAPACITY:
            raise
        zone = work.host.zone if work.host else work.target.spec.region
        raise LabError(
            f"AWS has no {work.target.spec.instance_type} free in {zone} now ({error.code}): run the"
            " same command again later, or change the type of the stopped host with -e"
            " lab_instance_type=…"
        ) from error
    _wait_running(work, host_id)


def wait_for_state(work: Work, instance_id: str, state: str, unless_stopping: bool = False) -> None:
    """Wait until an instance has a state (or at least has left `stopping`)."""

    def there() -> bool:
        work.host = fresh(work.aws, instance_id)
        now = work.host.state if work.host else "terminated"
        return now == state or (unless_stopping and now != "stopping")

    work.clock.until(there, 10 * MINUTE, f"Instance {instance_id} {state}")


def _create_volume(work: Work, _step: Step) -> None:
    if work.host is None:
        raise LabError("The host is not there: run the same command again")
    made = work.ec2(
        "CreateVolume",
        AvailabilityZone=work.host.zone,
        Size=work.target.spec.data_gb,
        VolumeType="gp3",
        Encrypted=True,
        TagSpecifications=work.tags_for("volume", Role="data"),
    )
    work.volume_id = made["VolumeId"]


def _attach_volume(work: Work, _step: Step) -> None:
    """Attach the data volume as soon as it is free, and wait until the host has it."""
    host_id = work.host_id()

    def now() -> seen.Volume | None:
        by_id = [{"Name": "volume-id", "Values": [work.volume_id]}]
        return next(iter(seen.volumes(work.aws, by_id)), None)

    def free() -> bool:
        volume = now()
        return bool(volume and (volume.state == "available" or volume.attached_to == host_id))

    def attached() -> bool:
        volume = now()
        return bool(volume and volume.attached_to == host_id and volume.attachment == "attached")

    what = f"Data volume {work.volume_id}"
    work.clock.until(free, 3 * MINUTE, f"{what} free")
    if not attached():
        unless(
            {"VolumeInUse"},
            lambda: work.ec2(
                "AttachVolume", VolumeId=work.volume_id, InstanceId=host_id, Device=DATA_DEVICE
            ),
        )
    work.clock.until(attached, 3 * MINUTE, f"{what} attached to {host_id}")


STEPS: Mapping[str, Callable[[Work, Step], None]] = {
    "tighten_key": _tighten_key,
    "make_key": _make_key,
    "import_key": _import_key,
    "create_group": _create_group,
    "close": _close,
    "open": _open,
    "create_bucket": _create_bucket,
    "tag_bucket": _tag_bucket,
    "encrypt_bucket": _encrypt_bucket,
    "block_bucket": _block_bucket,
    "create_role": _create_role,
    "put_policy": _put_policy,
    "create_profile": _create_profile,
    "fill_profile": _fill_profile,
    "launch": _launch,
    "protect": _protect,
    "keep_on_shutdown": _keep_on_shutdown,
    "start": _start,
    "tag_host": _tag_host,
    "change_type": _change_type,
    "require_tokens": _require_tokens,
    "set_groups": _set_groups,
    "set_profile": _set_profile,
    "create_volume": _create_volume,
    "attach_volume": _attach_volume,
}
