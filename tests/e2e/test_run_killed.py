"""A sample of runs that are cut off; tests/slow/test_killed_playbooks.py has each task in turn."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e import kills
from tests.e2e.conftest import ROOT, Lab
from tests.e2e.test_lab import instances

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

CREATE = "playbooks/create_host.yml"


@pytest.fixture(scope="module")
def cut(lab: Lab) -> Iterator[Lab]:
    """Another lab in the same sandbox, which is only created and destroyed."""
    subject = Lab("cut", lab.environment)
    subprocess.run(["rm", "-rf", str(ROOT / ".lab" / subject.name)], check=True)
    yield subject
    destroy(subject)


def destroy(lab: Lab) -> None:
    bucket = f"gpulab-123456789012-{lab.name}"
    extra = ["-e", f"confirm={lab.name}", "-e", "delete_data=true", "-e", f"delete_bucket={bucket}"]
    lab.play("playbooks/destroy.yml", *extra)


def test_two_at_once_make_one_host(cut: Lab, tmp_path: Path) -> None:
    logs = [tmp_path / name for name in ("one", "two")]
    runs = [kills.start(cut, CREATE, log, {}) for log in logs]
    statuses = sorted(run.wait(300) for run in runs)
    said = "".join(log.read_text() for log in logs)
    assert statuses[0] == 0, said[-4000:]
    # The second found the lab's lock, or came when all was done.
    assert statuses[1] == 0 or "is changing the lab cut" in said, said[-4000:]
    assert len(instances(cut)) == 1


def test_killed_again_and_again_and_then_mended(cut: Lab, tmp_path: Path) -> None:
    destroy(cut)
    for number in (2, 5, 8):
        assert kills.kill_after(cut, CREATE, number, tmp_path), number
    kills.mended(cut, CREATE)
    assert len(instances(cut)) == 1


def test_ctrl_c_leaves_what_the_next_run_finds(cut: Lab, tmp_path: Path) -> None:
    destroy(cut)
    kills.interrupt_at(cut, CREATE, "TASK [ec2_host : Make or mend", tmp_path)
    kills.mended(cut, CREATE)
    assert len(instances(cut)) == 1
