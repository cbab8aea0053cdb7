"""The lab's /data as a file system of EFS (`lab_shared: efs`): what there is of it, and in words.

The file system is found by its creation token, which is the lab's name for it: a request whose
reply was lost never makes a second one. Hosts reach it by the address of its mount target, one in
their zone, which bears the lab's security group.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from .clock import MINUTE, Clock
from .findings import Findings
from .guard import CANNOT_LOOK
from .names import PROJECT, Names, read_tags
from .prices import HOURS_A_MONTH
from .session import Aws, AwsError, unless
from .things import FileSystem, MountTarget, Seen
from .variables import WHERE, Spec

EFS = "efs"  # the value of lab_shared, and boto3's name of the service
ADDRESS = "DataAddress"  # the hosts' tag with the address of the mount target
NO_TARGET = {"MountTargetNotFound"}
NOT_THERE = {"FileSystemNotFound", *NO_TARGET}
GOING = ("deleting", "deleted")
READY = "available"
TARGET_MINUTES = 5
GIB = 1 << 30


def wanted(spec: Spec) -> bool:
    """Whether /data is to be a file system of EFS."""
    return spec.shared == EFS


def look(aws: Aws, names: Names, needed: bool) -> FileSystem | None:
    """Return the lab's file system with its mount targets; None where there is none.

    Where it is not `needed`, credentials that may not ask count as none. Raises AwsError.
    """
    try:
        return _look(aws, names)
    except AwsError as error:
        if needed or error.code not in CANNOT_LOOK:
            raise
        return None


def _look(aws: Aws, names: Names) -> FileSystem | None:
    answer = unless(
        NOT_THERE, lambda: aws.call(EFS, "DescribeFileSystems", CreationToken=names.common)
    )
    found = [raw for raw in (answer or {}).get("FileSystems", ()) if not _goes(raw)]
    return read(found[0], targets(aws, found[0]["FileSystemId"])) if found else None


def every(aws: Aws) -> tuple[FileSystem, ...]:
    """Return every lab's file systems; none where nobody may ask for them. Raises AwsError."""
    try:
        found = aws.pages(EFS, "DescribeFileSystems", "FileSystems")
    except AwsError as error:
        if error.code not in CANNOT_LOOK:
            raise
        return ()
    systems = (read(raw) for raw in found if not _goes(raw))
    return tuple(one for one in systems if one.tags.get("Project") == PROJECT)


def _goes(raw: Mapping[str, Any]) -> bool:
    return raw["LifeCycleState"] in GOING


def read(raw: Mapping[str, Any], mount_targets: tuple[MountTarget, ...] = ()) -> FileSystem:
    """Take what matters from DescribeFileSystems' answer."""
    return FileSystem(
        id=raw["FileSystemId"],
        state=raw["LifeCycleState"],
        tags=read_tags(raw.get("Tags")),
        size=int(raw.get("SizeInBytes", {}).get("Value", 0)),
        created=raw.get("CreationTime"),
        targets=mount_targets,
    )


def targets(aws: Aws, file_system_id: str) -> tuple[MountTarget, ...]:
    """Return the mount targets of a file system, but those that are on their way out."""
    answer = unless(
        NOT_THERE, lambda: aws.call(EFS, "DescribeMountTargets", FileSystemId=file_system_id)
    )
    found = [raw for raw in (answer or {}).get("MountTargets", ()) if not _goes(raw)]
    return tuple(
        MountTarget(
            id=raw["MountTargetId"],
            address=raw.get("IpAddress", ""),
            zone=raw.get("AvailabilityZoneName", ""),
            state=raw["LifeCycleState"],
            group_ids=_groups(aws, raw["MountTargetId"]),
        )
        for raw in found
    )


def _groups(aws: Aws, target_id: str) -> tuple[str, ...]:
    # One that is being made tells nothing yet.
    answer = unless(
        {*NO_TARGET, "IncorrectMountTargetState"},
        lambda: aws.call(EFS, "DescribeMountTargetSecurityGroups", MountTargetId=target_id),
    )
    return tuple(sorted((answer or {}).get("SecurityGroups", ())))


def every_target(aws: Aws, file_system_id: str) -> set[str]:
    """Return the ids of all mount targets, those on their way out included."""
    answer = unless(
        NOT_THERE, lambda: aws.call(EFS, "DescribeMountTargets", FileSystemId=file_system_id)
    )
    return {raw["MountTargetId"] for raw in (answer or {}).get("MountTargets", ())}


def at(there: Seen, zone: str, group_id: str) -> MountTarget | None:
    """Return the mount target in a zone that bears the lab's group alone, ready or being made."""
    return target_at(there.file_system.targets if there.file_system else (), zone, group_id)


def target_at(found: tuple[MountTarget, ...], zone: str, group_id: str) -> MountTarget | None:
    """Return that of these mount targets which hosts in a zone can use; see `at`."""
    return next(
        (
            t
            for t in found
            if t.zone == zone and t.state != "error" and t.group_ids in ((), (group_id,))
        ),
        None,
    )


def refuse(there: Seen, spec: Spec, names: Names, findings: Findings) -> None:
    """Refuse a switch between volume and file system: neither turns into the other."""
    system, data, snapshot = there.file_system, there.data(), there.data_snapshot()
    if system and not names.owns(system.tags):
        findings.problems.append(
            f"The file system {system.id} of EFS has the creation token {names.common}, but not the"
            f" tags Project=gpulab and Lab={names.lab}, so it is somebody else's and is not"
            " touched: choose another name with -e lab_name=…"
        )
    elif wanted(spec) and (data or snapshot):
        had = f"data volume {data.id}" if data else f"snapshot {snapshot.id if snapshot else ''}"
        findings.problems.append(
            f"lab_shared is efs, but the lab {names.lab} has its /data on the {had}, and neither"
            f" turns into the other: {_other(names, 'efs', 'nfs')}"
        )
    elif system and not wanted(spec):
        findings.problems.append(
            f"lab_shared is {spec.shared}, but the lab {names.lab} has its /data on the file system"
            f" {system.id} of EFS, and neither turns into the other:"
            f" {_other(names, spec.shared, 'efs')}"
        )


def _other(names: Names, asked: str, had: str) -> str:
    return (
        f"set lab_shared to {had} in {WHERE}; or build another lab beside this one with -e"
        f" lab_name={names.lab}-{asked} -e lab_shared={asked} and copy /data by rsync"
    )


def gib(system: FileSystem | None) -> float:
    """Return how many GiB are stored, which is what is paid for."""
    return system.size / GIB if system else 0.0


def spent(system: FileSystem | None, gb_month: float, now: datetime) -> float:
    """Return what the file system has cost this month in US dollars, as if it always held this."""
    if system is None:
        return 0.0
    begin = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    born = max(system.created or begin, begin)
    hours = max((now - born).total_seconds() / 3600, 0.0)
    return gib(system) * gb_month * hours / HOURS_A_MONTH


def said(system: FileSystem, gb_month: float) -> str:
    """Say what it is and costs."""
    size = gib(system)
    return f"file system {system.id} ({size:.1f} GB, ${size * gb_month:.2f} a month)"


def delete_target(aws: Aws, target_id: str) -> None:
    """Delete a mount target; gone already is as good."""
    unless(NO_TARGET, lambda: aws.call(EFS, "DeleteMountTarget", MountTargetId=target_id))


def gone(aws: Aws, system_id: str, ids: list[str], clock: Clock) -> None:
    """Wait until AWS has let go of mount targets, whose address and group they hold till then."""
    if not ids:
        return

    def let_go() -> bool:
        return not set(ids) & every_target(aws, system_id)

    clock.until(let_go, TARGET_MINUTES * MINUTE, f"Mount target {', '.join(ids)} deleted")


def delete_file_system(aws: Aws, args: Mapping[str, str]) -> None:
    """Delete a file system with all that is in it."""
    aws.call(EFS, "DeleteFileSystem", FileSystemId=args["id"])
