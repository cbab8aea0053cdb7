"""Keeps a cache folder of s3fs within its size: s3fs itself never shrinks it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_BLOCK = 512  # the unit of st_blocks, whatever the file system's own


@dataclass(frozen=True)
class _Cached:
    used_at: float
    size: int
    path: Path


def trim(folder: Path, bucket: str, limit: int) -> int:
    """Remove the files that were not used for longest until `limit` bytes hold the rest.

    A file that a process has open stays, as does one whose upload may be
    pending: s3fs keeps it open. Returns the bytes removed.
    """
    root = folder / bucket
    files = sorted(_files(root), key=lambda file: file.used_at)
    excess = sum(file.size for file in files) - limit
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
