"""A member's local header and data descriptor, held against the central directory."""

from __future__ import annotations

import struct
from collections.abc import Callable

from .directory import (
    DESCRIPTOR,
    ENCRYPTED,
    GAP_LIMIT,
    LOCAL_SIZE,
    MASKED,
    STORED,
    STRONG,
    Member,
    has_record,
)
from .extra import MAX32, extra_fields, wide_values
from .names import UNICODE_PATH, UTF8_FLAG
from .refusal import refusal

_LOCAL = struct.Struct("<4sHHHHHLLLHH")
_UNPACK = _LOCAL.unpack_from
_ENCRYPTION = ENCRYPTED | STRONG | MASKED
_SIGNATURE = b"PK\x07\x08"
_NARROW, _WIDE = struct.Struct("<LLL"), struct.Struct("<LQQ")
_LONGEST = 24

Read = Callable[[int, int], "bytes | memoryview"]
"""Gives `length` bytes from `offset` of the archive."""


def data_start(path: str, member: Member, read: Read, strict: bool) -> int:
    """Offset of the member's packed bytes; RefusalError if its two headers disagree.

    Also holds the member's exact end, its descriptor included, against the
    begin of what follows it.
    """
    name_length = len(member.name)
    head = read(LOCAL_SIZE + name_length, member.offset)
    if len(head) < LOCAL_SIZE + name_length:
        raise refusal(path, "lies beyond the end of the archive", member=member.name)
    signature, _, flags, method, _, _, crc, packed, size, name_size, extra_size = _UNPACK(head)
    if signature != b"PK\x03\x04":
        raise refusal(path, "has no local header where the directory points", member=member.name)
    if name_size != name_length or head[LOCAL_SIZE:] != member.name:
        raise refusal(path, "has another name in its local header", member=member.name)
    # The flag of UTF-8 means nothing for a name that is ASCII.
    same = _ENCRYPTION if member.name.isascii() else _ENCRYPTION | UTF8_FLAG
    if method != member.method or (flags ^ member.flags) & same:
        raise refusal(
            path, "has another method or other flags in its local header", member=member.name
        )
    start = member.offset + LOCAL_SIZE + name_length
    if extra_size:
        extra = bytes(read(extra_size, start))
        start += extra_size
        packed, size = _extra(path, member, extra, (packed, size), strict)
    end = start + member.packed
    if flags & DESCRIPTOR:
        if strict:
            raise refusal(
                path, "has its sizes in a data descriptor, which strict refuses", member=member.name
            )
        _check_streamed(path, member, (crc, packed, size))
        end += _descriptor_length(path, member, read, end)
    elif (crc, packed, size) != (member.crc, member.packed, member.size):
        raise refusal(
            path, "has other sizes or another CRC in its local header", member=member.name
        )
    if end != member.limit:
        _check_gap(path, member, read, end, strict)
    return start


def _extra(
    path: str, member: Member, extra: bytes, sizes: tuple[int, int], strict: bool
) -> tuple[int, int]:
    """Packed and unpacked size by the local header and its extra field."""
    # Here only two fields matter; writers pad the rest of a local extra field as they like.
    fields = extra_fields(path, member.name, extra, tolerant=not strict)
    size, packed, _ = wide_values(
        path, member.name, fields, (sizes[1], sizes[0], 0), member.method == STORED
    )
    for name in fields.get(UNICODE_PATH, ()):
        # Byte 5 on is the name; the directory's own field was judged before.
        if name[5:] not in (member.name, member.path.encode(), member.path.encode() + b"/"):
            raise refusal(
                path, "has another name in its local Unicode path field", member=member.name
            )
    return packed, size


def _check_streamed(path: str, member: Member, local: tuple[int, int, int]) -> None:
    """Hold what a streaming writer left in the local header (zeros, all ones) against the truth."""
    true = (member.crc, member.packed, member.size)
    if any(here not in (0, MAX32, there) for here, there in zip(local, true)):
        raise refusal(
            path, "has other sizes or another CRC in its local header", member=member.name
        )


def _descriptor_length(path: str, member: Member, read: Read, at: int) -> int:
    """Length in bytes of the descriptor at `at`, in whichever of its four forms it agrees."""
    room = member.limit - at
    data = bytes(read(min(_LONGEST, max(0, room)), at))
    values = (member.crc, member.packed, member.size)
    shapes = (_WIDE,) if max(values) > MAX32 else (_NARROW, _WIDE)
    bodies = [shape.pack(*values) for shape in shapes]
    forms = [form for body in bodies for form in (_SIGNATURE + body, body)]
    fitting = [len(form) for form in forms if data.startswith(form)]
    if not fitting:
        raise refusal(
            path, "has a data descriptor that disagrees with the directory", member=member.name
        )
    # An empty member's forms begin alike: the one that fills the room is meant.
    return room if room in fitting else fitting[0]


def _check_gap(path: str, member: Member, read: Read, end: int, strict: bool) -> None:
    """Bytes between a member's end and the next record: none, or padding without records."""
    gap = member.limit - end
    if gap < 0:
        raise refusal(
            path, "overlaps the bytes of another member or of the directory", member=member.name
        )
    if strict or gap > GAP_LIMIT:
        raise refusal(
            path, f"is followed by {gap} bytes that belong to no member", member=member.name
        )
    if has_record(read(gap, end)):
        raise refusal(
            path,
            "is followed by a hidden zip record that the directory does not list",
            member=member.name,
        )
