"""The proxy that fails on demand: each of its faults, over real sockets."""

from __future__ import annotations

import http.client
import http.server
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import pytest

from tests import fault_proxy

BODY = b"0123456789" * 1000
SCOPE = "AWS4-HMAC-SHA256 Credential=KEY/20260101/us-east-1/s3/aws4_request,Signature=x"


class Upstream(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()
        with suppress(OSError):  # the client may have left
            self.wfile.write(BODY)

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()

    def log_message(self, *_: object) -> None: ...


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


class Running:
    """The proxy, its control port and a server behind it."""

    def __init__(self) -> None:
        self.upstream = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
        self.port, self.control_port = free_port(), free_port()
        ports = (self.port, self.upstream.server_port, self.control_port)
        self.control = fault_proxy.start("127.0.0.1", *ports)
        for server in (self.upstream, self.control):
            threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()

    def put_on(self, fault: str) -> None:
        answer = self.ask("PUT", f"/{fault}", port=self.control_port)
        assert answer[0] == 200

    def ask(
        self,
        method: str = "GET",
        path: str = "/b/key",
        *,
        port: int = 0,
        body: bytes | None = None,
        timeout: float = 5,
        headers: dict[str, str] | None = None,
    ) -> tuple[int, bytes, dict[str, str]]:
        connection = http.client.HTTPConnection("127.0.0.1", port or self.port, timeout=timeout)
        with closing(connection):
            connection.request(method, path, body=body, headers=headers or {})
            answer = connection.getresponse()
            return answer.status, answer.read(), dict(answer.getheaders())


@pytest.fixture
def running() -> Iterator[Running]:
    running = Running()
    yield running
    running.put_on("refuse")  # which ends its threads
    running.control.shutdown()
    running.upstream.shutdown()


def test_passes_everything_on_and_counts_it(running: Running) -> None:
    assert running.ask()[:2] == (200, BODY)
    assert running.ask("PUT", body=BODY)[:2] == (200, BODY)
    told = json.loads(running.ask(port=running.control_port)[1])
    assert told == {"fault": "pass", "seen": {"GET": 1, "PUT": 1}}


def test_refuses_connections_and_takes_them_again(running: Running) -> None:
    running.put_on("refuse")
    with pytest.raises(ConnectionRefusedError):
        running.ask()
    running.put_on("pass")
    assert running.ask()[0] == 200


def test_a_black_hole_takes_and_never_answers_and_goes_on_where_it_stood(running: Running) -> None:
    running.put_on("black-hole")
    with pytest.raises(TimeoutError):
        running.ask(timeout=0.3)
    answers: list[int] = []
    waiting = threading.Thread(target=lambda: answers.append(running.ask()[0]))
    waiting.start()
    time.sleep(0.2)
    assert answers == []
    running.put_on("pass")
    waiting.join(5)
    assert answers == [200]


def test_delays_and_cuts(running: Running) -> None:
    running.put_on("delay-0.3")
    before = time.monotonic()
    assert running.ask()[0] == 200
    assert time.monotonic() - before >= 0.3
    running.put_on("cut-1000")
    with pytest.raises(http.client.IncompleteRead):
        running.ask()


@pytest.mark.parametrize(
    ("fault", "method", "headers", "expected"),
    [
        ("fail-503-SlowDown", "GET", {}, (503, b"<Code>SlowDown</Code>")),
        ("fail-puts-403-AccessDenied", "GET", {}, (200, b"0123")),
        ("fail-puts-403-AccessDenied", "PUT", {}, (403, b"<Code>AccessDenied</Code>")),
        ("region-us-east-1", "GET", {"Authorization": SCOPE}, (200, b"0123")),
        ("region-eu-west-1", "GET", {"Authorization": SCOPE}, (400, b"<Region>eu-west-1</Region>")),
        ("only-KEY", "GET", {"Authorization": SCOPE}, (200, b"0123")),
        ("only-OTHER", "GET", {"Authorization": SCOPE}, (403, b"InvalidAccessKeyId")),
        ("only-KEY", "GET", {}, (403, b"InvalidAccessKeyId")),
    ],
)
def test_refuses_as_s3_does(
    running: Running,
    fault: str,
    method: str,
    headers: dict[str, str],
    expected: tuple[int, bytes],
) -> None:
    running.put_on(fault)
    body = BODY if method == "PUT" else None
    answer = running.ask(method, body=body, headers=headers)
    assert answer[0] == expected[0]
    assert expected[1] in answer[1]


def test_has_a_clock_of_its_own(running: Running) -> None:
    now = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    running.put_on("clock-600")
    assert running.ask(headers={"x-amz-date": now})[0] == 200
    running.put_on("clock-3600")
    status, body, headers = running.ask(headers={"x-amz-date": now})
    assert (status, b"RequestTimeTooSkewed" in body) == (403, True)
    ahead = parsedate_to_datetime(headers["Date"]) - datetime.now(UTC)
    assert 3590 < ahead.total_seconds() < 3610
