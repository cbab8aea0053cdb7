"""A proxy before an S3 server that fails as networks, clocks and accounts do.

    fault_proxy.py LISTEN_PORT SERVER_PORT CONTROL_PORT

listens on 127.0.0.1 (`--address` for another) and passes everything on to the server's port
until a fault is put on: `PUT /FAULT` at the control port, where FAULT is

    pass                 none
    refuse               nothing listens, open connections are cut
    black-hole           connections are taken, nothing comes back; what was under way stands still
    delay-SECONDS        before each answer
    cut-BYTES            the answer ends after so many bytes
    fail-STATUS-CODE     each request is answered so, as fail-503-SlowDown
    fail-puts-STATUS-CODE  the same for writes alone
    clock-SECONDS        the server's clock is so far ahead: it refuses what is 15 minutes off
    region-NAME          the bucket is in that region: a signature for another is refused
    only-KEY             every other access key is unknown

`GET /` tells the fault and how many requests of each kind were seen since the last PUT, as JSON.

Nothing but the standard library: it runs inside the containers of the tests too.
"""

from __future__ import annotations

import argparse
import http.server
import json
import re
import socket
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http import HTTPStatus

HEAD_END = b"\r\n\r\n"
PIECE = 65536
SKEW = timedelta(minutes=15)
WRITES = {"PUT", "POST", "DELETE"}


@dataclass(frozen=True)
class Head:
    """The first lines of a request."""

    method: str
    headers: dict[str, str]

    @property
    def credential(self) -> list[str]:
        """The parts of the signature's scope: key, date, region, service; empty if unsigned."""
        found = re.search(r"Credential=([^,]+)", self.headers.get("authorization", ""))
        return found[1].split("/") if found else []


def read_head(raw: bytes) -> Head:
    """Parse what stands before the body."""
    lines = raw.decode("latin-1").split("\r\n")
    pairs = (line.partition(":") for line in lines[1:] if line)
    return Head(lines[0].split(" ")[0], {name.lower(): value.strip() for name, _, value in pairs})


@dataclass
class Fault:
    """What is wrong just now."""

    name: str = "pass"
    seen: Counter[str] = field(default_factory=Counter)

    def argument(self, kind: str) -> str | None:
        """Give what follows `kind-`, None where the fault is another."""
        return self.name.removeprefix(f"{kind}-") if self.name.startswith(f"{kind}-") else None

    def answer(self, head: Head) -> bytes | None:
        """Give the refusal of a request, None where it passes."""
        if (code := self.argument("fail-puts")) is not None:
            return refusal(*code.split("-", 1)) if head.method in WRITES else None
        if (code := self.argument("fail")) is not None:
            return refusal(*code.split("-", 1))
        if (ahead := self.argument("clock")) is not None:
            return refuse_clock(head, timedelta(seconds=float(ahead)))
        if (region := self.argument("region")) is not None:
            return refuse_region(head, region)
        if (key := self.argument("only")) is not None and head.credential[:1] != [key]:
            return refusal("403", "InvalidAccessKeyId")
        return None


def refusal(status: str, code: str, more: str = "", *, now: datetime | None = None) -> bytes:
    """Write an error as S3 does."""
    body = f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>no</Message>{more}</Error>'
    phrase = HTTPStatus(int(status)).phrase
    return (
        f"HTTP/1.1 {status} {phrase}\r\nContent-Type: application/xml\r\nConnection: close\r\n"
        f"Date: {format_datetime(now or datetime.now(UTC), usegmt=True)}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n{body}"
    ).encode()


def refuse_clock(head: Head, ahead: timedelta) -> bytes | None:
    """Refuse a request that was signed too long before or after the server's clock."""
    now = datetime.now(UTC) + ahead
    signed = head.headers.get("x-amz-date", "")
    if not signed or abs(_time(signed) - now) < SKEW:
        return None
    return refusal("403", "RequestTimeTooSkewed", now=now)


def _time(stamp: str) -> datetime:
    return datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)


def refuse_region(head: Head, region: str) -> bytes | None:
    """Refuse a request that was signed for another region."""
    if not head.credential or head.credential[2] == region:
        return None
    return refusal("400", "AuthorizationHeaderMalformed", f"<Region>{region}</Region>")


class Proxy:
    """Passes connections on, one request each, so that every request is looked at."""

    def __init__(self, address: str, listen: int, server: int) -> None:
        self.address, self.listen, self.server = address, listen, server
        self.fault = Fault()
        self.flows = threading.Event()  # cleared: nothing moves
        self.flows.set()
        self.open: set[socket.socket] = set()
        self.listener: socket.socket | None = None
        self.lock = threading.Lock()

    def set(self, name: str) -> None:
        """Put a fault on, or take it away with `pass`."""
        with self.lock:
            self.fault = Fault(name)
            if name == "black-hole":
                self.flows.clear()
            else:
                self.flows.set()
            if name == "refuse":
                self._close()
            elif self.listener is None:
                self._listen()

    def _listen(self) -> None:
        listener = socket.create_server((self.address, self.listen), backlog=128)
        self.listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def _close(self) -> None:
        if self.listener:
            # close() alone leaves a thread in accept(), and the port open with it.
            with suppress(OSError):
                self.listener.shutdown(socket.SHUT_RDWR)
            self.listener.close()
            self.listener = None
        for one in list(self.open):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        self.open.add(client)
        try:
            with client:
                self._pass_on(client)
        except OSError:
            pass  # cut from either side
        finally:
            self.open.discard(client)

    def _pass_on(self, client: socket.socket) -> None:
        raw = b""
        while HEAD_END not in raw:
            piece = client.recv(PIECE)
            if not piece:
                return
            raw += piece
        self.flows.wait()
        head, fault = read_head(raw), self.fault
        fault.seen[head.method] += 1
        if refused := fault.answer(head):
            client.sendall(refused)
            _linger(client)
            return
        start, _, body = raw.partition(HEAD_END)
        with socket.create_connection((self.address, self.server)) as server:
            self.open.add(server)
            try:
                server.sendall(_closing(start) + HEAD_END + body)
                up = threading.Thread(target=self._pump, args=(client, server), daemon=True)
                up.start()
                if (seconds := fault.argument("delay")) is not None:
                    time.sleep(float(seconds))
                most = fault.argument("cut")
                self._pump(server, client, int(most) if most is not None else None)
            finally:
                self.open.discard(server)

    def _pump(self, source: socket.socket, sink: socket.socket, most: int | None = None) -> None:
        with suppress(OSError):
            while most is None or most > 0:
                piece = source.recv(PIECE if most is None else min(PIECE, most))
                self.flows.wait()
                if not piece:
                    break
                sink.sendall(piece)
                most = most - len(piece) if most is not None else None
            sink.shutdown(socket.SHUT_WR)


def _closing(start: bytes) -> bytes:
    lines = [x for x in start.split(b"\r\n") if not x.lower().startswith(b"connection:")]
    return b"\r\n".join([*lines, b"Connection: close"])


def _linger(client: socket.socket) -> None:
    """Read what is still being sent: closing at once would reset the answer away."""
    client.shutdown(socket.SHUT_WR)
    client.settimeout(2)
    with suppress(OSError):
        while client.recv(PIECE):
            pass


class Control(http.server.BaseHTTPRequestHandler):
    """Sets and tells the fault."""

    proxy: Proxy

    def do_PUT(self) -> None:
        """Set the fault that the path names."""
        self.proxy.set(self.path.strip("/"))
        self._say({})

    def do_GET(self) -> None:
        """Tell the fault and what was seen under it."""
        self._say({"fault": self.proxy.fault.name, "seen": dict(self.proxy.fault.seen)})

    def _say(self, told: dict[str, object]) -> None:
        body = json.dumps(told).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Keep still."""


def start(address: str, listen: int, server: int, control: int) -> http.server.HTTPServer:
    """Listen on both ports; serve_forever() of what is returned serves the control port."""
    proxy = Proxy(address, listen, server)
    proxy.set("pass")
    handler = type("BoundControl", (Control,), {"proxy": proxy})
    return http.server.ThreadingHTTPServer((address, control), handler)


def main(argv: list[str] | None = None) -> int:
    """Run until killed."""
    parser = argparse.ArgumentParser(description="A proxy that fails on demand")
    parser.add_argument("--address", default="127.0.0.1")
    parser.add_argument("ports", type=int, nargs=3, metavar="PORT", help="listen, server, control")
    given = parser.parse_args(argv)
    start(given.address, *given.ports).serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
