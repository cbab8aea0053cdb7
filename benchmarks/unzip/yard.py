"""Where the peers unpack to: an empty folder for each run, the last one's removal not measured."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Protocol

_ROOM = 2 << 30  # bytes of a filesystem beyond what the data take
_SPARE = 2 << 30  # bytes that stay free in memory


class Yard(Protocol):
    """A place that is made anew for each run."""

    def fresh(self) -> Path:
        """Give an empty folder; whatever was there before is gone."""

    def close(self) -> None:
        """Remove it."""


class FolderYard:
    """A folder that is emptied. After a removal, ext4 without a journal creates files slowly."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def fresh(self) -> Path:
        """Give an empty folder."""
        self.close()
        place = self._root / "yard"
        place.mkdir(parents=True)
        return place

    def close(self) -> None:
        """Remove it."""
        shutil.rmtree(self._root, ignore_errors=True)


class ImageYard:
    """A new ext4 filesystem for each run, in a file in memory where it fits. Needs root."""

    def __init__(self, root: Path, size: int) -> None:
        self._mount = root / "mount"
        self._mount.mkdir(parents=True, exist_ok=True)
        self._size = size
        memory = Path("/dev/shm")  # noqa: S108  a file of our own there, mounted by root
        fits = memory.is_dir() and shutil.disk_usage(memory).free > size + _SPARE
        self._image = (memory if fits else root) / "bench-unzip.img"
        self.where = "memory" if fits else "a file"

    def fresh(self) -> Path:
        """Make the filesystem anew and give an empty folder in it."""
        self.close()
        with self._image.open("wb") as file:
            file.truncate(self._size)
        lazy = "lazy_itable_init=0,lazy_journal_init=0"
        # An inode for each 8 KiB, so that many tiny files find theirs.
        _do("mkfs.ext4", "-q", "-F", "-i", "8192", "-E", lazy, self._image)
        _do("mount", "-o", "loop", self._image, self._mount)
        place = self._mount / "yard"
        place.mkdir()
        return place

    def close(self) -> None:
        """Unmount and remove it."""
        if self._mount.is_mount():
            _do("umount", self._mount)
        self._image.unlink(missing_ok=True)


def _do(*command: str | Path) -> None:
    subprocess.run(command, check=True, capture_output=True)


def open_yard(root: Path, data_bytes: int, kind: str) -> tuple[Yard, str]:
    """Open the yard of a kind ("image", "folder", or "auto": image where it works) and name it."""
    root.mkdir(parents=True, exist_ok=True)
    if kind != "folder":
        yard = ImageYard(root, _ROOM + data_bytes)
        try:
            yard.fresh()  # a killed run's goes here
        except (OSError, subprocess.CalledProcessError):
            yard.close()
            if kind == "image":
                raise
        else:
            return yard, f"a new ext4 in {yard.where} for each run"
    return FolderYard(root), f"a folder of {root}"
