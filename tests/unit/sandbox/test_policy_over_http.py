"""What `make policy` prints is enough for a lab's whole life, and each action of it is needed."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.sandbox.program import run_program

# What moto never asks for.
NEVER_ASKED = {
    "ec2:CreateNetworkInterface": "AWS asks for it where a mount target of EFS is made",
    "ec2:DeleteNetworkInterface": "AWS asks for it where one is deleted",
    "ec2:DescribeNetworkInterfaces": "AWS asks for it where one is made",
    "iam:CreateServiceLinkedRole": "AWS asks for it at an account's first Spot instance",
    "pricing:GetProducts": "moto has no price list",
    "s3:DeleteObjectVersion": "moto asks for s3:DeleteObject alone",
}


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return run_program("policy_over_http", tmp_path_factory.mktemp("lab"))


def test_the_policy_is_enough(told: dict[str, Any]) -> None:
    assert "refused" not in told, told["refused"]
    assert told["denied"] == {}


def test_the_host_may_stop_and_start_its_workers_and_nothing_else(told: dict[str, Any]) -> None:
    refused = "UnauthorizedOperation"
    never = dict.fromkeys(
        ("stop host", "stop host with workers", "stop another lab's", "terminate workers",
         "tag workers"),
        refused,
    )  # fmt: skip
    may = ("look", "stop workers", "start workers")
    assert told["with autostop"] == {**dict.fromkeys(may, ""), **never}
    assert told["without"] == {**dict.fromkeys(may, refused), **never}


def test_each_action_is_needed(told: dict[str, Any]) -> None:
    """Without it, at least one call of a lab's life is refused."""
    needless = {action for action, refused in told["refused_without"].items() if not refused}
    assert needless == set(NEVER_ASKED)


def test_nothing_else_was_asked(told: dict[str, Any]) -> None:
    assert set(told["asked"]) - set(told["refused_without"]) == {"sts:GetCallerIdentity"}
