"""What a server's answer to a range request means: pure questions about its head and error."""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass
from email.message import Message
from http.client import HTTPException

from ansible.module_utils.lab.errors import LabError

from .sources import changed

REDIRECTS = {301, 302, 303, 307, 308}
DENIED = {400, 401, 403}
PART, WHOLE, GONE, CHANGED, BEYOND = 206, 200, 410, 412, 416
_PASSING = {408, 429, 500, 502, 503, 504}
_PASSING_CODES = {"InternalError", "RequestTimeout", "ServiceUnavailable", "SlowDown"}
_PART = re.compile(r"bytes (\d+)-(\d+)/(\d+)")
_NONE = re.compile(r"bytes \*/0")
_CODE = re.compile(rb"<Code>([A-Za-z0-9.]{1,60})</Code>")
_EXPIRED = re.compile(rb"expired|ExpiredToken", re.IGNORECASE)
_MENDS = {
    "AccessDenied": "let the credentials read it (s3:GetObject), or check the key's spelling",
    "InvalidAccessKeyId": "check the credentials",
    "InvalidObjectState": "it is archived, restore it first",
    "NoSuchBucket": "check the bucket's name, region and endpoint",
    "NoSuchKey": "check its spelling",
    "RequestTimeTooSkewed": "set this host's clock",
    "SignatureDoesNotMatch": "check the credentials and the whole address",
}


@dataclass(frozen=True)
class Pin:
    """One version of an object: its size in bytes, and its ETag or time of change."""

    size: int
    stamp: str

    @property
    def headers(self) -> dict[str, str]:
        """The condition under which a server is to answer."""
        name = "If-Match" if self.stamp.startswith('"') else "If-Unmodified-Since"
        return {name: self.stamp}


@dataclass(frozen=True)
class Failure:
    """An answer that brings no bytes: its status, and S3's own code, if it gave one."""

    status: int
    code: str = ""
    expired: bool = False
    wait: float = 0.0
    """Seconds to wait, if the server named them."""

    @property
    def passing(self) -> bool:
        """Whether it is worth asking again."""
        return self.status in _PASSING or self.code in _PASSING_CODES

    @property
    def said(self) -> str:
        """What was answered, in brackets after a sentence."""
        return f"{self.status} {self.code}".rstrip()


def read_failure(status: int, heads: Message, body: bytes) -> Failure:
    """Understand an answer that is an error."""
    code = _CODE.search(body)
    wait = heads.get("Retry-After", "")
    return Failure(
        status,
        code[1].decode() if code else "",
        bool(_EXPIRED.search(body)),
        float(wait) if wait.isdecimal() else 0.0,
    )


def read_identity(shown: str, status: int, heads: Message) -> Pin:
    """Size and version by the answer to a request for the first byte.

    LabError if the server gives no ranges, or nothing by which a later
    change of the object would be seen.
    """
    ranged = heads.get("Content-Range", "")
    if (status == BEYOND and _NONE.fullmatch(ranged)) or (
        status == WHOLE and heads.get("Content-Length") == "0"
    ):
        return Pin(0, "empty")
    part = _PART.fullmatch(ranged) if status == PART else None
    if not part or part[1] != "0":
        raise no_ranges(shown)
    stamp = _stamp(heads)
    if not stamp:
        raise LabError(
            f"{shown}: its server tells neither a strong ETag nor a Last-Modified, so that a "
            "change between two reads would not be seen; download it and name the file"
        )
    return Pin(int(part[3]), stamp)


def _stamp(heads: Message) -> str:
    """Give a strong ETag, else the time of the last change, else nothing."""
    etag = heads.get("ETag", "")
    return etag if etag.startswith('"') else heads.get("Last-Modified", "")


def read_part(shown: str, heads: Message, first: int, last: int, pin: Pin | None) -> int:
    """Bytes that a 206 brings from `first` on, at most to `last`.

    LabError if it is another range, or of another version than the pinned one.
    """
    part = _PART.fullmatch(heads.get("Content-Range", ""))
    if not part or int(part[1]) != first or not first <= int(part[2]) <= last:
        raise no_ranges(shown)
    if pin:
        stamp = _stamp(heads)
        # A server that leaves both out of a 206 was held to the condition, and to the size.
        if int(part[3]) != pin.size or (stamp and _is_other(stamp, pin.stamp)):
            raise changed(shown)
    return int(part[2]) - first + 1


def _is_other(stamp: str, pinned: str) -> bool:
    same_kind = stamp.startswith('"') == pinned.startswith('"')
    return same_kind and stamp != pinned


def no_ranges(shown: str) -> LabError:
    """Say that a server sends whole files only."""
    return LabError(
        f"{shown}: its server does not answer ranges, and a whole archive is never fetched here; "
        "download it and name the file"
    )


def refused(shown: str, failure: Failure) -> LabError:
    """Say why the object is not given."""
    if failure.status in (CHANGED, BEYOND):
        return changed(shown)
    if failure.expired:
        return LabError(
            f"{shown}: its address or its credentials have expired ({failure.said}); "
            "make new ones and run again"
        )
    mend = _MENDS.get(failure.code, "")
    if failure.status in (404, GONE):
        return LabError(f"{shown}: is not there ({failure.said}); {mend or 'check its spelling'}")
    if failure.status in DENIED:
        usual = "check that the address is whole and still valid"
        return LabError(f"{shown}: may not be read ({failure.said}); {mend or usual}")
    return LabError(
        f"{shown}: its server answered {failure.said} to a range request; check the address"
    )


def what_failed(error: Exception) -> str:
    """Say how a connection failed; never the error's own text, in which the URL may be."""
    for kind, said in _FAILURES:
        if isinstance(error, kind):
            return said
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if str(error).startswith("Tunnel connection failed"):
        return f"the proxy refuses it ({str(error)[:80]})"
    return f"the connection failed ({type(error).__name__})"


_FAILURES: tuple[tuple[type[Exception], str], ...] = (
    (socket.timeout, "its server does not answer in time"),  # TimeoutError from Python 3.10 on
    (TimeoutError, "its server does not answer in time"),
    (socket.gaierror, "the name of its server cannot be resolved"),
    (ConnectionRefusedError, "its server refuses connections"),
    (ConnectionError, "the connection broke off"),
    (HTTPException, "the connection broke off"),
)
