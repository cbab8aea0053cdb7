"""AWS Signature Version 4, recomputed from a request as it arrived.

moto leaves that to the client's code (botocore), which takes a query string as it stands, where
AWS decodes and encodes it anew. A client that sends `prefix=dir/` unescaped, as s3fs does, signs
`prefix=dir%2F`, and was refused.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import parse_qsl, quote, unquote

ALGORITHM = "AWS4-HMAC-SHA256"
UNSIGNED_PAYLOAD = "UNSIGNED-PAYLOAD"


class Headers(Protocol):
    """Headers as any library has them, found whatever the case of their names."""

    def get(self, name: str, /) -> str | None:
        """Give a header's value."""


@dataclass(frozen=True)
class Credential:
    """The parts of an Authorization header, or of a presigned address."""

    access_key_id: str
    date: str
    region: str
    service: str
    signed_headers: tuple[str, ...]
    signature: str

    @property
    def scope(self) -> str:
        """The credential scope, `date/region/service/aws4_request`."""
        return f"{self.date}/{self.region}/{self.service}/aws4_request"


def parse_authorization(header: str) -> Credential:
    """Read an Authorization header. Raises ValueError if it is not one of Signature Version 4."""
    algorithm, _, rest = header.strip().partition(" ")
    fields = dict(part.strip().partition("=")[::2] for part in rest.split(","))
    if algorithm != ALGORITHM or not {"Credential", "SignedHeaders", "Signature"} <= set(fields):
        raise ValueError("not a Signature Version 4")
    return _credential(fields["Credential"], fields["SignedHeaders"], fields["Signature"])


def authorization_of_query(query: str) -> str | None:
    """Write the Authorization header that a presigned address stands for; None if it is none."""
    fields = dict(parse_qsl(query, keep_blank_values=True))
    try:
        return (
            f"{ALGORITHM} Credential={fields['X-Amz-Credential']},"
            f" SignedHeaders={fields['X-Amz-SignedHeaders']}, Signature={fields['X-Amz-Signature']}"
        )
    except KeyError:
        return None


def _credential(credential: str, signed_headers: str, signature: str) -> Credential:
    access_key_id, date, region, service, _ = credential.split("/")
    return Credential(
        access_key_id, date, region, service, tuple(signed_headers.split(";")), signature
    )


def signature_of(
    credential: Credential,
    secret: str,
    *,
    method: str,
    path: str,
    query: str,
    headers: Headers,
    body: bytes,
) -> str:
    """Compute what the signature must be. `path` and `query` are as they came over the wire."""
    presigned = "X-Amz-Signature=" in query
    timestamp, payload_hash = _timestamp(query, headers), _payload_hash(presigned, headers, body)
    canonical = "\n".join(
        (
            method,
            _canonical_path(path, credential.service),
            _canonical_query(query),
            *_canonical_headers(credential.signed_headers, headers),
            "",
            ";".join(credential.signed_headers),
            payload_hash,
        )
    )
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    text = "\n".join((ALGORITHM, timestamp, credential.scope, digest))
    return hmac.new(_signing_key(credential, secret), text.encode(), hashlib.sha256).hexdigest()


def _timestamp(query: str, headers: Headers) -> str:
    return headers.get("X-Amz-Date") or dict(parse_qsl(query)).get("X-Amz-Date", "")


def _payload_hash(presigned: bool, headers: Headers, body: bytes) -> str:
    told = headers.get("X-Amz-Content-SHA256")
    if told:
        return told
    return UNSIGNED_PAYLOAD if presigned else hashlib.sha256(body).hexdigest()


def _canonical_path(path: str, service: str) -> str:
    if service == "s3":
        return quote(unquote(path), safe="/-_.~") or "/"
    return quote(path, safe="/-_.~") or "/"


def _canonical_query(query: str) -> str:
    # Not parse_qsl: it reads `+` as a blank, which in a signed query stands for itself.
    pairs = [part.partition("=")[::2] for part in query.split("&") if part]
    encoded = (
        (quote(unquote(name), safe="-_.~"), quote(unquote(value), safe="-_.~"))
        for name, value in pairs
        if name != "X-Amz-Signature"
    )
    return "&".join(f"{name}={value}" for name, value in sorted(encoded))


def _canonical_headers(names: Iterable[str], headers: Headers) -> list[str]:
    return [f"{name}:{' '.join((headers.get(name) or '').split())}" for name in names]


def _signing_key(credential: Credential, secret: str) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in (credential.date, credential.region, credential.service, "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return key
