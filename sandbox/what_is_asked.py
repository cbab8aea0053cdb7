"""What a request to AWS is about, as IAM's policies name it: things, their tags, and rights beside.

EC2 asks IAM about every thing that a call touches; here it is the one that the call is for, and the
tags that a new one is to bear. A call that names several is about each of them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

# What a call makes.
MADE = {
    "CopySnapshot": "snapshot",
    "CreateImage": "image",
    "CreateKeyPair": "key-pair",
    "CreatePlacementGroup": "placement-group",
    "CreateSecurityGroup": "security-group",
    "CreateSnapshot": "snapshot",
    "CreateVolume": "volume",
    "ImportKeyPair": "key-pair",
    "RegisterImage": "image",
    "RunInstances": "instance",
}
# The parameters that name what a call is for, the first that is there; KeyName names by name.
NAMES = ("InstanceId", "VolumeId", "GroupId", "SnapshotId", "ImageId", "AllocationId",
         "SpotInstanceRequestId", "ResourceId")  # fmt: skip
KINDS = {
    "i": "instance", "vol": "volume", "sg": "security-group", "snap": "snapshot", "ami": "image",
    "eipalloc": "elastic-ip", "sir": "spot-instances-request",
}  # fmt: skip
# Things that may be another account's bear no account in their names.
WITHOUT_ACCOUNT = {"image", "snapshot"}
# The action of IAM for an operation that bears another name.
RENAMED = {
    "budgets:CreateBudget": "budgets:ModifyBudget",
    "budgets:DeleteBudget": "budgets:ModifyBudget",
    "budgets:DescribeBudget": "budgets:ViewBudget",
    "budgets:DescribeBudgets": "budgets:ViewBudget",
    "budgets:DescribeNotificationsForBudget": "budgets:ViewBudget",
    "budgets:DescribeSubscribersForNotification": "budgets:ViewBudget",
}
BUDGETS = "budgets"
EFS = "elasticfilesystem"
LOOKS = ("Describe", "Get", "List")
# A tag of a request's form: TagSpecification.1.Tag.2.Key, or Tag.2.Key where tags are all it gives.
_TAG = re.compile(r"((?:TagSpecification\.\d+\.)?Tag\.\d+)\.Key")
_LISTED = re.compile(r"\.\d+$")


def fields(data: Mapping[str, Any]) -> dict[str, str]:
    """Flatten a form: each field has one value."""
    return {
        key: str(value[0] if isinstance(value, list) and value else value)
        for key, value in data.items()
    }


def ec2_ids(form: Mapping[str, str]) -> list[str]:
    """Return the ids of what an EC2 call is for."""
    for name in NAMES:
        found = [v for k, v in form.items() if _LISTED.sub("", k) == name]
        if found:
            return found
    return []


def ec2_resource(action: str, form: Mapping[str, str], where: str) -> str:
    """Name what an EC2 call is for; `where` is `arn:aws:ec2:REGION:ACCOUNT`."""
    if action.startswith(LOOKS):
        return "*"
    if action in MADE:
        return _ec2_arn(MADE[action], "new", where)
    ids = ec2_ids(form)
    if not ids and "KeyName" in form:
        return _ec2_arn("key-pair", form["KeyName"], where)
    if action == "DeletePlacementGroup":
        return _ec2_arn("placement-group", form.get("GroupName", ""), where)
    if len(ids) != 1 or ids[0].partition("-")[0] not in KINDS:
        return "*"
    return _ec2_arn(KINDS[ids[0].partition("-")[0]], ids[0], where)


def ec2_things(action: str, form: Mapping[str, str], where: str) -> list[tuple[str, str]]:
    """Give id and name of each thing that a call is for, where there are several."""
    ids = ec2_ids(form)
    known = all(one.partition("-")[0] in KINDS for one in ids)
    several = len(ids) > 1
    if not several or not known or action in MADE or action.startswith(LOOKS):
        return []
    return [(one, _ec2_arn(KINDS[one.partition("-")[0]], one, where)) for one in ids]


def _ec2_arn(kind: str, name: str, where: str) -> str:
    place = where.rpartition(":")[0] + ":" if kind in WITHOUT_ACCOUNT else where
    return f"{place}:{kind}/{name}"


def given_tags(form: Mapping[str, str]) -> dict[str, list[str]]:
    """Return the tags that a request gives, as condition keys."""
    found: dict[str, list[str]] = {}
    for key, name in form.items():
        if match := _TAG.fullmatch(key):
            values = found.setdefault(f"aws:requesttag/{name}".lower(), [])
            values.append(form.get(f"{match[1]}.Value", ""))
    return found


def iam_resource(form: Mapping[str, str], account: str, known: str) -> str:
    """Name what an IAM call is for, there or not; `known` is what moto says."""
    if known != "*":
        return known
    if name := form.get("InstanceProfileName"):
        return f"arn:aws:iam::{account}:instance-profile/{name}"
    if name := form.get("RoleName"):
        return f"arn:aws:iam::{account}:role/{name}"
    return "*"


def scheduler_resource(uri: str, region: str, account: str) -> str:
    """Name the schedule in a request's address."""
    folder, _, name = urlsplit(uri).path.strip("/").partition("/")
    if folder != "schedules" or not name:
        return "*"
    return f"arn:aws:scheduler:{region}:{account}:schedule/default/{unquote(name)}"


def budget_resource(body: str, account: str) -> str:
    """Name the budget in a request's body."""
    asked = json.loads(body or "{}")
    name = asked.get("BudgetName") or asked.get("Budget", {}).get("BudgetName", "")
    return f"arn:aws:budgets::{account}:budget/{name}"


def file_system(uri: str, body: str, of_targets: Mapping[str, str]) -> str:
    """Return the id of the file system that a call of EFS is for; empty for a new one or for all.

    `of_targets` leads from mount targets to their file systems.
    """
    named = [part for part in urlsplit(uri).path.split("/") if part.startswith("fs")]
    one = named[0] if named else str(_json(body).get("FileSystemId", ""))
    return of_targets.get(one, one)


def file_system_resource(one: str, region: str, account: str) -> str:
    """Name a file system, there or to be made."""
    return f"arn:aws:elasticfilesystem:{region}:{account}:file-system/{one or 'new'}"


def given_efs_tags(body: str) -> dict[str, list[str]]:
    """Return the tags that a call of EFS gives, as condition keys."""
    tags = _json(body).get("Tags") or []
    return {f"aws:requesttag/{tag['Key']}".lower(): [str(tag["Value"])] for tag in tags}


def _json(body: str) -> dict[str, Any]:
    try:
        told = json.loads(body or "{}")
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}


def parameter_resource(body: str, region: str, account: str) -> str:
    """Name the parameter in a request's body; those under /aws/ belong to nobody."""
    name = str(json.loads(body or "{}").get("Name", ""))
    if not name:
        return "*"
    owner = "" if name.startswith("/aws/") else account
    return f"arn:aws:ssm:{region}:{owner}:parameter/{name.lstrip('/')}"


def rights_beside(
    service: str, action: str, form: Mapping[str, str], account: str
) -> Iterator[tuple[str, str, dict[str, list[str]]]]:
    """Give what AWS asks for beside the call's own right: action, resource, condition keys."""
    role = form.get("IamInstanceProfile.Name")
    if service == "ec2":
        if action in MADE and (tags := given_tags(form)):
            yield "ec2:CreateTags", f"arn:aws:ec2:::{MADE[action]}/new", tags
        if role:
            # The profile's role, which bears its name wherever the lab makes it.
            yield _pass(f"arn:aws:iam::{account}:role/{role}", "ec2.amazonaws.com")
    elif action == "AddRoleToInstanceProfile":
        arn = f"arn:aws:iam::{account}:role/{form.get('RoleName', '')}"
        yield _pass(arn, "ec2.amazonaws.com")
    elif action in ("CreateRole", "CreateInstanceProfile") and any(
        key.startswith("Tags.") for key in form
    ):
        right = "TagRole" if action == "CreateRole" else "TagInstanceProfile"
        yield f"iam:{right}", iam_resource(form, account, "*"), {}


def _pass(role: str, service: str) -> tuple[str, str, dict[str, list[str]]]:
    return "iam:PassRole", role, {"iam:passedtoservice": [service]}


def schedules_role(body: str) -> tuple[str, str, dict[str, list[str]]] | None:
    """Give the right to hand a schedule its role."""
    role = json.loads(body or "{}").get("Target", {}).get("RoleArn")
    return _pass(role, "scheduler.amazonaws.com") if role else None
