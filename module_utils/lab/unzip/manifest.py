"""What earlier runs brought into dest: one hidden file there, replaced as a whole."""

from __future__ import annotations

import contextlib
import json
import os
import stat
from dataclasses import asdict, dataclass, field
from typing import Any

from .names import RESERVED
from .sources import Archive

NAME = f"{RESERVED}.json"
_NEW = f"{RESERVED}.json.new"
_VERSION = 1
_O_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_O_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK

Item = tuple[str, int, int]
"""Path below dest, size in bytes, CRC-32 of a file."""


@dataclass
class Entry:
    """One archive as it was when it was unpacked, and what it brought.

    `placing` is set while its files are being moved into dest: a run that finds it
    set trusts no file without reading it. `leaving` are files that the archive no
    longer brings and that are to be removed.
    """

    size: int
    mtime_ns: int
    digest: str
    files: list[Item]
    folders: list[str]
    placing: bool = False
    leaving: list[str] = field(default_factory=list)

    def is_of(self, archive: Archive) -> bool:
        """Whether the archive looks as it did then, by size and time of modification."""
        return (self.size, self.mtime_ns) == (archive.size, archive.mtime_ns)

    def paths(self) -> set[str]:
        """All files that this archive is known to have brought."""
        return {path for path, _, _ in self.files}.union(self.leaving)


Manifest = dict[str, Entry]
"""Path of an archive: what it brought."""


def load_manifest(folder: int) -> Manifest:
    """Read the manifest in a folder (a descriptor); empty where none can be read."""
    try:
        fd = os.open(NAME, _O_READ, dir_fd=folder)
    except OSError:
        return {}
    with os.fdopen(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            return {}
        try:
            return _parsed(json.load(file))
        except (ValueError, TypeError, KeyError, AttributeError):
            return {}


def _parsed(data: dict[str, Any]) -> Manifest:
    if data["version"] != _VERSION:
        return {}
    manifest = {}
    for archive, said in data["archives"].items():
        entry = Entry(**said)
        entry.files = [(str(path), int(size), int(crc)) for path, size, crc in entry.files]
        manifest[archive] = entry
    return manifest


def save_manifest(folder: int, manifest: Manifest) -> None:
    """Replace the manifest in one step; OSError when the disk refuses."""
    data = {
        "version": _VERSION,
        "archives": {path: asdict(entry) for path, entry in manifest.items()},
    }
    with contextlib.suppress(FileNotFoundError):
        os.unlink(_NEW, dir_fd=folder)
    with os.fdopen(os.open(_NEW, _O_NEW, 0o644, dir_fd=folder), "w", encoding="utf-8") as file:
        file.write(json.dumps(data, separators=(",", ":")))
        file.flush()
        os.fsync(file.fileno())
    os.rename(_NEW, NAME, src_dir_fd=folder, dst_dir_fd=folder)
