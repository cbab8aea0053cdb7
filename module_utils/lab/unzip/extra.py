"""Extra fields of a header, and the values of zip64 that hide in one of them."""

from __future__ import annotations

import re
import struct

from .refusal import refusal

MAX16, MAX32 = 0xFFFF, 0xFFFFFFFF
ZIP64 = 0x0001
ZIP64_SIZES = struct.Struct("<HHQQ")
"""The field of zip64 that holds a size and a packed size: its id, its length, the two."""
_FIELD = struct.Struct("<HH")
_ALONE = {count: struct.Struct(f"<HH{count}Q") for count in (1, 2, 3)}
_VALUE, _DISK = 8, 4  # bytes of a value of zip64, and of the number of a part
OTHER_PART = ("lies on another part of a split archive", "join the parts first (zip -s 0)")
# Times and owners as Info-ZIP (UT, Ux, ux), Windows (0x000a) and Java (0xcafe) write them.
_HARMLESS = re.compile(
    rb"(?:UT\x05\x00.{5}|UT\x09\x00.{9}|UT\x0d\x00.{13}|Ux\x00\x00|Ux\x04\x00.{4}"
    rb"|ux\x0b\x00.{11}|\x0a\x00\x20\x00.{32}|\xfe\xca\x00\x00)*",
    re.DOTALL,
)


def is_harmless(data: bytes | bytearray, at: int, length: int) -> bool:
    """Whether an extra field holds nothing that bears on a member's name or size."""
    return _HARMLESS.fullmatch(data, at, at + length) is not None


def wide_alone(
    data: bytes, at: int, length: int, values: tuple[int, int, int]
) -> tuple[int, int, int] | None:
    """Give what `wide_values` does, where the extra field holds what is missing and no more."""
    size, packed, offset = values
    count = (size == MAX32) + (packed == MAX32) + (offset == MAX32)
    form = _ALONE.get(count)
    if form is None or length != form.size:
        return None
    kind, room, *found = form.unpack_from(data, at)
    if kind != ZIP64 or room != length - _FIELD.size:
        return None
    rest = iter(found)
    return (
        next(rest) if size == MAX32 else size,
        next(rest) if packed == MAX32 else packed,
        next(rest) if offset == MAX32 else offset,
    )


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
    path: str,
    name: bytes,
    fields: dict[int, list[bytes]],
    values: tuple[int, int, int],
    stored: bool = False,
) -> tuple[int, int, int]:
    """Size, packed size and offset, with those that do not fit 32 bits taken from the zip64 field.

    The field must hold all that are missing; values that it repeats must agree. Only the size of
    a stored member may be smaller in the header than in the field, if the field's is that of its
    bytes: a worker, which sees those, finds out whether it may be.
    """
    wide = fields.get(ZIP64, [])
    missing = [value == MAX32 for value in values]
    if not wide:
        if any(missing):
            raise refusal(path, "lacks the zip64 field that its sizes refer to", member=name)
        return values
    if len(wide) > 1 or len(wide[0]) % _VALUE not in (0, _DISK):
        raise refusal(path, "has a zip64 field of wrong length, or two of them", member=name)
    count = len(wide[0]) // _VALUE
    if count and any(wide[0][count * _VALUE :]):
        raise refusal(path, *OTHER_PART, member=name)
    found = list(struct.unpack_from(f"<{count}Q", wide[0]))
    # Writers give either the missing values alone, or all of them from the first on.
    if len(found) == sum(missing):
        rest = iter(found)
        size, packed, offset = (
            next(rest) if absent else value for absent, value in zip(missing, values)
        )
        return size, packed, offset
    full = (*found, *values[len(found) :])[:3]
    if stored and values[0] < full[0] == full[1]:
        full = (values[0], *full[1:])
    agree = all(absent or a == b for absent, a, b in zip(missing, values, full))
    if len(found) > len(values) or MAX32 in full or not agree:
        raise refusal(path, "has a zip64 field that disagrees with its header", member=name)
    return full[0], full[1], full[2]
