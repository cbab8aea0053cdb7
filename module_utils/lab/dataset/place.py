"""The folder of a data set: what is there, what has room, and the link to the instance store."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from ..errors import LabError
from ..s3mount import names
from ..s3mount.mountinfo import mounts_at
from .choice import Disk

FAST_FOLDER = "datasets"


def held(folder: Path) -> int:
    """Sum the sizes of the files below a folder; 0 where it is not there."""
    total = 0
    for where, _, files in os.walk(folder):
        for name in files:
            with suppress(FileNotFoundError):
                total += Path(where, name).lstat().st_size
    return total


def free(folder: Path) -> int:
    """Give the bytes that are free where a folder is, or will be."""
    while not folder.is_dir():
        folder = folder.parent
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


def is_mounted(dest: Path) -> bool:
    """Tell whether a bucket is mounted there, without touching it: it may hang."""
    return any(mount.fstype.startswith("fuse") for mount in mounts_at(str(dest)))


def disks(dest: Path, fast: Path | None) -> list[Disk]:
    """List the disks for a copy that is reached by `dest`, the fastest first.

    `fast` is where the instance store is mounted. A folder at `dest` that holds files stays
    where it is, so that nothing has to be moved.
    """
    mounted = is_mounted(dest)
    own = not mounted and dest.is_dir() and not dest.is_symlink()
    taken = held(dest) if own else 0
    data = Disk("data volume", str(dest), free(dest.parent), taken)
    if taken or fast is None:
        return [data]
    # The whole path as a name: two data sets may end in the same one.
    folder = fast / FAST_FOLDER / names.escape_path(str(dest))
    return [Disk("instance store", str(folder), free(fast), held(folder), fast=True), data]


def link_needed(dest: Path, folder: str) -> bool:
    """Tell whether `dest` is still to become a link to the folder of the copy."""
    if folder == str(dest):
        return dest.is_symlink()
    return not (dest.is_symlink() and str(dest.readlink()) == folder)


def clear(dest: Path) -> bool:
    """Take away a link that stands at `dest`; tell whether one did."""
    if not dest.is_symlink():
        return False
    dest.unlink()
    return True


def make(dest: Path, folder: str, owner: tuple[int, int]) -> None:
    """Make the folder of a copy and, where it lies elsewhere, the link to it."""
    if folder == str(dest):
        clear(dest)
    _make_folder(Path(folder), owner)
    if folder == str(dest):
        return
    if dest.is_dir() and not dest.is_symlink():
        try:
            dest.rmdir()
        except OSError as error:
            raise LabError(
                f"{dest} holds files, so it cannot become a link to {folder}: move them away."
            ) from error
    _make_folder(dest.parent, owner)
    fresh = dest.with_name(f".{dest.name}.new")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(folder)
    fresh.replace(dest)


def _make_folder(folder: Path, owner: tuple[int, int]) -> None:
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    for one in reversed(missing):
        one.mkdir(mode=0o755)
        os.chown(one, *owner)
