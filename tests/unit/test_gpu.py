"""Which GPUs are found on a simulated host, and what is decided from them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from ansible.module_utils.lab import gpu

PROPRIETARY = (
    "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.163.01  Tue Apr  8 12:41:17 UTC 2025\n"
    "GCC version:  gcc version 14.2.0 (Debian 14.2.0-19)\n"
)
OPEN = (
    "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build"
    "  (root@x)  Tue Sep 23 10:11:16 UTC 2025\n"
)
T4, V100 = gpu.Gpu("0000:00:1e.0", "1eb8"), gpu.Gpu("0000:00:1e.0", "1db1")


def device(root: Path, address: str, vendor: str, pci_class: str, number: str) -> None:
    folder = root / "sys/bus/pci/devices" / address
    folder.mkdir(parents=True)
    for name, text in (("vendor", vendor), ("class", pci_class), ("device", number)):
        (folder / name).write_text(text + "\n")


def no_program(_command: Sequence[str]) -> tuple[int, str]:
    return 127, ""


def host(
    *gpus: gpu.Gpu,
    loaded: str = "",
    installed: str = "",
    packaged: bool = False,
    works: bool = False,
) -> gpu.Host:
    return gpu.Host(gpus, loaded, installed, packaged or bool(installed), works)


def test_gpus_are_told_from_other_devices_and_from_their_own_audio(tmp_path: Path) -> None:
    device(tmp_path, "0000:00:1e.0", "0x10de", "0x030200", "0x1eb8")
    device(tmp_path, "0000:00:1d.0", "0x10de", "0x030000", "0x2237")
    device(tmp_path, "0000:00:1e.1", "0x10de", "0x040300", "0x10f8")
    device(tmp_path, "0000:00:03.0", "0x1d0f", "0x030000", "0x1111")
    assert gpu.find_gpus(tmp_path) == (gpu.Gpu("0000:00:1d.0", "2237"), T4)


def test_a_host_without_a_bus_has_none_and_no_program_is_run(tmp_path: Path) -> None:
    def refuse(command: Sequence[str]) -> tuple[int, str]:
        raise AssertionError(command)

    assert gpu.read_host(tmp_path, refuse) == host()


@pytest.mark.parametrize(
    ("text", "version"), [(PROPRIETARY, "550.163.01"), (OPEN, "580.95.05"), ("", ""), ("x", "")]
)
def test_the_loaded_driver_is_read(tmp_path: Path, text: str, version: str) -> None:
    (tmp_path / "proc/driver/nvidia").mkdir(parents=True)
    (tmp_path / "proc/driver/nvidia/version").write_text(text)
    assert gpu.loaded_version(tmp_path) == version


@pytest.mark.parametrize(
    ("text", "packages"),
    [
        ("installed 550.163.01-2\n", {"installed": "550.163.01"}),
        ("not-installed \ninstalled 1:535.261.03-1+b1\n", {"installed": "535.261.03"}),
        ("config-files 550.163.01-2\n", {}),
        ("half-configured 550.163.01-2\n", {"half-configured": "550.163.01"}),
        ("", {}),
    ],
)
def test_packages_are_read_with_their_state(text: str, packages: dict[str, str]) -> None:
    assert gpu.module_packages(lambda _command: (0, text)) == packages


def test_a_whole_host_is_read(tmp_path: Path) -> None:
    device(tmp_path, "0000:00:1e.0", "0x10de", "0x030200", "0x1eb8")
    (tmp_path / "proc/driver/nvidia").mkdir(parents=True)
    (tmp_path / "proc/driver/nvidia/version").write_text(OPEN)
    answers = {"nvidia-smi": (0, "580.95.05\n"), "dpkg-query": (1, "")}
    found = gpu.read_host(tmp_path, lambda command: answers[command[0]])
    assert found == host(T4, loaded="580.95.05", works=True)


def test_a_missing_nvidia_smi_is_a_driver_that_does_not_work(tmp_path: Path) -> None:
    device(tmp_path, "0000:00:1e.0", "0x10de", "0x030200", "0x1eb8")
    assert gpu.read_host(tmp_path, no_program) == host(T4)


@pytest.mark.parametrize(
    ("there", "action", "reboot", "build"),
    [
        (host(), "none", False, "cpu"),
        # a fresh Debian, and the same before and after the reboot
        (host(T4), "install", False, "cpu"),
        (host(T4, installed="550.163.01"), "install", True, "cu126"),
        (host(T4, loaded="550.163.01", installed="550.163.01", works=True),
         "install", False, "cu126"),
        # an upgrade under a running module: nvidia-smi reports a mismatch
        (host(T4, loaded="550.163.01", installed="550.200.01"), "install", True, "cu126"),
        # a Deep Learning AMI
        (host(T4, loaded="595.91.07", works=True), "keep", False, "cu132"),
        (host(T4, loaded="579.99", works=True), "keep", False, "cu126"),
        (host(T4, loaded="580.0", works=True), "keep", False, "cu132"),
        (host(V100, loaded="580.95.05", works=True), "keep", False, "cu126"),
        (host(T4, loaded="525.60.13", works=True), "keep", False, "cu126"),
        (host(T4, loaded="470.256.02", works=True), "keep", False, "cpu"),
        # an image whose driver does not work: Debian's on top would make it worse
        (host(T4, loaded="595.91.07"), "keep", False, "cu132"),
        # our own installation was interrupted
        (host(T4, packaged=True), "install", False, "cpu"),
        (host(T4, loaded="550.163.01", packaged=True), "install", False, "cu126"),
    ],
)  # fmt: skip
def test_what_follows(there: gpu.Host, action: str, reboot: bool, build: str) -> None:
    assert gpu.driver_action(there) == action
    assert gpu.reboot_required(there) is reboot
    assert gpu.torch_build(there) == build


def test_a_program_that_is_not_there_is_no_error() -> None:
    assert gpu.run(["/nonexistent/program"]) == (127, "")
    assert gpu.run(["echo", "seen"]) == (0, "seen\n")
