"""From which addresses the host may be reached: never from everywhere by accident."""

from __future__ import annotations

import ipaddress
import urllib.request
from collections.abc import Callable, Mapping

from ..errors import LabError
from . import environment
from .variables import BadValueError, cidrs, too_wide

SOURCES = ("https://checkip.amazonaws.com", "https://api.ipify.org")
Fetch = Callable[[str], str]
BY_HAND = "set lab_allowed_cidrs, for instance -e lab_allowed_cidrs=203.0.113.7/32"


def fetch(url: str) -> str:
    """Get a short text over HTTPS. Raises OSError."""
    with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - the two above only
        return str(answer.read(200).decode("ascii", "replace")).strip()


def allowed(
    wanted: tuple[str, ...], environ: Mapping[str, str], fetcher: Fetch = fetch
) -> tuple[str, ...]:
    """Return the networks that may connect: the user's, else the caller's own address.

    Raises LabError where the address cannot be found out.
    """
    if wanted:
        return wanted
    given = environ.get(environment.CALLER, "")
    if not given:
        return (f"{_own_address(fetcher)}/32",)
    try:
        networks = cidrs(given)
    except BadValueError as bad:
        raise LabError(
            f'{environment.CALLER} is "{given}", but it must be {bad.args[0]}:'
            f" export {environment.CALLER}={bad.args[1]}"
        ) from None
    if too_wide(networks):
        raise LabError(
            f"{environment.CALLER} is {given}, which is no caller's address but most of the"
            f" internet: export {environment.CALLER}=203.0.113.7/32, or {BY_HAND}"
        )
    return networks


def _own_address(fetcher: Fetch) -> ipaddress.IPv4Address:
    tried = []
    for url in SOURCES:
        try:
            text = fetcher(url)
        except OSError as error:
            tried.append(f"{url}: {error}")
            continue
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            tried.append(f"{url}: no address but {text[:40]!r}")
            continue
        if isinstance(address, ipaddress.IPv4Address) and address.is_global:
            return address
        tried.append(f"{url}: {address} is no public IPv4 address")
    raise LabError(
        f"This machine's public IPv4 address could not be found ({'; '.join(tried)}), and a host"
        f" is never opened to everyone instead: {BY_HAND}"
    )
