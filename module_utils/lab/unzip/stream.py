"""Writes a large member while the next piece of it is being unpacked."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Iterable
from typing import Any

_AHEAD = 4  # pieces that may wait to be written


def write_through(fd: int, pieces: Iterable[bytes], module: Any) -> tuple[int, int]:
    """Write all pieces; gives the bytes written and their CRC-32.

    Unpacking goes on in this thread, CRC and writing in a second one: all of them let
    go of Python's lock. `module` offers crc32 as zlib does. Raises what `pieces`
    raises, and OSError.
    """
    writer = _Writer(fd, module)
    writer.start()
    try:
        for piece in pieces:
            writer.take(piece)
    finally:
        writer.finish()
    if writer.error:
        raise writer.error
    return writer.made, writer.crc


class _Writer(threading.Thread):
    def __init__(self, fd: int, module: Any) -> None:
        super().__init__(daemon=True)
        self._fd = fd
        self._crc32 = module.crc32
        self._waiting: queue.Queue[bytes | None] = queue.Queue(_AHEAD)
        self.made = self.crc = 0
        self.error: OSError | None = None

    def take(self, piece: bytes) -> None:
        if self.error:
            raise self.error
        self._waiting.put(piece)

    def finish(self) -> None:
        """Wait until all is written, or the disk refused."""
        self._waiting.put(None)
        self.join()

    def run(self) -> None:
        while True:
            piece = self._waiting.get()
            if piece is None:
                return
            if not self.error:  # after one, pieces are only taken, so that nobody waits for room
                self._write(piece)

    def _write(self, piece: bytes) -> None:
        try:
            self.crc = self._crc32(piece, self.crc)
            view = memoryview(piece)
            while view:
                view = view[os.write(self._fd, view) :]
            self.made += len(piece)
        except OSError as error:
            self.error = error
