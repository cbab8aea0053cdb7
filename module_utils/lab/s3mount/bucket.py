"""Asks the bucket itself, before s3fs does: s3fs ends with 0 for most of what goes wrong."""

from __future__ import annotations

import http.client
import re
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlsplit
from urllib.request import HTTPRedirectHandler, ProxyHandler, Request, build_opener

from ..errors import LabError
from .sigv4 import Credentials, signed_headers

TIMEOUT = 15.0  # seconds for one request


class RefusedError(LabError):
    """The service answers, and does not let the bucket be used."""


@dataclass(frozen=True)
class Bucket:
    """Where a bucket is: `endpoint` a URL, or empty on AWS; `prefix` without outer slashes."""

    name: str
    region: str
    endpoint: str = ""
    path_style: bool = False
    prefix: str = ""

    @property
    def service(self) -> str:
        """Give the URL of the S3 service without a slash at its end."""
        if self.endpoint:
            return self.endpoint.rstrip("/")
        suffix = "amazonaws.com.cn" if self.region.startswith("cn-") else "amazonaws.com"
        return f"https://s3.{self.region}.{suffix}"

    def url(self, key: str = "", query: str = "") -> str:
        """Give the URL of a key in the bucket."""
        parts = urlsplit(self.service)
        place = f"{parts.scheme}://{parts.netloc}{parts.path}"
        if self.path_style:
            place = f"{place}/{self.name}"
        else:
            place = f"{parts.scheme}://{self.name}.{parts.netloc}{parts.path}"
        return f"{place}/{quote(key)}" + (f"?{query}" if query else "")


@dataclass(frozen=True)
class _Refusal:
    """What the service said: `code` is S3's own name of the error."""

    status: int
    code: str
    region: str
    skew: int | None  # seconds that this host's clock is off


@dataclass(frozen=True)
class Client:
    """Asks the service with signed requests; `timeout` is seconds for each.

    `credentials` None asks without a signature. Every method raises LabError
    with the reason where s3fs would not be able to mount.
    """

    bucket: Bucket
    credentials: Credentials | None
    timeout: float = TIMEOUT

    def check(self) -> bool:
        """Return whether anything lies under the prefix."""
        query = "list-type=2&max-keys=1"
        if self.bucket.prefix:
            query += f"&prefix={quote(self.bucket.prefix + '/', safe='')}"
        return "<Key>" in self._ask("GET", query=query)

    def make_prefix(self) -> None:
        """Make the object that stands for the prefix: s3fs mounts no prefix that is not there."""
        self._ask("PUT", key=f"{self.bucket.prefix}/")

    def _ask(self, method: str, key: str = "", query: str = "") -> str:
        url = self.bucket.url(key, query)
        body = b"" if method == "PUT" else None
        # The type is what tells s3fs that the object is a folder.
        folder = {"content-length": "0", "content-type": "application/x-directory"}
        headers = {} if body is None else folder
        if self.credentials:
            headers = signed_headers(
                method,
                url,
                self.credentials,
                self.bucket.region,
                datetime.now(UTC),
                headers=headers,
            )
        # The scheme is http or https: the module refuses others.
        request = Request(url, data=body, method=method, headers=headers)  # noqa: S310
        # No proxy, as s3fs has none under systemd; no redirect, as it would void the signature.
        opener = build_opener(ProxyHandler({}), _NoRedirect())
        try:
            with opener.open(request, timeout=self.timeout) as answer:
                return str(answer.read().decode(errors="replace"))
        except HTTPError as error:
            raise RefusedError(_reason(self.bucket, self.credentials, _refusal(error))) from error
        except (URLError, OSError, http.client.HTTPException) as error:
            raise LabError(_unreachable(self.bucket, error, self.timeout)) from error


class _NoRedirect(HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        return None


def _refusal(error: HTTPError) -> _Refusal:
    body = error.read().decode(errors="replace")
    code = re.search(r"<Code>([^<]+)</Code>", body)
    region = error.headers.get("x-amz-bucket-region", "")
    named = re.search(r"expecting '([^']+)'|<Region>([^<]+)</Region>", body)
    if named and not region:
        region = named[1] or named[2]
    skew = _skew(error.headers.get("Date", ""))
    return _Refusal(error.code, code[1] if code else f"HTTP {error.code}", region, skew)


def _skew(date: str) -> int | None:
    try:
        return round((datetime.now(UTC) - parsedate_to_datetime(date)).total_seconds())
    except (TypeError, ValueError):  # none, or none that names its zone
        return None


def _unreachable(bucket: Bucket, error: Exception, wait: float) -> str:
    cause = getattr(error, "reason", error)
    where = f"The S3 endpoint {bucket.service}"
    if isinstance(cause, ssl.SSLError):
        return f"{where} fails the TLS handshake ({cause}): is it the right URL, http or https?"
    if isinstance(cause, TimeoutError):
        return f"{where} does not answer within {wait:.0f} s: check the network and the URL."
    if isinstance(cause, ConnectionRefusedError):
        return f"{where} refuses the connection: nothing listens there; check endpoint."
    return f"{where} cannot be reached ({cause}): check endpoint, region and the network."


def _reason(bucket: Bucket, credentials: Credentials | None, answer: _Refusal) -> str:
    name = bucket.name
    key = credentials.access_key if credentials else "no key"
    wrong_region = (
        f"The bucket {name} is not in the region {bucket.region}"
        + (f" but in {answer.region}" if answer.region else "")
        + ": set region."
    )
    reasons = {
        "NoSuchBucket": f"There is no bucket {name} at {bucket.service}: make it, or check bucket.",
        "AccessDenied": f"The key {key} may not list the bucket {name}"
        + (f" under {bucket.prefix}/" if bucket.prefix else "")
        + ": its policy must allow s3:ListBucket.",
        "InvalidAccessKeyId": f"The access key {key} is unknown at {bucket.service}.",
        "SignatureDoesNotMatch": f"The secret key does not belong to the access key {key}.",
        "ExpiredToken": f"The session of the access key {key} has expired.",
        "InvalidToken": f"The session token of the access key {key} is not valid.",
        "RequestTimeTooSkewed": "The clock of this host is "
        + (f"{abs(answer.skew)} s " if answer.skew else "")
        + "off and S3 refuses its requests: set it with timedatectl set-ntp true.",
        "AuthorizationHeaderMalformed": wrong_region,
        "PermanentRedirect": wrong_region,
        "IllegalLocationConstraintException": wrong_region,
        "InvalidBucketName": f"{name} is no name that S3 takes for a bucket.",
        "AllAccessDisabled": f"The bucket {name} is disabled.",
    }
    default = f"The bucket {name} at {bucket.service} answers {answer.status} {answer.code}."
    if answer.status == http.client.MOVED_PERMANENTLY:
        return wrong_region
    return reasons.get(answer.code, default)
