"""The training of several processes, killed in two ways: its loss curve is that of one left alone.

Needs a Python with torch and Pillow: GPULAB_TORCH_PYTHON, or the lab's own on a lab's host.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.training_kit import PYTHON, Training, faint_bars, has_torch


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not has_torch():
        pytest.skip(f"{PYTHON} has no torch: resuming a training of several processes UNTESTED")
    return faint_bars(tmp_path_factory.mktemp("data"))


def test_killed_or_not_the_loss_curve_is_the_same(data: Path, tmp_path: Path) -> None:
    whole = Training(data, tmp_path / "whole", 2).end()

    killed = Training(data, tmp_path / "killed", 2)
    try:
        killed.wait(lambda: "epoch 1 step 25/" in killed.said())
        os.kill(killed.ranks()[1], signal.SIGKILL)  # torchrun starts all processes again
        killed.wait(lambda: "attempt 2" in killed.said() and "epoch 2 step 15/" in killed.said())
    finally:
        killed.kill()  # Slurm starts the job again
    again = Training(data, tmp_path / "killed", 2)
    assert again.end() == whole
    assert again.said().count("resuming from ") == 2
