"""Speaks with the instance metadata service, version 2. Also runs on the host, without Ansible."""

from __future__ import annotations

from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

ADDRESS = "http://169.254.169.254"
ROLES = "iam/security-credentials/"
_UNAUTHORIZED = 401


def get(path: str, address: str = ADDRESS, timeout: float = 3.0) -> str:
    """Give what lies at a path below meta-data; raises OSError (HTTPError is one)."""
    token = _ask(
        address, timeout, "PUT", "api/token", {"X-aws-ec2-metadata-token-ttl-seconds": "60"}
    )
    return _ask(address, timeout, "GET", f"meta-data/{path}", {"X-aws-ec2-metadata-token": token})


def wants_token(address: str = ADDRESS, timeout: float = 3.0) -> bool:
    """Tell whether version 1, which asks without a token, is refused; raises OSError."""
    try:
        _ask(address, timeout, "GET", f"meta-data/{ROLES}", {})
    except HTTPError as error:
        return error.code == _UNAUTHORIZED
    return False


def _ask(address: str, timeout: float, method: str, path: str, headers: dict[str, str]) -> str:
    request = Request(  # noqa: S310 - the address is a constant, http by its nature
        f"{address}/latest/{path}", method=method, headers=headers
    )
    # A proxy in the environment would see the credentials and cannot reach the service.
    opener = build_opener(ProxyHandler({}))
    with opener.open(request, timeout=timeout) as answer:
        return str(answer.read().decode())
