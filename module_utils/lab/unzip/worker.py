"""One process that extracts ranges of members into the staging folder.

A range is read by one pread, its members are inflated in one call each, and
files are opened relative to descriptors of their folders, which are made when
first needed. The folder is new and ours alone, and every open refuses links:
nothing can be written outside it.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from .engines import BadDataError, Bytes, Engine, unpack_stream
from .entry import data_start
from .records import DEFLATED, LOCAL_SIZE, STORED, Member
from .refusal import refusal
from .sources import Archive, read_at

ONE_SHOT = 16 << 20  # bytes; larger members are streamed
SLACK = 64 << 10  # bytes beyond the members' own that a range reads for headers
_PIECE = 1 << 20
_OPEN_FOLDERS = 200
_O_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
O_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True)
class Modes:
    """Permissions and owner of what is written; -1 leaves an owner or group as it is.

    `file` is used as it is where `exact`; else members marked executable get x as well.
    """

    file: int
    folder: int
    exact: bool = False
    uid: int = -1
    gid: int = -1

    def of(self, executable: bool) -> int:
        """Mode of a file."""
        if executable and not self.exact:
            return self.file | (self.file & 0o444) >> 2
        return self.file

    @property
    def owned(self) -> bool:
        """Whether an owner or a group was asked for."""
        return self.uid >= 0 or self.gid >= 0


@dataclass(frozen=True)
class Range:
    """Members of one archive that lie one behind the other."""

    archive: Archive
    members: list[Member]


class Folders:
    """Descriptors of the folders below `root`, made when first asked for."""

    def __init__(self, root: int, modes: Modes) -> None:
        self._root = root
        self._modes = modes
        self._open: dict[str, int] = {}

    def __getitem__(self, path: str) -> int:
        """Descriptor of a folder; "" is the root."""
        known = self._open.get(path)
        if known is not None:
            return known
        if not path:
            return self._root
        if len(self._open) >= _OPEN_FOLDERS:
            self.close()
        above, _, name = path.rpartition("/")
        parent = self[above]
        try:
            os.mkdir(name, self._modes.folder, dir_fd=parent)
            made = True
        except FileExistsError:
            made = False
        fd = os.open(name, O_FOLDER, dir_fd=parent)
        self._open[path] = fd
        if made and self._modes.owned:
            os.fchown(fd, self._modes.uid, self._modes.gid)
        return fd

    def close(self) -> None:
        """Close all but the root."""
        for fd in self._open.values():
            os.close(fd)
        self._open.clear()


class Worker:
    """Extracts ranges; counts `files` and `bytes` that it wrote."""

    def __init__(self, root: int, modes: Modes, engine: Engine, strict: bool) -> None:
        self._folders = Folders(root, modes)
        self._modes = modes
        self._engine = engine
        self._strict = strict
        self._archive: Archive | None = None
        self._fd = -1
        self._buffer = bytearray(1 << 20)
        self._begin = 0
        self._view = memoryview(self._buffer)[:0]
        self.files = 0
        self.bytes = 0

    def extract(self, work: Range) -> None:
        """Write the members of a range; RefusalError for a broken rule, OSError from the disk."""
        self._turn_to(work.archive)
        first, last = work.members[0], work.members[-1]
        end = min(last.limit, last.offset + LOCAL_SIZE + len(last.name) + last.packed + SLACK)
        self._load(first.offset, end - first.offset if last.packed <= ONE_SHOT else 0)
        for member in work.members:
            self._extract(member)

    def _turn_to(self, archive: Archive) -> None:
        # One archive is open at a time: a mount of a bucket keeps a copy of each open file.
        if archive is not self._archive:
            self.close_archive()
            self._fd = archive.open()
            self._archive = archive

    def close_archive(self) -> None:
        """Close the archive that is open."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._archive = -1, None

    def _load(self, begin: int, length: int) -> None:
        if length > len(self._buffer):
            self._view = memoryview(b"")
            self._buffer = bytearray(length)
        view = memoryview(self._buffer)[:length]
        got = 0
        while got < length:
            more = os.preadv(self._fd, [view[got:]], begin + got)
            if not more:
                break
            got += more
        self._begin, self._view = begin, view[:got]

    def _read(self, offset: int, length: int) -> bytes | memoryview:
        start = offset - self._begin
        if start >= 0 and start + length <= len(self._view):
            return self._view[start : start + length]
        return read_at(self._fd, length, offset)

    def _extract(self, member: Member) -> None:
        assert self._archive is not None  # noqa: S101  set by _turn_to
        path = self._archive.path
        start = data_start(path, member, self._read, self._strict)
        try:
            if member.folder:
                self._write_folder(member, start)
            elif max(member.size, member.packed) > ONE_SHOT or member.method not in (
                STORED,
                DEFLATED,
            ):
                self._write(member, self._pieces(member, start))
            else:
                data = self._whole(member, start)
                if self._engine.crc(data) != member.crc:
                    raise refusal(path, "does not match its CRC: damaged", member=member.name)
                self._write_whole(member, data)
        except BadDataError:
            rule = f"does not unpack to the {member.size} bytes that it declares: damaged, or a lie"
            raise refusal(path, rule, member=member.name) from None
        except FileExistsError:
            # The plan refused equal names: only a filesystem that folds names comes here.
            rule = "has a name that dest's filesystem takes for another's (case or accents)"
            raise refusal(path, rule, member=member.name) from None

    def _whole(self, member: Member, start: int) -> Bytes:
        packed = self._read(start, member.packed)
        if len(packed) != member.packed:
            raise BadDataError
        if member.method == STORED:
            if member.packed != member.size:
                raise BadDataError
            return packed
        if isinstance(packed, bytes):
            packed = memoryview(bytearray(packed))
        return self._engine.inflate(packed, member.size)

    def _pieces(self, member: Member, start: int) -> Iterator[bytes]:
        end = start + member.packed
        source = (read_at(self._fd, min(_PIECE, end - at), at) for at in range(start, end, _PIECE))
        if member.method != STORED:
            return unpack_stream(member.method, source, member.size)
        if member.packed != member.size:
            raise BadDataError
        return source

    def _write_folder(self, member: Member, start: int) -> None:
        if member.packed and b"".join(self._pieces(member, start)):
            raise BadDataError
        self._folders[member.path]

    def _open(self, member: Member) -> int:
        folder, _, name = member.path.rpartition("/")
        mode = self._modes.of(member.executable)
        return os.open(name, _O_NEW, mode, dir_fd=self._folders[folder])

    def _write_whole(self, member: Member, data: Bytes) -> None:
        fd = self._open(member)
        try:
            if data:
                written = os.write(fd, data)
                while written < len(data):
                    written += os.write(fd, data[written:])
            if self._modes.owned:
                os.fchown(fd, self._modes.uid, self._modes.gid)
        finally:
            os.close(fd)
        self.files += 1
        self.bytes += member.size

    def _write(self, member: Member, pieces: Iterator[bytes]) -> None:
        """Write a large member piece by piece, its CRC taken along."""
        assert self._archive is not None  # noqa: S101
        crc = made = 0
        fd = self._open(member)
        with os.fdopen(fd, "wb", buffering=0) as file:
            for piece in pieces:
                crc = zlib.crc32(piece, crc)
                made += len(piece)
                view = memoryview(piece)
                while view:
                    view = view[file.write(view) :]
            if self._modes.owned:
                os.fchown(fd, self._modes.uid, self._modes.gid)
        if made != member.size:
            raise BadDataError
        if crc != member.crc:
            raise refusal(self._archive.path, "does not match its CRC: damaged", member=member.name)
        self.files += 1
        self.bytes += made
