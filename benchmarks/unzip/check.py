"""Whether a peer really unpacked: every name and size, and the CRC of a sample."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

SAMPLE = 200
_NOTE = ".parallel_unzip"  # begins the names of what parallel_unzip keeps in dest for the next run


@dataclass(frozen=True)
class Wanted:
    """Size and CRC of each path."""

    files: dict[str, tuple[int, int]]

    @property
    def bytes(self) -> int:
        """Bytes of all of them together."""
        return sum(size for size, _ in self.files.values())


def wanted_of(archives: Sequence[Path]) -> Wanted:
    """Read what must come out of archives."""
    files: dict[str, tuple[int, int]] = {}
    for path in archives:
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                if not info.is_dir():
                    files[info.filename] = info.file_size, info.CRC
    return Wanted(files)


def find_fault(dest: Path, wanted: Wanted) -> str:
    """Say in one line what is wrong with the output, "" if nothing is."""
    found = dict(_files(dest))
    if len(found) != len(wanted.files):
        return f"{len(found)} files instead of {len(wanted.files)}"
    for path, (size, _) in wanted.files.items():
        if found.get(path) != size:
            return f"{path}: {found.get(path, 'no')} bytes instead of {size}"
    paths = sorted(wanted.files)
    for path in paths[:: max(1, len(paths) // SAMPLE)]:
        if _crc(dest / path) != wanted.files[path][1]:
            return f"{path}: other contents"
    return ""


def _files(folder: Path, above: str = "") -> Iterator[tuple[str, int]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(_NOTE):
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from _files(Path(entry.path), f"{above}{entry.name}/")
            else:
                yield above + entry.name, entry.stat(follow_symlinks=False).st_size


def _crc(path: Path) -> int:
    value = 0
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            value = zlib.crc32(piece, value)
    return value
