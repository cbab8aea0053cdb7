"""The bare folder under a mount: nobody may write there while the mount is gone."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

# From linux/fs.h, on 64-bit: read and write the inode flags, and the flag of `chattr +i`.
_GETFLAGS = 0x80086601
_SETFLAGS = 0x40086602
_IMMUTABLE = 0x10
# Root may look, as rclone does before it mounts, which has no right to pass over modes.
LOCKED_MODE = 0o500


def is_locked(path: Path) -> bool:
    """Tell whether the folder is root's, for nobody to write. Only where nothing is mounted."""
    found = path.stat()
    return (found.st_uid, found.st_mode & 0o777) == (0, LOCKED_MODE)


def lock(path: Path) -> bool:
    """Make the folder unwritable and return whether not even root can write there.

    Root passes over permissions, so the folder is made immutable too, where
    the file system and the capabilities allow it.
    """
    if not is_locked(path):
        unlock(path)
        os.chown(path, 0, 0)
        path.chmod(LOCKED_MODE)
    return _set_immutable(path, True)


def unlock(path: Path) -> None:
    """Let the folder be changed or removed again."""
    _set_immutable(path, False)


def set_aside(path: Path) -> Path | None:
    """Move what lies in the bare folder into one beside it, and name that; None if it is empty.

    Only root can have written there, and only where the folder cannot be made immutable.
    """
    strays = list(path.iterdir())
    if not strays:
        return None
    stamp = time.strftime("%Y%m%dT%H%M%S")
    aside = path.with_name(f"{path.name}.not-in-bucket-{stamp}-{os.getpid()}")
    aside.mkdir(mode=0o700)
    for stray in strays:
        stray.rename(aside / stray.name)
    return aside


def _set_immutable(path: Path, wanted: bool) -> bool:
    with _folder(path) as folder:
        try:
            flags = int.from_bytes(fcntl.ioctl(folder, _GETFLAGS, bytes(8))[:4], "little")
            changed = flags | _IMMUTABLE if wanted else flags & ~_IMMUTABLE
            if changed != flags:
                fcntl.ioctl(folder, _SETFLAGS, changed.to_bytes(8, "little"))
        except OSError:  # tmpfs and the like, or a container without the capability
            return False
    return wanted


@contextmanager
def _folder(path: Path) -> Iterator[int]:
    opened = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield opened
    finally:
        with suppress(OSError):
            os.close(opened)
