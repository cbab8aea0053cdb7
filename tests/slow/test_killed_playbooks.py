"""Each playbook killed after each of its tasks in turn: the next run mends it, the third changes
nothing. In slot 8; an hour or two (GPULAB_KILL_EVERY=5 takes each fifth task of what is long)."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e import kills
from tests.e2e.conftest import Lab, empty_lab
from tests.e2e.test_run_killed import destroy

pytestmark = pytest.mark.timeout(4 * 3600)

EVERY = int(os.environ.get("GPULAB_KILL_EVERY", "1"))
SLOT = os.environ.get("GPULAB_KILL_SLOT", "8")


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """A lab in a sandbox of its own."""
    if os.geteuid() != 0 or shutil.which("docker") is None:
        pytest.skip("needs root and Docker: killed playbooks UNTESTED")
    with empty_lab("killed", SLOT) as subject:
        yield subject


def test_creating_after_each_task(lab: Lab, tmp_path: Path) -> None:
    playbook = "playbooks/create_host.yml"
    number = 1
    while True:
        destroy(lab)
        if not kills.kill_after(lab, playbook, number, tmp_path):
            break
        kills.mended(lab, playbook)
        number += EVERY
    assert number > 5


@pytest.mark.parametrize("playbook", ["configure_host", "stop", "start", "verify_host"])
def test_after_each_task_in_turn(lab: Lab, tmp_path: Path, playbook: str) -> None:
    """Each on what the one before has left, the first on a bare host."""
    path = f"playbooks/{playbook}.yml"
    if playbook == "configure_host":
        lab.play("playbooks/create_host.yml")
    number = 1
    while kills.kill_after(lab, path, number, tmp_path):
        number += EVERY if playbook == "configure_host" else 1
    kills.mended(lab, path)
    assert number > 1


def test_destroying_after_each_task(lab: Lab, tmp_path: Path) -> None:
    playbook = "playbooks/destroy.yml"
    wanted = ["-e", f"confirm={lab.name}", "-e", "delete_data=true"]
    number = 1
    while kills.kill_after(lab, playbook, number, tmp_path, *wanted):
        number += 1
    assert lab.play(playbook, *wanted).total("changed") == 0
