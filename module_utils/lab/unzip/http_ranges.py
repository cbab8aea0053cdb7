"""Ranges of one object by HTTP: of one version, tried again, resumed where they broke off."""

from __future__ import annotations

import random
import ssl
import time
from collections.abc import Iterator
from http.client import HTTPException, HTTPResponse

from ansible.module_utils.lab.errors import LabError

from .http_answers import PART, Pin, no_ranges, read_identity, read_part, what_failed
from .http_asking import Address, Asker, Patience, TroubleError

PATIENCE = Patience()
_PIECE = 1 << 18
_JITTER = (0.75, 1.25)  # of a pause, so that workers do not ask all at once


class Ranges:
    """Reads ranges of one object over one kept connection; every method raises LabError."""

    def __init__(self, address: Address, tls: ssl.SSLContext, pin: Pin | None = None) -> None:
        self._shown = address.shown
        self._asker = Asker(address, tls, PATIENCE)
        self._pin = pin

    def identify(self) -> Pin:
        """Ask for size and version; LabError if they are not the pinned ones."""
        tries = _Tries(self._shown, 0)
        while True:
            try:
                return self._identify()
            except TroubleError as trouble:
                tries.failed(trouble)

    def read_into(self, view: memoryview, offset: int) -> int:
        """Fill `view` from `offset`, which must lie inside the object; gives its length."""
        tries = _Tries(self._shown, len(view))
        filled = 0
        while filled < len(view):
            try:
                for piece in self._pieces(offset + filled, len(view) - filled):
                    view[filled : filled + len(piece)] = piece
                    filled += len(piece)
                    tries.got_bytes()
            except TroubleError as trouble:
                tries.failed(trouble)
        return filled

    def close(self) -> None:
        """Leave the connection to the next who asks the same server."""
        self._asker.close()

    def _identify(self) -> Pin:
        answer = self._asker.ask(0, 0, self._pin)
        try:
            if self._pin:
                read_part(self._shown, answer.headers, 0, 0, self._pin)
            found = self._pin or read_identity(self._shown, answer.status, answer.headers)
            if found.size:
                _read_some(answer, 1)
        except BaseException:
            self._asker.hang_up()
            raise
        self._asker.finish(answer)
        return found

    def _pieces(self, first: int, length: int) -> Iterator[bytes]:
        """Ask for a range and yield what comes of it; TroubleError if it breaks off."""
        last = first + length - 1
        answer = self._asker.ask(first, last, self._pin)
        try:
            if answer.status != PART:
                raise no_ranges(self._shown)
            left = read_part(self._shown, answer.headers, first, last, self._pin)
            while left:
                piece = _read_some(answer, min(left, _PIECE))
                left -= len(piece)
                yield piece
        except BaseException:
            self._asker.hang_up()  # or the next answer would begin with the rest of this one
            raise
        self._asker.finish(answer)


def _read_some(answer: HTTPResponse, most: int) -> bytes:
    """Read what has come of an answer's body, a byte at least; TroubleError if it breaks off."""
    try:
        piece = answer.read1(most)
    except (OSError, HTTPException) as error:
        raise TroubleError(what_failed(error)) from None
    if not piece:
        raise TroubleError("the connection broke off")
    return piece


class _Tries:
    """Counts the failures of one read, pauses between them, and ends it."""

    def __init__(self, shown: str, length: int) -> None:
        self._shown = shown
        self._until = time.monotonic() + PATIENCE.whole + length / PATIENCE.slowest
        self._failures = 0

    def got_bytes(self) -> None:
        self._failures = 0
        if time.monotonic() > self._until:
            raise self._give_up("its server is too slow")

    def failed(self, trouble: TroubleError) -> None:
        """Pause; LabError if it was the last try."""
        self._failures += 1
        pause = PATIENCE.pause * 2 ** (self._failures - 1) * random.uniform(*_JITTER)  # noqa: S311  no secret
        pause = min(max(pause, trouble.wait), PATIENCE.longest_pause)
        late = time.monotonic() + pause > self._until
        if late or self._failures >= PATIENCE.tries:
            raise self._give_up(f"{trouble.said} ({self._failures} tries)")
        time.sleep(pause)

    def _give_up(self, said: str) -> LabError:
        return LabError(
            f"{self._shown}: cannot be read, {said}; check its server and the way to it, "
            "then run again"
        )
