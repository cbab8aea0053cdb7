"""Each reason for which torch silently computes on the CPU, on a simulated host."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible.module_utils.lab.gpu import Host, Smi
from ansible.module_utils.lab.gpu_reasons import Torch, reason

from tests.unit.gpu_kit import H100, T4, V100, packages, working

BLIND = Torch("2.15.0", "13.2", ("sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120"))
SEEING = replace(BLIND, available=True, count=1)
NO_DRIVER = working(loaded="", loaded_modules="", packages=(), dkms=(), smi=Smi(), nodes=())
MISMATCH = "Failed to initialize NVML: Driver/library version mismatch NVML library version: 580.9"
DEBIANS = working("550.163.01")
P5 = working(gpus=(H100,) * 8, instance_type="p5.48xlarge",
             nodes=(*(f"nvidia{n}" for n in range(8)), "nvidia-uvm", "nvidiactl"))  # fmt: skip


def test_a_host_that_is_well_has_no_reason() -> None:
    assert reason(working(), SEEING) == ""
    assert reason(working(count=4), replace(SEEING, count=4)) == ""
    assert reason(Host(), replace(BLIND, cuda="")) == ""


CASES = {
    "no driver": (NO_DRIVER, BLIND, "no driver is installed: run: ansible-playbook site.yml"),
    "nouveau": (replace(NO_DRIVER, nouveau=True), BLIND, "nouveau drives the GPU"),
    "not loaded": (
        replace(NO_DRIVER, packages=packages("580.95.05")), BLIND,
        "the driver 580.95.05 is installed, and not loaded: reboot the host",
    ),
    "module older than the one installed": (
        working(packages=packages("580.105.08"), smi=Smi(18, said=MISMATCH)), BLIND,
        "the module that runs is 580.95.05, the one installed 580.105.08 (driver and library do not"
        " match): reboot the host",
    ),
    "library newer than the module": (
        working(packages=packages("580.95.05", "580.105.08")), BLIND,
        "the module that runs is 580.95.05, its library 580.105.08 (driver and library do not"
        " match): reboot the host",
    ),
    "mismatch on an image without packages": (
        working(packages=(), smi=Smi(18, said=MISMATCH)), BLIND,
        f"nvidia-smi says {MISMATCH} (driver and library do not match): reboot the host",
    ),
    "driver too old for the wheel": (
        DEBIANS, BLIND,
        "it brings CUDA 13.2, which needs driver 580, and the driver is 550.163.01 (too old for the"
        " wheel): set lab_nvidia_source to nvidia, or lab_torch_version to one for CUDA 12, then"
        " run: ansible-playbook site.yml",
    ),
    "the build for the CPU": (
        working(), replace(BLIND, cuda="", architectures=()),
        "it is the build for the CPU: run: ansible-playbook site.yml",
    ),
    "wrong capability": (
        working(gpus=(V100,)), BLIND,
        "torch 2.15.0 has no code for compute capability 7.0, only for sm_75, sm_80, sm_86, sm_90,"
        " sm_100, sm_120 (wrong capability)",
    ),
    "no device nodes": (
        working(nodes=()), BLIND,
        "/dev/nvidiactl is missing (no device nodes): run `nvidia-modprobe -u -c=0`, or `systemctl"
        " restart nvidia-persistenced`",
    ),
    "one device node is missing": (
        working(count=4, nodes=("nvidia0", "nvidia1", "nvidiactl")), replace(SEEING, count=2),
        "/dev/nvidia2 is missing (no device nodes)",
    ),
    "no node for unified memory": (
        working(nodes=("nvidia0", "nvidiactl")), BLIND, "/dev/nvidia-uvm is missing",
    ),
    "hidden": (working(), replace(BLIND, hidden=""), "CUDA_VISIBLE_DEVICES is '': unset it"),
    "no Fabric Manager": (
        P5, replace(BLIND, error="Error 802: system not yet initialized"),
        "CUDA is not initialised (error 802), which on this type is Fabric Manager not running",
    ),
    "GPUs fell off the bus": (
        working(instance_type="g4dn.12xlarge", gpus=(T4, T4, T4), nodes=(
            "nvidia0", "nvidia1", "nvidia2", "nvidia-uvm", "nvidiactl")),
        replace(SEEING, count=3), "g4dn.12xlarge has 4 GPUs, 3 are on the bus",
    ),
    "something else": (working(), replace(BLIND, error="Error 999: unknown"), "Error 999: unknown"),
    "no reason given": (working(), BLIND, "torch gives no reason; see `nvidia-smi`"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_each_reason_is_found_and_says_what_to_do(case: str) -> None:
    host, torch, said = CASES[case]
    found = reason(host, torch)
    assert said in found
    assert found.startswith(f"{len(host.gpus)} GPU(s), but torch 2.15.0 uses {torch.count}: ")


def test_a_gpu_that_torch_sees_and_has_no_code_for_is_found_too() -> None:
    """torch.cuda.is_available() is true then, and the first kernel fails."""
    said = reason(working(gpus=(V100,)), SEEING)
    assert said.startswith("torch 2.15.0 has no code for compute capability 7.0")


def test_an_architecture_of_the_same_major_runs_on_a_later_minor() -> None:
    """An L4 (8.9) runs the code for 8.6; a B300 (10.3) that for 10.0."""
    for device in ("27b8", "3182"):
        assert reason(working(gpus=(replace(T4, device=device),)), SEEING) == ""
