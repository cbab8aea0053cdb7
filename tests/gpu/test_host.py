"""What a host with a real GPU says of itself, and what role nvidia makes of it."""

from __future__ import annotations

import json
import runpy
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.lab import gpu, gpu_matrix

from tests.gpu.conftest import LIBRARY
from tests.training_kit import PYTHON

ASK_TORCH = """
import json, torch
count = torch.cuda.device_count()
capabilities = [list(torch.cuda.get_device_capability(at)) for at in range(count)]
print(json.dumps([torch.__version__, torch.version.cuda, torch.cuda.get_arch_list(), capabilities]))
"""


@pytest.fixture(scope="module")
def host() -> gpu.Host:
    return gpu.read_host(Path("/"))


@pytest.fixture(scope="module")
def torch() -> Any:
    """Version, CUDA, architectures, and the compute capability of each GPU."""
    return json.loads(subprocess.check_output([PYTHON, "-c", ASK_TORCH]))


def test_the_bus_the_driver_and_torch_agree(host: gpu.Host, torch: Any) -> None:
    assert host.gpus
    assert len(host.gpus) == len(host.smi.gpus) == len(torch[3])
    assert [list(each) for each in gpu.capabilities(host)] == torch[3]
    told = [gpu_matrix.parse(str(each["compute_cap"])) for each in host.smi.gpus]
    assert told == gpu.capabilities(host)


def test_the_table_names_the_gpu_as_nvidia_smi_does(host: gpu.Host) -> None:
    for there, said in zip(host.gpus, host.smi.gpus, strict=True):
        model = gpu_matrix.model_of(there.device)
        assert model, f"PCI device {there.device} ({said['name']}) is not in the table"
        assert model.split("-")[0] in str(said["name"])


def test_module_and_library_are_of_one_version(host: gpu.Host) -> None:
    assert host.loaded == host.smi.gpus[0]["driver_version"]
    assert host.loaded_modules in ("open", "proprietary")
    assert gpu.problems(host) == []
    assert not gpu.reboot_required(host)


def test_each_field_of_nvidia_smi_is_read(host: gpu.Host) -> None:
    for each in host.smi.gpus:
        assert set(each) == set(gpu.SMI_FIELDS)
        assert int(each["memory.total"]) > 1000, "MiB"
        assert 0 <= int(each["utilization.gpu"]) <= 100
        assert 0 < int(each["temperature.gpu"]) < 120


def test_the_decision_fits_the_driver_that_runs(host: gpu.Host) -> None:
    stack = gpu.stack(host, gpu_matrix.Wish())
    if gpu.driver_action(host) == "keep":
        assert stack.driver == host.loaded
    assert gpu_matrix.parse(stack.driver) >= (525, 60)


def test_role_nvidia_leaves_a_driver_that_works_alone(converge: list[str]) -> None:
    check, done, again = converge
    assert "failed=0" in check
    for said in converge:
        assert "of the image, which is left alone" in said or "no change" in said
    assert "changed=0" in again
    assert "failed=0" in done


def test_the_check_of_the_driver(converge: list[str], host: gpu.Host) -> None:
    assert converge
    said = subprocess.check_output([LIBRARY / "checks.d/15-nvidia"], text=True)
    first = json.loads(said.splitlines()[0])
    assert first["status"] == "ok", first["detail"]
    assert str(host.smi.gpus[0]["name"]) in first["detail"]
    assert host.loaded in first["detail"]


def test_a_program_that_nvcc_compiled_runs(
    converge: list[str], host: gpu.Host, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the check's own function, whether or not the lab has asked for a toolkit."""
    assert converge
    if shutil.which("nvcc") is None:
        pytest.skip("no nvcc here: a compiled program UNTESTED")
    check = runpy.run_path(str(LIBRARY / "checks.d/15-nvidia"))
    capsys.readouterr()
    status, detail = check["compiles"]("distribution", host)
    assert status == "ok", detail
    assert detail.endswith("; ran")
