"""Hosts with GPUs, simulated: as files below a root, and as what was read of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from ansible.module_utils.lab.gpu import Dkms, Gpu, Host, Package, Smi

KERNEL = "6.12.107+deb13-cloud-amd64"
PROPRIETARY = (
    "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.163.01  Tue Apr  8 12:41:17 UTC 2025\n"
    "GCC version:  gcc version 14.2.0 (Debian 14.2.0-19)\n"
)
OPEN = (
    "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build"
    "  (root@x)  Tue Sep 23 10:11:16 UTC 2025\n"
)
DEBIAN_13 = 'PRETTY_NAME="Debian GNU/Linux 13 (trixie)"\nID=debian\nVERSION_ID="13"\n'
SMI_LINE = "0, Tesla T4, 580.95.05, 15360, 3, 0, 7.5, P8, 27, Enabled, 0\n"
T4, V100, H100 = (Gpu("0000:00:1e.0", device) for device in ("1eb8", "1db1", "2330"))
NEWER = Gpu("0000:00:1e.0", "ffff")
NODES = ("nvidia-uvm", "nvidia0", "nvidiactl")


def device(root: Path, address: str, vendor: str, pci_class: str, number: str) -> None:
    """Put a device on the bus."""
    folder = root / "sys/bus/pci/devices" / address
    folder.mkdir(parents=True)
    for name, text in (("vendor", vendor), ("class", pci_class), ("device", number)):
        (folder / name).write_text(text + "\n")


def write(root: Path, path: str, text: str = "") -> None:
    """Put a file below the root."""
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


def programs(**answers: tuple[int, str]) -> Callable[[Sequence[str]], tuple[int, str]]:
    """Answer as these programs do (an underscore for each hyphen); others are not there."""

    def run(command: Sequence[str]) -> tuple[int, str]:
        return answers.get(command[0].replace("-", "_"), (127, ""))

    return run


def packages(version: str, library: str = "", state: str = "installed") -> tuple[Package, ...]:
    """Return the module's package and that of CUDA's library."""
    return (
        Package("nvidia-kernel-open-dkms", state, f"{version}-1"),
        Package("nvidia-driver-cuda", "installed", f"{library or version}-1"),
    )


def working(version: str = "580.95.05", count: int = 1, **changes: object) -> Host:
    """Return a host on which all is well: T4, packages, DKMS, nvidia-smi."""
    line: dict[str, int | str] = {"driver_version": version, "compute_cap": "7.5"}
    there = Host(
        gpus=(T4,) * count,
        instance_type="g4dn.xlarge" if count == 1 else "g4dn.12xlarge",
        distribution="Debian_13",
        kernel=KERNEL,
        loaded=version,
        loaded_modules="open",
        packages=packages(version),
        dkms=(Dkms("nvidia", version, KERNEL, "installed"),),
        kernels=(KERNEL,),
        kernels_with_module=(KERNEL,),
        nodes=(*(f"nvidia{number}" for number in range(count)), "nvidia-uvm", "nvidiactl"),
        smi=Smi(0, (line,) * count),
    )
    return replace(there, **changes)  # type: ignore[arg-type]  # any field of Host
