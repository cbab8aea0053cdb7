"""Keeps real AWS and the sandbox apart: neither's credentials reach the other."""

from __future__ import annotations

import base64
import ipaddress
import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from ..errors import LabError

# The account that moto plays, which no real customer has.
SANDBOX_ACCOUNT = "123456789012"
CALLER = "GPULAB_CALLER_CIDR"
SANDBOX_KEY = "AKIAGPULABSANDBOX"
_KEY = re.compile(r"A[KS]IA[A-Z0-9]{16}")
_BASE32 = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"


def account_of(access_key: str) -> str:
    """Return the account id that AWS writes into newer access keys, empty where there is none."""
    body = access_key[4:13]
    if not _KEY.fullmatch(access_key) or not set(body) <= set(_BASE32):
        return ""
    number = int.from_bytes(base64.b32decode(body[:8]), "big") - 2**39
    odd = _BASE32.index(body[8]) >= len(_BASE32) // 2
    return f"{number * 2 + odd:012d}" if number >= 0 else ""


def is_real(access_key: str) -> bool:
    """Whether an access key can be one of a real AWS account."""
    ours = access_key.startswith(SANDBOX_KEY) or account_of(access_key) == SANDBOX_ACCOUNT
    return bool(_KEY.fullmatch(access_key)) and not ours


def is_loopback(url: str) -> bool:
    """Whether a URL points at this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check(endpoints: Mapping[str, str], access_key: str, environ: Mapping[str, str]) -> bool:
    """Tell whether this run is in the sandbox. Raises LabError where the two are mixed."""
    local = {name for name, url in endpoints.items() if is_loopback(url)}
    if local and local != set(endpoints):
        raise LabError(
            f"AWS_ENDPOINT_URL is set for some services only ({', '.join(sorted(local))} are on"
            " this machine, the others in AWS): unset every AWS_ENDPOINT_URL* for AWS, or run"
            ' `eval "$(python -m sandbox env)"` for the sandbox'
        )
    if local and is_real(access_key):
        raise LabError(
            f"AWS_ENDPOINT_URL points at this machine ({endpoints['ec2']}), but the access key"
            f" {access_key[:8]}… is one of a real account: unset"
            ' AWS_ENDPOINT_URL for AWS, or run `eval "$(python -m sandbox env)"` for the sandbox'
        )
    if local:
        return True
    if access_key and not is_real(access_key):
        raise LabError(
            f"The access key {access_key[:8]}… is the sandbox's (or no key of AWS), but"
            ' AWS_ENDPOINT_URL is not set: run `eval "$(python -m sandbox env)"` for the sandbox,'
            " or unset AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY and log in to AWS"
        )
    if environ.get(CALLER, "").startswith("127."):
        raise LabError(
            f"{CALLER}={environ[CALLER]} is left over from the sandbox and would lock you out of a"
            f" host in AWS: run `unset {CALLER}`"
        )
    return False
