"""What the packages of a driver are called, by distribution and source. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Sequence

from . import gpu_table as table
from .errors import LabError
from .gpu_matrix import needs_fabric_manager, parse, show


def packages(distribution: str, source: str, branch: str, modules: str) -> list[str]:
    """Name the headless set of a driver: kernel module, CUDA's library, nvidia-smi, persistence."""
    is_open = modules == "open"
    if distribution.startswith("Debian"):
        if source == "nvidia":
            kernel = "nvidia-kernel-open-dkms" if is_open else "nvidia-kernel-dkms"
            return [kernel, "nvidia-driver-cuda", "nvidia-persistenced"]
        kernel = "nvidia-open-kernel-dkms" if is_open else "nvidia-kernel-dkms"
        return [kernel, "nvidia-smi", "libcuda1", "nvidia-persistenced"]
    if source == "nvidia":
        suffix = f"-{branch}" if int(branch) < table.UNSUFFIXED else ""
        kernel = f"nvidia-dkms{suffix}{'-open' if is_open else ''}"
        names = [f"libnvidia-compute{suffix}", f"nvidia-utils{suffix}", "nvidia-persistenced"]
        return [kernel, *names]
    flavour = f"{branch}-server{'-open' if is_open else ''}"
    return [
        f"nvidia-headless-no-dkms-{flavour}",
        f"linux-modules-nvidia-{flavour}-aws",
        f"nvidia-utils-{branch}-server",
    ]


def headers(distribution: str, kernel: str) -> list[str]:
    """Name the kernel's headers: the meta package, so that an upgrade has them too, and its own.

    `kernel` is as `uname -r` tells it; [] for a kernel that is not the distribution's.
    """
    pattern = r"(cloud-|rt-)?(amd64|arm64)$" if distribution.startswith("Debian") else r"aws$"
    found = re.search(pattern, kernel)
    return [f"linux-headers-{found[0]}", f"linux-headers-{kernel}"] if found else []


def repository(distribution: str, machine: str) -> tuple[str, str]:
    """Return NVIDIA's folder for exactly this release, and the SHA-256 of the keyring package.

    `machine` is as `uname -m` tells it. The sum is empty where it is not known. Raises LabError.
    """
    if distribution not in table.DISTRIBUTIONS:
        raise LabError(f"NVIDIA's repository has no folder for {distribution.replace('_', ' ')}")
    folder = "sbsa" if machine == "aarch64" else "x86_64"
    found = table.DISTRIBUTIONS[distribution]
    return f"{found.folder}/{folder}", found.keyrings.get(folder, "")


def toolkit_packages(toolkits: Sequence[str]) -> list[str]:
    """Name the packages of the toolkits; never `cuda`, which drags a driver along."""
    return [
        "nvidia-cuda-toolkit"
        if each == "distribution"
        else f"cuda-toolkit-{each.replace('.', '-')}"
        for each in toolkits
    ]


def fabric_packages(instance_type: str, branch: str, version: str) -> list[str]:
    """Name the packages of the NVLink fabric for exactly this version of the driver."""
    if not needs_fabric_manager(instance_type):
        return []
    name = "nvidia-fabricmanager" + ("" if parse(branch)[:1] >= (580,) else f"-{branch}")
    manager = ["nvlsm"] if instance_type.startswith(table.SUBNET_MANAGER) else []
    return [f"{name}={version}-*", *manager]


def nvcc_knows(toolkit: str) -> list[str]:
    """List the architectures ("sm_75") of the table that a toolkit's compiler has code for."""
    version = parse(toolkit)[:2]
    return [
        "sm_" + show(capability).replace(".", "")
        for capability, line in table.CAPABILITIES.items()
        if line.nvcc <= version and (not line.cuda or version <= line.cuda)
    ]
