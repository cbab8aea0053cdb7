"""Which NVIDIA GPUs a host has, what drives them, and what follows from that.

Nothing here needs a GPU: the files of the kernel are read below a root that tests can give,
and programs are run by a runner that tests can replace.
"""

from __future__ import annotations

import platform
import re
import subprocess
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from . import gpu_matrix, gpu_packages
from .gpu_matrix import parse

VENDOR = "0x10de"
DISPLAY_CLASS = "0x03"  # VGA and 3D controllers; a GPU's audio function is 0x0403
# The packages of which one brings the kernel module, in Debian, Ubuntu and NVIDIA's repository.
MODULE_PACKAGE = re.compile(
    r"nvidia-(kernel-dkms|kernel-open-dkms|open-kernel-dkms|dkms(-\d+)?(-server)?(-open)?)"
    r"|linux-modules-nvidia-\d+(-server)?(-open)?-aws"
)
# The packages of which one brings CUDA's library, which must be of the module's version.
LIBRARY_PACKAGE = re.compile(r"libcuda1|nvidia-driver-cuda|libnvidia-compute(-\d+)?(-server)?")
PATTERNS = ("*nvidia*", "libcuda*", "cuda-*", "nvlsm", "linux-headers-*")
SMI_FIELDS = {
    "index": int, "name": str, "driver_version": str, "memory.total": int, "memory.used": int,
    "utilization.gpu": int, "compute_cap": str, "pstate": str, "temperature.gpu": int,
    "persistence_mode": str, "ecc.errors.uncorrected.volatile.total": int,
}  # fmt: skip
DONE = "installed"
# What role nvidia writes first and removes last.
MARK = "etc/apt/apt.conf.d/52lab-nvidia"

# A runner takes an argument list and returns exit status and standard output.
Runner = Callable[[Sequence[str]], tuple[int, str]]


@dataclass(frozen=True)
class Gpu:
    """A GPU on the PCI bus: its address and its device id (four hex digits)."""

    address: str
    device: str

    @property
    def capability(self) -> tuple[int, ...]:
        """Its compute capability; empty for one that the table does not know."""
        return gpu_matrix.capability_of(self.device)


@dataclass(frozen=True)
class Package:
    """A package as dpkg knows it: "installed", "half-configured", … and the version it is of."""

    name: str
    state: str
    version: str

    @property
    def upstream(self) -> str:
        """The driver's version in it: "580.95.05" of "1:580.95.05-1"."""
        found = re.match(r"(?:\d+:)?(\d+(?:\.\d+)+)", self.version)
        return found[1] if found else ""


@dataclass(frozen=True)
class Dkms:
    """A module of DKMS: "added", "built" or "installed" for one kernel (none for "added")."""

    module: str
    version: str
    kernel: str
    state: str


@dataclass(frozen=True)
class Smi:
    """What nvidia-smi says: its exit status, its GPUs by SMI_FIELDS, and its words if it failed."""

    status: int = 127
    gpus: tuple[dict[str, int | str], ...] = ()
    said: str = ""


@dataclass(frozen=True)
class Host:
    """What a host has; versions such as "550.163.01", each empty where there is none."""

    gpus: tuple[Gpu, ...] = ()
    instance_type: str = ""
    distribution: str = ""
    kernel: str = ""
    machine: str = "x86_64"
    loaded: str = ""
    loaded_modules: str = ""
    packages: tuple[Package, ...] = ()
    dkms: tuple[Dkms, ...] = ()
    # Kernels that could boot, and those of them that have a module of NVIDIA's as a file.
    kernels: tuple[str, ...] = ()
    kernels_with_module: tuple[str, ...] = ()
    nouveau: bool = False
    nodes: tuple[str, ...] = ()
    smi: Smi = Smi()
    # Whether role nvidia has begun to install a driver here.
    ours: bool = False

    @property
    def module(self) -> Package | None:
        """The package that brings the kernel module; a whole one before a broken one."""
        found = [each for each in self.packages if MODULE_PACKAGE.fullmatch(each.name)]
        return min(found, key=lambda each: each.state != DONE, default=None)

    @property
    def installed(self) -> str:
        """The version of the module that packages have brought, once that package is whole."""
        return self.module.upstream if self.module and self.module.state == DONE else ""

    @property
    def library(self) -> str:
        """The version of CUDA's library that packages have brought."""
        found = [each for each in self.packages if LIBRARY_PACKAGE.fullmatch(each.name)]
        return next((each.upstream for each in found if each.state == DONE), "")

    @property
    def works(self) -> bool:
        """Whether nvidia-smi reaches the driver."""
        return self.smi.status == 0

    @property
    def expected(self) -> int:
        """How many GPUs there should be: by the instance type, else as many as are on the bus."""
        return gpu_matrix.gpus_of(self.instance_type)[1] or len(self.gpus)


def run(command: Sequence[str]) -> tuple[int, str]:
    """Run a program; one that is not there has the shell's exit status, 127."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return 127, ""
    return done.returncode, done.stdout


# --- Looking ------------------------------------------------------------------------------------


def read_host(root: Path, runner: Runner = run) -> Host:
    """Read etc/, sys/, proc/, dev/, boot/ and lib/ below `root`; ask programs if there is a GPU."""
    gpus = find_gpus(root)
    kernel = _text(root / "proc/sys/kernel/osrelease")
    there = Host(
        gpus=gpus,
        instance_type=_text(root / "sys/devices/virtual/dmi/id/product_name"),
        distribution=distribution(_text(root / "etc/os-release")),
        kernel=kernel,
        machine=_text(root / "proc/sys/kernel/arch") or platform.machine(),
    )
    if not gpus:
        return there
    loaded, modules = loaded_driver(root)
    # Side by side: `dkms status` compares modules for a second, nvidia-smi may wait for the driver.
    with ThreadPoolExecutor() as pool:
        of_dkms, of_smi = pool.submit(dkms, runner), pool.submit(smi, runner)
        of_dpkg = packages(runner)
    return replace(
        there,
        loaded=loaded,
        loaded_modules=modules,
        packages=of_dpkg,
        dkms=of_dkms.result(),
        kernels=kernels(root),
        kernels_with_module=tuple(each for each in kernels(root) if has_module(root, each)),
        nouveau=bool(re.search(r"^nouveau\b", _text(root / "proc/modules"), re.MULTILINE)),
        nodes=tuple(sorted(path.name for path in (root / "dev").glob("nvidia*"))),
        smi=of_smi.result(),
        ours=(root / MARK).exists(),
    )


def find_gpus(root: Path) -> tuple[Gpu, ...]:
    """List the GPUs of NVIDIA in sys/bus/pci/devices, by address."""
    found = []
    for folder in sorted((root / "sys/bus/pci/devices").glob("*")):
        if _text(folder / "vendor") != VENDOR:
            continue
        if _text(folder / "class").startswith(DISPLAY_CLASS):
            found.append(Gpu(folder.name, _text(folder / "device").removeprefix("0x")))
    return tuple(found)


def distribution(os_release: str) -> str:
    """Return such as "Debian_13" of the text of /etc/os-release."""
    found = dict(re.findall(r'^(ID|VERSION_ID)="?([^"\n]*)"?$', os_release, re.MULTILINE))
    name, version = found.get("ID", ""), found.get("VERSION_ID", "")
    return f"{name.capitalize()}_{version.partition('.')[0]}" if name else ""


def loaded_driver(root: Path) -> tuple[str, str]:
    """Return version and flavour of the kernel module that is loaded, or empty texts."""
    text = _text(root / "proc/driver/nvidia/version")
    found = re.search(r"(Open )?Kernel Module(?: for \S+)?\s+(\d+(?:\.\d+)+)", text)
    if not found:
        return "", ""
    return found[2], "open" if found[1] else "proprietary"


def packages(runner: Runner) -> tuple[Package, ...]:
    """Return the packages around the driver; not those that were never there or are removed."""
    query = [
        "dpkg-query",
        "--show",
        "--showformat",
        "${Package}\t${db:Status-Status}\t${Version}\n",
    ]
    _, text = runner([*query, *PATTERNS])
    found = [Package(*line.split("\t")) for line in text.splitlines()]
    return tuple(each for each in found if each.state not in ("not-installed", "config-files"))


def dkms(runner: Runner) -> tuple[Dkms, ...]:
    """Return NVIDIA's modules of `dkms status`, in its new and its old spelling."""
    _, text = runner(["dkms", "status"])
    found = []
    for line in text.splitlines():
        seen = re.match(r"(nvidia[\w-]*)(?:/|, )([\d.]+)(?:, (\S+), \S+)?: (\w+)", line)
        if seen:
            found.append(Dkms(seen[1], seen[2], seen[3] or "", seen[4]))
    return tuple(found)


def kernels(root: Path) -> tuple[str, ...]:
    """List the kernels that could boot, as `uname -r` would tell them."""
    found = (root / "boot").glob("vmlinuz-*")
    return tuple(sorted(path.name.removeprefix("vmlinuz-") for path in found))


def has_module(root: Path, kernel: str) -> bool:
    """Whether a module of NVIDIA's is there for a kernel, built by DKMS or prebuilt."""
    folder = root / "lib/modules" / kernel
    return any(
        re.fullmatch(r"nvidia(-current\w*)?\.ko(\.\w+)?", path.name)
        for part in ("updates", "kernel", "extra")
        for path in (folder / part).rglob("nvidia*.ko*")
    )


def smi(runner: Runner) -> Smi:
    """Ask nvidia-smi for each of SMI_FIELDS; MiB for memory, per cent, degrees Celsius."""
    status, text = runner(
        ["nvidia-smi", "--query-gpu=" + ",".join(SMI_FIELDS), "--format=csv,noheader,nounits"]
    )
    if status:
        return Smi(status, said=" ".join(text.split()))
    return Smi(0, tuple(_smi_line(line) for line in text.splitlines() if line.strip()))


def _smi_line(line: str) -> dict[str, int | str]:
    values = [value.strip() for value in line.split(",")]
    return {
        name: int(value) if kind is int and value.isdecimal() else value
        for (name, kind), value in zip(SMI_FIELDS.items(), values, strict=False)
    }


# --- What follows -------------------------------------------------------------------------------


def driver_action(host: Host) -> str:
    """Decide about the driver: "none" (no GPU), "keep" (the image brought one), "install".

    A driver of the image that is loaded and does not work is kept too: packages on top of it
    would break it further, and verify tells what is wrong.
    """
    if not host.gpus:
        return "none"
    found = host.works or host.loaded
    return "keep" if found and not host.module and not host.ours else "install"


def reboot_required(host: Host) -> bool:
    """Tell whether a driver is installed that is not the one loaded (or none is)."""
    return bool(host.gpus and host.installed and host.installed != host.loaded)


def capabilities(host: Host) -> list[tuple[int, ...]]:
    """Return the compute capability of each GPU: by its PCI id, else as nvidia-smi tells it."""
    told = [parse(str(gpu.get("compute_cap", ""))) for gpu in host.smi.gpus]
    return [
        gpu.capability or (told[number] if number < len(told) else ())
        for number, gpu in enumerate(host.gpus)
    ]


def stack(host: Host, wish: gpu_matrix.Wish) -> gpu_matrix.Stack:
    """Decide what this host runs, with a GPU or without. Raises LabError where nothing fits.

    A driver that the image brought stays; one that is to be installed counts as there.
    """
    if not host.gpus:
        return gpu_matrix.without_gpu(host.distribution, wish)
    if driver_action(host) == "keep":
        wish = replace(wish, driver=host.loaded or _told_driver(host))
    names = ", ".join(
        dict.fromkeys(gpu_matrix.model_of(each.device) or each.device for each in host.gpus)
    )
    return gpu_matrix.stack(
        capabilities(host), host.distribution, wish, f"The host's GPU ({names})"
    )


def _told_driver(host: Host) -> str:
    return str(host.smi.gpus[0]["driver_version"]) if host.smi.gpus else ""


def wanted_packages(host: Host, stack: gpu_matrix.Stack) -> list[str]:
    """Name the driver's packages for this host, its kernel's headers first."""
    branch = stack.driver.partition(".")[0]
    names = gpu_packages.packages(host.distribution, stack.source, branch, stack.modules)
    return [*gpu_packages.headers(host.distribution, host.kernel), *names]


def switch(host: Host, stack: gpu_matrix.Stack) -> bool:
    """Tell whether the driver installed is of another branch, flavour or source than is wanted."""
    if not host.module or driver_action(host) != "install":
        return False
    other_branch = host.module.upstream.partition(".")[0] != stack.driver.partition(".")[0]
    names = [each.name for each in host.packages]
    foreign = stack.source == "distribution" and "cuda-keyring" in names
    return other_branch or foreign or host.module.name not in wanted_packages(host, stack)


def problems(host: Host) -> list[str]:
    """Say what is wrong after an installation, each with what to do; nothing without a GPU."""
    if not host.gpus:
        return []
    return [*_versions(host), *_modules(host), *_answers(host)]


def _versions(host: Host) -> list[str]:
    if host.module and host.module.state != DONE:
        return [
            f"The package {host.module.name} is {host.module.state}: see why with"
            " `dpkg --configure --pending`, then run site.yml again"
        ]
    if host.installed and host.library and host.installed != host.library:
        return [
            f"The kernel module is {host.installed}, CUDA's library {host.library}: both must be"
            " one version; run site.yml again, which installs one set"
        ]
    return []


def _modules(host: Host) -> list[str]:
    if not host.installed:
        return []
    said = []
    for kernel in host.kernels:
        states = [each.state for each in host.dkms if each.kernel == kernel]
        if DONE in states or (not host.dkms and kernel in host.kernels_with_module):
            continue
        state = f"DKMS says {states[0]}" if states else "DKMS has none"
        said.append(
            f"The driver {host.installed} has no module for the kernel {kernel}, which could boot"
            f" ({state}): run `apt-get install linux-headers-{kernel}` and `dkms autoinstall -k"
            f" {kernel}`, whose log is /var/lib/dkms/*/*/build/make.log; or remove that kernel"
        )
    return said


def _answers(host: Host) -> list[str]:
    if reboot_required(host):
        return []
    if not host.works:
        said = host.smi.said or "it is not installed"
        return [f"nvidia-smi: {said}; a reboot loads the driver that is installed"]
    if len(host.smi.gpus) != host.expected:
        what = host.instance_type or "the PCI bus"
        return [
            f"{what} has {host.expected} GPU(s), nvidia-smi sees {len(host.smi.gpus)}: see"
            " `dmesg | grep -i -e nvrm -e xid`; a stop and a start moves the host to other hardware"
        ]
    return []


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
