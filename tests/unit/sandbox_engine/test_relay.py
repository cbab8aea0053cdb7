"""Relays between two ends on loopback."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from sandbox.engine.netns import listener
from sandbox.engine.relay import Loop, Relay

MIB = 1 << 20


@pytest.fixture
def loop() -> Iterator[Loop]:
    made = Loop()
    yield made
    made.close()


@contextmanager
def server(serve: Callable[[socket.socket], None]) -> Iterator[tuple[str, int]]:
    """Serve one connection."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def work() -> None:
            connection, _ = listening.accept()
            with connection:
                serve(connection)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        yield listening.getsockname()
        thread.join(10)


def relay(loop: Loop, target: tuple[str, int], **more: object) -> tuple[Relay, tuple[str, int]]:
    listening = listener("127.0.0.1", 0)
    place = listening.getsockname()
    return Relay(loop, listening, target, **more), place  # type: ignore[arg-type]


def read_all(connection: socket.socket) -> bytes:
    data = b""
    while chunk := connection.recv(65536):
        data += chunk
    return data


def test_the_answer_comes_after_the_end_of_the_question(loop: Loop) -> None:
    def count(connection: socket.socket) -> None:
        connection.sendall(str(len(read_all(connection))).encode())

    with server(count) as target:
        _, place = relay(loop, target)
        with socket.create_connection(place, 10) as client:
            client.sendall(b"x" * 20 * MIB)
            client.shutdown(socket.SHUT_WR)
            assert read_all(client) == str(20 * MIB).encode()


def test_the_other_side_may_end_first(loop: Loop) -> None:
    got: list[bytes] = []

    def greet(connection: socket.socket) -> None:
        connection.sendall(b"hello")
        connection.shutdown(socket.SHUT_WR)
        got.append(read_all(connection))

    with server(greet) as target:
        _, place = relay(loop, target)
        with socket.create_connection(place, 10) as client:
            assert read_all(client) == b"hello"
            client.sendall(b"still heard")
    assert got == [b"still heard"]


def test_nobody_there_is_a_reset(loop: Loop) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        target = gone.getsockname()
    _, place = relay(loop, target)
    with pytest.raises(ConnectionResetError), socket.create_connection(place, 10) as client:
        client.recv(1)


def test_who_is_not_admitted_gets_nothing(loop: Loop) -> None:
    asked: list[str] = []

    def admit(peer: str) -> bool:
        asked.append(peer)
        return False

    with socket.create_server(("127.0.0.1", 0)) as behind:
        _, place = relay(loop, behind.getsockname(), admit=admit)
        with socket.create_connection(place, 10) as client:
            assert client.recv(1) == b""
        behind.settimeout(0.2)
        with pytest.raises(TimeoutError):
            behind.accept()
    assert asked == ["127.0.0.1"]


def test_closing_leaves_or_cuts_what_is_open(loop: Loop) -> None:
    def greet_and_echo(connection: socket.socket) -> None:
        connection.sendall(b"!")
        connection.sendall(read_all(connection))

    with server(greet_and_echo) as target:
        made, place = relay(loop, target)
        with socket.create_connection(place, 10) as client:
            assert client.recv(1) == b"!"  # the relay has taken it, not only the kernel
            client.sendall(b"before ")
            made.close(cut=False)
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(place, 10)
            client.sendall(b"after")
            client.shutdown(socket.SHUT_WR)
            assert read_all(client) == b"before after"


def test_cutting_ends_what_is_open(loop: Loop) -> None:
    ended: list[bytes] = []

    def hold(connection: socket.socket) -> None:
        connection.sendall(b"!")
        ended.append(read_all(connection))

    with server(hold) as target:
        made, place = relay(loop, target)
        with socket.create_connection(place, 10) as client:
            assert client.recv(1) == b"!"
            made.cut()
            assert client.recv(1) == b""
            with socket.create_connection(place, 10):  # new ones are taken
                made.close(cut=True)
    assert ended == [b""]
