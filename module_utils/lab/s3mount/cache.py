"""Keeps a cache folder of s3fs within its size: s3fs itself never shrinks it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from .fstab import Entry

_MIB = 1 << 20
_BLOCK = 512  # the unit of st_blocks, whatever the file system's own


@dataclass(frozen=True)
class _Cached:
    used_at: float
    size: int
    path: Path


def room_needed(entry: Entry) -> int:
    """Give the bytes that s3fs wants free on the disk of its cache: it does not start with less."""
    parts = entry.option("parallel_count") or entry.option("max_thread_count") or "10"
    size = entry.option("multipart_size") or "10"
    return (int(entry.option("ensure_diskfree") or 0) + int(parts) * int(size)) * _MIB


def too_full(entry: Entry) -> str:
    """Say in one sentence that the disk of the cache is too full to mount; empty if it is not."""
    folder = entry.option("tmpdir")
    if entry.fstype != "fuse.s3fs" or not folder:
        return ""
    free, needed = _free(Path(folder)), room_needed(entry)
    if free >= needed:
        return ""
    return (
        f"the disk of its cache {folder} has {free // _MIB} MiB free and s3fs needs "
        f"{-(-needed // _MIB)}: remove files there, or choose another cache_dir"
    )


def trim(folder: Path, bucket: str, limit: int, room: int = 0) -> int:
    """Remove the files that were not used for longest until `limit` bytes hold the rest.

    More goes where less than `room` bytes are free on the disk; a limit of 0 is
    none. A file that a process has open stays, as does one whose upload may be
    pending: s3fs keeps it open. Returns the bytes removed.
    """
    root = folder / bucket
    files = sorted(_files(root), key=lambda file: file.used_at)
    over = sum(file.size for file in files) - limit if limit else 0
    excess = max(over, room - _free(folder))
    if excess <= 0:
        return 0
    held = _open_files()
    removed = 0
    for file in files:
        if removed >= excess:
            break
        if str(file.path) in held:
            continue
        # s3fs keeps the map of what a cached file holds beside the cache.
        (folder / f".{bucket}.stat" / file.path.relative_to(root)).unlink(missing_ok=True)
        file.path.unlink(missing_ok=True)
        removed += file.size
    return removed


def _free(folder: Path) -> int:
    """Give the free bytes of the disk that a folder is on, or will be."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


def _files(root: Path) -> Iterator[_Cached]:
    for where, _, names in os.walk(root):
        for name in names:
            path = Path(where, name)
            with suppress(FileNotFoundError):
                found = path.lstat()
                yield _Cached(max(found.st_atime, found.st_mtime), found.st_blocks * _BLOCK, path)


def _open_files() -> set[str]:
    held = set()
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with suppress(OSError):  # the process ended, or closed the file
            held.add(str(link.readlink()))
    return held
