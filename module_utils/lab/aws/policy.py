"""The least that the user's credentials must be allowed, as a policy of IAM.

The groups below name every operation that this package calls (a test holds them equal to the
calls), and `OTHERWISE` and `BESIDE` what IAM asks for each. What only looks is allowed for
everything, since most looks of EC2 know no narrower scope; what makes, for things that bear the
lab's tag from the start; what changes or deletes, for things that bear it or whose name begins
with `gpulab-`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from .names import PROJECT

# Of a file system of EFS for /data (lab_shared: efs). IAM knows the service by another name than
# its clients do. Any lab is asked whether it has one; the rest is a policy of its own.
EFS_FIRST_LOOK = "efs:DescribeFileSystems"
EFS_LOOKS = ("efs:DescribeMountTargetSecurityGroups", "efs:DescribeMountTargets")
EFS_MAKES = ("efs:CreateFileSystem",)
EFS_CHANGES = ("efs:CreateMountTarget", "efs:DeleteFileSystem", "efs:DeleteMountTarget")
# The operation -> the actions that IAM asks for, where they are not one of the same name.
OTHERWISE: dict[str, tuple[str, ...]] = {
    **{
        call: (call.replace("efs:", "elasticfilesystem:"),)
        for call in (EFS_FIRST_LOOK, *EFS_LOOKS, *EFS_MAKES, *EFS_CHANGES)
    },
    "budgets:CreateBudget": ("budgets:ModifyBudget",),
    "budgets:DeleteBudget": ("budgets:ModifyBudget",),
    "budgets:DescribeBudget": ("budgets:ViewBudget",),
    "budgets:DescribeBudgets": ("budgets:ViewBudget",),
    "budgets:DescribeNotificationsForBudget": ("budgets:ViewBudget",),
    "budgets:DescribeSubscribersForNotification": ("budgets:ViewBudget",),
    "s3:DeleteObjects": ("s3:DeleteObject", "s3:DeleteObjectVersion"),
    "s3:GetBucketEncryption": ("s3:GetEncryptionConfiguration",),
    "s3:GetPublicAccessBlock": ("s3:GetBucketPublicAccessBlock",),
    "s3:HeadBucket": ("s3:ListBucket",),
    "s3:ListBuckets": ("s3:ListAllMyBuckets",),
    "s3:ListMultipartUploads": ("s3:ListBucketMultipartUploads",),
    "s3:ListObjectVersions": ("s3:ListBucketVersions",),
    "s3:PutBucketEncryption": ("s3:PutEncryptionConfiguration",),
    "s3:PutPublicAccessBlock": ("s3:PutBucketPublicAccessBlock",),
    "service-quotas:GetServiceQuota": ("servicequotas:GetServiceQuota",),
    "sts:GetCallerIdentity": (),  # anyone may ask who they are
}
# What an operation takes beside its own: tags given at birth, and roles handed on.
BESIDE: dict[str, tuple[str, ...]] = {
    "ec2:CreateImage": ("ec2:CreateTags",),
    "ec2:CreatePlacementGroup": ("ec2:CreateTags",),
    "ec2:CreateSecurityGroup": ("ec2:CreateTags",),
    "ec2:CreateSnapshot": ("ec2:CreateTags",),
    "ec2:CreateVolume": ("ec2:CreateTags",),
    "ec2:ImportKeyPair": ("ec2:CreateTags",),
    # The last is for an account's first spot instance.
    "ec2:RunInstances": ("ec2:CreateTags", "iam:PassRole", "iam:CreateServiceLinkedRole"),
    "ec2:AssociateIamInstanceProfile": ("iam:PassRole",),
    "ec2:ReplaceIamInstanceProfileAssociation": ("iam:PassRole",),
    "efs:CreateFileSystem": ("elasticfilesystem:TagResource",),
    # EFS makes the interface of a mount target in the name of who asks for it.
    "efs:CreateMountTarget": ("ec2:CreateNetworkInterface", "ec2:DescribeNetworkInterfaces"),
    "efs:DeleteMountTarget": ("ec2:DeleteNetworkInterface",),
    "iam:CreateInstanceProfile": ("iam:TagInstanceProfile",),
    "iam:AddRoleToInstanceProfile": ("iam:PassRole",),
    "iam:CreateRole": ("iam:TagRole",),
    "scheduler:CreateSchedule": ("iam:PassRole",),
    "scheduler:UpdateSchedule": ("iam:PassRole",),
}


def own_actions(operation: str) -> tuple[str, ...]:
    """Name the actions that are one operation's own, as `ec2:RunInstances`."""
    return OTHERWISE.get(operation, (operation,))


def actions_of(operation: str) -> tuple[str, ...]:
    """Name all actions that one operation takes."""
    return (*own_actions(operation), *BESIDE.get(operation, ()))


# Everything that the playbooks call, by statement of the policy.
LOOKS = (
    "ec2:DescribeAddresses", "ec2:DescribeIamInstanceProfileAssociations", "ec2:DescribeImages",
    "ec2:DescribeInstanceAttribute", "ec2:DescribeInstanceTypeOfferings",
    "ec2:DescribeInstanceTypes", "ec2:DescribeInstances", "ec2:DescribeKeyPairs",
    "ec2:DescribePlacementGroups", "ec2:DescribeSecurityGroups", "ec2:DescribeSnapshots",
    "ec2:DescribeSpotInstanceRequests", "ec2:DescribeSubnets", "ec2:DescribeVolumes",
    "ec2:DescribeVolumesModifications", "iam:ListInstanceProfiles", "iam:ListRoles",
    "s3:ListBuckets", "scheduler:ListSchedules",
    "service-quotas:GetServiceQuota", "sts:GetCallerIdentity", EFS_FIRST_LOOK,
)  # fmt: skip
# Without these the playbooks say what they cannot tell, and go on.
PRICES = ("ce:GetCostAndUsage", "pricing:GetProducts")
IMAGE_NAMES = ("ssm:GetParameter",)
CHANGES = (
    "ec2:AssociateIamInstanceProfile", "ec2:AttachVolume", "ec2:AuthorizeSecurityGroupIngress",
    "ec2:CancelSpotInstanceRequests", "ec2:CreateTags", "ec2:DeleteKeyPair",
    "ec2:DeletePlacementGroup", "ec2:DeleteSecurityGroup", "ec2:DeleteSnapshot", "ec2:DeleteVolume",
    "ec2:DeregisterImage", "ec2:DetachVolume", "ec2:ModifyInstanceAttribute",
    "ec2:ModifyInstanceMetadataOptions", "ec2:ModifyInstancePlacement", "ec2:ModifyVolume",
    "ec2:ReleaseAddress", "ec2:ReplaceIamInstanceProfileAssociation",
    "ec2:RevokeSecurityGroupIngress", "ec2:StartInstances", "ec2:StopInstances",
    "ec2:TerminateInstances",
)  # fmt: skip
ROLES = (
    "iam:AddRoleToInstanceProfile", "iam:CreateInstanceProfile", "iam:CreateRole",
    "iam:DeleteInstanceProfile", "iam:DeleteRole", "iam:DeleteRolePolicy", "iam:DetachRolePolicy",
    "iam:GetInstanceProfile", "iam:GetRole", "iam:GetRolePolicy", "iam:ListAttachedRolePolicies",
    "iam:ListRolePolicies", "iam:PutRolePolicy", "iam:RemoveRoleFromInstanceProfile",
    "iam:UpdateAssumeRolePolicy",
)  # fmt: skip
BUCKET = (
    "s3:CreateBucket", "s3:DeleteBucket", "s3:GetBucketEncryption", "s3:GetBucketPolicy",
    "s3:GetBucketTagging", "s3:PutBucketPolicy",
    "s3:GetPublicAccessBlock", "s3:HeadBucket", "s3:ListMultipartUploads", "s3:ListObjectVersions",
    "s3:PutBucketEncryption", "s3:PutBucketTagging", "s3:PutPublicAccessBlock",
)  # fmt: skip
OBJECTS = ("s3:AbortMultipartUpload", "s3:DeleteObjects")
TAGS_OF_ROLES = ("iam:TagInstanceProfile", "iam:TagRole")
SCHEDULES = (
    "scheduler:CreateSchedule", "scheduler:DeleteSchedule", "scheduler:GetSchedule",
    "scheduler:UpdateSchedule",
)  # fmt: skip
BUDGETS = (
    "budgets:CreateBudget", "budgets:DeleteBudget", "budgets:DescribeBudget",
    "budgets:DescribeBudgets", "budgets:DescribeNotificationsForBudget",
    "budgets:DescribeSubscribersForNotification",
)  # fmt: skip
# What a call makes; it has to bear the lab's tag from the start.
BORN = {
    "ec2:CreateImage": ("image/*", "snapshot/*"),
    "ec2:CreatePlacementGroup": ("placement-group/*",),
    "ec2:CreateSecurityGroup": ("security-group/*",),
    "ec2:CreateSnapshot": ("snapshot/*",),
    "ec2:CreateVolume": ("volume/*",),
    "ec2:ImportKeyPair": ("key-pair/*",),
    "ec2:RunInstances": ("instance/*", "spot-instances-request/*", "volume/*"),
}
# Of these each makes things of one kind, and takes none that is somebody's: one statement for all.
ALONE = ("ec2:CreatePlacementGroup", "ec2:CreateSecurityGroup", "ec2:ImportKeyPair")
# What a call makes it out of, or puts it into, and that bears no tag of ours.
USED = {
    "ec2:CreateSecurityGroup": ("vpc/*",),
    "ec2:CreateVolume": ("snapshot/*",),
    "ec2:RunInstances": ("image/*", "network-interface/*", "snapshot/*", "subnet/*"),
}
# By EFS, for a mount target; DeleteNetworkInterface refuses one that is in use.
USED_BY_EFS = {
    "ec2:CreateNetworkInterface": ("network-interface/*", "security-group/*", "subnet/*"),
    "ec2:DeleteNetworkInterface": ("network-interface/*",),
}
# The same, of things that do.
USED_OWN = {
    "ec2:CreateImage": ("instance/*",),
    "ec2:CreateSnapshot": ("volume/*",),
    "ec2:RunInstances": ("key-pair/*", "placement-group/*", "security-group/*"),
}
_SSH_DOCUMENT = "arn:{}:ssm:*::document/AWS-StartSSHSession"
SPOT_ROLE = "role/aws-service-role/spot.amazonaws.com/*"
TAGGED = {"StringEquals": {"aws:ResourceTag/Project": PROJECT}}
TAGGING = {"StringEquals": {"aws:RequestTag/Project": PROJECT}}
PASSED = {"StringEquals": {"iam:PassedToService": ["ec2.amazonaws.com", "scheduler.amazonaws.com"]}}


@dataclass(frozen=True)
class Place:
    """An account (twelve digits, or `*`), its partition, and a bucket of the user's own.

    `sessions` is for lab_access: ssm, whose sessions the user's own programs open.
    """

    account: str = "*"
    partition: str = "aws"
    bucket: str = ""
    sessions: bool = False

    def ec2(self, *kinds: str) -> list[str]:
        """Return the names of EC2's things; images and snapshots of others have no account."""
        return [f"arn:{self.partition}:ec2:*:*:{kind}" for kind in kinds]

    def named(self, service: str, path: str, region: str = "") -> list[str]:
        """Return the name of a thing of the account."""
        return [f"arn:{self.partition}:{service}:{region}:{self.account}:{path}"]


def operations() -> frozenset[str]:
    """Return every operation that the policy is for."""
    return frozenset((
        *LOOKS, *PRICES, *IMAGE_NAMES, *BORN, *CHANGES, *ROLES, *BUCKET, *OBJECTS, *SCHEDULES,
        *BUDGETS, *EFS_LOOKS, *EFS_MAKES, *EFS_CHANGES,
    ))  # fmt: skip


def _actions(called: Iterable[str]) -> list[str]:
    return sorted({own for one in called for own in own_actions(one)})


def _allow(sid: str, actions: Iterable[str], resources: list[str], **more: Any) -> dict[str, Any]:
    return {"Sid": sid, "Effect": "Allow", "Action": list(actions), "Resource": resources, **more}


def _making(
    sid: str, made: dict[str, tuple[str, ...]], place: Place, **more: Any
) -> list[dict[str, Any]]:
    """Allow each call what it makes: one statement each, lest one may do what another may."""
    return [
        _allow(f"{sid}{number}", [call], place.ec2(*kinds), **more)
        for number, (call, kinds) in enumerate(made.items())
    ]


def document(place: Place) -> dict[str, Any]:
    """Return the policy."""
    arn = f"arn:{place.partition}:s3:::{PROJECT}-*"
    own = [arn, *([f"arn:{place.partition}:s3:::{place.bucket}"] if place.bucket else [])]
    roles = place.named("iam", f"role/{PROJECT}-*")
    profiles = place.named("iam", f"instance-profile/{PROJECT}-*")
    names = [f"arn:{place.partition}:ssm:*::parameter/aws/service/*"]
    others = {call: kinds for call, kinds in BORN.items() if call not in ALONE}
    statements = [
        _allow("Look", _actions(LOOKS), ["*"]),
        _allow("Prices", _actions(PRICES), ["*"]),
        _allow("ImageNames", _actions(IMAGE_NAMES), names),
        _allow("New", ALONE, place.ec2(*(kind for call in ALONE for kind in BORN[call])),
               Condition=TAGGING),
        *_making("New", others, place, Condition=TAGGING),
        *_making("Of", USED, place),
        *_making("OfOwn", USED_OWN, place, Condition=TAGGED),
        _allow("TagAtBirth", ["ec2:CreateTags"], place.ec2("*/*"), Condition=TAGGING),
        _allow("ChangeOwn", _actions(CHANGES), place.ec2("*/*"), Condition=TAGGED),
        _allow("Roles", [*_actions(ROLES), *TAGS_OF_ROLES], [*roles, *profiles]),
        _allow("HandRolesOn", ["iam:PassRole"], roles, Condition=PASSED),
        _allow("FirstSpot", ["iam:CreateServiceLinkedRole"], place.named("iam", SPOT_ROLE)),
        _allow("Bucket", _actions(BUCKET), own),
        _allow("Objects", _actions(OBJECTS), [f"{arn}/*"]),
        _allow("Schedules", _actions(SCHEDULES),
               place.named("scheduler", f"schedule/default/{PROJECT}-*", "*")),
        _allow("Budgets", _actions(BUDGETS), place.named("budgets", "budget/*")),
    ]  # fmt: skip
    if place.sessions:
        statements += [
            _allow("Connect", ["ssm:StartSession"], place.ec2("instance/*"), Condition=TAGGED),
            _allow("ConnectBySsh", ["ssm:StartSession"], [_SSH_DOCUMENT.format(place.partition)]),
            _allow("Disconnect", ["ssm:TerminateSession"], place.named("ssm", "session/*", "*")),
        ]
    return {"Version": "2012-10-17", "Statement": statements}


def document_of_efs(place: Place) -> dict[str, Any]:
    """Return the policy that lab_shared: efs needs beside the other, which has no room for it."""
    systems = place.named("elasticfilesystem", "file-system/*", "*")
    new = [*_actions(EFS_MAKES), "elasticfilesystem:TagResource"]
    statements = [
        _allow("Look", [*_actions(EFS_LOOKS), "ec2:DescribeNetworkInterfaces"], ["*"]),
        _allow("New", new, systems, Condition=TAGGING),
        _allow("ChangeOwn", _actions(EFS_CHANGES), systems, Condition=TAGGED),
        *_making("Of", USED_BY_EFS, place),
    ]
    return {"Version": "2012-10-17", "Statement": statements}
