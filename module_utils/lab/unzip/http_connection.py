"""Connections to HTTP servers: TLS, the environment's proxies, and idle ones used again."""

from __future__ import annotations

import base64
import os
import ssl
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPResponse, HTTPSConnection
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from ansible.module_utils.lab.errors import LabError

_PORTS = {"http": 80, "https": 443}
_IDLE_MOST = 8
Key = tuple[int, str, str, int, ssl.SSLContext]


@dataclass
class Line:
    """One connection; `used` once an answer came over it, so that the server may have hung up."""

    http: HTTPConnection
    key: Key
    absolute: str = ""
    """What a proxy wants to see before the path."""
    headers: dict[str, str] = field(default_factory=dict)
    used: bool = False

    def ask(self, path: str, headers: dict[str, str], patience: float) -> HTTPResponse:
        """Send a GET and read the answer's head; `patience` in seconds for each wait.

        OSError or http.client.HTTPException if the connection fails.
        """
        if self.http.sock is None:
            self.used = False
            self.http.connect()
        if self.http.sock is not None:
            self.http.sock.settimeout(patience)
        self.http.request("GET", self.absolute + path, headers={**self.headers, **headers})
        answer = self.http.getresponse()
        self.used = True
        return answer

    def close(self) -> None:
        """Hang up."""
        self.http.close()


_idle: dict[Key, Line] = {}


def line_key(url: str, tls: ssl.SSLContext) -> Key:
    """Give what two URLs have in common that one connection serves."""
    parts = urlsplit(url)
    # The process is part of it: two that shared a connection would mix their answers.
    return os.getpid(), parts.scheme, parts.hostname or "", parts.port or _PORTS[parts.scheme], tls


def take_line(url: str, tls: ssl.SSLContext, patience: float) -> Line:
    """Take an idle connection to the server of `url`, or make one, connected when first used.

    `patience` in seconds is for connecting. LabError for a proxy that cannot be used.
    """
    key = line_key(url, tls)
    return _idle.pop(key, None) or _make(key, patience)


def keep_line(line: Line) -> None:
    """Keep a connection whose last answer was read to its end for the next who asks its server."""
    replaced = _idle.pop(line.key, None)
    if replaced is not None:
        replaced.close()
    if len(_idle) < _IDLE_MOST:
        _idle[line.key] = line
    else:
        line.close()


def _make(key: Key, patience: float) -> Line:
    _, scheme, host, port, tls = key
    proxy = _proxy(scheme, host, port)
    place = (proxy.hostname or "", proxy.port or _PORTS["http"]) if proxy else (host, port)
    headers = _proxy_headers(proxy) if proxy else {}
    if scheme == "http":
        http = HTTPConnection(*place, timeout=patience)
        return Line(http, key, f"http://{_named(host, port)}" if proxy else "", headers)
    https = HTTPSConnection(*place, timeout=patience, context=tls)
    if proxy:
        https.set_tunnel(host, port, {"Host": f"{_bracketed(host)}:{port}", **headers})
    return Line(https, key)


def _proxy(scheme: str, host: str, port: int) -> SplitResult | None:
    """Give the proxy that the environment names for a server."""
    named = getproxies().get(scheme)
    if not named or proxy_bypass(f"{_bracketed(host)}:{port}"):
        return None
    proxy = urlsplit(named if "://" in named else f"http://{named}")
    if proxy.scheme != "http" or not proxy.hostname:
        raise LabError(
            f"{scheme}_proxy: only a proxy that is spoken to by plain HTTP can be used; "
            f"write http://host:port, or name {host} in no_proxy"
        )
    return proxy


def _proxy_headers(proxy: SplitResult) -> dict[str, str]:
    if proxy.username is None:
        return {}
    return {"Proxy-Authorization": basic_auth(proxy)}


def basic_auth(parts: SplitResult) -> str:
    """Make the value of an Authorization header from the user and password in a URL."""
    pair = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
    return "Basic " + base64.b64encode(pair.encode()).decode()


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _named(host: str, port: int) -> str:
    return _bracketed(host) + ("" if port == _PORTS["http"] else f":{port}")
