"""The examples on real GPUs: over NCCL, killed and resumed, and as fast as they came out."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

from tests.training_kit import EXAMPLES, PYTHON, Training, faint_bars


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return faint_bars(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def gpus() -> int:
    asked = [PYTHON, "-c", "import torch; print(torch.cuda.device_count())"]
    return int(subprocess.check_output(asked))


def test_one_process(data: Path, tmp_path: Path) -> None:
    words = ["--epochs=2", "--batch=16", "--report=20", f"--data={data}"]
    places = [f"--work={tmp_path / 'work'}", f"--out={tmp_path / 'out'}"]
    script = [PYTHON, str(EXAMPLES / "train_fashion_mnist.py")]
    said = subprocess.check_output([*script, *words, *places], text=True)
    assert said.startswith("training on NVIDIA ")
    assert float(re.findall(r"test accuracy ([\d.]+) %", said)[-1]) > 90
    assert (tmp_path / "out/checkpoint.pt").exists()


def test_over_nccl_killed_and_resumed(data: Path, tmp_path: Path, gpus: int) -> None:
    whole = Training(data, tmp_path / "whole", gpus)
    left_alone = whole.end()
    assert "(cuda:0)" in whole.said()
    assert "Warning" not in whole.said()

    killed = Training(data, tmp_path / "killed", gpus)
    try:
        killed.wait(lambda: "epoch 1 step 25/" in killed.said())
        os.kill(killed.ranks()[-1], signal.SIGKILL)  # torchrun starts all processes again
        killed.wait(lambda: "attempt 2" in killed.said() and "epoch 2 step 15/" in killed.said())
    finally:
        killed.kill()
    again = Training(data, tmp_path / "killed", gpus)
    assert again.end() == left_alone
    assert again.said().count("resuming from ") == 2
