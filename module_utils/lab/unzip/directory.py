"""The central directory of a zip archive, checked, and kept as the bytes that it is.

A million members as Python objects would take half a gigabyte. So the directory
stays as it lies in the archive, with two numbers for each member beside it (where
its entry and where its data begin), and its columns are read a block at a time, by
each process that needs them.

Where two programs could read an archive differently, it is refused: what is written
must not depend on who reads it.
"""

from __future__ import annotations

import hashlib
import re
import stat
import struct
from array import array
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from .ends import End, find_end
from .extra import (
    MAX32,
    OTHER_PART,
    extra_fields,
    is_harmless,
    wide_alone,
    wide_values,
)
from .limits import Limits, Rules
from .names import BadNameError, decode_name, plain_paths, safe_path
from .refusal import refusal
from .sources import Archive, Reader

STORED, DEFLATED, DEFLATE64, BZIP2, LZMA = 0, 8, 9, 12, 14
METHODS = {STORED, DEFLATED, BZIP2, LZMA}
_METHOD_NAMES = {
    1: "shrunk",
    6: "imploded",
    DEFLATE64: "Deflate64",
    93: "Zstandard",
    95: "xz",
    98: "PPMd",
    99: "AES",
}
ENCRYPTED, DESCRIPTOR, PATCHED, STRONG, MASKED = 0x1, 0x8, 0x20, 0x40, 0x2000
FILE, FOLDER, LINK = range(3)
LOCAL_SIZE = 30
GAP_LIMIT = 1 << 20  # bytes that belong to no member and are still searched

# Of an entry: host, flags, method, CRC, packed and unpacked size, lengths of name, extra field and
# comment, disk, external attributes, offset. Of it again: signature, those lengths, offset; the
# two sizes.
_ENTRY = struct.Struct("<5xBxxHH4xLLLHHHHxxLL")
_FRAME = struct.Struct("<4s24xHHH8xL")
_NO_FRAME = (b"", 0, 0, 0, 0)
_SIZES, _SIZES_AT = struct.Struct("<LL"), 20
_CENTRAL_SIZE = 46
_RECORD = re.compile(rb"PK(?:\x01\x02|\x03\x04|\x05\x06|\x06\x06|\x06\x07)")
_DIRECTORY_LIMIT = 1 << 30
_BLOCK = 2048
_UNIX_HOSTS = {3, 19}
_ODD_FLAGS = ENCRYPTED | PATCHED | STRONG | MASKED
_USUAL = {STORED, DEFLATED}
_PLAIN_KINDS = (0, stat.S_IFREG >> 12)
_DOS_LABEL, _DOS_FOLDER = 0x08, 0x10
_DOS_KINDS = _DOS_LABEL | _DOS_FOLDER
_DOS_HOSTS = {0, 10, 14}  # FAT, NTFS, VFAT
_EXECUTABLE = stat.S_IXUSR << 16


class Member(NamedTuple):
    """One entry of the central directory; sizes and offsets in bytes.

    `limit` is where the next member, or the central directory, begins; `at` where the
    entry lies in the directory.
    """

    path: str
    kind: int
    name: bytes
    flags: int
    method: int
    crc: int
    packed: int
    size: int
    offset: int
    limit: int
    executable: bool
    at: int


class Columns(NamedTuple):
    """Some members that follow each other, a column for each field of `Member`, in its order."""

    path: Sequence[str]
    kind: Sequence[int]
    name: Sequence[bytes]
    flags: Sequence[int]
    method: Sequence[int]
    crc: Sequence[int]
    packed: Sequence[int]
    size: Sequence[int]
    offset: Sequence[int]
    limit: Sequence[int]
    executable: Sequence[bool]
    at: Sequence[int]

    def members(self) -> Iterator[Member]:
        """Go through the members themselves."""
        return map(Member._make, zip(*self))


_Fields = dict[int, list[bytes]]
"""Contents of extra fields by their id."""


class Directory:
    """The members of an archive, in the order of their bytes."""

    def __init__(self, path: str, data: bytes, end: End, rules: Rules) -> None:
        self.data = data
        self._path = path
        self._rules = rules
        self._positions, self.offsets = _walk(path, data, end)

    @property
    def digest(self) -> str:
        """SHA-256 of the directory."""
        return hashlib.sha256(self.data).hexdigest()

    def __len__(self) -> int:
        """Count the members."""
        return len(self._positions)

    def blocks(self, first: int = 0, last: int | None = None) -> Iterator[Columns]:
        """Give the members from `first` to before `last`, or all, some thousand at a time."""
        end = len(self) if last is None else last
        for at in range(first, end, _BLOCK):
            yield self.columns(at, min(at + _BLOCK, end))

    def columns(self, first: int, last: int) -> Columns:
        """Give the members from `first` to before `last`; RefusalError for what is wrong.

        What nearly all are is found out of whole columns; the rest is looked at one by one.
        """
        data, positions = self.data, self._positions[first:last]
        entries = [_ENTRY.unpack_from(data, at) for at in positions]
        begins = [at + _CENTRAL_SIZE for at in positions]
        names = [data[begin : begin + entry[6]] for begin, entry in zip(begins, entries)]
        fields: dict[int, _Fields] = {}
        if not self._are_plain(begins, entries):
            entries, fields = self._true_entries(positions, entries)
        paths = plain_paths(names, self._rules.limits)
        if paths is None or fields:
            paths = [
                self._path_of(name, entry[1], fields.get(at, {}))
                for at, name, entry in zip(positions, names, entries)
            ]
        hosts, flags, methods, crcs, packed, sizes, _, _, _, _, attributes, _ = zip(*entries)
        offsets, limits = self.offsets[first:last], self.offsets[first + 1 : last + 1]
        self._check_overlaps(names, offsets, packed, limits)
        kinds, runs = [FILE] * len(names), [False] * len(names)
        marks = set(attributes)
        if "" in paths or b"/\n" in b"\n".join((*names, b"")) or any(map(_is_marked, marks)):
            kinds = [*map(self._kind, paths, names, sizes, hosts, attributes)]
        if any(mark & _EXECUTABLE for mark in marks):
            runs = [m & _EXECUTABLE != 0 and h in _UNIX_HOSTS for m, h in zip(attributes, hosts)]
        return Columns(
            paths,
            kinds,
            names,
            flags,
            methods,
            crcs,
            packed,
            sizes,
            offsets,
            limits,
            runs,
            positions,
        )

    def _are_plain(self, begins: list[int], entries: list[tuple[int, ...]]) -> bool:
        """Whether nothing about these entries wants a closer look, but their names."""
        _, flags, methods, _, packed, sizes, lengths, extras, comments, disks, *_ = zip(*entries)
        return not (
            any(flag & _ODD_FLAGS for flag in set(flags))
            or not _USUAL.issuperset(methods)
            or any(comments)
            or any(disks)
            or MAX32 in packed
            or MAX32 in sizes
        ) and (
            not any(extras)
            or all(
                is_harmless(self.data, begin + length, extra)
                for begin, length, extra in zip(begins, lengths, extras)
            )
        )

    def _true_entries(
        self, positions: array[int], entries: list[tuple[int, ...]]
    ) -> tuple[list[tuple[int, ...]], dict[int, _Fields]]:
        """Check entries that are not all plain; gives true sizes, and the fields of odd ones."""
        true = [*map(self._widened, positions, entries)]
        begins = [at + _CENTRAL_SIZE for at in positions]
        fields: dict[int, _Fields] = {}
        if not self._are_plain(begins, true):
            for number, (at, begin) in enumerate(zip(positions, begins)):
                if not self._are_plain([begin], true[number : number + 1]):
                    true[number], fields[at] = self._checked(at, entries[number])
        return true, fields

    def _widened(self, at: int, entry: tuple[int, ...]) -> tuple[int, ...]:
        """Give an entry with its sizes, where they hide in a zip64 field and nothing else does."""
        packed, size, names, extras, offset = *entry[4:8], entry[11]
        begin = at + _CENTRAL_SIZE + names
        wide = wide_alone(self.data, begin, extras, (size, packed, offset)) if extras else None
        if wide is None:
            return entry
        return (*entry[:4], wide[1], wide[0], names, 0, *entry[8:11], wide[2])

    def _check_overlaps(
        self,
        names: list[bytes],
        offsets: Sequence[int],
        packed: Sequence[int],
        limits: Sequence[int],
    ) -> None:
        overlaps = [
            offset + LOCAL_SIZE + len(name) + held > limit
            for offset, name, held, limit in zip(offsets, names, packed, limits)
        ]
        if any(overlaps):
            rule = "overlaps the bytes of another member or of the directory"
            raise refusal(self._path, rule, member=names[overlaps.index(True)])

    def _checked(self, at: int, entry: tuple[int, ...]) -> tuple[tuple[int, ...], _Fields]:
        """Check an odd entry; gives it with its sizes from the zip64 field, and its fields."""
        _, flags, method, _, packed, size, names, extras, comments, disk, _, offset = entry
        begin = at + _CENTRAL_SIZE
        name = self.data[begin : begin + names]
        extra = self.data[begin + names : begin + names + extras]
        fields = extra_fields(self._path, name, extra)
        size, packed, _ = wide_values(
            self._path, name, fields, (size, packed, offset), method == STORED
        )
        _check_kind(self._path, name, flags, method, disk)
        if self._rules.strict and comments:
            raise refusal(self._path, "has a comment, which strict refuses", member=name)
        return (*entry[:4], packed, size, *entry[6:]), fields

    def _path_of(self, name: bytes, flags: int, fields: _Fields) -> str:
        rules = self._rules
        try:
            spelled = decode_name(name, flags, fields, rules.strict)
            if spelled.endswith("/") != name.endswith(b"/"):
                raise BadNameError("has a second, different name in a Unicode path field")
            return safe_path(spelled, rules.limits, rules.strict)
        except BadNameError as error:
            raise refusal(self._path, str(error), member=name) from None

    def _kind(self, path: str, name: bytes, size: int, host: int, attributes: int) -> int:
        """File, folder or link; devices and contradictions are refused."""
        folder = name.endswith(b"/")
        if not path and not folder:
            raise refusal(self._path, "is a file that has the name of dest itself", member=name)
        dos = attributes & _DOS_KINDS if host in _DOS_HOSTS else 0
        kind = stat.S_IFMT(attributes >> 16)
        if kind == stat.S_IFLNK and self._rules.links and not folder:
            return LINK
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise refusal(self._path, *_what_kind(kind), member=name)
        if dos & _DOS_LABEL:
            raise refusal(self._path, "is a volume label, neither file nor folder", member=name)
        if folder and size:
            raise refusal(self._path, f"is a folder and yet claims {size} bytes", member=name)
        if (kind == stat.S_IFDIR or dos & _DOS_FOLDER) and not folder:
            raise refusal(self._path, "is marked as a folder and named as a file", member=name)
        return FOLDER if folder else FILE


def read_directory(archive: Archive, reader: Reader, limits: Limits, rules: Rules) -> Directory:
    """Read the directory of an archive, and check what can be known without its members."""
    end = find_end(archive, reader)
    if end.count > limits.max_files:
        raise refusal(
            archive.path,
            f"holds {end.count} members, above the limit of {limits.max_files}",
            "raise limits.max_files if that is right",
        )
    if end.length > _DIRECTORY_LIMIT:
        raise refusal(archive.path, f"has a directory of {end.length} bytes, above 1 GiB")
    directory = Directory(archive.path, reader.read_at(end.length, end.start), end, rules)
    _check_prefix(archive.path, reader, directory.offsets[0], rules.strict)
    return directory


def _walk(path: str, data: bytes, end: End) -> tuple[array[int], array[int]]:
    """Where each entry lies in the directory and each member in the archive, sorted by the latter.

    The second has one number more, where the directory itself begins.
    """
    positions, offsets = array("I"), array("Q")
    at, most, frame = 0, len(data) - _CENTRAL_SIZE, _FRAME.unpack_from
    for _ in range(end.count):
        signature, names, extras, comments, offset = frame(data, at) if at <= most else _NO_FRAME
        if signature != b"PK\x01\x02":
            raise refusal(
                path, "has a damaged directory, or fewer members in it than its end record says"
            )
        after = at + _CENTRAL_SIZE + names + extras + comments
        if after > len(data):
            name = data[at + _CENTRAL_SIZE : at + _CENTRAL_SIZE + names]
            raise refusal(path, "has a directory entry that runs past the directory", member=name)
        if offset == MAX32:
            offset = _wide_offset(path, data, at, names, extras)
        positions.append(at)
        offsets.append(offset + end.base)
        at = after
    if at != len(data):
        raise refusal(path, "has bytes in its directory that belong to no member")
    offsets.append(end.start)
    return _sorted(path, data, positions, offsets)


def _sorted(
    path: str, data: bytes, positions: array[int], offsets: array[int]
) -> tuple[array[int], array[int]]:
    if any(here > there for here, there in zip(offsets, memoryview(offsets)[1:])):
        order = sorted(range(len(positions)), key=offsets.__getitem__)
        positions = array("I", map(positions.__getitem__, order))
        offsets = array("Q", [*map(offsets.__getitem__, order), offsets[-1]])
    if len(offsets) > 1 and offsets[-2] > offsets[-1]:
        at = positions[-1]
        name = data[at + _CENTRAL_SIZE :][: _FRAME.unpack_from(data, at)[1]]
        raise refusal(path, "overlaps the bytes of another member or of the directory", member=name)
    return positions, offsets


def _wide_offset(path: str, data: bytes, at: int, names: int, extras: int) -> int:
    packed, size = _SIZES.unpack_from(data, at + _SIZES_AT)
    values = size, packed, MAX32
    begin = at + _CENTRAL_SIZE
    found = wide_alone(data, begin + names, extras, values)
    if found is None:
        name = data[begin : begin + names]
        fields = extra_fields(path, name, data[begin + names : begin + names + extras])
        found = wide_values(path, name, fields, values)
    return found[2]


def _is_marked(attributes: int) -> bool:
    """Whether attributes may mean anything but a file."""
    return bool(attributes & _DOS_KINDS) or attributes >> 28 not in _PLAIN_KINDS


def _check_kind(path: str, name: bytes, flags: int, method: int, disk: int) -> None:
    if flags & (ENCRYPTED | STRONG | MASKED):
        raise refusal(path, "is encrypted", "pack it without a password", name)
    if flags & PATCHED:
        raise refusal(path, "holds a patch for another file and no file itself", member=name)
    if method not in METHODS:
        known = _METHOD_NAMES.get(method, "unknown")
        raise refusal(
            path, f"uses compression method {method} ({known})", "pack it with deflate", name
        )
    if disk:
        raise refusal(path, *OTHER_PART, member=name)


def _what_kind(kind: int) -> tuple[str, str]:
    if kind == stat.S_IFLNK:
        return "is a symbolic link", "pack what it points to, or set symlinks: inside"
    what = "is a device, pipe, socket or other special file"
    return f"{what}, and only files and folders are unpacked", "pack it anew without it"


def has_record(data: bytes | memoryview) -> bool:
    """Whether the bytes hold the signature of a zip record: a hidden member or archive."""
    return _RECORD.search(data) is not None


def _check_prefix(path: str, reader: Reader, length: int, strict: bool) -> None:
    """Bytes before the first member: a self-extractor's program, never another archive."""
    if not length:
        return
    if strict:
        raise refusal(path, f"has {length} bytes before its first member, which strict refuses")
    if length > GAP_LIMIT:
        raise refusal(
            path, f"has {length} bytes before its first member, above the limit of {GAP_LIMIT}"
        )
    if has_record(reader.read_at(length, 0)):
        raise refusal(
            path, "hides zip records before its first member, so that two readers see two archives"
        )
