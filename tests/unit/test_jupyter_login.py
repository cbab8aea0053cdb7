"""Of many tries to log in from one address only so many are looked at."""

from __future__ import annotations

import ast
import logging
from pathlib import Path
from typing import Any

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "roles/jupyter/files/lab_login.py"


class Clock:
    """A clock that the test sets; seconds."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def ours(name: str) -> Any:
    """Take a class out of the file, whose other half needs jupyter-server."""
    tree = ast.parse(SOURCE.read_text())
    foreign = ("jupyter_server", "tornado", "traitlets")
    tree.body = [
        node
        for node in tree.body
        if not (isinstance(node, ast.ImportFrom) and str(node.module).startswith(foreign))
        and not (isinstance(node, ast.ClassDef) and node.name == "LabLogin")
    ]
    names: dict[str, Any] = {"__name__": __name__}
    exec(compile(tree, str(SOURCE), "exec"), names)  # noqa: S102  (our own file)
    return names[name]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def limiter(clock: Clock) -> Any:
    return ours("Limiter")(10, clock)


def test_ten_at_once_and_no_more(limiter: Any) -> None:
    assert [limiter.take("192.0.2.1") for _ in range(12)] == [True] * 10 + [False] * 2


def test_each_address_has_its_own(limiter: Any) -> None:
    assert all(limiter.take("192.0.2.1") for _ in range(10))
    assert limiter.take("192.0.2.2")


def test_they_come_back_evenly_and_a_refused_try_costs_none(limiter: Any, clock: Clock) -> None:
    for _ in range(20):
        limiter.take("192.0.2.1")
    clock.now += 5.9
    assert not limiter.take("192.0.2.1")
    clock.now += 0.2
    assert limiter.take("192.0.2.1")
    clock.now += 3600
    assert [limiter.take("192.0.2.1") for _ in range(11)] == [True] * 10 + [False]


def test_what_is_kept_of_addresses_has_a_limit(limiter: Any, clock: Clock) -> None:
    for number in range(3000):
        clock.now += 7
        assert limiter.take(f"192.0.2.{number}")
    assert len(limiter._left) <= 1001


@pytest.mark.parametrize(
    ("said", "written"),
    [
        ("404 GET /api/x?token=abc-1_2 (::1): no", "404 GET /api/x?token=[secret] (::1): no"),
        ("GET /a?token=abc&hash=1", "GET /a?token=[secret]&hash=1"),
        ("uri='/a?b=1&token=abc', version", "uri='/a?b=1&token=[secret]', version"),
        ("nothing to hide 100%", "nothing to hide 100%"),
    ],
)
def test_no_log_tells_a_token(said: str, written: str) -> None:
    record = logging.LogRecord("tornado.general", logging.WARNING, "", 0, "%s", (said,), None)
    assert ours("NoToken")().filter(record)
    assert record.getMessage() == written
