"""Decides what is to be done, from what is wanted and what was found. Touches nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from ..errors import LabError
from . import fstab
from .probe import Health, State


class Action(StrEnum):
    """One step; a plan runs them in its own order."""

    STOP = "unmount"
    REMOVE_FSTAB = "remove the fstab entry"
    REMOVE_FILES = "remove units and key file"
    REMOVE_FOLDER = "remove the mount point"
    WRITE_FSTAB = "write the fstab entry"
    WRITE_FILES = "write units and key file"
    ENABLE = "mount at boot"
    LOCK = "make the bare mount point unwritable"
    START = "mount"


class Folder(StrEnum):
    """The mount point where nothing is mounted."""

    COVERED = "covered"  # by a mount, so nobody looked
    MISSING = "missing"
    OPEN = "open"  # empty, takes writes
    LOCKED = "locked"  # empty, takes none
    FULL = "full"
    NO_FOLDER = "no folder"


@dataclass(frozen=True)
class File:
    """A file of ours on the host."""

    content: bytes = field(repr=False)
    mode: int = 0o644


@dataclass(frozen=True)
class Wanted:
    """What the user asked for. `entry` is None where no mount is to be configured."""

    state: str
    path: str
    entry: fstab.Entry | None = None
    files: dict[Path, File] = field(default_factory=dict)


@dataclass(frozen=True)
class Found:
    """What is on the host. `matches` tells whether the mount was made with what is wanted."""

    fstab: str
    health: Health
    folder: Folder
    stale_files: tuple[Path, ...] = ()  # of those wanted: missing or different
    own_files: tuple[Path, ...] = ()  # of the mount, there now
    running: bool = False
    enabled: bool = False
    matches: bool = False

    @property
    def is_mounted(self) -> bool:
        """Tell whether anything, well or not, is mounted."""
        return self.health.state is not State.ABSENT


@dataclass(frozen=True)
class Plan:
    """Steps in order and what fstab will be; `healed` says that a broken mount is put right."""

    actions: tuple[Action, ...]
    fstab_after: str
    mounted_after: bool
    healed: bool = False

    @property
    def changes(self) -> bool:
        """Tell whether anything is to be done."""
        return bool(self.actions)


def make_plan(wanted: Wanted, found: Found) -> Plan:
    """Decide; raises LabError for what must not be touched."""
    _refuse_foreign(wanted, found)
    if wanted.state == "absent":
        return _remove(wanted, found)
    if wanted.state == "unmounted":
        return _unmount(found)
    assert wanted.entry is not None  # noqa: S101 - for the type checker: see the module
    after = fstab.with_entry(found.fstab, wanted.entry)
    actions = _configure(found, after)
    if wanted.state == "present":
        if found.folder is Folder.OPEN:
            actions.append(Action.LOCK)
        return Plan(tuple(actions), after, found.is_mounted)
    if wanted.state == "remounted" or not _is_good(found):
        _refuse_folder(wanted.path, found.folder)
        if found.is_mounted or found.running:
            actions.insert(0, Action.STOP)
        actions.append(Action.START)
    return Plan(tuple(actions), after, True, healed=found.health.broken)


def _is_good(found: Found) -> bool:
    # A mount whose bucket does not answer heals itself: mounting anew would only fail.
    answers = found.health.state in (State.OK, State.DEGRADED)
    return answers and found.running and found.matches


def _configure(found: Found, after: str) -> list[Action]:
    return [
        action
        for action, needed in (
            (Action.WRITE_FSTAB, after != found.fstab),
            (Action.WRITE_FILES, bool(found.stale_files)),
            (Action.ENABLE, not found.enabled),
        )
        if needed
    ]


def _unmount(found: Found) -> Plan:
    actions = []
    if found.is_mounted or found.running:
        actions.append(Action.STOP)
    elif found.folder is Folder.OPEN:
        actions.append(Action.LOCK)
    return Plan(tuple(actions), found.fstab, False)


def _remove(wanted: Wanted, found: Found) -> Plan:
    after = fstab.without_path(found.fstab, wanted.path)
    folder_goes = found.folder in (Folder.COVERED, Folder.OPEN, Folder.LOCKED)
    steps = (
        (Action.STOP, found.is_mounted or found.running),
        (Action.REMOVE_FSTAB, after != found.fstab),
        (Action.REMOVE_FILES, bool(found.own_files) or found.enabled),
        (Action.REMOVE_FOLDER, folder_goes),
    )
    return Plan(tuple(action for action, needed in steps if needed), after, False)


def _refuse_foreign(wanted: Wanted, found: Found) -> None:
    if found.health.state is State.FOREIGN:
        raise LabError(
            f"{wanted.path} is a {found.health.detail} mount of {found.health.source}, no bucket: "
            "choose another path."
        )
    entry = fstab.find(found.fstab, wanted.path)
    if entry and not entry.fstype.startswith("fuse"):
        raise LabError(
            f"/etc/fstab mounts {entry.source} ({entry.fstype}) at {wanted.path}: choose another "
            "path, or take that line out."
        )


def _refuse_folder(path: str, folder: Folder) -> None:
    if folder is Folder.NO_FOLDER:
        raise LabError(f"{path} is no folder: choose another path, or move it away.")
    if folder is Folder.FULL:
        raise LabError(
            f"{path} holds files that are not in the bucket and that a mount would hide: "
            f"move them away, then run this again (ls -la {path})."
        )
