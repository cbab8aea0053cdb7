"""A worker whose disk is full is drained: roles/slurm/files/lab_slurm/health.py."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from roles.slurm.files.lab_slurm import health

ROOM = {"/": 2000, "/tmp": 90}


def look(path: str) -> os.statvfs_result:
    """A disk with so many MiB free."""
    if path not in ROOM:
        raise FileNotFoundError(path)
    blocks = ROOM[path] << 8
    return os.statvfs_result((4096, 4096, 10**7, blocks, blocks, 10**6, 10**5, 10**5, 0, 255))


def few_files(_path: str) -> os.statvfs_result:
    """A disk with room, and no more files."""
    return os.statvfs_result((4096, 4096, 10**7, 10**6, 10**6, 10**6, 10, 10, 0, 255))


class Slurm:
    """One node, its state and reason, and what is done to it."""

    def __init__(self, state: str, why: str = "") -> None:
        self.shown = f"NodeName=a State={state}" + (f" Reason={why} [root@now]" if why else "")
        self.done: list[str] = []

    def __call__(self, *command: str) -> tuple[int, str]:
        if "show" not in command:
            self.done.append(" ".join(command[1:]))
        return 0, self.shown


def test_the_first_disk_without_room_is_told() -> None:
    assert health.full(["/", "/scratch", "/tmp"], 500, look) == (
        "disk full: /tmp has 90 MB left of the 500 that jobs need"
    )
    assert health.full(["/", "/scratch"], 500, look) == ""
    assert health.full(["/"], 500, few_files) == "disk full: / has room for 10 more files"


@pytest.mark.parametrize(
    ("state", "reason", "why", "done"),
    [
        ("IDLE", "", "", []),
        ("MIXED", "", "disk full: /", ["update NodeName=a State=DRAIN Reason=disk full: /"]),
        ("IDLE+DRAIN", "disk full: /", "disk full: /tmp", []),
        ("IDLE+DRAIN", "disk full: /", "", ["update NodeName=a State=RESUME"]),
        ("IDLE+DRAIN", "a fan is broken", "", []),
        ("IDLE+DRAIN", "a fan is broken", "disk full: /", []),
    ],
)
def test_it_drains_and_takes_back_what_it_has_drained(
    state: str, reason: str, why: str, done: list[str]
) -> None:
    slurm = Slurm(state, reason)
    told = health.act("a", why, slurm)
    assert slurm.done == done
    assert bool(told) == bool(done)


def test_a_head_that_does_not_answer_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "slurm.json"
    path.write_text(json.dumps({"name": "a", "disks": ["/"], "min_free_mb": 0}))
    monkeypatch.setattr(health, "run", lambda *_: (1, "no answer"))
    assert health.main(path) == 1
    assert capsys.readouterr().err == "scontrol --oneliner show node a failed: no answer\n"
    monkeypatch.setattr(health, "run", Slurm("IDLE"))
    assert health.main(path) == 0
