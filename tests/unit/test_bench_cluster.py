"""The benchmark of a cluster: its figures, and that it measures what it says."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from benchmarks.cluster import __main__ as bench
from benchmarks.cluster import faults, jobs
from benchmarks.cluster.__main__ import Grown
from benchmarks.converge.__main__ import BenchmarkError

RECAP = """changed: [of the output]
PLAY RECAP *****
one                        : ok=9    changed=0    unreachable=0    failed=0
two                        : ok=9    changed={}    unreachable=0    failed=0
"""
PRINTED = """16:00:00 job 7, attempt 1, on worker-[1-2]: train.py
process 0 of 2 on worker-1 (cpu), attempt 1
epoch 1 step 10/469 loss 2.1 accuracy 30.0 %
epoch 1 step 20/469 loss 1.9 accuracy 40.0 %
resuming from /data/work/checkpoint.pt: epoch 1, step 20
epoch 1 step 30/469 loss 1.8 accuracy 41.0 %
epoch 1: 1234 images/s by 2 processes
"""


def test_the_table_compares_the_most_workers_with_the_fewest() -> None:
    text = bench.table([Grown(1, 10, 15, 100, 9, 20), Grown(8, 20, 16, 240, 30, 60)])
    assert (
        "  8 workers  made   20.0 s, head  16.0 s, configured  240.0 s (60.0 s of the controller's"
        " processors), once more  30.0 s" in text
    )
    assert "8 to 1: 2.40 times (goal for 8 to 1: 2.5)" in text


@pytest.mark.parametrize(
    ("seconds", "late"),
    [
        ({1: 100.0, 8: 251.0}, True),
        ({1: 100.0, 8: 250.0}, False),
        ({1: 9.0, 4: 99.0}, False),
    ],
)
def test_the_goal_is_for_eight_workers_against_one(seconds: dict[int, float], late: bool) -> None:
    assert bench.missed([Grown(count, 1, 1, took, 1, 1) for count, took in seconds.items()]) is late


@pytest.mark.parametrize("second", ["0", "3"])
def test_a_second_converge_that_changes_something_is_no_figure(
    monkeypatch: pytest.MonkeyPatch, second: str
) -> None:
    played: list[tuple[Any, ...]] = []

    def play(name: str, lab: str, _: Any, *more: str) -> tuple[float, str]:
        played.append((name, lab, *more))
        return float(len(played)), RECAP.format(second)

    monkeypatch.setattr(bench, "play", play)
    if second == "0":
        used = iter([10.0, 12.5])
        monkeypatch.setattr(bench, "processor", lambda: next(used))
        grown = Grown(4, make=1, head=2, configure=3, again=4, controller=2.5)
        assert bench.have(4, {}) == grown
        names = [words[0] for words in played]
        assert names == ["create_host", "configure_host", *["configure_workers"] * 2]
        assert {words[1:] for words in played} == {(bench.LAB, "-e", "lab_workers=4")}
    else:
        with pytest.raises(BenchmarkError, match="the second converge changed something"):
            bench.have(4, {})


def test_the_command_line() -> None:
    wanted = bench.parse([])
    assert (wanted.workers, wanted.parts, wanted.kept) == ([1, 4, 8], bench.PARTS, False)
    wanted = bench.parse(["--workers", "1", "2", "--parts", "growing", "jobs"])
    assert (wanted.workers, wanted.parts) == ([1, 2], ["growing", "jobs"])


def test_a_speed_is_of_the_workers_that_were_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "submit", lambda *_, **__: "7")
    monkeypatch.setattr(jobs, "output", lambda *_: PRINTED)
    assert jobs.training("lab", 2, {}) == 1234.0
    with pytest.raises(BenchmarkError, match="job 7 did not train on 1 workers"):
        jobs.training("lab", 1, {})


def test_latencies_are_read_from_the_head(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "ssh", lambda *_: (1.0, "warning\n[[0.1, 0.2], 7.5]\n"))
    assert jobs.latency("lab", 100, {}) == ([0.1, 0.2], 7.5)


def test_the_steps_of_a_training_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "output", lambda *_: PRINTED)
    assert faults.steps("lab", "7", {}) == [(1, 10), (1, 20), (1, 30)]


def test_a_host_is_found_by_the_name_of_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faults, "run", lambda *_: (1.0, "user admin\nhostkeyalias i-0abc\n"))
    assert faults.container("lab", "lab-worker-2", "7", {}) == "gpulab-sandbox-7-i-0abc"
    monkeypatch.setattr(faults, "run", lambda *_: (1.0, "user admin\n"))
    with pytest.raises(BenchmarkError, match="does not say which instance lab-worker-2 is"):
        faults.container("lab", "lab-worker-2", "7", {})


def test_what_does_not_come_ends_the_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faults, "DEADLINE_S", -1)
    with pytest.raises(BenchmarkError, match="the worker did not come"):
        faults.until(lambda: False, "the worker")
    assert faults.until(lambda: True, "the worker") < 1


def test_a_head_that_does_not_answer_lists_no_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faults, "ssh", lambda *_: (1.0, "17\n136\n"))
    assert faults.listed("lab", "136", {})
    assert not faults.listed("lab", "13", {})

    def away(*_: Any) -> tuple[float, str]:
        raise BenchmarkError("Connection reset by peer")

    monkeypatch.setattr(faults, "ssh", away)
    assert not faults.listed("lab", "136", {})


def test_the_processors_of_the_controller_are_those_of_its_commands() -> None:
    before = bench.processor()
    subprocess.run([sys.executable, "-c", "sum(range(10**7))"], check=True)
    assert 0.02 < bench.processor() - before < 60
