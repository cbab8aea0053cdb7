"""The decision: what is missing or altered in dest, what is in the way, what is too large.

Nothing is written here; check mode ends with the plan, and the diff is made of it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice

from ansible.module_utils.lab.errors import LabError

from .dest import Look, free_space
from .directory import FILE, FOLDER, LINK, Directory, Member, read_directory
from .limits import Limits, Rules
from .manifest import Entry, Item, Manifest, items, load_list
from .sources import Archive, Reader
from .survey import BLOCK, Names, Survey, check_together, survey
from .worker import Modes

KEEP, MAKE, REPLACE = range(3)
_SOME = 4096  # items that are looked at together


@dataclass(frozen=True)
class Request:
    """What the user asked for; `dest` is an absolute path."""

    archives: list[Archive]
    dest: str
    modes: Modes
    limits: Limits = field(default_factory=Limits)
    strict: bool = False
    links: bool = False
    overwrite: bool = False
    purge: bool = False
    verify: str = "stat"
    workers: int = 0
    engine: str = "auto"

    @property
    def rules(self) -> Rules:
        """What is held against each directory."""
        return Rules(self.limits, self.strict, self.links)


@dataclass
class Part:
    """One archive of the plan; either `found` in its directory, or known from its list."""

    archive: Archive
    entry: Entry
    known: Entry | None
    listed: bytes
    found: Survey | None = None
    directory: Directory | None = None
    todo: bytearray = field(default_factory=bytearray)
    """For each member, in the order of their bytes: KEEP, MAKE or REPLACE."""

    def items(self) -> Iterator[Item]:
        """All members."""
        if self.found is None:
            return items(self.listed)
        blocks = self.found.directory.blocks()
        return (one for b in blocks for one in zip(b.kind, b.size, b.crc, b.path))

    @property
    def count(self) -> int:
        """How many members are to be extracted."""
        return len(self.todo) - self.todo.count(KEEP)

    def runs(self) -> Iterator[tuple[int, int]]:
        """Find runs of members to extract: the first, and the one behind the last."""
        return (match.span() for match in re.finditer(rb"[^\0]+", self.todo))

    def work(self) -> Iterator[Member]:
        """List the members to extract, in the order of their bytes."""
        if self.directory is not None:
            for first, last in self.runs():
                for block in self.directory.blocks(first, last):
                    yield from block.members()

    def altered(self) -> Iterator[str]:
        """List the paths of files that are to be replaced."""
        if self.directory is not None:
            for match in re.finditer(b"%c+" % REPLACE, self.todo):
                for block in self.directory.blocks(*match.span()):
                    yield from block.path

    @property
    def state(self) -> str:
        """One word for the result."""
        if not self.count:
            return "unchanged"
        if self.known is None:
            return "extracted"
        return "mended" if self.known.digest == self.entry.digest else "updated"


@dataclass
class Plan:
    """What is to be done in dest."""

    request: Request
    parts: list[Part]
    manifest: Manifest
    """As it will be afterwards."""
    files: int = 0
    """Files and links to extract, and their size."""
    bytes: int = 0
    removed: list[str] = field(default_factory=list)
    repaired: list[str] = field(default_factory=list)
    """Files whose owner, group or mode is to be put right."""
    unchanged: int = 0
    """Files that are in place already."""
    leftover: bool = False
    """A killed run left its staging folder."""
    makes_dest: bool = False
    refresh: bool = False
    """The manifest alone is out of date."""

    @property
    def extracting(self) -> list[Part]:
        """The archives with something to extract."""
        return [part for part in self.parts if part.count]

    @property
    def changed(self) -> bool:
        """Whether dest will differ afterwards."""
        return bool(
            self.makes_dest or self.extracting or self.removed or self.repaired or self.leftover
        )


class _OtherArchiveError(Exception):
    """An archive looks as it did, and is another."""


def make_plan(request: Request, look: Look, manifest: Manifest) -> Plan:
    """Decide what is to be done; LabError for an archive that is refused, or a file in the way."""
    try:
        return _Planner(request, look, manifest, trust=True).plan()
    except _OtherArchiveError:
        # Another archive of the same size and time: believe nothing but its bytes.
        return _Planner(request, look, manifest, trust=False).plan()


class _Planner:
    def __init__(self, request: Request, look: Look, manifest: Manifest, trust: bool) -> None:
        self._request = request
        self._look = look
        self._manifest = manifest
        self._harmed = False
        self._parts = [self._part(archive, trust) for archive in request.archives]

    def plan(self) -> Plan:
        parts, request = self._parts, self._request
        self._check_together()
        names = {part.archive.path for part in parts}
        after = {path: entry for path, entry in self._manifest.items() if path not in names}
        after.update((part.archive.path, part.entry) for part in parts)
        plan = Plan(request, parts, after, leftover=self._look.leftover())
        for part in parts:
            self._compare(plan, part)
        self._plan_removal(plan)
        plan.refresh = self._harmed or after != self._manifest
        for part in plan.extracting:
            part.directory = self._directory(part)
        self._measure(plan)
        return plan

    def _part(self, archive: Archive, trust: bool) -> Part:
        known = self._manifest.get(archive.path)
        listed = self._list(known) if known else None
        if known and listed is None:
            known = None  # its list was harmed: it says nothing any more
            self._harmed = True
        if known and listed is not None and trust and not known.placing and known.is_of(archive):
            return Part(archive, known, known, listed)
        found = self._survey(archive)
        return Part(archive, found.entry, known, listed or b"", found, found.directory)

    def _list(self, entry: Entry) -> bytes | None:
        return None if self._look.root is None else load_list(self._look.root, entry.listed)

    def _survey(self, archive: Archive) -> Survey:
        reader = archive.open()
        try:
            directory = self._read(archive, reader)
        finally:
            reader.close()
        return survey(archive, directory, self._request.limits, self._request.strict)

    def _read(self, archive: Archive, reader: Reader) -> Directory:
        return read_directory(archive, reader, self._request.limits, self._request.rules)

    def _check_together(self) -> None:
        limits = self._request.limits
        files = sum(part.entry.files for part in self._parts)
        if files > limits.max_files:
            raise LabError(
                f"src: {files} files are above the limit of {limits.max_files}; "
                "raise limits.max_files if that is right"
            )
        total = sum(part.entry.bytes for part in self._parts)
        if total > limits.max_bytes:
            raise LabError(
                f"src: {total} bytes when unpacked are above the limit of {limits.max_bytes}; "
                "raise limits.max_bytes if that is right"
            )
        # Archives that are all as they were when they were unpacked have been compared then.
        if any(part.found for part in self._parts):
            check_together([(p.archive.path, p, self._names(p)) for p in self._parts])

    def _names(self, part: Part) -> Names:
        if part.found:
            return part.found.names
        names = Names()
        its_items = part.items()
        while some := list(islice(its_items, _SOME)):
            kinds, _, _, paths = zip(*some)
            names.add(kinds, paths)
        return names

    def _compare(self, plan: Plan, part: Part) -> None:
        """Find the part's files that are missing or altered, and refuse what is in their way."""
        request, look = self._request, self._look
        if look.bare:
            part.todo = bytearray(b"%c" % MAKE) * part.entry.members
            return
        if request.verify == "manifest" and not part.found:
            plan.unchanged += part.entry.files
            return
        former = _Former(part)
        part.todo = bytearray(part.entry.members)
        for index, (kind, size, crc, path) in enumerate(part.items()):
            if kind == FOLDER:
                part.todo[index] = KEEP if look.has_folder(path) else MAKE
                continue
            status = look.at(path, kind)
            if status is None:
                part.todo[index] = MAKE
                continue
            sure = request.verify != "crc" and former.had(path, size, crc)
            if status.st_size == size and (sure or look.crc(path, kind) == crc):
                plan.unchanged += 1
                if _strays(status, request.modes, kind):
                    plan.repaired.append(path)
            elif former.brought(path) or request.overwrite:
                part.todo[index] = REPLACE
            else:
                raise LabError(self._in_the_way(path, part.archive.path))

    def _in_the_way(self, path: str, archive: str) -> str:
        names = {part.archive.path for part in self._parts}
        owner = next(
            (
                other
                for other, entry in self._manifest.items()
                if other not in names and path in _paths(self._list(entry))
            ),
            None,
        )
        whose = f"came from {owner}" if owner else "was not brought by this module"
        return (
            f"{self._request.dest}/{path}: is there with other contents and {whose}, "
            f"so {archive} would overwrite it; move it away, or set conflict: overwrite"
        )

    def _plan_removal(self, plan: Plan) -> None:
        """Plan to remove what changed archives no longer bring, where `purge` asks for it."""
        changed = [p for p in self._parts if p.known and (p.found or p.known.leaving)]
        if not self._request.purge or not changed:
            return
        wanted = {hash(path) for part in self._parts for path in _paths_of(part.items())}
        for name, entry in plan.manifest.items():
            if name not in {part.archive.path for part in self._parts}:
                wanted.update(map(hash, _paths(self._list(entry))))
        for part in changed:
            former = set(_paths(part.listed)).union(part.known.leaving if part.known else ())
            part.entry.leaving = sorted(path for path in former if hash(path) not in wanted)
            plan.removed += [path for path in part.entry.leaving if self._is_ours(path)]

    def _is_ours(self, path: str) -> bool:
        return any(self._look.at(path, kind, refuse=False) for kind in (FILE, LINK))

    def _directory(self, part: Part) -> Directory:
        """Read the directory of a part that was known from its list alone, once more."""
        if part.found:
            return part.found.directory
        reader = part.archive.open()
        try:
            directory = self._read(part.archive, reader)
        finally:
            reader.close()
        if directory.digest != part.entry.digest:
            raise _OtherArchiveError
        return directory

    def _measure(self, plan: Plan) -> None:
        """Count what is to be extracted, and refuse a plan that the disk has no room for."""
        room = 0
        folders: set[str] = set()
        for part in plan.extracting:
            if part.found and part.todo.count(MAKE) == len(part.todo):
                plan.files += part.entry.files
                plan.bytes += part.entry.bytes
                room += part.found.room
                folders |= part.found.names.folders
                continue
            for member in part.work():
                if member.kind == FOLDER:
                    folders.add(member.path)
                    continue
                plan.files += 1
                plan.bytes += member.size
                room += -(-member.size // BLOCK) * BLOCK
                folders.add(member.path.rpartition("/")[0])
        _check_room(self._request.dest, room, plan.files + len(folders))


def _check_room(dest: str, needed: int, inodes_needed: int) -> None:
    room, inodes = free_space(dest)
    if needed > room:
        raise LabError(
            f"{dest}: {needed} bytes are needed and {room} are free; "
            "free some, or name a dest on a larger disk"
        )
    if inodes is not None and inodes_needed > inodes:
        raise LabError(
            f"{dest}: {inodes_needed} inodes are needed and {inodes} are free; "
            "remove files, or name another dest"
        )


class _Former:
    """What an archive is known to have brought; numbers in place of paths, as in Names."""

    def __init__(self, part: Part) -> None:
        self._all = part.found is None  # as it was: every item of it
        self._trusted = part.known is not None and not part.known.placing
        self._had: set[int] = set()
        self._paths: set[int] = set()
        if part.known and not self._all:
            self._paths.update(map(hash, part.known.leaving))
            for kind, size, crc, path in items(part.listed):
                if kind != FOLDER:
                    self._paths.add(hash(path))
                    self._had.add(hash(f"{size} {crc} {path}"))

    def brought(self, path: str) -> bool:
        return self._all or hash(path) in self._paths

    def had(self, path: str, size: int, crc: int) -> bool:
        """Whether what is on disk may be judged by its size alone."""
        return self._all or (self._trusted and hash(f"{size} {crc} {path}") in self._had)


def _paths_of(its_items: Iterable[Item]) -> Iterator[str]:
    return (path for kind, _, _, path in its_items if kind != FOLDER)


def _paths(listed: bytes | None) -> Iterator[str]:
    return _paths_of(items(listed or b""))


def _strays(status: os.stat_result, modes: Modes, kind: int) -> bool:
    return (
        (modes.uid >= 0 and status.st_uid != modes.uid)
        or (modes.gid >= 0 and status.st_gid != modes.gid)
        or (modes.exact and kind == FILE and status.st_mode & 0o7777 != modes.file)
    )
