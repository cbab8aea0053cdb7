"""The money side of a lab by real HTTP: signatures, authorization, REST services and state."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.sandbox.program import run_program


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return run_program("lab_over_http", tmp_path_factory.mktemp("lab"))


def test_it_is_guarded_and_priced(told: dict[str, Any]) -> None:
    assert told["again"] == []
    latest, daily, mails = told["summary"]["guard"]
    assert latest.startswith("AWS stops it at the latest at ")
    assert daily == "AWS stops it daily at 23:00 (UTC)"
    assert mails.startswith("e-mails go to me@example.org")
    assert told["summary"]["price_text"].endswith("AWS's price list: InvalidAction)")


def test_the_schedule_stops_the_host(told: dict[str, Any]) -> None:
    """By the role that it names, whose policy knows the lab's tags alone."""
    assert told["states"] == ["stopped"]


def test_a_retired_lab_has_a_snapshot_and_comes_back(told: dict[str, Any]) -> None:
    assert told["retired"] == [
        "bucket", "budget", "instance profile", "key pair", "role", "security group", "snapshot",
    ]  # fmt: skip
    assert any("out of snapshot snap-" in step for step in told["back"])


def test_destroy_leaves_the_snapshot_alone(told: dict[str, Any]) -> None:
    assert told["left"] == ["snapshot"]
