"""Workers that come back: roles/slurm/files/lab_slurm/back.py."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from roles.slurm.files.lab_slurm import back


class Head:
    """A head that tells one thing after the other of a node; the last for ever."""

    def __init__(self, *told: str, jobs: str = "") -> None:
        self.told = [*told]
        self.jobs = jobs
        self.done: list[str] = []

    def __call__(self, *command: str) -> tuple[int, str]:
        if "squeue" in command:
            return 0, self.jobs
        if "show" not in command:
            self.done.append(" ".join(command[1:]))
            return 0, ""
        shown = self.told.pop(0) if len(self.told) > 1 else self.told[0]
        return (0, f"NodeName=a {shown} [slurm@now]") if shown else (1, "no answer")


RESUMED = ["update NodeName=a State=RESUME"]


@pytest.mark.parametrize(
    ("told", "status", "done"),
    [
        (["State=IDLE+DYNAMIC_NORM"], 0, []),
        (["", "State=DOWN*", "State=DOWN Reason=Node unexpectedly rebooted"], 0, RESUMED),
        (["State=DOWN+DYNAMIC_NORM Reason=ResumeTimeout reached"], 0, RESUMED),
        (["State=DOWN+POWERED_DOWN Reason=not woken: no room"], 0, RESUMED),
        (["State=DOWN+DRAIN Reason=Node unexpectedly rebooted"], 1, []),
        (["State=DOWN Reason=a fan is broken"], 1, []),
        (["State=IDLE* Reason=Not responding", "State=MIXED"], 0, []),
    ],
)
def test_it_takes_back_what_was_only_away(told: list[str], status: int, done: list[str]) -> None:
    head = Head(*told)
    assert back.wait("a", 1000.0, head, lambda _: None) == status
    assert head.done == done


def test_jobs_that_a_reboot_ended_are_let_go_of_where_slurm_has_not_noticed() -> None:
    """Those that began after the boot, or have not begun, run on."""
    head = Head(
        "State=ALLOCATED",
        "State=DOWN Reason=Node unexpectedly rebooted",
        jobs="7 990\n8 1005\n9 N/A\n",
    )
    assert back.wait("a", 1000.0, head, lambda _: None) == 0
    down = "update NodeName=a State=DOWN Reason=Node unexpectedly rebooted"
    assert head.done == [down, *RESUMED]


def test_jobs_of_this_boot_are_left_alone() -> None:
    head = Head("State=MIXED", jobs="8 1005\n")
    assert back.wait("a", 1000.0, head, lambda _: None) == 0
    assert head.done == []


def test_the_boot_is_the_start_of_the_first_process(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / "stat").write_text("cpu 1 2\nbtime 1700000000\nprocesses 5\n")
    fields = " ".join(["S", *map(str, range(4, 22)), "5000", "23"])
    (tmp_path / "1/stat").write_text(f"1 (sys) temd) {fields}\n")
    assert back.booted_at(tmp_path) == 1700000000 + 5000 / os.sysconf("SC_CLK_TCK")
