"""Whether a GPU is in use, as the idle stop sees it: computing, merely held, and let go of."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from roles.idle_stop.files.lab_idle import collect
from roles.idle_stop.files.lab_idle.decision import Signal
from tests.training_kit import PYTHON

# It computes until its standard input is closed, then holds its memory, until it is killed.
WORK = """
import sys, threading, time, torch
ended = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
block = torch.randn(4096, 4096, device="cuda")
print("computing", flush=True)
while not ended.is_set():
    block @ block
    torch.cuda.synchronize()
print("holding", flush=True)
time.sleep(600)
"""


def until(looked: Callable[[], Signal], state: str) -> Signal:
    """Look until the state is so: nvidia-smi's figure is a mean over up to a second."""
    end = time.monotonic() + 20
    while (seen := looked()).state != state:
        assert time.monotonic() < end, seen
        time.sleep(0.5)
    return seen


@pytest.mark.usefixtures("gpu_here")
def test_computing_holding_and_gone(tmp_path: Path) -> None:
    until(lambda: collect.gpu(5.0), "idle")
    with (tmp_path / "said").open("w") as said, subprocess.Popen(
        [PYTHON, "-c", WORK], stdin=subprocess.PIPE, stdout=said
    ) as job:  # fmt: skip
        try:
            computing = until(lambda: collect.gpu(5.0, count_jobs=False), "active")
            assert computing.mark == str(job.pid)
            assert "1 compute job on " in computing.detail
            assert job.stdin
            job.stdin.close()
            until(lambda: collect.gpu(5.0, count_jobs=False), "idle")
            # A program that loads its next data is at work, though no kernel runs.
            assert collect.gpu(5.0).state == "active"
        finally:
            job.kill()
    gone = until(lambda: collect.gpu(5.0), "idle")
    assert gone.mark == ""
