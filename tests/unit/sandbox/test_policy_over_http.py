"""What `make policy` prints is enough for a lab's whole life, and each action of it is needed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
# What moto never asks for.
NEVER_ASKED = {
    "iam:CreateServiceLinkedRole": "AWS asks for it at an account's first Spot instance",
    "pricing:GetProducts": "moto has no price list",
    "s3:DeleteObjectVersion": "moto asks for s3:DeleteObject alone",
}


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("lab")
    done = subprocess.run(
        [sys.executable, "-m", "tests.unit.sandbox.policy_over_http", str(folder)],
        cwd=ROOT, check=False, capture_output=True, text=True, timeout=300,
        env={k: v for k, v in os.environ.items() if not k.startswith("AWS_")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])  # moto grumbles before
    return answer


def test_the_policy_is_enough(told: dict[str, Any]) -> None:
    assert "refused" not in told, told["refused"]
    assert told["denied"] == {}


def test_each_action_is_needed(told: dict[str, Any]) -> None:
    """Without it, at least one call of a lab's life is refused."""
    needless = {action for action, refused in told["refused_without"].items() if not refused}
    assert needless == set(NEVER_ASKED)


def test_nothing_else_was_asked(told: dict[str, Any]) -> None:
    assert set(told["asked"]) - set(told["refused_without"]) == {"sts:GetCallerIdentity"}
