"""Counters of the disks and the network, and files on their way to S3: pure parsers again."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from .decision import Signal

SECTOR = 512  # bytes, whatever the disk's own
# What is no disk of its own, or shows the traffic of one a second time.
NOT_A_DISK = re.compile(r"(dm-|fd|loop|md|nbd|ram|sr|zram)\d")
PARTITION = re.compile(r"p?\d+")
OF_S3 = ("fuse.s3fs", "fuse.rclone", "fuse.mount-s3")
MEGA = 1_000_000


def disk_signal(diskstats: str, busy_rate: float) -> Signal:
    """Count the bytes read and written in ``/proc/diskstats``; busy from ``busy_rate`` a second."""
    rows = [line.split() for line in diskstats.splitlines() if line.strip()]
    names = {row[2] for row in rows}
    disks = [row for row in rows if not NOT_A_DISK.match(row[2]) and not _part(row[2], names)]
    total = sum(int(row[5]) + int(row[9]) for row in disks) * SECTOR
    return Signal("disk", "idle", _so_far(total), count=total, busy_rate=busy_rate)


def network_signal(net_dev: str, busy_rate: float) -> Signal:
    """Count the bytes in and out in ``/proc/net/dev``; this host's talk with itself is none."""
    total = 0
    for line in net_dev.splitlines()[2:]:
        name, _, counters = line.partition(":")
        fields = counters.split()
        if name.strip() != "lo":
            total += int(fields[0]) + int(fields[8])
    return Signal("network", "idle", _so_far(total), count=total, busy_rate=busy_rate)


def mounts_of_s3(mounts: str) -> list[str]:
    """Return where a bucket is mounted, from ``/proc/mounts``."""
    rows = [line.split() for line in mounts.splitlines()]
    return [_unescaped(row[1]) for row in rows if row[2] in OF_S3 or row[0] == "mountpoint-s3"]


def uploads_signal(held: int, opened: Mapping[str, bool]) -> Signal:
    """Find files that are not in the bucket yet.

    s3fs keeps each file that somebody has open, or that is still being uploaded, in one of its own:
    it holds ``held`` of them. ``opened`` are the files that programs have open under its mounts,
    and whether for writing; those only read need no upload.
    """
    writing = sum(opened.values())
    reading = len(opened) - writing
    pending = max(held - reading, writing)
    if pending:
        return Signal("uploads", "active", f"{pending} open for writing, or not uploaded yet")
    return Signal("uploads", "idle", f"nothing to upload, {reading} open for reading")


def _part(name: str, names: set[str]) -> bool:
    return any(
        name != whole and name.startswith(whole) and PARTITION.fullmatch(name[len(whole) :])
        for whole in names
    )


def _unescaped(path: str) -> str:
    """Undo the octal escapes in which the kernel writes blanks."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), path)


def _so_far(total: int) -> str:
    return f"{total / MEGA:.0f} MB since the boot"


def under(path: str, mounts: Sequence[str]) -> bool:
    """Whether a path lies in one of these mounts."""
    return any(path.startswith(mount.rstrip("/") + "/") for mount in mounts)
