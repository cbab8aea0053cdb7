"""The service itself, on a port of loopback."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Iterator

import pytest

from sandbox.engine.metadata import MetadataServer
from sandbox.model import Metadata, MetadataOptions

TTL = "X-aws-ec2-metadata-token-ttl-seconds"
TOKEN = "X-aws-ec2-metadata-token"
PATH = "/latest/api/token"


class Service:
    def __init__(self) -> None:
        self.options = MetadataOptions(tokens_required=True)
        self.error: Exception | None = None
        listening = socket.create_server(("127.0.0.1", 0))
        self.port = listening.getsockname()[1]
        self.server = MetadataServer(listening, "i-1", self.source)

    def source(self, instance_id: str) -> Metadata:
        if self.error:
            raise self.error
        return Metadata(self.options, {"meta-data/instance-id": instance_id})

    def ask(
        self, method: str, path: str, headers: dict[str, str] | None = None, **more: object
    ) -> tuple[int, str, dict[str, str]]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        connection.request(method, path, headers=headers or {}, **more)  # type: ignore[arg-type]
        answer = connection.getresponse()
        body = answer.read().decode()
        connection.close()
        return answer.status, body, dict(answer.getheaders())

    def token(self, ttl: str = "60") -> str:
        status, token, headers = self.ask("PUT", PATH, {TTL: ttl})
        assert (status, headers[TTL]) == (200, ttl)
        return token


@pytest.fixture
def service() -> Iterator[Service]:
    made = Service()
    yield made
    made.server.close()


INSTANCE_ID = "/latest/meta-data/instance-id"


def test_a_token_opens_the_door(service: Service) -> None:
    status, body, headers = service.ask("GET", INSTANCE_ID, {TOKEN: service.token()})
    assert (status, body) == (200, "i-1")
    assert 0 < int(headers[TTL]) <= 60


def test_without_one_it_stays_shut_if_tokens_are_required(service: Service) -> None:
    assert service.ask("GET", INSTANCE_ID)[0] == 401
    service.options = MetadataOptions(tokens_required=False)
    assert service.ask("GET", INSTANCE_ID)[:2] == (200, "i-1")


@pytest.mark.parametrize("required", [True, False])
def test_a_wrong_token_is_refused_in_any_case(service: Service, required: bool) -> None:
    service.options = MetadataOptions(tokens_required=required)
    assert service.ask("GET", INSTANCE_ID, {TOKEN: "wrong"})[0] == 401


def test_a_token_expires(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    token = service.token("1")
    now = __import__("time").monotonic()
    monkeypatch.setattr("sandbox.engine.metadata.time.monotonic", lambda: now + 1.1)
    assert service.ask("GET", INSTANCE_ID, {TOKEN: token})[0] == 401


@pytest.mark.parametrize("ttl", [None, "", "0", "21601", "-1", "x", "1.5", "²"])
def test_a_bad_ttl_is_a_bad_request(service: Service, ttl: str | None) -> None:
    headers = {} if ttl is None else {TTL: ttl}
    encoded = {name: value.encode() for name, value in headers.items()}
    assert service.ask("PUT", PATH, encoded)[0] == 400  # type: ignore[arg-type]


def test_no_token_through_a_proxy(service: Service) -> None:
    assert service.ask("PUT", PATH, {TTL: "60", "X-Forwarded-For": "10.0.0.1"})[0] == 403


def test_bodies_are_read_away(service: Service) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=5)
    for body, chunked in (
        (None, False),
        (b"x" * 5000, False),
        (iter([]), True),
        (iter([b"abc"]), True),
    ):
        connection.request("PUT", PATH, body=body, headers={TTL: "60"}, encode_chunked=chunked)
        answer = connection.getresponse()
        assert (answer.status, len(answer.read()) > 20) == (200, True)  # on one connection
    connection.close()


@pytest.mark.parametrize("size", [b"zz", b"-5", b"fffffff"])
def test_a_bad_chunk_ends_the_connection(service: Service, size: bytes) -> None:
    with socket.create_connection(("127.0.0.1", service.port), timeout=5) as raw:
        head = f"PUT {PATH} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n{TTL}: 60\r\n\r\n"
        raw.sendall(head.encode() + size + b"\r\n")
        assert raw.makefile("rb").read().startswith(b"HTTP/1.1 400")


def test_switched_off_means_forbidden(service: Service) -> None:
    service.options = MetadataOptions(tokens_required=True, enabled=False)
    assert service.ask("GET", INSTANCE_ID)[0] == 403
    assert service.ask("PUT", PATH, {TTL: "60"})[0] == 403


def test_head_and_missing(service: Service) -> None:
    token = {TOKEN: service.token()}
    status, body, headers = service.ask("HEAD", INSTANCE_ID, token)
    assert (status, body, headers["Content-Length"]) == (200, "", "3")
    status, body, _ = service.ask("GET", "/latest/meta-data/none", token)
    assert status == 404
    assert "404 - Not Found" in body
    assert service.ask("PUT", "/latest/other", {TTL: "60"})[0] == 404


def test_a_failing_control_plane_is_a_clean_error(service: Service) -> None:
    service.error = KeyError("i-1")
    assert service.ask("GET", INSTANCE_ID)[0] == 500
