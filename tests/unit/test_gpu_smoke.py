"""What the smoke test makes of a GPU that is there, with a torch that is simulated.

What it computes is run for real, on the CPU, by molecule/pytorch.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from ansible.module_utils.lab.gpu import Host, Smi

from tests.unit.gpu_kit import V100, packages, working

FILE = Path(__file__).resolve().parents[2] / "roles/pytorch/files/smoke.py"
ARCHITECTURES = ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120", "compute_120"]
NAME = "ansible.module_utils.lab.smoke"


@pytest.fixture
def smoke(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The file as it is on the host, beside the modules that it decides by."""
    spec = importlib.util.spec_from_file_location(NAME, FILE)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, NAME, module)
    spec.loader.exec_module(module)
    return module


def torch(count: int = 1, cuda: str | None = "13.2", major: int = 7, says: str = "") -> Any:
    """Return a torch that sees so many GPUs."""

    def init() -> None:
        if says:
            raise RuntimeError(says)

    return SimpleNamespace(
        __version__="2.15.0",
        version=SimpleNamespace(cuda=cuda),
        cuda=SimpleNamespace(
            is_available=lambda: count > 0,
            device_count=lambda: count,
            get_arch_list=lambda: ARCHITECTURES,
            get_device_capability=lambda _device: (major, 5),
            get_device_name=lambda _number: "Tesla T4",
            init=init,
        ),
    )


@pytest.fixture
def computed(smoke: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let nothing be computed; what would have been is told."""
    told: list[str] = []

    def compute(_torch: Any, device: str, bf16: bool) -> str:
        told.append(f"{device} {'with' if bf16 else 'without'} bf16")
        return "fp32 8.1 TFLOP/s"

    def between(_torch: Any, devices: list[str], backend: str) -> str:
        told.append(f"between {len(devices)} by {backend}")
        return "copies and all_reduce"

    monkeypatch.setattr(smoke, "compute", compute)
    monkeypatch.setattr(smoke, "between", between)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return told


def test_one_gpu_is_computed_on(smoke: ModuleType, computed: list[str]) -> None:
    assert smoke.on_the_gpus(torch(), working()) == ("ok", "1 x Tesla T4: fp32 8.1 TFLOP/s")
    assert computed == ["cuda:0 without bf16"]


def test_several_are_computed_on_and_between(smoke: ModuleType, computed: list[str]) -> None:
    status, detail = smoke.on_the_gpus(torch(4, major=8), working(count=4))
    assert (status, detail) == (
        "ok",
        "4 x Tesla T4: fp32 8.1 TFLOP/s; copies and all_reduce",
    )
    assert computed == [*(f"cuda:{n} with bf16" for n in range(4)), "between 4 by nccl"]


def test_no_gpu_is_skipped_and_never_ok(smoke: ModuleType, computed: list[str]) -> None:
    assert smoke.on_the_gpus(torch(0, cuda=None), Host()) == ("skipped", "no GPU")
    assert computed == []


@pytest.mark.parametrize(
    ("host", "seen", "said"),
    [
        (working(), torch(0, cuda=None), "it is the build for the CPU"),
        (working("550.163.01"), torch(0), "too old for the wheel"),
        (working(packages=packages("580.105.08")), torch(0), "driver and library do not match"),
        (working(gpus=(V100,)), torch(1), "wrong capability"),
        (working(nodes=()), torch(0), "no device nodes"),
        (working(instance_type="g4dn.12xlarge"), torch(1), "g4dn.12xlarge has 4 GPUs"),
        (replace(working(loaded="", packages=()), smi=Smi()), torch(0), "no driver is installed"),
        (working(), torch(0, says="CUDA unknown\n error 999"), "CUDA unknown error 999"),
    ],
)
def test_a_gpu_that_torch_does_not_use_is_a_failure_with_its_reason(
    host: Host, seen: Any, said: str, smoke: ModuleType, computed: list[str]
) -> None:
    status, detail = smoke.on_the_gpus(seen, host)
    assert status == "failed" and said in detail
    assert computed == [], "nothing is computed on the CPU in its place"


def test_a_wrong_result_is_a_failure(
    smoke: ModuleType, computed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    errors: list[Callable[[str], Exception]] = [smoke.WrongError, RuntimeError]
    for error in errors:

        def compute(*_: Any, error: Callable[[str], Exception] = error) -> str:
            raise error("off by 0.5\nat line 3")

        monkeypatch.setattr(smoke, "compute", compute)
        assert smoke.on_the_gpus(torch(), working()) == ("failed", "off by 0.5 at line 3")


def test_a_gpu_that_a_training_fills_is_no_failure(
    smoke: ModuleType, computed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def compute(*_: Any) -> str:
        raise RuntimeError("CUDA error: out of memory\nCUDA kernel errors might ...")

    monkeypatch.setattr(smoke, "compute", compute)
    host = replace(
        working(), smi=Smi(0, ({"name": "T4", "memory.used": 15100, "memory.total": 15360},))
    )
    status, detail = smoke.on_the_gpus(torch(), host)
    assert status == "skipped"
    assert "(15100 of 15360 MiB used)" in detail and "verify_host.yml" in detail


def test_the_root_is_the_one_that_role_nvidia_looks_at(smoke: ModuleType) -> None:
    assert smoke._root() == Path("/")
