"""Archives at addresses, read by ranges and never stored: https://, http://, s3://."""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass, field
from urllib.parse import SplitResult, quote, urlsplit

from ansible.module_utils.lab.errors import LabError

from .http_answers import Pin
from .http_asking import Address
from .http_connection import basic_auth
from .http_ranges import Ranges
from .s3_address import find_objects
from .sources import Access, shown_address

_REMEMBERED = 1 << 20
_KEPT_IN_URL = "%/:=&?~#+!$,;'@()*[]"


class RemoteReader:
    """Reads an archive by range requests; for one process and one thread."""

    def __init__(self, ranges: Ranges, size: int) -> None:
        self._ranges = ranges
        self._size = size
        self._begin = 0
        self._last = b""  # what was read last: a directory is read from its end, in small steps

    def read_at(self, length: int, offset: int) -> bytes:
        """Up to `length` bytes from `offset`, short only at the archive's end; LabError."""
        at = offset - self._begin
        if at >= 0 and at + length <= len(self._last):
            return self._last[at : at + length]
        buffer = bytearray(max(0, min(length, self._size - offset)))
        self.read_into(memoryview(buffer), offset)
        data = bytes(buffer)
        if len(data) <= _REMEMBERED:
            self._begin, self._last = offset, data
        return data

    def read_into(self, view: memoryview, offset: int) -> int:
        """Fill `view` from `offset`; gives the bytes read, short only at the end; LabError."""
        length = max(0, min(len(view), self._size - offset))
        return self._ranges.read_into(view[:length], offset) if length else 0

    def close(self) -> None:
        """Leave the connection to the next archive of the same server."""
        self._ranges.close()


@dataclass(frozen=True)
class RemoteArchive:
    """An archive at an address; `path` is the address without any secret."""

    path: str
    size: int
    stamp: str
    """Its ETag, else its Last-Modified."""
    address: Address = field(repr=False, compare=False)
    tls: ssl.SSLContext = field(repr=False, compare=False)

    @property
    def remote(self) -> bool:
        """Yes: a read costs a round trip."""
        return True

    def open(self) -> RemoteReader:
        """Open for reading; LabError if it is not there, or not the one planned with."""
        ranges = Ranges(self.address, self.tls, Pin(self.size, self.stamp))
        if self.size:  # of an object without bytes no range can be asked for, nor will any be
            ranges.identify()
        return RemoteReader(ranges, self.size)


@dataclass(frozen=True)
class WebAddress:
    """An address as the user gave it, whose query may be a signature."""

    shown: str
    target: str = field(repr=False)
    headers: dict[str, str] = field(repr=False, default_factory=dict)

    def url(self) -> str:
        """Give the URL with its query."""
        return self.target

    def renew(self) -> bool:
        """No: whoever signed it is not here."""
        return False


def find_remote(name: str, recurse: bool, access: Access) -> list[RemoteArchive]:
    """Find the archives that an address names; one at s3:// that ends in / stands for many.

    LabError: no such scheme, not there, not allowed, no ranges, nothing to know a version by.
    """
    tls = _trust(access)
    if name.startswith("s3://"):
        found = find_objects(name, recurse, access)
        return [
            RemoteArchive(address.shown, pin.size, pin.stamp, address, tls)
            for address, pin in found
        ]
    address = web_address(name)
    ranges = Ranges(address, tls)
    pin = ranges.identify()
    ranges.close()
    return [RemoteArchive(address.shown, pin.size, pin.stamp, address, tls)]


def web_address(name: str) -> WebAddress:
    """Take an http:// or https:// address apart; LabError if it is none."""
    shown = shown_address(name)
    try:
        parts = urlsplit(name)
        whole = parts.scheme in ("http", "https") and parts.hostname and (parts.port or 0) >= 0
    except ValueError:
        whole = False
    if not whole:
        raise LabError(
            f"src: {shown!r} is no address that archives are read from; "
            "give s3://bucket/key, https://host/path, or a path on the host"
        )
    return WebAddress(
        quote(shown, _KEPT_IN_URL),
        _target(parts),
        {"Authorization": basic_auth(parts)} if parts.username is not None else {},
    )


def _target(parts: SplitResult) -> str:
    host = parts.netloc.rpartition("@")[2]
    query = f"?{quote(parts.query, _KEPT_IN_URL)}" if parts.query else ""
    return f"{parts.scheme}://{host}{quote(parts.path or '/', _KEPT_IN_URL)}{query}"


_contexts: dict[str, ssl.SSLContext] = {}


def _trust(access: Access) -> ssl.SSLContext:
    """Trust what the host trusts, and the bundle if one is given; one context for each bundle."""
    bundle = access.ca_bundle or os.environ.get("AWS_CA_BUNDLE") or ""
    if bundle not in _contexts:
        context = ssl.create_default_context()
        try:
            if bundle:
                context.load_verify_locations(bundle)
        except (OSError, ssl.SSLError):
            raise LabError(
                f"ca_bundle: {bundle} is not a file of PEM certificates; check its path"
            ) from None
        _contexts[bundle] = context
    return _contexts[bundle]
