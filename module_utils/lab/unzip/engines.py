"""Inflate and CRC by the best library on the host: libdeflate, isal, zlib.

All give the same result; only the speed differs. libdeflate is Debian's
package libdeflate0, reached by ctypes; isal is python3-isal.
"""

from __future__ import annotations

import bz2
import ctypes
import importlib
import lzma
import mmap
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol, Union

from ansible.module_utils.lab.errors import LabError

from .directory import BZIP2, DEFLATED, LZMA

Bytes = Union[bytes, bytearray, memoryview]
NAMES = ("libdeflate", "isal", "zlib")
_LIBRARY = "libdeflate.so.0"
_PIECE = 1 << 20  # bytes asked of a streaming decompressor at a time


class BadDataError(Exception):
    """Packed bytes that do not unpack to exactly the declared size."""


class Engine(Protocol):
    """One-shot decompression out of an attached buffer, and the module for streams."""

    name: str
    streams: Any

    def attach(self, buffer: bytearray) -> None:
        """Read from this buffer from now on."""

    def inflate(self, start: int, length: int, size: int) -> tuple[Bytes, int]:
        """Exactly `size` bytes out of all of `length`, and their CRC-32; BadDataError.

        The bytes are valid until the next call.
        """

    @property
    def inflate_into(self) -> Callable[[int, int, mmap.mmap], int] | None:
        """Fill all of a mapping out of `length` from `start`; gives the CRC-32. BadDataError.

        None where the library unpacks only into memory of its own.
        """

    def stored(self, start: int, length: int) -> tuple[Bytes, int]:
        """Give the bytes as they are, and their CRC-32."""


class _Zlib:
    """zlib, or isal which offers the same calls."""

    inflate_into = None

    def __init__(self, name: str, module: Any) -> None:
        self.name = name
        self.streams = module
        self._view = memoryview(b"")

    def attach(self, buffer: bytearray) -> None:
        self._view = memoryview(buffer)

    def inflate(self, start: int, length: int, size: int) -> tuple[Bytes, int]:
        try:
            stream = self.streams.decompressobj(-15)
            # One byte more than declared shows a member that would grow beyond it.
            data = stream.decompress(self._view[start : start + length], size + 1)
        except Exception as error:  # zlib.error and isal's own are not related
            raise BadDataError(str(error)) from None
        if len(data) != size or not stream.eof or stream.unused_data:
            raise BadDataError
        return data, self.streams.crc32(data)

    def stored(self, start: int, length: int) -> tuple[Bytes, int]:
        data = self._view[start : start + length]
        return data, self.streams.crc32(data)


class _Libdeflate:
    """libdeflate by ctypes, into one buffer that grows and is used again."""

    name = "libdeflate"

    def __init__(self, library: ctypes.PyDLL) -> None:
        pointer, length = ctypes.c_void_p, ctypes.c_size_t
        library.libdeflate_alloc_decompressor.restype = pointer
        self._inflate = library.libdeflate_deflate_decompress_ex
        self._inflate.argtypes = (pointer, pointer, length, pointer, length, pointer, pointer)
        self._inflate.restype = ctypes.c_int
        self._crc = library.libdeflate_crc32
        self._crc.argtypes = (ctypes.c_uint32, pointer, length)
        self._crc.restype = ctypes.c_uint32
        self._state = library.libdeflate_alloc_decompressor()
        if not self._state:
            raise MemoryError
        self.streams = _load_isal() or zlib
        self._used = length()
        self._count = ctypes.byref(self._used)
        self._source = 0
        self._grow(1 << 20)

    def _grow(self, room: int) -> None:
        self._buffer = bytearray(room)
        self._view = memoryview(self._buffer)
        self._address = _address(self._buffer)

    def attach(self, buffer: bytearray) -> None:
        self._packed = memoryview(buffer)
        self._source = _address(buffer)

    def inflate(self, start: int, length: int, size: int) -> tuple[Bytes, int]:
        if size > len(self._buffer):
            self._grow(size)
        return self._view[:size], self._filled(start, length, self._address, size)

    def inflate_into(self, start: int, length: int, target: mmap.mmap) -> int:
        return self._filled(start, length, _address(target), len(target))

    def _filled(self, start: int, length: int, made: int, size: int) -> int:
        # Without a place for the length made, it must come to exactly `size`.
        if (
            self._inflate(self._state, self._source + start, length, made, size, self._count, None)
            or self._used.value != length
        ):
            raise BadDataError
        crc: int = self._crc(0, made, size)
        return crc

    def stored(self, start: int, length: int) -> tuple[Bytes, int]:
        return self._packed[start : start + length], self._crc(0, self._source + start, length)


def _address(buffer: bytearray | mmap.mmap) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(buffer))


def _load_isal() -> Any:
    try:
        return importlib.import_module("isal.isal_zlib")
    except ImportError:
        return None


def load_engine(name: str = "auto") -> Engine:
    """Load the engine of that name, with "auto" the fastest there is; LabError if there is none."""
    for candidate in NAMES if name == "auto" else (name,):
        engine = _load(candidate)
        if engine:
            return engine
    raise LabError(
        f"engine: {name} is not on this host; "
        "install libdeflate0 or python3-isal, or leave engine at auto"
    )


def _load(name: str) -> Engine | None:
    if name == "zlib":
        return _Zlib(name, zlib)
    if name == "isal":
        module = _load_isal()
        return _Zlib(name, module) if module else None
    try:
        return _Libdeflate(ctypes.PyDLL(_LIBRARY))
    except (OSError, AttributeError):
        return None


def all_bytes(method: int, packed: Bytes, most: int) -> Bytes:
    """Unpack all there is, if it is no more than `most` bytes; else BadDataError."""
    if method != DEFLATED:
        return packed
    stream = zlib.decompressobj(-15)
    try:
        data = stream.decompress(packed, most)
    except zlib.error as error:
        raise BadDataError(str(error)) from None
    if not stream.eof or stream.unused_data:
        raise BadDataError
    return data


def unpack_stream(method: int, pieces: Iterable[bytes], size: int, module: Any) -> Iterator[bytes]:
    """Unpack a large member, or one of bzip2 or LZMA, piece by piece; never more than `size` bytes.

    `module` is zlib or what offers its calls. BadDataError when it does not come to
    exactly `size`, or packed bytes are left over.
    """
    source = iter(pieces)
    made = 0
    try:
        stream = _DeflateStream(module) if method == DEFLATED else _STREAMS[method]()
        while not stream.eof:
            hungry = stream.needs_input
            piece = next(source, b"") if hungry else b""
            # One byte more than declared shows a member that would grow beyond it.
            data = stream.decompress(piece, min(_PIECE, size + 1 - made))
            made += len(data)
            if made > size:
                raise BadDataError
            if data:
                yield data
            elif hungry and not piece:
                break
    except LabError:
        raise  # the archive could not be read any more
    except Exception as error:  # isal's errors are related to nothing
        raise BadDataError(str(error)) from None
    # LZMA in zip may lack the marker by which its stream would know that it ended.
    if made != size or not (stream.eof or method == LZMA) or stream.unused_data or any(source):
        raise BadDataError


class _DeflateStream:
    """zlib, or isal, with the calls of bz2 and lzma."""

    def __init__(self, module: Any) -> None:
        self._stream = module.decompressobj(-15)
        self.needs_input = True

    @property
    def eof(self) -> bool:
        return bool(self._stream.eof)

    @property
    def unused_data(self) -> bytes:
        return bytes(self._stream.unused_data)

    def decompress(self, data: bytes, most: int) -> bytes:
        made: bytes = self._stream.decompress(self._stream.unconsumed_tail + data, most)
        # With its output cut at `most`, it may hold more though all input is taken.
        self.needs_input = not self._stream.unconsumed_tail and len(made) < most
        return made


class _LzmaStream:
    """LZMA as zip stores it: version, length and properties before a raw stream."""

    _HEAD = struct.Struct("<2xH")

    def __init__(self) -> None:
        self._stream: lzma.LZMADecompressor | None = None

    @property
    def eof(self) -> bool:
        return self._stream is not None and self._stream.eof

    @property
    def unused_data(self) -> bytes:
        return self._stream.unused_data if self._stream else b""

    @property
    def needs_input(self) -> bool:
        return self._stream is None or self._stream.needs_input

    def decompress(self, data: bytes, most: int) -> bytes:
        if self._stream is None:
            (length,) = self._HEAD.unpack_from(data)
            start = self._HEAD.size + length
            # The reader of the properties is the one that Python's own zipfile uses.
            chain = lzma._decode_filter_properties(lzma.FILTER_LZMA1, data[self._HEAD.size : start])  # type: ignore[attr-defined]
            self._stream = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=[chain])
            data = data[start:]
        return self._stream.decompress(data, most)


_STREAMS: dict[int, Callable[[], Any]] = {
    BZIP2: bz2.BZ2Decompressor,
    LZMA: _LzmaStream,
}
