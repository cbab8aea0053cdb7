"""One answer to one range request: over a kept connection, through referrals, signed anew."""

from __future__ import annotations

import ssl
import time
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from typing import Protocol
from urllib.parse import urljoin, urlsplit

from ansible.module_utils.lab.errors import LabError

from .http_answers import (
    BEYOND,
    DENIED,
    PART,
    REDIRECTS,
    WHOLE,
    Pin,
    read_failure,
    refused,
    what_failed,
)
from .http_connection import Line, keep_line, line_key, take_line

_HOPS = 5
_ERROR_BYTES = 16 << 10


@dataclass(frozen=True)
class Patience:
    """How long and how often a server is asked; times in seconds."""

    tries: int = 5
    """Without a byte in between."""
    pause: float = 0.5
    """After the first failure; doubled after each further one."""
    longest_pause: float = 20.0
    connect: float = 10.0
    read: float = 30.0
    """For the next bytes."""
    whole: float = 300.0
    """For one read, and a second more for each `slowest` bytes of it."""
    slowest: int = 32 << 10


class Address(Protocol):
    """Where an object is; only `shown` may be told to anyone."""

    @property
    def shown(self) -> str:
        """Its address without any secret."""

    @property
    def headers(self) -> dict[str, str]:
        """What is sent to its own server, and to none that it refers to."""

    def url(self) -> str:
        """Give the URL to ask now; it may be signed for some minutes."""

    def renew(self) -> bool:
        """Sign anew; False where that is not possible."""


class TroubleError(Exception):
    """A failure that may pass; `wait` in seconds is what the server asks for."""

    def __init__(self, said: str, wait: float = 0.0) -> None:
        super().__init__(said)
        self.said, self.wait = said, wait


class Asker:
    """Asks for ranges of one object; holds at most one connection."""

    def __init__(self, address: Address, tls: ssl.SSLContext, patience: Patience) -> None:
        self._address = address
        self._tls = tls
        self._patience = patience
        self._line: Line | None = None
        self._moved = ""  # where its server referred us to; as secret as the URL
        self._renewed = False

    def ask(self, first: int, last: int, pin: Pin | None) -> HTTPResponse:
        """Ask for the bytes from `first` to `last`, under the condition of `pin`.

        The answer is one of status 206, 200, or 416 where nothing is pinned.
        TroubleError for a failure that may pass, LabError for one that will not.
        """
        hops = 0
        while True:
            answer = self._send(first, last, pin)
            if answer.status in (PART, WHOLE) or (answer.status == BEYOND and not pin):
                self._renewed = False
                return answer
            body = self._read_error(answer)
            if answer.status in REDIRECTS:
                hops += 1
                self._follow(answer.headers.get("Location", ""), hops)
                continue
            failure = read_failure(answer.status, answer.headers, body)
            if failure.passing:
                raise TroubleError(f"its server answered {failure.said}", failure.wait)
            if not self._renew(failure.status):
                raise refused(self._address.shown, failure)

    def finish(self, answer: HTTPResponse) -> None:
        """Keep the connection, if the answer was read to its end."""
        if answer.length == 0 or answer.isclosed():
            answer.close()
        else:
            self.hang_up()

    def hang_up(self) -> None:
        """Close the connection, with whatever would still come over it."""
        if self._line:
            self._line.close()
        self._line = None

    def close(self) -> None:
        """Leave the connection to the next who asks the same server."""
        if self._line:
            keep_line(self._line)
        self._line = None

    def _send(self, first: int, last: int, pin: Pin | None) -> HTTPResponse:
        url = self._url()
        headers = {"Range": f"bytes={first}-{last}"}
        headers.update(pin.headers if pin else {})
        headers.update({} if self._moved else self._address.headers)
        parts = urlsplit(url)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        while True:
            line = self._connect(url)
            stale = line.used
            try:
                return line.ask(path, headers, self._patience.read)
            except (OSError, HTTPException) as error:
                self.hang_up()
                if isinstance(error, ssl.SSLCertVerificationError):
                    raise self._untrusted(error) from None
                # A server may hang up on an idle connection at any time: that is no failure.
                broken = (ConnectionError, HTTPException, ssl.SSLError)
                if not (stale and isinstance(error, broken)):
                    raise TroubleError(what_failed(error)) from None

    def _url(self) -> str:
        return self._moved or self._address.url()

    def _connect(self, url: str) -> Line:
        if self._line and self._line.key != line_key(url, self._tls):
            self.close()
        if not self._line:
            self._line = take_line(url, self._tls, self._patience.connect)
        return self._line

    def _read_error(self, answer: HTTPResponse) -> bytes:
        """Read the little that says why; what cannot be had does not matter."""
        body = b""
        until = time.monotonic() + self._patience.read
        try:
            while len(body) < _ERROR_BYTES and time.monotonic() < until:
                more = answer.read1(_ERROR_BYTES)
                if not more:
                    break
                body += more
            self.finish(answer)
        except (OSError, HTTPException):
            self.hang_up()
        return body

    def _follow(self, location: str, hops: int) -> None:
        before = self._url()
        target = urljoin(before, location)
        downgrade = before.startswith("https:") and not target.startswith("https:")
        if hops > _HOPS or downgrade or not target.startswith(("https:", "http:")):
            why = "in circles" if hops > _HOPS else "to an address without TLS"
            raise LabError(
                f"{self._address.shown}: its server refers {why}; name the address that holds it"
            )
        self._moved = target

    def _renew(self, status: int) -> bool:
        """Begin again at the address itself, signed anew; once, until bytes have come."""
        if self._renewed or status not in DENIED:
            return False
        moved, self._moved = self._moved, ""
        self._renewed = self._address.renew() or bool(moved)
        return self._renewed

    def _untrusted(self, error: ssl.SSLCertVerificationError) -> LabError:
        return LabError(
            f"{self._address.shown}: its server's certificate is not trusted "
            f"({error.verify_message}); check the address, or give the authority as ca_bundle"
        )
