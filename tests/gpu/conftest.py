"""Tests that only a real GPU can decide: `make test-gpu` runs them where driver and torch are.

On a lab's host they use what the roles left. On another machine role nvidia is run first, for
its checks: it leaves a driver that is there alone.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.training_kit import PYTHON, has_torch

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = Path("/usr/local/lib/lab")
PLAY = """
- hosts: localhost
  connection: local
  roles: [nvidia]
"""


@pytest.fixture(scope="session", autouse=True)
def gpu_here() -> None:
    """Nothing here is simulated: without a driver, torch and root there is nothing to test."""
    if shutil.which("nvidia-smi") is None or not Path("/dev/nvidiactl").exists():
        pytest.skip("no driver of NVIDIA's here: the GPU UNTESTED")
    if os.geteuid() != 0:
        pytest.skip("needs root, which hides device nodes from a process: the GPU UNTESTED")
    if not has_torch():
        pytest.skip(f"{PYTHON} lacks torch (GPULAB_TORCH_PYTHON names another): GPU UNTESTED")


@pytest.fixture(scope="session")
def converge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """Role nvidia in check mode, for real and again; the recap of each. A lab's host has it."""
    folder = tmp_path_factory.mktemp("play")
    (folder / "play.yml").write_text(PLAY)
    settings = Path("/etc/lab/nvidia.json")
    toolkits = json.loads(settings.read_text())["toolkits"] if settings.exists() else []
    variables = json.dumps({"nvidia_cuda_toolkits": toolkits})
    command = ["ansible-playbook", "-i", "localhost,", "-e", variables, str(folder / "play.yml")]
    said = []
    for more in (["--check"], [], []):
        done = subprocess.run(
            [*command, *more], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
        said.append(done.stdout)
    yield said


@pytest.fixture
def smoke(converge: list[str]) -> Iterator[list[str]]:
    """A command that runs the smoke test of this tree, beside the modules on the host."""
    assert converge
    with tempfile.TemporaryDirectory(prefix="gpulab-") as folder:
        library = Path(folder, "lab_gpu")
        library.mkdir()
        shutil.copy(ROOT / "roles/pytorch/files/smoke.py", library)
        Path(folder).chmod(0o755)  # for a user who is not root
        path = f"{folder}:{LIBRARY}:{os.environ.get('PYTHONPATH', '')}"
        yield ["env", f"PYTHONPATH={path}", PYTHON, "-m", "lab_gpu.smoke"]
