"""End records and central directory of a zip archive, read once and checked.

Where two programs could read an archive differently, it is refused: what is
written here must not depend on who reads it.
"""

from __future__ import annotations

import hashlib
import re
import stat
import struct
from dataclasses import dataclass, field
from typing import NamedTuple

from .limits import Limits, Rules
from .names import BadNameError, decode_name, safe_path
from .refusal import refusal
from .sources import Archive, read_at

MAX16, MAX32 = 0xFFFF, 0xFFFFFFFF
STORED, DEFLATED, BZIP2, LZMA = 0, 8, 12, 14
METHODS = {STORED, DEFLATED, BZIP2, LZMA}
_METHOD_NAMES = {
    1: "shrunk",
    6: "imploded",
    9: "Deflate64",
    93: "Zstandard",
    95: "xz",
    98: "PPMd",
    99: "AES",
}
ENCRYPTED, DESCRIPTOR, PATCHED, STRONG, MASKED = 0x1, 0x8, 0x20, 0x40, 0x2000
ZIP64 = 0x0001
LOCAL_SIZE = 30
GAP_LIMIT = 1 << 20  # bytes that belong to no member and are still searched

_END = struct.Struct("<4s4H2LH")
_LOCATOR = struct.Struct("<4sLQL")
_END64 = struct.Struct("<4sQ2H2L4Q")
_CENTRAL = struct.Struct("<4sBBHHHLLLLHHHHHLL")
_FIELD = struct.Struct("<HH")
_RECORD = re.compile(rb"PK(?:\x01\x02|\x03\x04|\x05\x06|\x06\x06|\x06\x07)")
_DIRECTORY_LIMIT = 1 << 30
_UNIX_TYPES = {stat.S_IFLNK: "is a symbolic link"}


class Member(NamedTuple):
    """One entry of the central directory; sizes and offsets in bytes.

    `limit` is where the next member, or the central directory, begins.
    """

    path: str
    folder: bool
    name: bytes
    flags: int
    method: int
    crc: int
    packed: int
    size: int
    offset: int
    limit: int
    executable: bool


@dataclass(frozen=True)
class Directory:
    """The members of an archive in the order of their bytes, and a digest of the directory."""

    members: list[Member]
    digest: str
    size: int = field(default=0)
    """Bytes of all members when unpacked."""


@dataclass(frozen=True)
class _End:
    """Where the central directory lies; `base` is the length of what was put before the archive."""

    start: int
    length: int
    count: int
    base: int


def read_directory(archive: Archive, fd: int, limits: Limits, strict: bool) -> Directory:
    """Read and check the directory of an archive; RefusalError says what is wrong with it."""
    end = _find_end(archive, fd)
    if end.count > limits.max_files:
        raise refusal(
            archive.path,
            f"holds {end.count} members, above the limit of {limits.max_files}",
            "raise limits.max_files if that is right",
        )
    if end.length > _DIRECTORY_LIMIT:
        raise refusal(archive.path, f"has a directory of {end.length} bytes, above 1 GiB")
    data = read_at(fd, end.length, end.start)
    entries = _walk(archive.path, data, end, Rules(limits, strict))
    first = entries[0].offset if entries else end.start
    _check_prefix(archive.path, fd, first, strict)
    total = sum(entry.size for entry in entries)
    _check_ratio(archive, total, limits)
    return Directory(entries, hashlib.sha256(data).hexdigest(), total)


def _check_ratio(archive: Archive, total: int, limits: Limits) -> None:
    if total > limits.RATIO_FLOOR and total > limits.max_ratio * archive.size:
        raise refusal(
            archive.path,
            f"would grow to {total} bytes, {total // max(1, archive.size)} times its size, "
            f"above the limit of {limits.max_ratio}",
            "raise limits.max_ratio if that is right",
        )


def has_record(data: bytes | memoryview) -> bool:
    """Whether the bytes hold the signature of a zip record: a hidden member or archive."""
    return _RECORD.search(data) is not None


def _check_prefix(path: str, fd: int, length: int, strict: bool) -> None:
    """Bytes before the first member: a self-extractor's program, never another archive."""
    if not length:
        return
    if strict:
        raise refusal(path, f"has {length} bytes before its first member, which strict refuses")
    if length > GAP_LIMIT:
        raise refusal(
            path, f"has {length} bytes before its first member, above the limit of {GAP_LIMIT}"
        )
    if has_record(read_at(fd, length, 0)):
        raise refusal(
            path, "hides zip records before its first member, so that two readers see two archives"
        )


def _find_end(archive: Archive, fd: int) -> _End:
    window = min(archive.size, _END.size + MAX16)
    tail = read_at(fd, window, archive.size - window)
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or at + _END.size > len(tail):
        raise refusal(archive.path, *_what_it_is(read_at(fd, 2048, 0)))
    _, disk, first_disk, here, count, length, start, comment = _END.unpack_from(tail, at)
    if at + _END.size + comment != len(tail):
        raise refusal(
            archive.path, "does not end where its end record says: cut off, or bytes added"
        )
    position = archive.size - window + at
    locator = (
        read_at(fd, _LOCATOR.size, position - _LOCATOR.size) if position >= _LOCATOR.size else b""
    )
    if locator.startswith(b"PK\x06\x07"):
        given = (disk, first_disk, here, count, length, start)
        end = _find_end64(archive.path, fd, position - _LOCATOR.size, locator, given)
    else:
        if MAX32 in (length, start):
            raise refusal(archive.path, "refers to a zip64 end record that is not there")
        if disk or first_disk or here != count:
            raise refusal(
                archive.path, "is one part of a split archive", "join the parts first (zip -s 0)"
            )
        end = _End(position - length, length, count, position - length - start)
    if end.start < 0 or end.base < 0:
        raise refusal(archive.path, "has a directory outside the file: cut off, or damaged")
    return end


def _find_end64(path: str, fd: int, at: int, locator: bytes, given: tuple[int, ...]) -> _End:
    """Read the zip64 record, which must lie before its locator and agree with the short one."""
    _, where_disk, where, disks = _LOCATOR.unpack(locator)
    position = at - _END64.size
    data = read_at(fd, _END64.size, position) if position >= 0 else b""
    if not data.startswith(b"PK\x06\x06"):
        raise refusal(path, "has no zip64 end record before its locator")
    _, size, _, _, disk, first_disk, here, count, length, start = _END64.unpack(data)
    if size != _END64.size - 12:
        raise refusal(path, "has a zip64 end record of unusual length")
    if disk or first_disk or where_disk or disks > 1 or here != count:
        raise refusal(path, "is one part of a split archive", "join the parts first (zip -s 0)")
    full = (disk, first_disk, here, count, length, start)
    widths = (MAX16, MAX16, MAX16, MAX16, MAX32, MAX32)
    if any(
        short not in (wide, most) for short, wide, most in zip(given, full, widths, strict=True)
    ):
        raise refusal(path, "has two end records that disagree")
    base = position - length - start
    if where + base != position:
        raise refusal(path, "has a zip64 locator that points elsewhere than to its end record")
    return _End(position - length, length, count, base)


def _what_it_is(head: bytes) -> tuple[str, str]:
    """Say what a file without an end record is more likely to be."""
    again = "fetch it again"
    if not head:
        return "is empty (0 bytes)", again
    if head.startswith(b"PK\x03\x04"):
        return "is cut off: it begins as a zip archive and has no end record", again
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")[:200].lower()
    if start.startswith((b"<!doctype html", b"<html")):
        return (
            "is a web page (HTML) saved under the name of an archive",
            "look at it, then fetch the right address",
        )
    if start.startswith((b"<?xml", b"<error")):
        code = re.search(rb"<Code>([A-Za-z0-9]{1,60})</Code>", head)
        said = f" ({code[1].decode()})" if code else ""
        return (
            f"is an XML answer such as S3 gives for an error{said}, not an archive",
            "mend the access and fetch it again",
        )
    return "is not a zip archive (no end record)", "name a zip archive"


def _walk(path: str, data: bytes, end: _End, rules: Rules) -> list[Member]:
    """All members, sorted by offset, none overlapping the next."""
    entries: list[Member] = []
    position = 0
    for _ in range(end.count):
        if position + _CENTRAL.size > len(data) or data[position : position + 4] != b"PK\x01\x02":
            raise refusal(
                path, "has a damaged directory, or fewer members in it than its end record says"
            )
        entry, position = _entry(path, data, position, end.base, rules)
        entries.append(entry)
    if position != len(data):
        raise refusal(path, "has bytes in its directory that belong to no member")
    entries.sort(key=lambda entry: entry.offset)
    return _bounded(path, entries, end.start)


def _bounded(path: str, entries: list[Member], start: int) -> list[Member]:
    """Each member with the limit where the next begins; overlap is refused here.

    The local header's extra field is not known yet: the worker, which reads
    it, holds the member's exact end against `limit` as well.
    """
    limits = [entry.offset for entry in entries[1:]] + [start]
    bounded = []
    for entry, limit in zip(entries, limits, strict=False):
        if entry.offset + LOCAL_SIZE + len(entry.name) + entry.packed > limit:
            raise refusal(
                path, "overlaps the bytes of another member or of the directory", member=entry.name
            )
        bounded.append(entry._replace(limit=limit))
    return bounded


def _entry(path: str, data: bytes, at: int, base: int, rules: Rules) -> tuple[Member, int]:
    """Read the member whose central header is at `at`; gives where the next begins as well."""
    (_, _, host, _, flags, method, _, crc, packed, size, name_length, extra_length, comment_length,
     disk, _, attributes, offset) = _CENTRAL.unpack_from(data, at)  # fmt: skip
    names = at + _CENTRAL.size
    extras = names + name_length
    after = extras + extra_length + comment_length
    name = data[names:extras]
    if after > len(data):
        raise refusal(path, "has a directory entry that runs past the directory", member=name)
    fields: dict[int, list[bytes]] = {}
    if extra_length or MAX32 in (packed, size, offset):
        fields = extra_fields(path, name, data[extras : extras + extra_length])
        size, packed, offset = wide_values(path, name, fields, (size, packed, offset))
    _check_kind(path, name, flags, method, disk)
    if rules.strict and comment_length:
        raise refusal(path, "has a comment, which strict refuses", member=name)
    try:
        spelled = decode_name(name, flags, fields, rules.strict)
        target = safe_path(spelled, rules.limits, rules.strict)
    except BadNameError as error:
        raise refusal(path, str(error), member=name) from None
    folder = _is_folder(path, name, spelled, size, attributes)
    if not (target or folder):
        raise refusal(path, "is a file that has the name of dest itself", member=name)
    executable = host in _UNIX_HOSTS and bool(attributes >> 16 & stat.S_IXUSR)
    member = Member(
        target, folder, name, flags, method, crc, packed, size, offset + base, 0, executable
    )
    return member, after


_UNIX_HOSTS = {3, 19}


def _check_kind(path: str, name: bytes, flags: int, method: int, disk: int) -> None:
    if flags & (ENCRYPTED | STRONG | MASKED):
        raise refusal(path, "is encrypted", "pack it without a password", name)
    if method not in METHODS or flags & PATCHED:
        known = _METHOD_NAMES.get(method, "unknown")
        raise refusal(
            path, f"uses compression method {method} ({known})", "pack it with deflate", name
        )
    if disk:
        raise refusal(
            path, "lies on another part of a split archive", "join the parts first (zip -s 0)", name
        )


def _is_folder(path: str, name: bytes, spelled: str, size: int, attributes: int) -> bool:
    """Whether the member is a folder; links, devices and contradictions are refused."""
    folder = spelled.endswith("/")
    kind = stat.S_IFMT(attributes >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        what = _UNIX_TYPES.get(kind, "is a device, pipe, socket or other special file")
        raise refusal(
            path, f"{what}, and only files and folders are unpacked", "pack what it points to", name
        )
    if folder and size:
        raise refusal(path, f"is a folder and yet claims {size} bytes", member=name)
    if kind == stat.S_IFDIR and not folder:
        raise refusal(path, "is marked as a folder and named as a file", member=name)
    return folder


def extra_fields(
    path: str, name: bytes, extra: bytes, tolerant: bool = False
) -> dict[int, list[bytes]]:
    """Sort the extra fields by their id.

    Zero padding of less than four bytes is let pass; where `tolerant`, so is
    whatever follows the last whole field.
    """
    fields: dict[int, list[bytes]] = {}
    at = 0
    while at + _FIELD.size <= len(extra):
        kind, length = _FIELD.unpack_from(extra, at)
        at += _FIELD.size
        if at + length > len(extra):
            if tolerant:
                return fields
            raise refusal(path, "has an extra field that runs past its end", member=name)
        fields.setdefault(kind, []).append(extra[at : at + length])
        at += length
    if any(extra[at:]) and not tolerant:
        raise refusal(path, "has bytes in its extra field that belong to no field", member=name)
    return fields


def wide_values(
    path: str, name: bytes, fields: dict[int, list[bytes]], values: tuple[int, int, int]
) -> tuple[int, int, int]:
    """Size, packed size and offset, with those that do not fit 32 bits taken from the zip64 field.

    The field must hold all that are missing; values that it repeats must agree.
    """
    wide = fields.get(ZIP64, [])
    missing = [value == MAX32 for value in values]
    if not wide:
        if any(missing):
            raise refusal(path, "lacks the zip64 field that its sizes refer to", member=name)
        return values
    if len(wide) > 1 or len(wide[0]) % 8 not in (0, 4):
        raise refusal(path, "has a zip64 field of wrong length, or two of them", member=name)
    found = list(struct.unpack_from(f"<{len(wide[0]) // 8}Q", wide[0]))
    # Writers give either the missing values alone, or all of them from the first on.
    if len(found) == sum(missing):
        rest = iter(found)
        size, packed, offset = (
            next(rest) if absent else value for absent, value in zip(missing, values, strict=True)
        )
        return size, packed, offset
    full = (*found, *values[len(found) :])[:3]
    agree = all(absent or a == b for absent, a, b in zip(missing, values, full, strict=True))
    if len(found) > len(values) or MAX32 in full or not agree:
        raise refusal(path, "has a zip64 field that disagrees with its header", member=name)
    return full[0], full[1], full[2]
