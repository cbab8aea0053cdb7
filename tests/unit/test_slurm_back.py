"""Workers that come back: roles/slurm/files/lab_slurm/back.py."""

from __future__ import annotations

import pytest

from roles.slurm.files.lab_slurm import back


class Head:
    """A head that tells one thing after the other of a node; the last for ever."""

    def __init__(self, *told: str) -> None:
        self.told = [*told]
        self.done: list[str] = []

    def __call__(self, *command: str) -> tuple[int, str]:
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
    assert back.wait("a", head, lambda _: None) == status
    assert head.done == done
