"""A web server for the tests that answers ranges, and goes wrong on request."""

from __future__ import annotations

import hashlib
import os
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any

import pytest
from ansible.module_utils.lab.unzip import http_connection, http_ranges
from ansible.module_utils.lab.unzip.http_asking import Patience

S3_ERROR = "<?xml version='1.0'?><Error><Code>{}</Code><Message>{}</Message></Error>"
CHANGED_AT = "Sat, 21 Nov 2026 10:00:00 GMT"
LATER = "Sat, 21 Nov 2026 11:00:00 GMT"

Fault = Callable[["Handler"], bool]
"""Answers in the server's stead (True), or spoils what it does next (False)."""


@dataclass
class Thing:
    """What lies at a path; None leaves a header out."""

    data: bytes
    etag: str | None = None
    modified: str | None = CHANGED_AT
    ranges: bool = True

    def __post_init__(self) -> None:
        if self.etag is None:
            self.etag = '"' + hashlib.md5(self.data).hexdigest() + '"'  # noqa: S324  as S3 does


@dataclass
class Asked:
    """A request that came; `sent` is the number of body bytes that went back."""

    target: str
    headers: dict[str, str]
    port: int
    sent: int = 0
    status: int = 0


@dataclass
class RangeServer:
    """What it serves, what it was asked, and the faults to come, one for each request."""

    things: dict[str, Thing] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    always: Fault | None = None
    port: int = 0
    scheme: str = "http"

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    @property
    def connections(self) -> int:
        return len({asked.port for asked in self.asked})


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that hang up."""

    def server_bind(self) -> None:
        """Bind without asking the resolver for the machine's name."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = "127.0.0.1", self.server_address[1]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Any
    cut = -1
    stall = 0.0

    def do_GET(self) -> None:
        served: RangeServer = self.server.served
        self.cut, self.stall = -1, 0.0
        self.note = Asked(self.path, dict(self.headers), self.client_address[1])
        served.asked.append(self.note)
        fault = served.always or (served.faults.pop(0) if served.faults else None)
        if fault and fault(self):
            return
        thing = served.things.get(self.path.partition("?")[0])
        if not thing:
            self.reply(404, S3_ERROR.format("NoSuchKey", "").encode())
        else:
            self.serve(thing)

    def do_CONNECT(self) -> None:
        """Be a proxy: pass bytes on, to wherever, in both directions."""
        served: RangeServer = self.server.served
        self.note = Asked(self.path, dict(self.headers), self.client_address[1])
        served.asked.append(self.note)
        if served.always and served.always(self):
            return
        host, _, port = self.path.rpartition(":")
        with socket.create_connection((host, int(port))) as beyond:
            self.send_response(200)
            self.end_headers()
            back = threading.Thread(target=_pump, args=(beyond, self.connection))
            back.start()
            _pump(self.connection, beyond)
            back.join()
        self.close_connection = True

    def serve(self, thing: Thing) -> None:
        marks = {"ETag": thing.etag, "Last-Modified": thing.modified}
        heads = {name: value for name, value in marks.items() if value}
        if self.headers.get("If-Match", thing.etag) != thing.etag:
            self.reply(412, S3_ERROR.format("PreconditionFailed", "").encode())
            return
        if self.headers.get("If-Unmodified-Since", thing.modified) != thing.modified:
            self.reply(412)
            return
        ranged = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if not ranged or not thing.ranges:
            self.reply(200, thing.data, heads)
            return
        first, last = int(ranged[1]), min(int(ranged[2]), len(thing.data) - 1)
        if first > last:
            self.reply(416, b"", {"Content-Range": f"bytes */{len(thing.data)}"})
            return
        heads["Content-Range"] = f"bytes {first}-{last}/{len(thing.data)}"
        self.reply(206, thing.data[first : last + 1], heads)

    def reply(self, status: int, body: bytes = b"", heads: dict[str, str] | None = None) -> None:
        self.note.status = status
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(heads or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if status == 206 and self.cut >= 0:
            self._send(body[: self.cut])
            self.hang_up()
            return
        if self.stall:
            self._send(body[: len(body) // 2])
            time.sleep(self.stall)
            body = body[len(body) // 2 :]
        self._send(body)

    def _send(self, body: bytes) -> None:
        try:
            for at in range(0, len(body), 1 << 16):
                piece = body[at : at + (1 << 16)]
                self.note.sent += len(piece)
                self.wfile.write(piece)
        except OSError:
            self.close_connection = True

    def hang_up(self) -> None:
        self.close_connection = True
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, format: str, *args: Any) -> None:
        """Keep quiet."""


def _pump(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(1 << 16):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        return


def status(code: int, body: bytes = b"", **heads: str) -> Fault:
    """Answer with a status."""

    def fault(handler: Handler) -> bool:
        given = {name.replace("_", "-"): value for name, value in heads.items()}
        handler.reply(code, body, given)
        return True

    return fault


def s3_error(code: int, name: str, message: str = "") -> Fault:
    """Answer as S3 does."""
    return status(code, S3_ERROR.format(name, message).encode())


def cut(after: int) -> Fault:
    """Hang up after so many bytes of the body."""

    def fault(handler: Handler) -> bool:
        handler.cut = after
        return False

    return fault


def stall(seconds: float) -> Fault:
    """Pause in the midst of the body."""

    def fault(handler: Handler) -> bool:
        handler.stall = seconds
        return False

    return fault


def hang_up(handler: Handler) -> bool:
    """Close the connection without an answer."""
    handler.hang_up()
    return True


def fine(handler: Handler) -> bool:
    """Let one request pass."""
    return False


def change(path: str, thing: Thing) -> Fault:
    """Put another thing there before the request is answered."""

    def fault(handler: Handler) -> bool:
        handler.server.served.things[path] = thing
        return False

    return fault


@contextmanager
def serving(
    served: RangeServer | None = None, tls: ssl.SSLContext | None = None
) -> Iterator[RangeServer]:
    """Serve at a port of its own until the end of the block, with TLS where given."""
    served = served or RangeServer()
    server = _Server(("127.0.0.1", 0), Handler)
    if tls:
        served.scheme = "https"
        server.socket = tls.wrap_socket(
            server.socket, server_side=True, do_handshake_on_connect=False
        )
    server.served = served  # type: ignore[attr-defined]
    served.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def closed(monkeypatch: pytest.MonkeyPatch, read: float) -> None:
    """No proxy, credentials or trust of whoever runs the tests, no idle connections, and haste.

    `read` is in seconds.
    """
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name.startswith(("AWS_", "SSL_")):
            monkeypatch.delenv(name)
    haste = Patience(pause=0.01, longest_pause=0.05, connect=2.0, read=read)
    monkeypatch.setattr(http_ranges, "PATIENCE", haste)
    monkeypatch.setattr(http_connection, "_idle", {})
