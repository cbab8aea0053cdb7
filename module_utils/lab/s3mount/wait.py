"""Waits until a mount can be made: its endpoint takes connections, the role has credentials.

At boot both may come later than the network is said to be up, and s3fs would
end, or in some versions hang, where they are missing.
"""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Callable
from urllib.parse import urlsplit

from . import metadata
from .fstab import Entry

_PORTS = {"http": 80, "https": 443}
_CONNECT = 3.0  # seconds
_BETWEEN = 0.5


def missing(entry: Entry) -> str:
    """Say in one sentence what is not there yet; empty where the mount can be made."""
    url = endpoint_of(entry)
    if url and not _listens(url):
        return f"{url} does not take connections yet"
    if uses_role(entry) and not _has_credentials(entry.option("iam_role") or ""):
        return "the instance metadata service gives no credentials of a role yet"
    return ""


def wait(entry: Entry, deadline: float, missing: Callable[[Entry], str] = missing) -> str:
    """Wait for at most `deadline` seconds; give what is missing then, empty if nothing is."""
    until = time.monotonic() + deadline
    while (lacking := missing(entry)) and time.monotonic() < until:
        time.sleep(_BETWEEN)
    return lacking


def endpoint_of(entry: Entry) -> str:
    """Give the URL of the service by whatever name the backend calls it; may be empty."""
    return next(filter(None, map(entry.option, ("url", "s3-endpoint", "endpoint-url"))), "")


def uses_role(entry: Entry) -> bool:
    """Tell whether the instance's role signs."""
    if entry.fstype == "fuse.s3fs":
        return entry.option("iam_role") is not None
    signs = entry.option("s3-env-auth") is not None or entry.fstype == "fuse.mount-s3"
    unsigned = entry.option("no-sign-request") is not None
    return signs and not unsigned and entry.option("credentials") is None


def _listens(url: str) -> bool:
    parts = urlsplit(url)
    port = parts.port or _PORTS.get(parts.scheme, 0)
    try:
        with socket.create_connection((parts.hostname or "", port), timeout=_CONNECT):
            return True
    except OSError:
        return False


def _has_credentials(role: str) -> bool:
    try:
        if role in ("", "auto"):
            role = metadata.get(metadata.ROLES).splitlines()[0].strip()
        answer = json.loads(metadata.get(f"{metadata.ROLES}{role}"))
        return bool(answer["AccessKeyId"])
    except (OSError, http.client.HTTPException, ValueError, LookupError):
        return False
