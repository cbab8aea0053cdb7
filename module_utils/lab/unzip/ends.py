"""End records of a zip archive: where its central directory lies."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

from .extra import MAX16, MAX32
from .refusal import refusal
from .sources import Archive, Reader

_END = struct.Struct("<4s4H2LH")
_LOCATOR = struct.Struct("<4sLQL")
_END64 = struct.Struct("<4sQ2H2L4Q")


@dataclass(frozen=True)
class End:
    """Where the central directory lies, in bytes; `base` is what was put before the archive."""

    start: int
    length: int
    count: int
    base: int


def find_end(archive: Archive, reader: Reader) -> End:
    """Find the central directory; RefusalError where there is none, or more than one reading."""
    window = min(archive.size, _END.size + MAX16)
    tail = reader.read_at(window, archive.size - window)
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or at + _END.size > len(tail):
        raise refusal(archive.path, *_what_it_is(reader.read_at(2048, 0)))
    _, disk, first_disk, here, count, length, start, comment = _END.unpack_from(tail, at)
    if at + _END.size + comment != len(tail):
        raise refusal(
            archive.path, "does not end where its end record says: cut off, or bytes added"
        )
    position = archive.size - window + at
    locator = (
        reader.read_at(_LOCATOR.size, position - _LOCATOR.size)
        if position >= _LOCATOR.size
        else b""
    )
    if locator.startswith(b"PK\x06\x07"):
        given = (disk, first_disk, here, count, length, start)
        end = _find_end64(archive.path, reader, position - _LOCATOR.size, locator, given)
    else:
        if MAX32 in (length, start):
            raise refusal(archive.path, "refers to a zip64 end record that is not there")
        if disk or first_disk or here != count:
            raise refusal(
                archive.path, "is one part of a split archive", "join the parts first (zip -s 0)"
            )
        end = End(position - length, length, count, position - length - start)
    if end.start < 0 or end.base < 0:
        raise refusal(archive.path, "has a directory outside the file: cut off, or damaged")
    return end


def _find_end64(path: str, reader: Reader, at: int, locator: bytes, given: tuple[int, ...]) -> End:
    """Read the zip64 record, which must lie before its locator and agree with the short one."""
    _, where_disk, where, disks = _LOCATOR.unpack(locator)
    position = at - _END64.size
    data = reader.read_at(_END64.size, position) if position >= 0 else b""
    if not data.startswith(b"PK\x06\x06"):
        raise refusal(path, "has no zip64 end record before its locator")
    _, size, _, _, disk, first_disk, here, count, length, start = _END64.unpack(data)
    if size != _END64.size - 12:
        raise refusal(path, "has a zip64 end record of unusual length")
    if disk or first_disk or where_disk or disks > 1 or here != count:
        raise refusal(path, "is one part of a split archive", "join the parts first (zip -s 0)")
    full = (disk, first_disk, here, count, length, start)
    widths = (MAX16, MAX16, MAX16, MAX16, MAX32, MAX32)
    if any(short not in (wide, most) for short, wide, most in zip(given, full, widths)):
        raise refusal(path, "has two end records that disagree")
    base = position - length - start
    if where + base != position:
        raise refusal(path, "has a zip64 locator that points elsewhere than to its end record")
    return End(position - length, length, count, base)


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
