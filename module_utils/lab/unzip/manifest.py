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

from .directory import FILE, FOLDER, LINK
from .names import RESERVED
from .sources import Archive

NAME = f"{RESERVED}.json"
LISTS = f"{RESERVED}.lists"
_AFTER = f"{NAME}.after"
_SUFFIX = ".tsv.gz"
_PIECE = 1 << 20
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

    def add(
        self, kinds: Iterable[int], sizes: Iterable[int], crcs: Iterable[int], paths: Iterable[str]
    ) -> None:
        """Append a line for each member."""
        columns = zip(map(_KINDS.__getitem__, kinds), sizes, crcs, paths)
        text = "".join([f"{kind}\t{n}\t{crc}\t{path}\n" for kind, n, crc, path in columns]).encode()
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
    """Read a list, packed as it is; None where it is not there or not what its name says."""
    try:
        with _lists(folder) as lists:
            packed = _read(f"{name}{_SUFFIX}", lists)
        digest = hashlib.sha256()
        with gzip.GzipFile(fileobj=io.BytesIO(packed)) as text:
            while piece := text.read(_PIECE):
                digest.update(piece)
    except (OSError, EOFError, zlib.error):
        return None
    return packed if digest.hexdigest() == name else None


def items(packed: bytes) -> Iterator[Item]:
    """Read the lines of a list; one without bytes has none."""
    if packed:
        with gzip.open(io.BytesIO(packed), "rt", encoding="utf-8", newline="\n") as lines:
            for line in lines:
                kind, size, crc, path = line[:-1].split("\t")
                yield _KIND_OF[kind], int(size), int(crc), path


@contextlib.contextmanager
def noting(
    folder: int, manifest: Manifest, during: Manifest | None, lists: Iterable[tuple[str, bytes]]
) -> Iterator[None]:
    """Have the manifest say `during` while the block runs, if it is given, and `manifest` after it.

    What needs room on the disk is written before the block: OSError then leaves all as it was.
    """
    known = load_manifest(folder)
    try:
        with _lists(folder, make=True) as place:
            for name, data in lists:
                _write(f"{name}{_SUFFIX}", data, place)
        _write(_AFTER, _said(manifest), folder)
        if during is not None:
            _write(NAME, _said(during), folder)
    except OSError:
        _tidy(folder, known)
        raise
    yield
    os.rename(_AFTER, NAME, src_dir_fd=folder, dst_dir_fd=folder)
    _tidy(folder, manifest)


def _said(manifest: Manifest) -> bytes:
    archives = {path: asdict(entry) for path, entry in manifest.items()}
    return json.dumps({"version": _VERSION, "archives": archives}, separators=(",", ":")).encode()


def _tidy(folder: int, manifest: Manifest) -> None:
    """Remove the lists that the manifest does not name, and what was begun."""
    named = {f"{entry.listed}{_SUFFIX}" for entry in manifest.values()}
    with contextlib.suppress(FileNotFoundError):
        os.unlink(_AFTER, dir_fd=folder)
    with contextlib.suppress(FileNotFoundError), _lists(folder) as place:
        with os.scandir(place) as found:
            left = [entry.name for entry in found if entry.name not in named]
        for name in left:
            os.unlink(name, dir_fd=place)
    if not named:
        with contextlib.suppress(OSError):
            os.rmdir(LISTS, dir_fd=folder)


@contextlib.contextmanager
def _lists(folder: int, make: bool = False) -> Iterator[int]:
    if make:
        with contextlib.suppress(FileExistsError):
            os.mkdir(LISTS, 0o755, dir_fd=folder)
            _give(LISTS, folder)
    place = os.open(LISTS, _O_FOLDER, dir_fd=folder)
    try:
        yield place
    finally:
        os.close(place)


def _give(name: str, folder: int) -> None:
    """Give what was made to the owner of its folder: who owns dest must be able to remove it."""
    owner = os.fstat(folder)
    with contextlib.suppress(PermissionError):
        os.chown(name, owner.st_uid, owner.st_gid, dir_fd=folder, follow_symlinks=False)


def _read(name: str, folder: int) -> bytes:
    with os.fdopen(os.open(name, _O_READ, dir_fd=folder), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise FileNotFoundError(name)
        return file.read()


def _write(name: str, data: bytes, folder: int) -> None:
    """Write a file in one step: it is there whole, or as it was."""
    new = f"{name}.new"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(new, dir_fd=folder)
    try:
        with os.fdopen(os.open(new, _O_NEW, 0o644, dir_fd=folder), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        _give(new, folder)
        os.rename(new, name, src_dir_fd=folder, dst_dir_fd=folder)
    except OSError:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(new, dir_fd=folder)
        raise
