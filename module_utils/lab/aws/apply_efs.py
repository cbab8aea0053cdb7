"""Carries out the steps to a /data on EFS; each can be repeated, and waits with an end."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ..errors import LabError
from . import efs
from .clock import MINUTE
from .names import write_tags
from .session import unless
from .steps import Step
from .things import FileSystem, MountTarget
from .work import Work

ALREADY = {"FileSystemAlreadyExists"}
# What AWS answers while the one in its place is still on its way out.
IN_ITS_WAY = {"MountTargetConflict", "IncorrectFileSystemLifeCycleState"}


def _create_file_system(work: Work, _step: Step) -> None:
    """Make it, or find the one that a request without a reply has made."""
    names = work.target.names
    unless(
        ALREADY,
        lambda: work.aws.call(
            efs.EFS,
            "CreateFileSystem",
            CreationToken=names.common,
            Encrypted=True,
            ThroughputMode="elastic",
            PerformanceMode="generalPurpose",
            Tags=write_tags(names.tags(Role="data")),
        ),
    )
    _system(work)


def _system(work: Work) -> FileSystem:
    """Return the file system as soon as it is whole. Raises LabError."""
    found: list[FileSystem] = []

    def there() -> bool:
        system = efs.look(work.aws, work.target.names, needed=True)
        found[:] = [system] if system and system.state == efs.READY else []
        return bool(found)

    work.clock.until(there, 3 * MINUTE, f"File system {work.target.names.common} {efs.READY}")
    return found[0]


def _make_mount_target(work: Work, _step: Step) -> None:
    """Leave one mount target, in the zone of the host and with the lab's group alone."""
    host = work.host
    if host is None:
        raise LabError("The host is not there: run the same command again")
    system = _system(work)
    good = efs.target_at(system.targets, host.zone, work.group_id)
    stale = [target for target in system.targets if target != good]
    for target in stale:
        efs.delete_target(work.aws, target.id)
    efs.gone(work.aws, system.id, [target.id for target in stale], work.clock)
    if good is None:
        _create_target(work, system.id, host.subnet_id)
    work.data_address = _ready(work, system.id, host.zone).address


def _create_target(work: Work, system_id: str, subnet_id: str) -> None:
    """Ask for a mount target until nothing of a former one is in its way. Raises LabError."""

    def asked() -> bool:
        return (
            unless(
                IN_ITS_WAY,
                lambda: work.aws.call(
                    efs.EFS,
                    "CreateMountTarget",
                    FileSystemId=system_id,
                    SubnetId=subnet_id,
                    SecurityGroups=[work.group_id],
                ),
            )
            is not None
        )

    work.clock.until(asked, efs.TARGET_MINUTES * MINUTE, f"Mount target of {system_id} made")


def _ready(work: Work, system_id: str, zone: str) -> MountTarget:
    found: list[MountTarget] = []

    def there() -> bool:
        target = efs.target_at(efs.targets(work.aws, system_id), zone, work.group_id)
        found[:] = [target] if target and target.state == efs.READY else []
        return bool(found)

    work.clock.until(
        there, efs.TARGET_MINUTES * MINUTE, f"Mount target of {system_id} in {zone} ready"
    )
    return found[0]


def _tell_address(work: Work, _step: Step) -> None:
    """Tag host and workers, those of this run included."""
    ids = [work.host_id(), *(one.id for one in work.workers.values())]
    tags = write_tags({efs.ADDRESS: work.data_address})
    work.ec2("CreateTags", Resources=sorted(ids), Tags=tags)


STEPS: Mapping[str, Callable[[Work, Step], None]] = {
    "create_file_system": _create_file_system,
    "make_mount_target": _make_mount_target,
    "tell_address": _tell_address,
}
