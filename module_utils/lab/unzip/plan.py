"""The decision: what is missing or altered in dest, what is in the way, what is too large.

Nothing is written here; check mode ends with the plan, and the diff is made of it.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ansible.module_utils.lab.errors import LabError

from .dest import Look, free_space
from .limits import Limits
from .manifest import Entry, Item, Manifest
from .records import Directory, Member, read_directory
from .refusal import ASK_MAKER, refusal
from .sources import Archive
from .worker import Modes

_BLOCK = 4096


@dataclass(frozen=True)
class Request:
    """What the user asked for; `dest` is an absolute path."""

    archives: list[Archive]
    dest: str
    modes: Modes
    limits: Limits = field(default_factory=Limits)
    strict: bool = False
    overwrite: bool = False
    purge: bool = False
    verify: str = "stat"
    workers: int = 0
    engine: str = "auto"


@dataclass
class Part:
    """One archive of the plan."""

    archive: Archive
    entry: Entry
    known: Entry | None
    members: list[Member] | None = None
    todo: set[str] = field(default_factory=set)
    altered: set[str] = field(default_factory=set)

    @property
    def trusted(self) -> bool:
        """Whether what is on disk may be judged by what the manifest says of it."""
        return self.known is not None and not self.known.placing

    def work(self) -> list[Member]:
        """List the members to extract, in the order of their bytes."""
        return [member for member in self.members or () if member.path in self.todo]

    @property
    def state(self) -> str:
        """One word for the result."""
        if not self.todo:
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
    removed: list[str] = field(default_factory=list)
    repaired: list[str] = field(default_factory=list)
    """Files whose owner, group or mode is to be put right."""
    skipped: int = 0
    """Files that are in place already."""
    leftover: bool = False
    """A killed run left its staging folder."""
    makes_dest: bool = False
    refresh: bool = False
    """The manifest alone is out of date."""

    @property
    def extracting(self) -> list[Part]:
        """The archives with something to extract."""
        return [part for part in self.parts if part.todo]

    @property
    def changed(self) -> bool:
        """Whether dest will differ afterwards."""
        return bool(
            self.makes_dest or self.extracting or self.removed or self.repaired or self.leftover
        )


def make_plan(request: Request, look: Look, manifest: Manifest) -> Plan:
    """Decide what is to be done; LabError for an archive that is refused, or a file in the way."""
    plan = _plan(request, look, manifest, trust=True)
    for part in plan.extracting:
        if part.members is None:
            directory = _read(request, part.archive)
            if directory.digest != part.entry.digest:
                # Another archive of the same size and time: believe nothing but its bytes.
                return _finish(_plan(request, look, manifest, trust=False), look)
            part.members = directory.members
    return _finish(plan, look)


def _plan(request: Request, look: Look, manifest: Manifest, trust: bool) -> Plan:
    parts = [
        _part(request, archive, manifest.get(archive.path), trust) for archive in request.archives
    ]
    _check_together(request, parts)
    names = {part.archive.path for part in parts}
    after = {path: entry for path, entry in manifest.items() if path not in names}
    after.update((part.archive.path, part.entry) for part in parts)
    plan = Plan(request, parts, after, leftover=look.leftover())
    others = {
        path: archive
        for archive, entry in manifest.items()
        if archive not in names
        for path in entry.paths()
    }
    for part in parts:
        _compare(plan, part, look, others)
    _plan_removal(plan, manifest, look)
    plan.refresh = after != manifest
    return plan


def _part(request: Request, archive: Archive, known: Entry | None, trust: bool) -> Part:
    if trust and known and not known.placing and known.is_of(archive):
        return Part(archive, known, known)
    directory = _read(request, archive)
    files: list[Item] = [(m.path, m.size, m.crc) for m in directory.members if not m.folder]
    folders = sorted({m.path for m in directory.members if m.folder and m.path})
    entry = Entry(archive.size, archive.mtime_ns, directory.digest, files, folders)
    return Part(archive, entry, known, directory.members)


def _read(request: Request, archive: Archive) -> Directory:
    fd = archive.open()
    try:
        return read_directory(archive, fd, request.limits, request.strict)
    finally:
        os.close(fd)


def _check_together(request: Request, parts: Sequence[Part]) -> None:
    """No path twice, none both file and folder, over all archives; and the limits on their sum."""
    files: dict[str, str] = {}
    folders: dict[str, str] = {}
    for part in parts:
        name = part.archive.path
        for path, _, _ in part.entry.files:
            if path in files:
                raise refusal(name, *_twice(name, files[path]), member=path)
            files[path] = name
            _add_folders(folders, path.rpartition("/")[0], name)
        for path in part.entry.folders:
            _add_folders(folders, path, name)
        if request.strict and part.members:
            _check_strict_names(name, part.members)
    for path in files.keys() & folders.keys():
        raise refusal(files[path], f"is a file here and a folder in {folders[path]}", member=path)
    limits = request.limits
    if len(files) > limits.max_files:
        raise LabError(
            f"src: {len(files)} files are above the limit of {limits.max_files}; "
            "raise limits.max_files if that is right"
        )
    total = sum(size for part in parts for _, size, _ in part.entry.files)
    if total > limits.max_bytes:
        raise LabError(
            f"src: {total} bytes when unpacked are above the limit of {limits.max_bytes}; "
            "raise limits.max_bytes if that is right"
        )


def _twice(here: str, there: str) -> tuple[str, str]:
    if here == there:
        return "is in the archive twice (in one spelling or another)", ASK_MAKER
    rule = f"is in {there} as well, and one path cannot hold two files"
    return rule, "give the archives a dest each"


def _add_folders(folders: dict[str, str], path: str, archive: str) -> None:
    while path and path not in folders:
        folders[path] = archive
        path = path.rpartition("/")[0]


def _check_strict_names(archive: str, members: Iterable[Member]) -> None:
    """In strict mode, no names that some filesystem folds into one, nor a folder twice."""
    seen: set[str] = set()
    for member in members:
        folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", member.path).casefold())
        if folded in seen:
            raise refusal(
                archive,
                "differs from another only by case or accents, or is there twice",
                member=member.path,
            )
        seen.add(folded)


def _compare(plan: Plan, part: Part, look: Look, others: dict[str, str]) -> None:
    """Find the part's files that are missing or altered, and refuse what is in their way."""
    request, known = plan.request, part.known
    if request.verify == "manifest" and known is part.entry and look.exists:
        plan.skipped += len(part.entry.files)
        return
    before: dict[str, tuple[int, int]] = dict.fromkeys(known.leaving, (-1, -1)) if known else {}
    before.update((path, (size, crc)) for path, size, crc in (known.files if known else ()))
    for path, size, crc in part.entry.files:
        status = look.at(path)
        if status is None:
            part.todo.add(path)
            continue
        sure = part.trusted and before.get(path) == (size, crc)
        if status.st_size == size and ((sure and request.verify != "crc") or look.crc(path) == crc):
            plan.skipped += 1
            if _strays(status, request.modes):
                plan.repaired.append(path)
        elif path in before or request.overwrite:
            part.todo.add(path)
            part.altered.add(path)
        else:
            raise LabError(_in_the_way(request.dest, path, part.archive.path, others.get(path)))
    part.todo.update(path for path in part.entry.folders if not look.has_folder(path))


def _in_the_way(dest: str, path: str, archive: str, owner: str | None) -> str:
    whose = f"came from {owner}" if owner else "was not brought by this module"
    return (
        f"{dest}/{path}: is there with other contents and {whose}, "
        f"so {archive} would overwrite it; move it away, or set conflict: overwrite"
    )


def _strays(status: os.stat_result, modes: Modes) -> bool:
    return (
        (modes.uid >= 0 and status.st_uid != modes.uid)
        or (modes.gid >= 0 and status.st_gid != modes.gid)
        or (modes.exact and status.st_mode & 0o7777 != modes.file)
    )


def _plan_removal(plan: Plan, manifest: Manifest, look: Look) -> None:
    """Plan to remove what changed archives no longer bring, where `purge` asks for it."""
    if not plan.request.purge:
        return
    wanted = {path for entry in plan.manifest.values() for path, _, _ in entry.files}
    for part in plan.parts:
        if part.known and (part.known is not part.entry or part.known.leaving):
            part.entry.leaving = sorted(part.known.paths() - wanted)
            plan.removed += [path for path in part.entry.leaving if look.at(path, refuse=False)]


def _finish(plan: Plan, look: Look) -> Plan:
    """Refuse a plan that the disk has no room for."""
    files = sizes = 0
    folders: set[str] = set()
    for part in plan.extracting:
        for member in part.work():
            if member.folder:
                folders.add(member.path)
                continue
            files += 1
            sizes += -(-member.size // _BLOCK) * _BLOCK
            folders.add(member.path.rpartition("/")[0])
    room, inodes = free_space(plan.request.dest)
    dest = plan.request.dest
    if sizes > room:
        raise LabError(
            f"{dest}: {sizes} bytes are needed and {room} are free; "
            "free some, or name a dest on a larger disk"
        )
    if inodes is not None and files + len(folders) > inodes:
        raise LabError(
            f"{dest}: {files + len(folders)} inodes are needed and {inodes} are free; "
            "remove files, or name another dest"
        )
    return plan
