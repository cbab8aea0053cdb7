"""A host on Spot capacity: interrupted, stopped, started, replaced, and never launched again."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.unit.sandbox.program import run_program


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return run_program("spot_over_http", tmp_path_factory.mktemp("spot"))


def test_it_is_asked_for_as_persistent_and_stopping(told: dict[str, Any]) -> None:
    assert told["made"] == [["persistent", "stop", "active", "fulfilled"]]
    assert not any("Protect" in step for step in told["built"])
    assert told["again"] == [[], []]


def test_an_interruption_is_told_and_then_done(told: dict[str, Any]) -> None:
    seen = told["interruption"]
    assert seen["none before"] and seen["gone after"]
    assert (seen["early"], seen["state early"]) == (False, "running")
    assert seen["notice"]["action"] == "stop"
    late = datetime.fromisoformat(seen["notice"]["due"]) - datetime.fromisoformat(
        seen["notice"]["time"]
    )
    assert timedelta() <= late < timedelta(seconds=1)
    assert (seen["in time"], seen["interrupted"]) == (True, True)
    assert seen["request"] == [["persistent", "stop", "open", "instance-stopped-no-capacity"]]


def test_only_aws_starts_it_then(told: dict[str, Any]) -> None:
    seen = told["interruption"]
    assert "starts it again when there is room; nobody else can" in seen["start"]
    assert "playbooks/rebuild.yml -e lab_name=lab -e lab_spot=false" in seen["start"]
    assert seen["resumed"] == [True, "running", "active"]
    assert [step for step in told["mended"][0] if not step.startswith("Have AWS stop")] == []


def test_a_stop_by_hand_is_not_undone_by_aws(told: dict[str, Any]) -> None:
    assert told["stopped"] == [["persistent", "stop", "disabled", "instance-stopped-by-user"]]
    assert "which is stopped" in told["started"][0]


def test_what_it_cannot_become_is_said(told: dict[str, Any]) -> None:
    assert [text for text in told["other type"][1] if "cannot become g4dn.2xlarge" in text]
    assert not any(step.startswith(("Stop", "Change")) for step in told["other type"][0])
    assert [text for text in told["on demand"][1] if "lab_spot is false" in text]


def test_what_replaces_it_is_what_is_wanted(told: dict[str, Any]) -> None:
    assert "Protect gpulab-lab from being terminated by mistake" in told["replaced"]
    assert [request[2] for request in told["after the rebuild"]] == ["cancelled"]
    assert told["on demand again"] == [[], []]


def test_one_that_waits_for_room_is_given_up(told: dict[str, Any]) -> None:
    steps, gone, said = told["given up"]
    assert (steps, gone) == (["detach", "cancel"], True)
    assert any(step.startswith("Launch") for step in said)


def test_nothing_is_launched_again_after_destroy(told: dict[str, Any]) -> None:
    assert told["destroyed"][:2] == ["cancel", "terminate"]
    assert {request[2] for request in told["at last"]} == {"cancelled"}
    assert told["left"] == []
