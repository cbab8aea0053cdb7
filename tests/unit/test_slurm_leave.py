"""Workers that leave the cluster: roles/slurm/files/lab_slurm/leave.py."""

from __future__ import annotations

import json

import pytest

from roles.slurm.files.lab_slurm import commands, leave
from roles.slurm.files.lab_slurm.commands import SlurmError


class Slurm:
    """The commands of a cluster: nodes by name (their state and reason), and the jobs on them."""

    def __init__(self, nodes: dict[str, str], jobs: dict[str, str] | None = None) -> None:
        self.nodes, self.jobs = nodes, jobs or {}
        self.done: list[str] = []

    def __call__(self, *command: str) -> tuple[int, str]:
        if command[0] == "squeue":
            return 0, self.jobs.get(command[3], "")
        if "show" in command:
            if command[-1] not in self.nodes:
                return 1, f"Node {command[-1]} not found\n"
            state, _, why = self.nodes[command[-1]].partition(" ")
            reason = f" Reason={why} [root@2026-11-22T12:00:00]" if why else ""
            return 0, f"NodeName={command[-1]} State={state} ThreadsPerCore=1{reason} Comment=x\n"
        self.done.append(" ".join(command[1:]))
        return 0, ""


def test_an_idle_worker_is_drained_and_forgotten() -> None:
    slurm = Slurm({"worker-3": "IDLE+DYNAMIC_NORM"})
    outcome = leave.leave(["worker-3"], slurm, check=False)
    assert slurm.done == [
        "update NodeName=worker-3 State=DRAIN Reason=leaves the lab",
        "delete NodeName=worker-3",
    ]
    assert (outcome.removed, outcome.busy, outcome.changed) == (["worker-3"], {}, True)


def test_a_worker_with_jobs_is_drained_once_and_stays() -> None:
    slurm = Slurm({"worker-3": "MIXED"}, {"worker-3": "12\n7\n12\n"})
    outcome = leave.leave(["worker-3"], slurm, check=False)
    assert slurm.done == ["update NodeName=worker-3 State=DRAIN Reason=leaves the lab"]
    assert (outcome.removed, outcome.busy) == ([], {"worker-3": ["7", "12"]})
    slurm.nodes["worker-3"] = "MIXED+DRAIN leaves the lab"
    again = leave.leave(["worker-3"], slurm, check=False)
    assert (again.changed, again.busy) == (False, {"worker-3": ["7", "12"]})


def test_a_worker_that_slurm_does_not_know_has_left() -> None:
    slurm = Slurm({})
    assert not leave.leave(["worker-3"], slurm, check=False).changed
    assert slurm.done == []


def test_check_mode_tells_and_does_nothing() -> None:
    slurm = Slurm({"worker-2": "IDLE", "worker-3": "MIXED"}, {"worker-3": "1"})
    outcome = leave.leave(["worker-2", "worker-3"], slurm, check=True)
    assert (outcome.removed, outcome.drained) == (["worker-2"], ["worker-2", "worker-3"])
    assert slurm.done == []


def test_only_those_that_were_to_leave_or_away_are_taken_back() -> None:
    slurm = Slurm(
        {
            "worker-1": "IDLE",
            "worker-2": "IDLE+DRAIN leaves the lab",
            "worker-3": "IDLE+DRAIN a fan is broken",
            "worker-5": "DOWN+DYNAMIC_NORM not woken: no room",
            "worker-6": "DOWN a fan is broken",
            "worker-7": "DOWN+DRAIN Node unexpectedly rebooted",
        }
    )
    names = [f"worker-{number}" for number in range(1, 8)]
    outcome = leave.take_back(names, slurm, check=False)
    assert outcome.taken_back == ["worker-2", "worker-5"]
    assert slurm.done[0] == "update NodeName=worker-2 State=RESUME"
    assert leave.take_back(["worker-2"], slurm, check=True).changed


def test_a_head_that_does_not_answer_is_no_worker_that_left() -> None:
    def away(*_command: str) -> tuple[int, str]:
        return 1, "slurm_load_node error: Unable to contact slurm controller (connect failure)\n"

    text = "scontrol show node worker-1 failed: .*Unable to contact slurm controller"
    with pytest.raises(SlurmError, match=text):
        leave.leave(["worker-1"], away, check=False)


def test_it_prints_what_the_play_reads(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(leave, "run", Slurm({"a": "IDLE"}))
    assert leave.main(["--check", "leave", "a"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["changed"] is True
    assert told["removed"] == ["a"]


def test_with_check_a_head_that_does_not_run_yet_is_no_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(leave, "run", lambda *_: (1, "no answer"))
    assert leave.main(["--check", "take-back", "a"]) == 0
    assert json.loads(capsys.readouterr().out)["changed"] is False
    assert leave.main(["take-back", "a"]) == 1
    assert "no answer" in capsys.readouterr().err


def test_a_reason_is_read_without_author_and_time() -> None:
    shown = "NodeName=a State=DOWN Reason=Not responding [slurm@2026-11-22T12:00:00] Extra=1"
    assert commands.reason(shown) == "Not responding"
    assert commands.reason("NodeName=a State=IDLE") == ""
    assert commands.run("false") == (1, "")
    assert commands.run("/no/such/program")[0] == 1
