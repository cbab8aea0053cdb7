"""Why torch does not use a GPU that is there: the silent fallback to the CPU, made loud.

Pure: what the host shows (`gpu.Host`) and what torch says (`Torch`) go in, one sentence comes out.
"""

from __future__ import annotations

from dataclasses import dataclass

from . import gpu_matrix
from . import gpu_table as table
from .gpu import Host, capabilities
from .gpu_matrix import parse, show

MEND = "run: ansible-playbook site.yml"


@dataclass(frozen=True)
class Torch:
    """What torch says: its CUDA ("13.2", empty for a CPU build), its architectures, its GPUs.

    `error` is what it said when it was made to start CUDA; `hidden` the value of
    CUDA_VISIBLE_DEVICES, None where it is not set.
    """

    version: str
    cuda: str = ""
    architectures: tuple[str, ...] = ()
    available: bool = False
    count: int = 0
    error: str = ""
    hidden: str | None = None


def reason(host: Host, torch: Torch) -> str:
    """Say why torch does not use every GPU of the host as it could; empty where it does."""
    if not host.gpus:
        return ""
    if torch.available and torch.count >= host.expected:
        return _architectures(host, torch)
    why = _driver(host) or _torch(host, torch) or _devices(host) or _rest(host, torch)
    return f"{len(host.gpus)} GPU(s), but torch {torch.version} uses {torch.count}: {why}"


def _driver(host: Host) -> str:
    """Look for what no torch could use."""
    return _mismatch(host) or ("" if host.loaded else _not_loaded(host))


def _mismatch(host: Host) -> str:
    advice = " (driver and library do not match): reboot the host"
    if host.loaded:
        for what, version in (("the one installed", host.installed), ("its library", host.library)):
            if version and version != host.loaded:
                return f"the module that runs is {host.loaded}, {what} {version}{advice}"
    return f"nvidia-smi says {host.smi.said}{advice}" if "mismatch" in host.smi.said else ""


def _not_loaded(host: Host) -> str:
    if host.nouveau:
        return "nouveau drives the GPU, so NVIDIA's module cannot: reboot the host"
    if host.installed:
        return f"the driver {host.installed} is installed, and not loaded: reboot the host"
    return f"no driver is installed: {MEND}"


def _torch(host: Host, torch: Torch) -> str:
    """Look for a torch that does not fit driver or GPU."""
    if not torch.cuda:
        return f"it is the build for the CPU: {MEND}"
    needed = table.CUDA_DRIVERS.get(parse(torch.cuda)[0], ())
    if parse(host.loaded) < needed:
        return (
            f"it brings CUDA {torch.cuda}, which needs driver {show(needed)}, and the driver is"
            f" {host.loaded} (too old for the wheel): set lab_nvidia_source to nvidia, or"
            f" lab_torch_version to one for CUDA {parse(torch.cuda)[0] - 1}, then {MEND}"
        )
    return _architectures(host, torch)


def _architectures(host: Host, torch: Torch) -> str:
    """Look for a GPU whose code is not in torch: "no kernel image is available"."""
    known = [parse(each)[0] for each in torch.architectures if each.startswith("sm_")]
    for capability in capabilities(host):
        if not capability or not known:
            continue
        number = capability[0] * 10 + capability[1]
        if not any(each // 10 == capability[0] and each <= number for each in known):
            return (
                f"torch {torch.version} has no code for compute capability {show(capability)}, only"
                f" for {', '.join(torch.architectures)} (wrong capability): leave lab_torch_version"
                f" empty and {MEND}"
            )
    return ""


def _devices(host: Host) -> str:
    """Look for GPUs that programs cannot open."""
    numbered = [node for node in host.nodes if node.removeprefix("nvidia").isdecimal()]
    if "nvidiactl" not in host.nodes or len(numbered) < len(host.gpus):
        missing = "nvidiactl" if "nvidiactl" not in host.nodes else f"nvidia{len(numbered)}"
        return (
            f"/dev/{missing} is missing (no device nodes): run `nvidia-modprobe -u -c=0`, or"
            " `systemctl restart nvidia-persistenced`"
        )
    if "nvidia-uvm" not in host.nodes:
        return "/dev/nvidia-uvm is missing (no device nodes): run `nvidia-modprobe -u -c=0`"
    return ""


def _rest(host: Host, torch: Torch) -> str:
    if torch.hidden is not None:
        return f"CUDA_VISIBLE_DEVICES is {torch.hidden!r}: unset it"
    if gpu_matrix.needs_fabric_manager(host.instance_type) and "802" in torch.error:
        return (
            "CUDA is not initialised (error 802), which on this type is Fabric Manager not running,"
            " or not of the driver's version: see `systemctl status nvidia-fabricmanager`"
        )
    if host.expected > len(host.gpus):
        return (
            f"{host.instance_type} has {host.expected} GPUs, {len(host.gpus)} are on the bus: a"
            " stop and a start moves the host to other hardware"
        )
    return torch.error or "torch gives no reason; see `nvidia-smi` and `dmesg | grep -i nvrm`"
