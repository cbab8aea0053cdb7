"""What earlier runs brought into dest: a small JSON file, and a list for each archive.

`.parallel_unzip.json` says which archives were unpacked; the members of each are in
`.parallel_unzip.lists/<SHA-256 of the list>.tsv.gz`, a line for each: `f`, `d` or `l`
(file, folder, link), size in bytes, CRC-32, path. A list is checked by its name before
it is believed.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import os
import stat
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from .directory import FILE, FOLDER, LINK, Member
from .names import RESERVED
from .sources import Archive

NAME = f"{RESERVED}.json"
LISTS = f"{RESERVED}.lists"
_VERSION = 2
_O_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_O_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_O_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_KINDS = {FILE: "f", FOLDER: "d", LINK: "l"}
_KIND_OF = {letter: kind for kind, letter in _KINDS.items()}
_GZIP = 16 + zlib.MAX_WBITS

Item = tuple[int, int, int, str]
"""Kind, size in bytes, CRC-32 and path below dest of a member."""


@dataclass
class Entry:
    """One archive as it was when it was unpacked, and what it brought.

    `members` counts all, `files` those that are files or links; `bytes` is their size.
    `placing` is set while its files are being moved into dest: a run that finds it set
    trusts no file without reading it. `leaving` are files that the archive no longer
    brings and that are to be removed.
    """

    size: int
    stamp: str
    digest: str
    members: int
    files: int
    bytes: int
    listed: str
    placing: bool = False
    leaving: list[str] = field(default_factory=list)

    def is_of(self, archive: Archive) -> bool:
        """Whether the archive looks as it did then, by its size and what else it tells."""
        return (self.size, self.stamp) == (archive.size, archive.stamp)


Manifest = dict[str, Entry]
"""Path of an archive: what it brought."""


class ListMaker:
    """Makes an archive's list, some members at a time."""

    def __init__(self) -> None:
        self._sum = hashlib.sha256()
        self._gzip = zlib.compressobj(1, zlib.DEFLATED, _GZIP)
        self._made: list[bytes] = []

    def add(self, members: Iterable[Member]) -> None:
        """Append a line for each."""
        text = "".join(f"{_KINDS[m.kind]}\t{m.size}\t{m.crc}\t{m.path}\n" for m in members).encode()
        self._sum.update(text)
        self._made.append(self._gzip.compress(text))

    def finish(self) -> tuple[str, bytes]:
        """Give the name of the list and its bytes."""
        return self._sum.hexdigest(), b"".join([*self._made, self._gzip.flush()])


def load_manifest(folder: int) -> Manifest:
    """Read the manifest in a folder (a descriptor); empty where none can be read."""
    try:
        return _parsed(json.loads(_read(NAME, folder)))
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}


def _parsed(data: dict[str, Any]) -> Manifest:
    if data["version"] != _VERSION:
        return {}
    return {archive: Entry(**said) for archive, said in data["archives"].items()}


def load_list(folder: int, name: str) -> bytes | None:
    """Read a list, unpacked; None where it is not there or not what its name says."""
    try:
        with _lists(folder) as lists:
            text = gzip.decompress(_read(f"{name}.tsv.gz", lists))
    except (OSError, EOFError, zlib.error):
        return None
    return text if hashlib.sha256(text).hexdigest() == name else None


def items(text: bytes) -> Iterator[Item]:
    """Read the lines of a list."""
    for line in io.TextIOWrapper(io.BytesIO(text), encoding="utf-8", newline="\n"):
        kind, size, crc, path = line[:-1].split("\t")
        yield _KIND_OF[kind], int(size), int(crc), path


def save_manifest(folder: int, manifest: Manifest, lists: Iterable[tuple[str, bytes]]) -> None:
    """Write the lists, replace the manifest in one step, and remove lists that it does not name.

    OSError when the disk refuses.
    """
    with contextlib.suppress(FileExistsError):
        os.mkdir(LISTS, 0o755, dir_fd=folder)
    with _lists(folder) as place:
        for name, data in lists:
            _write(f"{name}.tsv.gz", data, place)
        said = {"version": _VERSION, "archives": {p: asdict(e) for p, e in manifest.items()}}
        _write(NAME, json.dumps(said, separators=(",", ":")).encode(), folder)
        named = {f"{entry.listed}.tsv.gz" for entry in manifest.values()}
        with os.scandir(place) as found:
            left = [entry.name for entry in found if entry.name not in named]
        for name in left:
            os.unlink(name, dir_fd=place)


@contextlib.contextmanager
def _lists(folder: int) -> Iterator[int]:
    place = os.open(LISTS, _O_FOLDER, dir_fd=folder)
    try:
        yield place
    finally:
        os.close(place)


def _read(name: str, folder: int) -> bytes:
    with os.fdopen(os.open(name, _O_READ, dir_fd=folder), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise FileNotFoundError(name)
        return file.read()


def _write(name: str, data: bytes, folder: int) -> None:
    new = f"{name}.new"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(new, dir_fd=folder)
    with os.fdopen(os.open(new, _O_NEW, 0o644, dir_fd=folder), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.rename(new, name, src_dir_fd=folder, dst_dir_fd=folder)
