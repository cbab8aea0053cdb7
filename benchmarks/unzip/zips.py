"""A small writer of zips: the same bytes every time, and members that are packed already.

Python's zipfile has neither: it cannot take over a packed member, so that 60,000 images would
be packed anew for each data set, nor force the zip64 fields of the central directory.
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

STORED, DEFLATED = 0, 8
LEVEL = 6  # the one that zip(1) takes

_LOCAL = struct.Struct("<4s5H3L2H")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR64 = struct.Struct("<4sLQL")
_DATE = (2024 - 1980) << 9 | 1 << 5 | 1
_UNIX = 3 << 8
_MODE = 0o100644 << 16
_FULL16, _FULL32 = 0xFFFF, 0xFFFFFFFF


@dataclass(frozen=True)
class Packed:
    """One member as it lies in a zip; `size` in bytes, unpacked."""

    name: str
    method: int
    crc: int
    size: int
    data: bytes


def pack(name: str, data: bytes, method: int = DEFLATED) -> Packed:
    """Pack one member; what deflate would not make smaller is stored, as zip(1) does."""
    packed = data
    if method == DEFLATED:
        stream = zlib.compressobj(LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
        packed = stream.compress(data) + stream.flush()
        if len(packed) >= len(data):
            method, packed = STORED, data
    return Packed(name, method, zlib.crc32(data), len(data), packed)


class ZipWriter:
    """Writes members one behind the other; with `zip64` all sizes and offsets are in zip64 fields.

    Without it the archive must stay below 4 GiB; more than 65,535 members are counted by zip64.
    """

    def __init__(self, path: Path, zip64: bool = False) -> None:
        self._file: BinaryIO = path.open("wb")
        self._zip64 = zip64
        self._directory = bytearray()
        self._count = 0

    def __enter__(self) -> ZipWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._finish()
        self._file.close()

    def add(self, member: Packed) -> None:
        """Append a member."""
        name = member.name.encode()
        offset, packed = self._file.tell(), len(member.data)
        version, extra, local_extra = 20, b"", b""
        sizes, place = (packed, member.size), offset
        if self._zip64:
            version = 45
            local_extra = struct.pack("<2H2Q", 1, 16, member.size, packed)
            extra = struct.pack("<2H3Q", 1, 24, member.size, packed, offset)
            sizes, place = (_FULL32, _FULL32), _FULL32
        same = (version, 0, member.method, 0, _DATE, member.crc, *sizes, len(name))
        self._file.write(_LOCAL.pack(b"PK\3\4", *same, len(local_extra)) + name + local_extra)
        self._file.write(member.data)
        head = _CENTRAL.pack(b"PK\1\2", _UNIX | version, *same, len(extra), 0, 0, 0, _MODE, place)
        self._directory += head + name + extra
        self._count += 1

    def _finish(self) -> None:
        start, length, count = self._file.tell(), len(self._directory), self._count
        self._file.write(self._directory)
        if self._zip64 or count >= _FULL16:
            at = self._file.tell()
            made = (44, _UNIX | 45, 45, 0, 0, count, count, length, start)
            self._file.write(_END64.pack(b"PK\6\6", *made))
            self._file.write(_LOCATOR64.pack(b"PK\6\7", 0, at, 1))
            count = _FULL16
            if self._zip64:
                length = start = _FULL32
        self._file.write(_END.pack(b"PK\5\6", 0, 0, count, count, length, start, 0))


class BigMember:
    """Packs one large member from pieces, without holding it unpacked."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._stream = zlib.compressobj(LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
        self._packed: list[bytes] = []
        self._crc = self._size = 0

    def add(self, piece: bytes) -> None:
        """Append a piece."""
        self._crc = zlib.crc32(piece, self._crc)
        self._size += len(piece)
        self._packed.append(self._stream.compress(piece))

    def finish(self) -> Packed:
        """Give the packed member."""
        data = b"".join([*self._packed, self._stream.flush()])
        return Packed(self._name, DEFLATED, self._crc, self._size, data)


def members_of(path: Path) -> Iterator[Packed]:
    """Give the members of a zip as they are packed."""
    with zipfile.ZipFile(path) as archive, path.open("rb") as file:
        for info in archive.infolist():
            file.seek(info.header_offset)
            head = _LOCAL.unpack(file.read(_LOCAL.size))
            file.seek(head[-2] + head[-1], 1)
            data = file.read(info.compress_size)
            yield Packed(info.filename, info.compress_type, info.CRC, info.file_size, data)


def unpacked(member: Packed) -> bytes:
    """Give the bytes of a member."""
    if member.method == STORED:
        return member.data
    return zlib.decompress(member.data, -zlib.MAX_WBITS, member.size)
