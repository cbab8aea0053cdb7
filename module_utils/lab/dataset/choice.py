"""Decides whether a data set is copied, mounted or unpacked, and where to. Touches nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import LabError

USES = ("copy", "mount", "unzip", "auto")
# What a copy leaves free on its disk.
SPARE = 1 << 30
# Of the room on a disk that is not only for data sets, how much one may take unasked. A mount is
# as fast as a disk at files from _LARGE bytes on, and asks the bucket for each of smaller ones.
_LARGE = 8 << 20
_SHARE_OF_SMALL, _SHARE_OF_LARGE = 0.8, 0.5
_UNITS = ("B", "kB", "MB", "GB", "TB")


@dataclass(frozen=True)
class Survey:
    """What lies under the prefix: files, their bytes, and how many of them are zip archives."""

    files: int
    bytes: int
    archives: int = 0

    def __str__(self) -> str:
        return f"{self.files:,} files, {size_text(self.bytes)},"


@dataclass(frozen=True)
class Disk:
    """A disk for a copy at `folder`: bytes that are free, and that the copy holds already.

    `fast` is the instance store, which a stop empties and nothing else needs.
    """

    name: str
    folder: str
    free: int
    held: int = 0
    fast: bool = False

    @property
    def room(self) -> int:
        """Bytes that the data set may take, those that it has taken included."""
        return self.free + self.held - SPARE


@dataclass(frozen=True)
class Decision:
    """`folder` is where a copy goes; empty for the other uses."""

    use: str
    reason: str
    folder: str = ""


def decide(use: str, survey: Survey | None, disks: Sequence[Disk]) -> Decision:
    """Choose; raises LabError where a copy is asked for and fits nowhere.

    `survey` is not needed for mount and unzip. `disks`: the fastest first.
    """
    if survey is None or use in ("mount", "unzip"):
        return Decision(use, f"use: {use} was asked for")
    kept = next((disk for disk in disks if disk.held and disk.room >= survey.bytes), None)
    if use == "copy":
        return _copy(survey, disks, kept)
    if survey.archives == survey.files:
        return Decision("unzip", f"all {survey.files:,} files are zip archives")
    if kept:
        return Decision("copy", f"a copy of it lies on the {kept.name} already", kept.folder)
    for disk in disks:
        if survey.bytes <= _allowed(disk, survey):
            room = size_text(disk.room)
            reason = f"{survey} fit into the {room} that are free on the {disk.name}"
            return Decision("copy", reason, disk.folder)
    return Decision("mount", f"{survey} are too much for {_rooms(disks)}")


def _copy(survey: Survey, disks: Sequence[Disk], kept: Disk | None) -> Decision:
    fitting = kept or next((disk for disk in disks if survey.bytes <= disk.room), None)
    if fitting is None:
        raise LabError(
            f"The copy has {survey} and does not fit: {_rooms(disks)}. Set use: mount, or give the "
            "data volume more room (lab_data_volume_gb)."
        )
    return Decision(
        "copy", f"use: copy was asked for, and the {fitting.name} has room", fitting.folder
    )


def _allowed(disk: Disk, survey: Survey) -> float:
    if disk.fast:
        return disk.room
    large = survey.bytes >= survey.files * _LARGE
    return disk.room * (_SHARE_OF_LARGE if large else _SHARE_OF_SMALL)


def _rooms(disks: Sequence[Disk]) -> str:
    return " and ".join(
        f"the {size_text(max(0, disk.room))} that are free on the {disk.name}" for disk in disks
    )


def size_text(size: int) -> str:
    """Write bytes with three digits and a unit, powers of 1000."""
    value, unit = float(size), _UNITS[0]
    for unit in _UNITS:
        if value < 1000 or unit == _UNITS[-1]:  # noqa: PLR2004 - the next unit
            break
        value /= 1000
    return f"{value:.3g} {unit}" if unit != "B" else f"{size} B"
