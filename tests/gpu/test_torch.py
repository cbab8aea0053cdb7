"""The smoke test on a real GPU, and a GPU taken from torch in each way that root can take it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.training_kit import PYTHON

# A /dev of its own with few nodes. As a user: for root, CUDA makes those that are missing.
BARE_DEV = """
mkdir {0}
mount -t tmpfs none {0}
cp -a /dev/null /dev/zero /dev/random /dev/urandom {1} {0}
mkdir {0}/shm
mount --move {0} /dev
exec setpriv --reuid 65534 --regid 65534 --clear-groups "$@"
"""


def results(command: list[str]) -> dict[str, tuple[str, str]]:
    """Run the smoke test; status and detail of each check."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return {line["check"]: (line["status"], line["detail"]) for line in lines}


def on_the_gpu(command: list[str]) -> tuple[str, str]:
    return results(command)["torch on the GPU"]


def test_all_is_well(smoke: list[str]) -> None:
    said = results(smoke)
    assert {status for status, _ in said.values()} == {"ok"}, said
    detail = said["torch on the GPU"][1]
    assert "fp32 " in detail and "convolution off by " in detail
    print(f"\n{detail}")


def test_one_rank_over_nccl(smoke: list[str], tmp_path: Path) -> None:
    subprocess.run([*smoke, "--rank", "0", "1", "nccl", f"file://{tmp_path}/meet"], check=True)


@pytest.mark.parametrize("hidden", ["", "-1"])
def test_hidden_gpus(smoke: list[str], hidden: str) -> None:
    status, detail = on_the_gpu(["env", f"CUDA_VISIBLE_DEVICES={hidden}", *smoke])
    assert status == "failed"
    assert detail.endswith(f"uses 0: CUDA_VISIBLE_DEVICES is {hidden!r}: unset it")


@pytest.mark.parametrize(
    ("kept", "missing"),
    [
        ("", "nvidiactl"),
        ("/dev/nvidiactl", "nvidia0"),
        ("/dev/nvidiactl /dev/nvidia[0-9]*", "nvidia-uvm"),
    ],
)
def test_device_nodes_that_are_missing(
    smoke: list[str], tmp_path: Path, kept: str, missing: str
) -> None:
    script = BARE_DEV.format(tmp_path / "dev", kept)
    status, detail = on_the_gpu(["unshare", "--mount", "sh", "-ec", script, "sh", *smoke])
    assert status == "failed"
    assert f"/dev/{missing} is missing (no device nodes)" in detail


FILL = """
import sys, torch
blocks = []
for size in (1 << 30, 1 << 20):
    try:
        while True:
            blocks.append(torch.empty(size, dtype=torch.uint8, device="cuda"))
    except torch.OutOfMemoryError:
        pass
print("full", flush=True)
sys.stdin.read()
"""


def test_a_training_that_fills_the_gpu(smoke: list[str]) -> None:
    with subprocess.Popen(
        [PYTHON, "-c", FILL], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as job:
        assert job.stdout and job.stdout.readline() == "full\n"
        status, detail = on_the_gpu(smoke)
        job.kill()
    assert status == "skipped", detail
    assert "MiB used): see nvidia-smi" in detail
