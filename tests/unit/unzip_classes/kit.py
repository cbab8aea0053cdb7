"""What the tables of archives share: a case, how it is taken or refused, and pieces of zips."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass

from tests.unit.unzip_kit import Part, deflate, make_zip

Found = dict[str, "bytes | None"]
MAX32 = 0xFFFFFFFF
FAT, AMIGA, UNIX, NTFS, VFAT, MACOS = 0, 1, 3, 10, 14, 19
GOOD = Part(b"good.txt", b"good")
JUST = make_zip([GOOD])
PLAIN = b"some bytes " * 40
SIZES = {"size": MAX32, "packed": MAX32}
AS_ZIPFILE: Found = {}  # stands for whatever Python's zipfile makes of the archive
UNKNOWN = {"crc": 0, "packed": 0, "size": 0}  # of a local header that was written too early


@dataclass(frozen=True)
class Case:
    """An archive; `rule` and `strict` are parts of the sentence that refuses it, None: taken."""

    name: str
    data: bytes
    rule: str | None
    strict: str | None
    found: Found

    def __str__(self) -> str:
        return self.name


CASES: list[Case] = []


def take(
    name: str, data: bytes | Iterable[Part], found: Found = AS_ZIPFILE, strict: str | None = None
) -> None:
    CASES.append(Case(name, as_bytes(data), None, strict, found))


def refuse(name: str, data: bytes | Iterable[Part], rule: str) -> None:
    # Strict may find another fault in it first.
    CASES.append(Case(name, as_bytes(data), rule, "", {}))


def as_bytes(data: bytes | Iterable[Part]) -> bytes:
    return data if isinstance(data, bytes) else make_zip(list(data))


def named(*names: bytes, flags: int = 0) -> bytes:
    return make_zip([Part(name, b"%d" % at, flags=flags) for at, name in enumerate(names)])


def patched(data: bytes, at: int, *values: int) -> bytes:
    return data[: at % len(data)] + bytes(values) + data[at % len(data) + len(values) :]


def field(kind: int, data: bytes) -> bytes:
    return struct.pack("<HH", kind, len(data)) + data


def wide(*values: int, disk: int | None = None) -> bytes:
    end = b"" if disk is None else struct.pack("<L", disk)
    return field(1, struct.pack(f"<{len(values)}Q", *values) + end)


def unicode_path(raw: bytes, said: bytes, version: int = 1, crc: int | None = None) -> bytes:
    return field(
        0x7075, struct.pack("<BL", version, zlib.crc32(raw) if crc is None else crc) + said
    )


def behind(
    data: bytes,
    shape: str = "<4sLLL",
    signature: tuple[bytes, ...] = (b"PK\x07\x08",),
    packed: int | None = None,
) -> bytes:
    length = len(deflate(data)) if packed is None else packed
    return struct.pack(shape, *signature, zlib.crc32(data), length, len(data))
