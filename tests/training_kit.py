"""A training by torchrun on small pictures, which tests begin, kill and look into.

Needs a Python with torch and Pillow: GPULAB_TORCH_PYTHON, or the lab's own on a lab's host.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from sandbox.fashion_mnist import png

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
PYTHON = os.environ.get("GPULAB_TORCH_PYTHON", "/opt/lab/venv/bin/python")
DEADLINE_S = 120
# As train_ddp.sbatch sets it.
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
READ = """
import json, sys, torch
state = torch.load(sys.argv[1], weights_only=True)
progress = json.loads(state["progress"])
weights = {name: tensor.tolist() for name, tensor in state["model"].items()}
print(json.dumps([progress["loss"], progress["accuracy"], weights]))
"""


def has_torch() -> bool:
    """Tell whether that Python is there and has what the examples need."""
    if not Path(PYTHON).exists():
        return False
    asked = [PYTHON, "-c", "import torch, torchvision, PIL"]
    return subprocess.run(asked, check=False, capture_output=True).returncode == 0


def faint_bars(root: Path) -> Path:
    """Write pictures of four classes, which are told apart by a faint bar."""
    chance = random.Random(1)  # noqa: S311  seeded chance, not secrets
    for part, count in (("train", 161), ("test", 20)):
        for number in range(4 * count):
            bar = number % 4
            pixels = bytes(chance.randrange(200) + 25 * (at // 7 % 4 == bar) for at in range(784))
            path = root / part / f"class{bar}" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(png(pixels))
    return root


class Training:
    """A training of some processes under torchrun, with its own folder."""

    def __init__(self, data: Path, folder: Path, processes: int) -> None:
        self.folder, self.log = folder, folder.with_suffix(".log")
        words = ["--epochs=2", "--batch=16", "--report=5", "--keep=7", f"--data={data}"]
        places = [f"--work={folder}", f"--out={folder}-out"]
        elastic = ["--rdzv-backend=c10d", "--rdzv-endpoint=127.0.0.1:0", "--max-restarts=1"]
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [PYTHON, "-m", "torch.distributed.run", f"--nproc-per-node={processes}", *elastic,
                 EXAMPLES / "train_fashion_mnist_ddp.py", *words, *places],
                env={**os.environ, **ENVIRONMENT},
                stdout=log, stderr=log,
            )  # fmt: skip

    def said(self) -> str:
        return self.log.read_text()

    def wait(self, reached: Callable[[], bool]) -> None:
        end = time.monotonic() + DEADLINE_S
        while not reached():
            assert time.monotonic() < end, self.said()
            time.sleep(0.1)

    def ranks(self) -> list[int]:
        found = subprocess.run(
            ["pgrep", "-P", str(self.process.pid)], check=False, text=True, capture_output=True
        )
        return [int(line) for line in found.stdout.split()]

    def kill(self) -> None:
        """Kill all of it at once, as with its host."""
        for number in [*self.ranks(), self.process.pid]:
            with suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        self.process.wait()

    def end(self) -> tuple[object, object, object]:
        """Wait for it; its loss curve, its accuracy and its weights."""
        self.wait(lambda: self.process.poll() is not None)
        assert self.process.returncode == 0, self.said()
        read = [PYTHON, "-c", READ, str(self.folder / "checkpoint.pt")]
        loss, accuracy, weights = json.loads(subprocess.check_output(read))
        return loss, accuracy, weights
