"""Which NVIDIA GPUs a host has, what drives them, and what follows from that.

Nothing here needs a GPU: the files of the kernel are read below a root that tests can give,
and programs are run by a runner that tests can replace.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

VENDOR = "0x10de"
DISPLAY_CLASS = "0x03"  # VGA and 3D controllers; a GPU's audio function is 0x0403
# Debian's packages that hold the kernel module, of which one is installed.
MODULE_PACKAGES = ("nvidia-kernel-dkms", "nvidia-open-kernel-dkms")
# EC2's V100, which CUDA 13 no longer runs on.
VOLTA_DEVICES = frozenset({"1db1", "1db4", "1db5", "1db6"})
CUDA_13_DRIVER = (580,)
CUDA_12_DRIVER = (525, 60, 13)

# A runner takes an argument list and returns exit status and standard output.
Runner = Callable[[Sequence[str]], tuple[int, str]]


@dataclass(frozen=True)
class Gpu:
    """A GPU on the PCI bus: its address and its device id (four hex digits)."""

    address: str
    device: str


@dataclass(frozen=True)
class Host:
    """What a host has: GPUs and driver versions ("550.163.01", empty for none).

    `packaged` is true as soon as Debian's package of the module has left a trace, `installed`
    has its version once that is whole; `works` is what nvidia-smi says.
    """

    gpus: tuple[Gpu, ...]
    loaded: str
    installed: str
    packaged: bool
    works: bool


def run(command: Sequence[str]) -> tuple[int, str]:
    """Run a program; one that is not there has the shell's exit status, 127."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return 127, ""
    return done.returncode, done.stdout


def read_host(root: Path, runner: Runner = run) -> Host:
    """Read sys/ and proc/ below `root`, and ask nvidia-smi and dpkg where there is a GPU."""
    gpus = find_gpus(root)
    if not gpus:
        return Host((), "", "", packaged=False, works=False)
    status, _ = runner(["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"])
    packages = module_packages(runner)
    installed = packages.get("installed", "")
    return Host(gpus, loaded_version(root), installed, bool(packages), works=status == 0)


def find_gpus(root: Path) -> tuple[Gpu, ...]:
    """List the GPUs of NVIDIA in sys/bus/pci/devices, by address."""
    found = []
    for folder in sorted((root / "sys/bus/pci/devices").glob("*")):
        if _text(folder / "vendor") != VENDOR:
            continue
        if _text(folder / "class").startswith(DISPLAY_CLASS):
            found.append(Gpu(folder.name, _text(folder / "device").removeprefix("0x")))
    return tuple(found)


def loaded_version(root: Path) -> str:
    """Return the version of the kernel module that is loaded, or an empty string."""
    text = _text(root / "proc/driver/nvidia/version")
    found = re.search(r"Kernel Module(?: for \S+)?\s+(\d+(?:\.\d+)+)", text)
    return found[1] if found else ""


def module_packages(runner: Runner) -> dict[str, str]:
    """Return the driver version of Debian's packages of the module by their state in dpkg.

    A package that was never there, or of which only settings are left, has no entry.
    """
    query = ["dpkg-query", "--show", "--showformat", "${db:Status-Status} ${Version}\n"]
    _, text = runner([*query, *MODULE_PACKAGES])
    found = re.findall(r"^(\S+) (?:\d+:)?([\d.]+)", text, re.MULTILINE)
    return {state: version for state, version in found if state != "config-files"}


def driver_action(host: Host) -> str:
    """Decide about the driver: "none" (no GPU), "keep" (the image brought one), "install".

    A driver of the image that is loaded and does not work is kept too: Debian's packages on
    top of it would break it further, and verify tells what is wrong.
    """
    if not host.gpus:
        return "none"
    return "keep" if (host.works or host.loaded) and not host.packaged else "install"


def reboot_required(host: Host) -> bool:
    """Tell whether a driver is installed that is not the one loaded (or none is)."""
    return bool(host.gpus and host.installed and host.installed != host.loaded)


def torch_build(host: Host) -> str:
    """Choose the build of PyTorch that this host can run: "cpu", "cu126" or "cu132".

    CUDA 13 needs driver 580 and a Turing GPU; CUDA 12 needs 525.60.13. A driver that is
    installed but not loaded yet counts, since it is the one after the reboot.
    """
    driver = version(host.installed or host.loaded)
    if not host.gpus or driver < CUDA_12_DRIVER:
        return "cpu"
    volta = any(gpu.device in VOLTA_DEVICES for gpu in host.gpus)
    return "cu126" if volta or driver < CUDA_13_DRIVER else "cu132"


def version(text: str) -> tuple[int, ...]:
    """Split "550.163.01" into numbers that compare; an empty text is below all."""
    return tuple(int(part) for part in text.split(".") if part)


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
