"""One process that extracts ranges of members into the staging folder.

A range is read by one call, its members are inflated in one call each, and files
are opened relative to descriptors of their folders, which are made when first
needed. The folder is new and ours alone, and every open refuses links: nothing can
be written outside it.
"""

from __future__ import annotations

import errno
import mmap
import os
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from .directory import (
    DEFLATED,
    DESCRIPTOR,
    FILE,
    FOLDER,
    LINK,
    LOCAL_SIZE,
    STORED,
    Columns,
    Directory,
    Member,
)
from .engines import BadDataError, Bytes, Engine, all_bytes, unpack_stream
from .entry import data_start
from .extra import ZIP64, ZIP64_SIZES, is_harmless
from .links import check_size, check_target
from .refusal import refusal
from .sources import Archive, Reader
from .stream import write_through

ONE_SHOT = 16 << 20  # bytes; larger members are not unpacked in memory
_PIECE = 1 << 20
_OPEN_FOLDERS = 200
_SHORTENED = 1 << 20  # bytes that a member may hold beyond what it declares, at most
_O_CREATE = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_O_NEW = os.O_WRONLY | _O_CREATE
O_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# What begins a local header; what follows up to the name's length is as in the directory.
_SIGNATURE = b"PK\x03\x04"
_SAME_IN_ENTRY, _SAME_END = 6, 30


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
class Source:
    """An archive to extract from, and its directory."""

    archive: Archive
    directory: Directory


class Folders(dict[str, int]):
    """Descriptors of the folders below `root`, made when first asked for; "" is the root."""

    def __init__(self, root: int, modes: Modes) -> None:
        super().__init__({"": root})
        self._modes = modes

    def __missing__(self, path: str) -> int:
        if len(self) > _OPEN_FOLDERS:
            self.close()
        above, _, name = path.rpartition("/")
        parent = self[above]
        try:
            os.mkdir(name, self._modes.folder, dir_fd=parent)
            made = True
        except FileExistsError:
            made = False
        fd = self[path] = os.open(name, O_FOLDER, dir_fd=parent)
        if made and self._modes.owned:
            os.fchown(fd, self._modes.uid, self._modes.gid)
        return fd

    def close(self) -> None:
        """Close all but the root."""
        root = self.pop("")
        for fd in self.values():
            os.close(fd)
        self.clear()
        self[""] = root


class Worker:
    """Extracts ranges; counts `files` and `bytes` that it wrote.

    A range is read into memory as a whole if it is no longer than `most` bytes. A member of more
    than that, or more than ONE_SHOT that cannot be unpacked into the pages of its file, is
    streamed.
    """

    def __init__(self, root: int, modes: Modes, engine: Engine, strict: bool, most: int) -> None:
        self._folders = Folders(root, modes)
        self._modes = modes
        self._engine = engine
        self._strict = strict
        self._most = most
        self._source: Source | None = None
        self._reader: Reader | None = None
        self._buffer = bytearray()
        self._begin = self._filled = 0
        self.files = 0
        self.bytes = 0

    def extract(self, source: Source, first: int, last: int) -> None:
        """Write the members from `first` to before `last`; RefusalError for a broken rule.

        OSError where the disk refuses.
        """
        self._turn_to(source)
        columns = source.directory.columns(first, last)
        begin, end = columns.offset[0], columns.limit[-1]
        self._load(begin, end - begin if end - begin <= self._most else 0)
        others = self._extract_plain(source, columns) if self._filled else columns.members()
        for member in others:
            self._guarded(source, member, self._extract)

    def _guarded(self, source: Source, member: Member, extract: Callable[[Member], None]) -> None:
        """Extract, with the errors that are about this member told as such."""
        try:
            extract(member)
        except BadDataError:
            rule = f"does not unpack to the {member.size} bytes that it declares: damaged, or a lie"
            raise refusal(source.archive.path, rule, member=member.name) from None
        except FileExistsError:
            # The plan refused equal names: only a filesystem that folds names comes here.
            rule = "has a name that dest's filesystem takes for another's (case or accents)"
            raise refusal(source.archive.path, rule, member=member.name) from None

    def _extract_plain(self, source: Source, columns: Columns) -> list[Member]:
        """Extract the members that are as nearly all are, and give the others."""
        plain, others = self._plain(source.directory.data, columns)
        inflate, stored = self._engine.inflate, self._engine.stored
        folders, modes = self._folders, [self._modes.of(False), self._modes.of(True)]
        for member, start in plain:
            path, _, _, _, method, crc, packed, size, _, _, runs, _ = member
            try:
                data, found = inflate(start, packed, size) if method else stored(start, packed)
                if found != crc:
                    raise self._damaged(Member._make(member))
                folder, _, leaf = path.rpartition("/")
                fd = os.open(leaf, _O_NEW, modes[runs], dir_fd=folders[folder])
            except (BadDataError, FileExistsError):
                others.append(Member._make(member))
                continue
            self._fill(fd, data)
        return others

    def _plain(
        self, entries: bytes, columns: Columns
    ) -> tuple[list[tuple[tuple[Any, ...], int]], list[Member]]:
        """Tell plain members, each with where its data start in the buffer, from others.

        Plain is a file whose local header is what the directory says, which ends where the next
        member begins, and that is small. All of a range are looked at before the first is
        unpacked: by turns they would push each other out of the processor's caches.
        """
        buffer, begin, filled = self._buffer, self._begin, self._filled
        plain, others = [], []
        for member in zip(*columns):
            _, kind, name, flags, method, _, packed, size, offset, limit, _, at = member
            head = offset - begin
            names = head + LOCAL_SIZE
            extra = names + len(name)
            extras = buffer[names - 2] | buffer[names - 1] << 8
            start = extra + extras
            if (
                start + packed > filled
                or start + packed + begin != limit
                or kind != FILE
                or size > ONE_SHOT
                or flags & DESCRIPTOR
                or buffer[head : names - 2]
                != _SIGNATURE + entries[at + _SAME_IN_ENTRY : at + _SAME_END]
                or buffer[names:extra] != name
                or (
                    extras
                    and not is_harmless(buffer, extra, extras)
                    and buffer[extra:start] != ZIP64_SIZES.pack(ZIP64, 16, size, packed)
                )
                or (method != DEFLATED and (method != STORED or packed != size))
            ):
                others.append(Member._make(member))
            else:
                plain.append((member, start))
        return plain, others

    def _turn_to(self, source: Source) -> None:
        # One archive is open at a time: a mount of a bucket keeps a copy of each open file.
        if source is not self._source:
            self.close_archive()
            self._reader = source.archive.open()
            self._source = source

    def close_archive(self) -> None:
        """Close the archive that is open."""
        if self._reader is not None:
            self._reader.close()
        self._reader, self._source = None, None

    def _opened(self) -> tuple[Source, Reader]:
        assert self._source and self._reader  # noqa: S101  set by _turn_to
        return self._source, self._reader

    def _load(self, begin: int, length: int) -> None:
        if length > len(self._buffer):
            self._buffer = bytearray(max(length, 2 << 20))
            self._engine.attach(self._buffer)
        view = memoryview(self._buffer)[:length]
        self._begin = begin
        self._filled = self._opened()[1].read_into(view, begin) if length else 0

    def _read(self, length: int, offset: int) -> bytes | memoryview:
        start = offset - self._begin
        if start >= 0 and start + length <= self._filled:
            return memoryview(self._buffer)[start : start + length]
        return self._opened()[1].read_at(length, offset)

    def _extract(self, member: Member) -> None:
        path = self._opened()[0].archive.path
        start = data_start(path, member, self._read, self._strict)
        if member.kind == FOLDER:
            self._make_folder(member, start)
        elif member.kind == LINK:
            self._make_link(member, start)
        elif (
            member.method not in (STORED, DEFLATED)
            or start + member.packed > self._begin + self._filled
        ):
            self._write_large(member, self._stream, start)
        elif max(member.size, member.packed) > ONE_SHOT:
            mapped = member.method == DEFLATED and self._engine.inflate_into
            self._write_large(member, self._map if mapped else self._stream, start)
        else:
            data, crc = self._unpack(member, start - self._begin)
            if crc != member.crc:
                raise self._damaged(member)
            self._fill(self._open(member), data)

    def _unpack(self, member: Member, start: int) -> tuple[Bytes, int]:
        try:
            if member.method == DEFLATED:
                return self._engine.inflate(start, member.packed, member.size)
            if member.packed == member.size:
                return self._engine.stored(start, member.packed)
        except BadDataError:
            pass  # unless it is of that one kind
        return self._shortened(member, start)

    def _shortened(self, member: Member, start: int) -> tuple[Bytes, int]:
        """Take the declared bytes of a member that holds more, where the CRC fits both.

        No program writes such a member by mistake; PyPI and Python's zipfile read it as its
        declared bytes, and two archives of PyPI's good ones are of this kind.
        """
        packed = memoryview(self._buffer)[start : start + member.packed]
        data = all_bytes(member.method, packed, _SHORTENED)
        declared = data[: member.size]
        if len(data) <= len(declared) or {zlib.crc32(data), zlib.crc32(declared)} != {member.crc}:
            raise BadDataError
        return declared, member.crc

    def _damaged(self, member: Member) -> Exception:
        path = self._opened()[0].archive.path
        return refusal(path, "does not match its CRC: damaged", member=member.name)

    def _make_folder(self, member: Member, start: int) -> None:
        if member.packed and b"".join(self._pieces(member, start)):
            raise BadDataError
        self._folders[member.path]

    def _make_link(self, member: Member, start: int) -> None:
        """Make a symbolic link; its target is the member's contents."""
        source, _ = self._opened()
        check_size(source.archive.path, member)
        target = b"".join(self._pieces(member, start))
        if zlib.crc32(target) != member.crc or len(target) != member.size:
            raise self._damaged(member)
        check_target(source.archive.path, member, target)
        folder, _, name = member.path.rpartition("/")
        parent = self._folders[folder]
        os.symlink(target, name.encode(), dir_fd=parent)
        if self._modes.owned:
            os.chown(name, self._modes.uid, self._modes.gid, dir_fd=parent, follow_symlinks=False)
        self.files += 1
        self.bytes += member.size

    def _pieces(self, member: Member, start: int) -> Iterator[bytes]:
        _, reader = self._opened()
        end = start + member.packed
        source = (reader.read_at(min(_PIECE, end - at), at) for at in range(start, end, _PIECE))
        if member.method != STORED:
            return unpack_stream(member.method, source, member.size, self._engine.streams)
        if member.packed != member.size:
            raise BadDataError
        return source

    def _open(self, member: Member, flags: int = _O_NEW) -> int:
        folder, _, name = member.path.rpartition("/")
        mode = self._modes.of(member.executable)
        return os.open(name, flags, mode, dir_fd=self._folders[folder])

    def _fill(self, fd: int, data: Bytes) -> None:
        """Write a new file whole, and close it."""
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
        self.bytes += len(data)

    def _write_large(
        self, member: Member, write: Callable[[int, Member, int], int], start: int
    ) -> None:
        """Make the file of a large member by `write`, which gives the CRC of what it wrote."""
        fd = self._open(member, os.O_RDWR | _O_CREATE)
        try:
            crc = write(fd, member, start)
            if self._modes.owned:
                os.fchown(fd, self._modes.uid, self._modes.gid)
        finally:
            os.close(fd)
        if crc != member.crc:
            raise self._damaged(member)
        self.files += 1
        self.bytes += member.size

    def _map(self, fd: int, member: Member, start: int) -> int:
        """Unpack in one call into the file's own pages, where it has such."""
        inflate_into = self._engine.inflate_into
        pages = _map_pages(fd, member.size)
        if inflate_into is None or pages is None:
            return self._stream(fd, member, start)
        with pages:
            return inflate_into(start - self._begin, member.packed, pages)

    def _stream(self, fd: int, member: Member, start: int) -> int:
        """Write piece by piece."""
        made, crc = write_through(fd, self._pieces(member, start), self._engine.streams)
        if made != member.size:
            raise BadDataError
        return crc


def _map_pages(fd: int, size: int) -> mmap.mmap | None:
    """Take room for `size` bytes and map them; None where the filesystem cannot.

    Without room a page that is written to would kill the process; OSError when the disk is full.
    """
    try:
        os.posix_fallocate(fd, 0, size)
        return mmap.mmap(fd, size)
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENODEV):
            return None
        raise
