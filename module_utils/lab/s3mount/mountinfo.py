"""What is mounted, read from the kernel's table without touching a mount."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .fstab import unescape

TABLE = Path("/proc/self/mountinfo")
_MOUNT_POINT = 4


@dataclass(frozen=True)
class Mount:
    """One line of the table. `device` is major:minor; a FUSE connection is named by its minor."""

    device: str
    path: str
    fstype: str
    source: str
    read_only: bool


def parse(text: str) -> list[Mount]:
    """Read the table, lowest mount first."""
    mounts = []
    for line in text.strip("\n").split("\n"):
        before, _, after = line.partition(" - ")
        left, right = before.split(" "), after.split(" ")
        mounts.append(
            Mount(
                device=left[2],
                path=unescape(left[_MOUNT_POINT]),
                fstype=right[0],
                source=unescape(right[1]),
                read_only="ro" in left[5].split(",") or "ro" in right[2].split(","),
            )
        )
    return mounts


def mounts_at(path: str, text: str | None = None) -> list[Mount]:
    """Give what is mounted on exactly this path, the uppermost last."""
    table = TABLE.read_text(encoding="utf-8", errors="surrogateescape") if text is None else text
    return [mount for mount in parse(table) if mount.path == path]
