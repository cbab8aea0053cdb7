"""What is there: the lab's things in AWS as they are now."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from .names import POLICY, Names, read_tags
from .session import Aws, AwsError, side_by_side, unless
from .things import (
    ITSELF,
    Bucket,
    Group,
    Instance,
    KeyPair,
    Profile,
    Role,
    Rule,
    Seen,
    Snapshot,
    Subnet,
    Volume,
)

ALIVE = ("pending", "running", "stopping", "stopped")
NO_ENTITY = {"NoSuchEntity", "NoSuchEntityException"}
NO_BUCKET = {"404", "NoSuchBucket", "NotFound"}
# AWS tells of new things to some of its parts later than to others.
NOT_YET = {
    "InvalidGroup.NotFound",
    "InvalidInstanceID.NotFound",
    "InvalidKeyPair.NotFound",
    "InvalidPlacementGroup.Unknown",
}


def look(aws: Aws, names: Names, bucket: str, users_own: bool) -> Seen:
    """Look at everything the lab may have, side by side. Raises AwsError.

    Of a bucket of the user's own only its existence is looked at.
    """
    ec2 = partial(aws.call, "ec2")
    found = side_by_side(
        {
            "instances": lambda: instances(aws),
            "volumes": lambda: volumes(aws, names.filters()),
            "groups": lambda: groups(aws, names),
            "key_pair": lambda: _key_pair(
                ec2(
                    "DescribeKeyPairs",
                    IncludePublicKey=True,
                    Filters=[{"Name": "key-name", "Values": [names.common]}],
                )
            ),
            "subnets": lambda: subnets(aws),
            "role": lambda: look_at_role(aws, names.role),
            "profile": lambda: _profile(aws, names.role),
            "bucket": lambda: look_at_bucket(aws, bucket, details=not users_own),
            "snapshots": lambda: snapshots(aws, names.filters()),
            "addresses": lambda: addresses(aws, names.filters()),
        }
    )
    seen = Seen(**found)
    host = seen.host(names)
    if host is None:
        return seen
    more = side_by_side(
        {
            "protected": lambda: _attribute(aws, host.id, "DisableApiTermination"),
            "on_shutdown": lambda: _attribute(aws, host.id, "InstanceInitiatedShutdownBehavior"),
        }
    )
    return replace(seen, protected=bool(more["protected"]), on_shutdown=str(more["on_shutdown"]))


def instances(aws: Aws, filters: list[dict[str, Any]] | None = None) -> tuple[Instance, ...]:
    """Return all instances of the region that are not terminated or on the way there."""
    states = {"Name": "instance-state-name", "Values": list(ALIVE)}
    pages = aws.pages(
        "ec2", "DescribeInstances", "Reservations", Filters=[states, *(filters or [])]
    )
    return tuple(read_instance(raw) for page in pages for raw in page["Instances"])


def fresh(aws: Aws, instance_id: str) -> Instance | None:
    """Look at one instance again; None while AWS does not know it yet."""
    answer = unless(
        NOT_YET, lambda: aws.call("ec2", "DescribeInstances", InstanceIds=[instance_id])
    )
    if not answer or not answer["Reservations"]:
        return None
    return read_instance(answer["Reservations"][0]["Instances"][0])


def several(aws: Aws, ids: Sequence[str]) -> dict[str, Instance]:
    """Look at some instances again, terminated ones too; what AWS does not know yet is left out."""
    filters = [{"Name": "instance-id", "Values": list(ids)}]
    pages = aws.pages("ec2", "DescribeInstances", "Reservations", Filters=filters)
    return {raw["InstanceId"]: read_instance(raw) for page in pages for raw in page["Instances"]}


def read_instance(raw: Mapping[str, Any]) -> Instance:
    """Take what matters from DescribeInstances' answer."""
    disks = {d["DeviceName"]: d["Ebs"]["VolumeId"] for d in raw.get("BlockDeviceMappings", ())}
    metadata = raw.get("MetadataOptions", {})
    return Instance(
        id=raw["InstanceId"],
        state=raw["State"]["Name"],
        type=raw["InstanceType"],
        zone=raw["Placement"]["AvailabilityZone"],
        placement=raw["Placement"].get("GroupName") or "",
        tags=read_tags(raw.get("Tags")),
        launched=raw["LaunchTime"],
        image_id=raw.get("ImageId", ""),
        public_ip=raw.get("PublicIpAddress") or "",
        private_ip=raw.get("PrivateIpAddress") or "",
        vpc_id=raw.get("VpcId", ""),
        subnet_id=raw.get("SubnetId") or "",
        group_ids=tuple(sorted(group["GroupId"] for group in raw.get("SecurityGroups", ()))),
        profile=raw.get("IamInstanceProfile", {}).get("Arn", "").rpartition("/")[2],
        tokens=metadata.get("HttpTokens", ""),
        hop_limit=int(metadata.get("HttpPutResponseHopLimit", 0)),
        root_volume=disks.get(raw.get("RootDeviceName", ""), ""),
        spot=raw.get("InstanceLifecycle") == "spot",
        spot_request=raw.get("SpotInstanceRequestId") or "",
        architecture=raw.get("Architecture") or "",
        stopped_because=raw.get("StateTransitionReason") or "",
        stop_code=raw.get("StateReason", {}).get("Code") or "",
    )


def volumes(aws: Aws, filters: list[dict[str, Any]]) -> tuple[Volume, ...]:
    """Return all volumes that the filters let through."""
    found = aws.pages("ec2", "DescribeVolumes", "Volumes", Filters=filters)
    return tuple(_volume(raw) for raw in found if raw["State"] not in ("deleting", "deleted"))


def _volume(raw: Mapping[str, Any]) -> Volume:
    at = (raw.get("Attachments") or [{}])[0]
    return Volume(
        id=raw["VolumeId"],
        size=raw["Size"],
        zone=raw["AvailabilityZone"],
        state=raw["State"],
        tags=read_tags(raw.get("Tags")),
        kind=raw.get("VolumeType", "gp3"),
        attached_to=at.get("InstanceId", ""),
        attachment=at.get("State", ""),
        created=raw.get("CreateTime"),
    )


def snapshots(aws: Aws, filters: list[dict[str, Any]]) -> tuple[Snapshot, ...]:
    """Return this account's own snapshots that the filters let through."""
    found = aws.pages("ec2", "DescribeSnapshots", "Snapshots", OwnerIds=["self"], Filters=filters)
    return tuple(
        Snapshot(
            id=raw["SnapshotId"],
            size=int(raw["VolumeSize"]),
            tags=read_tags(raw.get("Tags")),
            created=raw.get("StartTime"),
            state=raw.get("State", "completed"),
            volume_id=raw.get("VolumeId", ""),
            owner=raw.get("OwnerId", ""),
        )
        for raw in found
    )


def addresses(aws: Aws, filters: list[dict[str, Any]]) -> tuple[str, ...]:
    """Return the Elastic IP addresses that the filters let through."""
    found = aws.call("ec2", "DescribeAddresses", Filters=filters)["Addresses"]
    return tuple(sorted(raw["AllocationId"] for raw in found if raw.get("AllocationId")))


def groups(aws: Aws, names: Names) -> tuple[Group, ...]:
    """Return the security groups of the host's name, in every VPC."""
    found = aws.pages(
        "ec2",
        "DescribeSecurityGroups",
        "SecurityGroups",
        Filters=[{"Name": "group-name", "Values": [names.common]}],
    )
    return tuple(
        Group(
            id=raw["GroupId"],
            vpc_id=raw["VpcId"],
            tags=read_tags(raw.get("Tags")),
            rules=frozenset(
                replace(rule, source=ITSELF) if rule.source == raw["GroupId"] else rule
                for permission in raw.get("IpPermissions", ())
                for rule in read_rules(permission)
            ),
        )
        for raw in found
    )


def read_rules(permission: Mapping[str, Any]) -> list[Rule]:
    """Split one permission of AWS into rules with one source each."""
    sources = [
        *(source["CidrIp"] for source in permission.get("IpRanges", ())),
        *(source["CidrIpv6"] for source in permission.get("Ipv6Ranges", ())),
        *(source["GroupId"] for source in permission.get("UserIdGroupPairs", ())),
        *(source["PrefixListId"] for source in permission.get("PrefixListIds", ())),
    ]
    ports = permission.get("FromPort", -1), permission.get("ToPort", -1)
    return [Rule(permission["IpProtocol"], *ports, source) for source in sources]


def subnets(aws: Aws) -> tuple[Subnet, ...]:
    """Return all subnets of the region."""
    return tuple(
        Subnet(
            id=raw["SubnetId"],
            zone=raw["AvailabilityZone"],
            vpc_id=raw["VpcId"],
            default=bool(raw.get("DefaultForAz")),
            public=bool(raw.get("MapPublicIpOnLaunch")),
        )
        for raw in aws.pages("ec2", "DescribeSubnets", "Subnets")
    )


def _key_pair(answer: Mapping[str, Any]) -> KeyPair | None:
    found = answer.get("KeyPairs") or []
    if not found:
        return None
    raw = found[0]
    return KeyPair(
        id=raw.get("KeyPairId", ""),
        public_key=" ".join(raw.get("PublicKey", "").split()[:2]),
        tags=read_tags(raw.get("Tags")),
    )


def look_at_role(aws: Aws, name: str, policy_name: str = POLICY) -> Role | None:
    """Return a role with its one policy; None where there is none."""
    found = unless(NO_ENTITY, lambda: aws.call("iam", "GetRole", RoleName=name))
    if found is None:
        return None
    policy = unless(
        NO_ENTITY,
        lambda: aws.call("iam", "GetRolePolicy", RoleName=name, PolicyName=policy_name),
    )
    return Role(
        name=name,
        tags=read_tags(found["Role"].get("Tags")),
        policy=policy["PolicyDocument"] if policy else None,
        trust=found["Role"].get("AssumeRolePolicyDocument"),
    )


def _profile(aws: Aws, name: str) -> Profile | None:
    found = unless(
        NO_ENTITY, lambda: aws.call("iam", "GetInstanceProfile", InstanceProfileName=name)
    )
    if found is None:
        return None
    raw = found["InstanceProfile"]
    return Profile(
        name=name,
        tags=read_tags(raw.get("Tags")),
        roles=tuple(role["RoleName"] for role in raw.get("Roles", ())),
    )


def look_at_bucket(aws: Aws, name: str, details: bool) -> Bucket | None:
    """Return the bucket of this name, whoever owns it; None where there is none."""
    try:
        found = unless(NO_BUCKET, lambda: aws.call("s3", "HeadBucket", Bucket=name))
    except AwsError as error:
        if error.code in ("403", "301", "AccessDenied"):
            return Bucket(name, reachable=False)
        raise
    if found is None:
        return None
    if not details:
        return Bucket(name, reachable=True, region=found.get("BucketRegion", ""))
    more = side_by_side(
        {
            "tags": lambda: unless(
                {"NoSuchTagSet"}, lambda: aws.call("s3", "GetBucketTagging", Bucket=name)
            ),
            "encryption": lambda: unless(
                {"ServerSideEncryptionConfigurationNotFoundError"},
                lambda: aws.call("s3", "GetBucketEncryption", Bucket=name),
            ),
            "policy": lambda: unless(
                {"NoSuchBucketPolicy"}, lambda: aws.call("s3", "GetBucketPolicy", Bucket=name)
            ),
            "block": lambda: unless(
                {"NoSuchPublicAccessBlockConfiguration"},
                lambda: aws.call("s3", "GetPublicAccessBlock", Bucket=name),
            ),
        }
    )
    block = (more["block"] or {}).get("PublicAccessBlockConfiguration", {})
    return Bucket(
        name=name,
        reachable=True,
        region=found.get("BucketRegion", ""),
        tags=read_tags((more["tags"] or {}).get("TagSet")),
        encrypted=bool(more["encryption"]),
        policy=json.loads(more["policy"]["Policy"]) if more["policy"] else None,
        blocked=len(block) == 4 and all(block.values()),  # noqa: PLR2004 - S3 has four switches
    )


def _attribute(aws: Aws, instance_id: str, name: str) -> Any:
    """Return one of the attributes that DescribeInstances leaves out."""
    key = name[0].lower() + name[1:]
    answer = aws.call("ec2", "DescribeInstanceAttribute", InstanceId=instance_id, Attribute=key)
    return answer.get(name, {}).get("Value", "")


def not_terminated(aws: Aws, ids: Sequence[str]) -> list[str]:
    """Return those of these instances that are not terminated yet."""
    answer = unless(
        {"InvalidInstanceID.NotFound"},
        lambda: aws.call("ec2", "DescribeInstances", InstanceIds=list(ids)),
    )
    return [
        raw["InstanceId"]
        for page in (answer or {}).get("Reservations", ())
        for raw in page["Instances"]
        if raw["State"]["Name"] != "terminated"
    ]
