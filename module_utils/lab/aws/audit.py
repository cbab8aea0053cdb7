"""Everything of every lab in a region, and what may have been left behind, with its cost a month.

What carries the project's tag is ours. A leftover is a thing of a kind that labs have, without that
tag, which bears our name or costs while nothing uses it: a volume or an address that is attached to
nothing, a snapshot whose volume is gone. It may be somebody else's, and is only shown.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from . import bake, efs, seen, spot
from .names import PROJECT, read_tags
from .prices import HOURS_A_MONTH
from .session import DENIED, Aws, AwsError, side_by_side, unless

PREFIX = f"{PROJECT}-"
HEAD = ("LAB", "KIND", "ID", "WHAT", "A MONTH")
NOBODY = "(no tag)"
TOLERATED = {*DENIED, "InvalidAction", "EndpointConnectionError"}


@dataclass(frozen=True)
class Item:
    """One thing; `month` in US dollars if it stays as it is, None where that is not known."""

    lab: str
    kind: str
    id: str
    what: str
    month: float | None = 0.0

    def cells(self) -> tuple[str, ...]:
        """Return it as the table shows it."""
        cost = "?" if self.month is None else f"${self.month:.2f}" if self.month else "-"
        return (self.lab, self.kind, self.id, self.what, cost)


@dataclass(frozen=True)
class Found:
    """What there is, and of what service nothing could be learnt."""

    items: tuple[Item, ...]
    denied: Mapping[str, str]


def look(aws: Aws, prices: Mapping[str, Any]) -> Found:
    """Look at everything, side by side. What may not be looked at is named. Raises AwsError."""
    account = str(aws.call("sts", "GetCallerIdentity")["Account"])
    denied: dict[str, str] = {}

    def tolerant(kind: str, work: Callable[[], Iterable[Item]]) -> list[Item]:
        try:
            return list(work())
        except AwsError as error:
            if error.code not in TOLERATED:
                raise
            denied[kind] = str(error)
            return []

    kinds: dict[str, Callable[[], Iterable[Item]]] = {
        "hosts and volumes": lambda: _hosts_and_disks(aws, account, prices),
        "images": lambda: _images(aws),
        "addresses": lambda: _addresses(aws, prices),
        "Spot requests": lambda: _requests(aws),
        "security groups": lambda: _groups(aws),
        "placement groups": lambda: _placement_groups(aws),
        "key pairs": lambda: _key_pairs(aws),
        "file systems": lambda: _file_systems(aws, prices),
        "buckets": lambda: _buckets(aws, account),
        "roles": lambda: _roles(aws),
        "schedules": lambda: _schedules(aws),
        "budgets": lambda: _budgets(aws, account),
    }
    found = side_by_side(
        {kind: lambda k=kind, w=work: tolerant(k, w) for kind, work in kinds.items()}  # type: ignore[misc]
    )
    items = [item for kind in kinds for item in found[kind]]
    return Found(tuple(sorted(items, key=_order)), denied)


def _order(item: Item) -> tuple[bool, str, str, str]:
    return item.lab == NOBODY, item.lab, item.kind, item.id


def owner(tags: Mapping[str, str], name: str = "", idle: bool = False) -> str | None:
    """Name the lab of a thing; None where it is neither ours nor a leftover."""
    if tags.get("Project") == PROJECT:
        return tags.get("Lab", "?")
    return NOBODY if idle or name.startswith(PREFIX) else None


def _hosts_and_disks(aws: Aws, account: str, prices: Mapping[str, Any]) -> Iterable[Item]:
    found = side_by_side(
        {
            "instances": lambda: seen.instances(aws),
            "volumes": lambda: seen.volumes(aws, []),
            "snapshots": lambda: seen.snapshots(aws, []),
            "images": lambda: aws.call("ec2", "DescribeImages", Owners=["self"])["Images"],
        }
    )
    for host in found["instances"]:
        lab = owner(host.tags, host.tags.get("Name", ""))
        if lab:
            hour = prices["instance_hour"].get(host.type)
            address = float(prices["public_ipv4_hour"]) if host.public_ip else 0.0
            on = host.state in ("pending", "running")
            cost = None if hour is None else (float(hour) + address) * HOURS_A_MONTH
            kind, what = "worker" if host.worker else "host", f"{host.type}, {host.state}"
            yield Item(lab, kind, host.id, what, cost if on else 0.0)
    for volume in found["volumes"]:
        lab = owner(volume.tags, volume.tags.get("Name", ""), idle=volume.state == "available")
        if lab:
            where = f"at {volume.attached_to}" if volume.attached_to else "attached to nothing"
            what = f"{volume.tags.get('Role', '')} {volume.size} GB {volume.kind}, {where}".strip()
            cost = volume.size * float(prices["gp3_gb_month"])
            yield Item(lab, "volume", volume.id, what, cost)
    there = {volume.id for volume in found["volumes"]}
    imaged = {
        disk.get("Ebs", {}).get("SnapshotId")
        for image in found["images"]
        for disk in image.get("BlockDeviceMappings", ())
    }
    for snapshot in (s for s in found["snapshots"] if s.owner == account):
        lost = snapshot.id not in imaged and snapshot.volume_id not in there
        lab = owner(snapshot.tags, snapshot.tags.get("Name", ""), idle=lost)
        if lab:
            cost = snapshot.size * float(prices["snapshot_gb_month"])
            yield Item(lab, "snapshot", snapshot.id, f"of {snapshot.size} GB, cost at most", cost)


def _images(aws: Aws) -> Iterable[Item]:
    """List images; what of a lab's baked ones no new host is made from any more is said."""
    found = aws.call("ec2", "DescribeImages", Owners=["self"])["Images"]
    newest: dict[str, str] = {}
    bakes = bake.newest_first(bake.read(raw) for raw in found)
    tags = {raw["ImageId"]: read_tags(raw.get("Tags")) for raw in found}
    for each in bakes:
        lab = owner(tags[each.id], each.name)
        if not lab:
            continue
        what = "paid for by its snapshots"
        if tags[each.id].get("Role") == bake.ROLE:
            old = newest.setdefault(lab, each.id) != each.id
            what = (
                f"baked {each.day} from {each.of}{', a newer one is there' if old else ''}, {what}"
            )
        yield Item(lab, "image", each.id, what)


def _addresses(aws: Aws, prices: Mapping[str, Any]) -> Iterable[Item]:
    for raw in aws.call("ec2", "DescribeAddresses")["Addresses"]:
        used = bool(raw.get("AssociationId") or raw.get("InstanceId"))
        lab = owner(read_tags(raw.get("Tags")), idle=not used)
        if lab:
            what = f"{raw['PublicIp']}, {'in use' if used else 'used by nothing'}"
            cost = float(prices["public_ipv4_hour"]) * HOURS_A_MONTH
            yield Item(lab, "address", raw.get("AllocationId", raw["PublicIp"]), what, cost)


def _requests(aws: Aws) -> Iterable[Item]:
    """List Spot requests that are not over: AWS starts or launches hosts for them."""
    filters = [{"Name": "state", "Values": list(spot.ALIVE)}]
    found = aws.pages(
        "ec2", "DescribeSpotInstanceRequests", "SpotInstanceRequests", Filters=filters
    )
    for raw in found:
        lab = owner(read_tags(raw.get("Tags")))
        if lab:
            what = f"{raw['State']}, for {raw.get('InstanceId') or 'no host'}"
            yield Item(lab, "Spot request", raw["SpotInstanceRequestId"], what)


def _groups(aws: Aws) -> Iterable[Item]:
    for raw in aws.pages("ec2", "DescribeSecurityGroups", "SecurityGroups"):
        lab = owner(read_tags(raw.get("Tags")), raw["GroupName"])
        if lab:
            yield Item(lab, "security group", raw["GroupId"], raw["GroupName"])


def _placement_groups(aws: Aws) -> Iterable[Item]:
    for raw in aws.call("ec2", "DescribePlacementGroups")["PlacementGroups"]:
        lab = owner(read_tags(raw.get("Tags")), raw["GroupName"])
        if lab:
            yield Item(lab, "placement group", raw["GroupName"], raw["Strategy"])


def _key_pairs(aws: Aws) -> Iterable[Item]:
    for raw in aws.call("ec2", "DescribeKeyPairs")["KeyPairs"]:
        lab = owner(read_tags(raw.get("Tags")), raw["KeyName"])
        if lab:
            yield Item(lab, "key pair", raw["KeyName"], raw.get("KeyType", ""))


def _file_systems(aws: Aws, prices: Mapping[str, Any]) -> Iterable[Item]:
    for raw in aws.pages(efs.EFS, "DescribeFileSystems", "FileSystems"):
        one = efs.read(raw)
        # Who has mount targets may have hosts that use it.
        idle = not raw.get("NumberOfMountTargets")
        lab = owner(one.tags, raw.get("Name") or "", idle=idle)
        if lab:
            what = f"EFS, {efs.gib(one):.1f} GB{', no mount target' if idle else ''}"
            cost = efs.gib(one) * float(prices["efs_gb_month"])
            yield Item(lab, "file system", one.id, what, cost)


def _buckets(aws: Aws, account: str) -> Iterable[Item]:
    for raw in aws.call("s3", "ListBuckets").get("Buckets", ()):
        if not raw["Name"].startswith(f"{PREFIX}{account}-"):
            continue
        tags = unless(
            {"NoSuchTagSet", "AccessDenied", "403"},
            lambda name=raw["Name"]: aws.call("s3", "GetBucketTagging", Bucket=name),  # type: ignore[misc]
        )
        lab = owner(read_tags((tags or {}).get("TagSet")), raw["Name"])
        if lab:
            yield Item(lab, "bucket", raw["Name"], "billed by what is in it", None)


def _roles(aws: Aws) -> Iterable[Item]:
    for kind, operation, key, name in (
        ("role", "ListRoles", "Roles", "RoleName"),
        ("instance profile", "ListInstanceProfiles", "InstanceProfiles", "InstanceProfileName"),
    ):
        for raw in aws.pages("iam", operation, key):
            if raw[name].startswith(PREFIX) and raw[name].partition(aws.region)[1]:
                tags = _iam_tags(aws, kind, raw[name])
                yield Item(owner(tags, raw[name]) or NOBODY, kind, raw[name], "")


def _iam_tags(aws: Aws, kind: str, name: str) -> dict[str, str]:
    """Look at each by itself, for lists leave out the tags."""
    key = "Role" if kind == "role" else "InstanceProfile"
    found = unless(seen.NO_ENTITY, lambda: aws.call("iam", f"Get{key}", **{f"{key}Name": name}))
    return read_tags(found[key].get("Tags")) if found else {}


def _schedules(aws: Aws) -> Iterable[Item]:
    for raw in aws.pages("scheduler", "ListSchedules", "Schedules", NamePrefix=PREFIX):
        lab = raw["Name"].removeprefix(PREFIX).rpartition("-")[0]
        lab = re.sub(r"-worker-[1-9][0-9]*$", "", lab)  # one schedule for each worker
        yield Item(lab or NOBODY, "schedule", raw["Name"], raw.get("State", ""))


def _budgets(aws: Aws, account: str) -> Iterable[Item]:
    for raw in aws.pages("budgets", "DescribeBudgets", "Budgets", AccountId=account):
        name = raw["BudgetName"]
        if name.startswith(PREFIX) and name.endswith(f"-{aws.region}"):
            lab = name.removeprefix(PREFIX).removesuffix(f"-{aws.region}")
            yield Item(lab, "budget", name, f"${float(raw['BudgetLimit']['Amount']):g} a month")


def report(found: Found, note: str) -> list[str]:
    """Set it in columns, with the sum."""
    lines = [f"{kind} could not be looked at: {why}" for kind, why in sorted(found.denied.items())]
    if not found.items:
        return [*lines, "Nothing of any lab is in this region."]
    cells = [HEAD, *(item.cells() for item in found.items)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(HEAD))]
    lines += [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    ]
    total = sum(item.month or 0.0 for item in found.items if item.lab != NOBODY)
    lost = sum(item.month or 0.0 for item in found.items if item.lab == NOBODY)
    lines.append(
        f"The labs' sum if all stays as it is: ${total:.2f} a month, and buckets ({note})."
    )
    if any(item.lab == NOBODY for item in found.items):
        lines.append(
            f"{NOBODY}: without the tag Project={PROJECT}, but with our name or used by nothing,"
            f" ${lost:.2f} a month. It may be somebody else's: look before you delete it by hand."
        )
    return lines
