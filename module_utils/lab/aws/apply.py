"""Carries out a plan, one step after the other; a run that is killed is mended by the next."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..errors import LabError
from . import apply_efs, apply_guard, keys, launch_workers, power, safe, seen
from .clock import MINUTE
from .launch import launch, start, wait_for_state
from .lock import write_private
from .names import DATA_DEVICE, POLICY, write_tags
from .plan_mend import HOP_LIMIT
from .session import AwsError, unless
from .steps import Step
from .things import ITSELF, Rule, Volume
from .work import Work

EXISTS = {"EntityAlreadyExists", "EntityAlreadyExistsException"}


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


def permission(rule: Rule, group_id: str = "") -> dict[str, Any]:
    """Put one rule of the group of this id into AWS's form."""
    source: dict[str, Any]
    if rule.source == ITSELF:
        source = {"UserIdGroupPairs": [{"GroupId": group_id}]}
    elif rule.source.startswith("sg-"):
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
    wanted = [permission(step.args["rule"], work.group_id)]
    unless(
        {"InvalidPermission.NotFound"},
        lambda: work.ec2("RevokeSecurityGroupIngress", GroupId=work.group_id, IpPermissions=wanted),
    )


def _open(work: Work, step: Step) -> None:
    wanted = [permission(step.args["rule"], work.group_id)]
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


def _limit_bucket(work: Work, step: Step) -> None:
    policy = json.dumps(step.args["policy"])
    work.aws.call("s3", "PutBucketPolicy", Bucket=work.target.bucket, Policy=policy)


def _trust_role(work: Work, _step: Step) -> None:
    work.aws.call(
        "iam",
        "UpdateAssumeRolePolicy",
        RoleName=work.target.names.role,
        PolicyDocument=json.dumps(safe.trust(work.target.account)),
    )


def _create_role(work: Work, _step: Step) -> None:
    unless(
        EXISTS,
        lambda: work.aws.call(
            "iam",
            "CreateRole",
            RoleName=work.target.names.role,
            AssumeRolePolicyDocument=json.dumps(safe.trust(work.target.account)),
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


def _attribute(work: Work, instance_id: str, **what: Any) -> None:
    work.ec2("ModifyInstanceAttribute", InstanceId=instance_id, **what)


def _protect(work: Work, _step: Step) -> None:
    _attribute(work, work.host_id(), DisableApiTermination={"Value": True})


def _keep_on_shutdown(work: Work, _step: Step) -> None:
    _attribute(work, work.host_id(), InstanceInitiatedShutdownBehavior={"Value": "stop"})


def _set_groups(work: Work, step: Step) -> None:
    _attribute(work, step.args["id"], Groups=[work.group_id])


def _stop_host(work: Work, _step: Step) -> None:
    if work.host:
        work.host = power.stop(work.aws, work.host, work.clock)


def _change_type(work: Work, _step: Step) -> None:
    wait_for_state(work, work.host_id(), "stopped")
    _attribute(work, work.host_id(), InstanceType={"Value": work.target.spec.instance_type})


def _tag_host(work: Work, step: Step) -> None:
    work.ec2("CreateTags", Resources=[step.args["id"]], Tags=write_tags(step.args["tags"]))


def _require_tokens(work: Work, step: Step) -> None:
    work.ec2(
        "ModifyInstanceMetadataOptions",
        InstanceId=step.args["id"],
        HttpTokens="required",
        HttpPutResponseHopLimit=HOP_LIMIT,
        HttpEndpoint="enabled",
        InstanceMetadataTags="enabled",
    )


def _set_profile(work: Work, step: Step) -> None:
    """Exchange whatever profile an instance has for its own."""
    found = work.aws.pages(
        "ec2",
        "DescribeIamInstanceProfileAssociations",
        "IamInstanceProfileAssociations",
        Filters=[{"Name": "instance-id", "Values": [step.args["id"]]}],
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
            InstanceId=step.args["id"],
            IamInstanceProfile=profile,
        )


def _create_volume(work: Work, step: Step) -> None:
    if work.host is None:
        raise LabError("The host is not there: run the same command again")
    made = work.ec2(
        "CreateVolume",
        AvailabilityZone=work.host.zone,
        Size=step.args["size"],
        VolumeType="gp3",
        Encrypted=True,
        TagSpecifications=work.tags_for("volume", Role="data"),
        **({"SnapshotId": step.args["snapshot"]} if step.args["snapshot"] else {}),
    )
    work.volume_id = made["VolumeId"]


def _grow_volume(work: Work, _step: Step) -> None:
    """Grow the data volume while it is in use; the host's file system is grown by create_host.yml.

    AWS takes one change of a volume in six hours.
    """
    size = work.target.spec.data_gb
    try:
        work.ec2("ModifyVolume", VolumeId=work.volume_id, Size=size)
    except AwsError as error:
        if error.code not in ("VolumeModificationRateExceeded", "IncorrectModificationState"):
            raise
        raise LabError(
            f"The data volume {work.volume_id} was changed within the last six hours, and AWS takes"
            f" only one change in that time: run again later, or with -e lab_data_gb={_size(work)}"
        ) from error

    def grown() -> bool:
        found = work.ec2("DescribeVolumesModifications", VolumeIds=[work.volume_id])
        states = [m["ModificationState"] for m in found["VolumesModifications"]]
        return bool(states) and states[-1] in ("optimizing", "completed")

    work.clock.until(grown, 10 * MINUTE, f"Data volume {work.volume_id} grown to {size} GB")


def _size(work: Work) -> int:
    data = work.there.data()
    return data.size if data else work.target.spec.data_gb


def _attach_volume(work: Work, _step: Step) -> None:
    """Attach the data volume as soon as it is free, and wait until the host has it."""
    host_id = work.host_id()

    def now() -> Volume | None:
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
    "limit_bucket": _limit_bucket,
    "trust_role": _trust_role,
    "create_role": _create_role,
    "put_policy": _put_policy,
    "create_profile": _create_profile,
    "fill_profile": _fill_profile,
    "launch": launch,
    "protect": _protect,
    "keep_on_shutdown": _keep_on_shutdown,
    "start": start,
    "tag_host": _tag_host,
    "stop_host": _stop_host,
    "change_type": _change_type,
    "grow_volume": _grow_volume,
    "require_tokens": _require_tokens,
    "set_groups": _set_groups,
    "set_profile": _set_profile,
    "create_volume": _create_volume,
    "attach_volume": _attach_volume,
    "create_placement": launch_workers.create_placement,
    "drop_placement": launch_workers.drop_placement,
    "place_worker": launch_workers.place,
    "start_workers": launch_workers.start,
    "launch_workers": launch_workers.launch,
    **apply_guard.STEPS,
    **apply_efs.STEPS,
}
