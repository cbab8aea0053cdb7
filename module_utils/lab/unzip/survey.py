"""What an archive brings, found in one walk through its directory."""

from __future__ import annotations

import unicodedata
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from .directory import FOLDER, Directory
from .limits import Limits
from .manifest import Entry, Item, ListMaker
from .refusal import ASK_MAKER, refusal
from .sources import Archive

BLOCK = 4096
_BUCKET = 100_000  # numbers that are compared with each other at a time


@dataclass
class Names:
    """The names that an archive brings: numbers in place of paths, since there may be millions.

    Python's hash of a string is keyed anew in each run, so nobody can make two equal.
    """

    files: array[int] = field(default_factory=lambda: array("q"))
    folders: set[str] = field(default_factory=set)
    """All folders, those above the archive's own as well."""

    def add(self, kinds: Sequence[int], paths: Sequence[str]) -> None:
        """Take in members."""
        files, folders = paths, set[str]()
        if FOLDER in kinds:
            files = [path for kind, path in zip(kinds, paths) if kind != FOLDER]
            folders = {path for kind, path in zip(kinds, paths) if kind == FOLDER}
        self.files.extend(map(hash, files))
        above = {path.rpartition("/")[0] for path in files}
        for folder in above | folders:
            path = folder
            while path and path not in self.folders:
                self.folders.add(path)
                path = path.rpartition("/")[0]


@dataclass
class Survey:
    """One archive's directory, what a list of it says, its names, and the room that it needs."""

    directory: Directory
    entry: Entry
    listed: bytes
    names: Names
    room: int
    """Bytes on disk, in whole blocks."""


def survey(archive: Archive, directory: Directory, limits: Limits, strict: bool) -> Survey:
    """Walk through all members; RefusalError for what is wrong with any, or with all together."""
    names, making = Names(), ListMaker()
    files = size = room = 0
    folded, named = array("q"), set[str]()
    for block in directory.blocks():
        paths, kinds, sizes = block.path, block.kind, block.size
        making.add(kinds, sizes, block.crc, paths)
        names.add(kinds, paths)
        files += len(kinds) - kinds.count(FOLDER)
        size += sum(sizes)  # that of a folder is 0
        room += sum([-(-one // BLOCK) for one in sizes]) * BLOCK
        if strict:
            folded.extend(hash(_folded(path)) for path in paths)
            named.update(path for kind, path in zip(kinds, paths) if kind == FOLDER)
    _check_ratio(archive, size, limits)
    if strict:
        folded.extend(hash(_folded(path)) for path in names.folders - named)
        _check_folded(archive, directory, repeated([folded]))
    name, listed = making.finish()
    entry = Entry(archive.size, archive.stamp, directory.digest, len(directory), files, size, name)
    return Survey(directory, entry, listed, names, room)


def _check_ratio(archive: Archive, total: int, limits: Limits) -> None:
    if total > limits.RATIO_FLOOR and total > limits.max_ratio * archive.size:
        raise refusal(
            archive.path,
            f"would grow to {total} bytes, {total // max(1, archive.size)} times its size, "
            f"above the limit of {limits.max_ratio}",
            "raise limits.max_ratio if that is right",
        )


def _folded(path: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())


def _check_folded(archive: Archive, directory: Directory, twice: set[int]) -> None:
    """In strict mode, no names that some filesystem folds into one, nor a folder twice."""
    for block in directory.blocks() if twice else ():
        for path in block.path:
            above = [path[:at] for at, sign in enumerate(path) if sign == "/"]
            if any(hash(_folded(one)) in twice for one in (path, *above)):
                raise refusal(
                    archive.path,
                    "differs from another only by case or accents, or is there twice",
                    member=path,
                )


def repeated(columns: Sequence[array[int]]) -> set[int]:
    """Find the numbers that are there more than once, in little memory."""
    parts = 1 + sum(map(len, columns)) // _BUCKET
    found: set[int] = set()
    for part in range(parts):
        some = [n for column in columns for n in column if n % parts == part]
        if len(set(some)) != len(some):
            found.update(number for number, count in Counter(some).items() if count > 1)
    return found


class HasItems(Protocol):
    """What can list its members, more than once."""

    def items(self) -> Iterable[Item]:
        """All members."""


def check_together(parts: Sequence[tuple[str, HasItems, Names]]) -> None:
    """No path twice, and none both file and folder, over all archives: RefusalError."""
    twice = repeated([names.files for _, _, names in parts])
    folders = {hash(path) for _, _, names in parts for path in names.folders}
    both = {number for _, _, names in parts for number in names.files if number in folders}
    if twice or both:
        _refuse(parts, twice, both)


def _refuse(parts: Sequence[tuple[str, HasItems, Names]], twice: set[int], both: set[int]) -> None:
    """Name the archives and the member."""
    seen: dict[str, str] = {}
    for archive, part, _ in parts:
        for kind, _, _, path in part.items():
            if kind == FOLDER or hash(path) not in twice | both:
                continue
            owner = next((a for a, _, names in parts if path in names.folders), None)
            if owner is not None:
                raise refusal(archive, f"is a file here and a folder in {owner}", member=path)
            if path in seen:
                raise refusal(archive, *_twice(archive, seen[path]), member=path)
            seen[path] = archive


def _twice(here: str, there: str) -> tuple[str, str]:
    if here == there:
        return "is in the archive twice (in one spelling or another)", ASK_MAKER
    rule = f"is in {there} as well, and one path cannot hold two files"
    return rule, "give the archives a dest each"
