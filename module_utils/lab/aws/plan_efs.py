"""The steps to a /data on EFS: the file system, its mount target, and the hosts who know of it."""

from __future__ import annotations

from collections.abc import Iterator

from . import efs
from .preflight import Target
from .steps import Step
from .things import ITSELF, Instance, MountTarget, Rule, Seen

RULE = Rule("tcp", 2049, 2049, ITSELF)  # NFS, among those who bear the lab's group


def rules(target: Target) -> frozenset[Rule]:
    """Return what hosts need to reach the mount target, which bears their own group."""
    return frozenset({RULE} if efs.wanted(target.spec) else ())


def address(target: Target, there: Seen) -> dict[str, str]:
    """Return the hosts' tag with the address of /data, once it is ready; none before."""
    found = _found(target, there, there.host(target.names))
    return {efs.ADDRESS: found.address} if found and found.state == efs.READY else {}


def _found(target: Target, there: Seen, host: Instance | None) -> MountTarget | None:
    group = there.group(target.vpc_id)
    if not (efs.wanted(target.spec) and host and group):
        return None
    return efs.at(there, host.zone, group.id)


def file_system(target: Target, there: Seen) -> Iterator[Step]:
    """Make the file system, which needs no host."""
    name = target.names.common
    if efs.wanted(target.spec) and there.file_system is None:
        yield Step(
            "create_file_system",
            f"Create the file system {name} for /data",
            after=f"file system {name}: EFS, elastic throughput, encrypted",
        )


def mount_target(target: Target, there: Seen) -> Iterator[Step]:
    """Let the host reach it, in whatever zone the host is by then."""
    if not efs.wanted(target.spec) or address(target, there):
        return
    name, system = target.names.common, there.file_system
    stale = [t for t in (system.targets if system else ()) if _is_stale(target, there, t)]
    before = "".join(f"mount target of {name}: {t.address} in {t.zone}\n" for t in stale)
    yield Step(
        "make_mount_target",
        f"Let the zone of the host reach the file system {name}",
        before=before,
        after=f"mount target of {name}: in the zone of the host, security group {name}",
    )


def _is_stale(target: Target, there: Seen, one: MountTarget) -> bool:
    host = there.host(target.names)
    return host is not None and one != _found(target, there, host)


def tell(target: Target, there: Seen) -> Iterator[Step]:
    """Tell the hosts its address, where it was not known when their tags were planned."""
    if efs.wanted(target.spec) and not address(target, there):
        name = target.names.common
        yield Step(
            "tell_address",
            f"Tell the hosts the address of the file system {name}",
            after=f"instances of the lab: tag {efs.ADDRESS}",
        )
