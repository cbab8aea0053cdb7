"""One decision over GPU, image, driver, CUDA and torch: what fits, or why nothing does.

`check` decides on the controller, from names alone and before anything costs money; `stack` decides
the same on the host, from the GPUs found there. Pure functions over `gpu_table`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from . import gpu_table as table
from .errors import LabError
from .gpu_table import Version

SHOWN = 60
WHERE = "inventory/group_vars/all/lab.yml"
SOURCES = ("nvidia", "distribution")
MODULES = ("auto", "open", "proprietary")
# A GPU that the table does not know is newer than the table: the newest line that has no end.
UNKNOWN: Version = (7, 5)


@dataclass(frozen=True)
class Wish:
    """What the user asks for; an empty text means "choose what fits".

    `toolkits` are versions of CUDA's toolkit such as "13.0", or "distribution". `driver` is the
    version of a driver that is there already and stays.
    """

    source: str = "nvidia"
    branch: str = ""
    modules: str = "auto"
    torch: str = ""
    toolkits: tuple[str, ...] = ()
    driver: str = ""
    image_brings_driver: bool = False


@dataclass(frozen=True)
class Stack:
    """What fits together on one host.

    `driver` is a branch ("580") from NVIDIA's repository or a version of the distribution's;
    `backend` is uv's name of torch's index, empty for Python's own index; `cuda` the newest CUDA
    that driver and GPU run, empty where that is not known.
    """

    source: str
    modules: str
    driver: str
    cuda: str
    torch: str
    torchvision: str
    build: str
    backend: str


def parse(version: str) -> Version:
    """Split "550.163.01" into numbers that compare; an empty text is below all."""
    return tuple(int(part) for part in re.findall(r"\d+", version))


def show(version: Version) -> str:
    """Write (12, 9) as "12.9"."""
    return ".".join(str(part) for part in version)


# --- Instance types -----------------------------------------------------------------------------


def gpus_of(instance_type: str) -> tuple[str, int]:
    """Return the GPU of a type and how many; ("", 0) for a type without, or an unknown one."""
    family, _, size = instance_type.partition(".")
    gpu, sizes = table.FAMILIES.get(family, ("", {}))
    return (gpu, sizes[size]) if size in sizes else ("", 0)


def needs_fabric_manager(instance_type: str) -> bool:
    """Whether NVSwitch joins the GPUs of this type."""
    return instance_type.startswith(table.FABRIC)


def model_of(device: str) -> str:
    """Name the GPU of a PCI device id (four hex digits); empty for one that is not in the table."""
    return next((name for name, gpu in table.GPUS.items() if device in gpu.devices), "")


def capability_of(device: str) -> Version:
    """Return the compute capability of a PCI device id; empty for one that is not known."""
    name = model_of(device)
    return table.GPUS[name].capability if name else ()


# --- On the controller --------------------------------------------------------------------------


def check(
    instance_type: str, image: str, distribution: str, wish: Wish
) -> tuple[Stack | None, list[str]]:
    """Decide from names alone; the stack (None without a GPU) and warnings. Raises LabError.

    `distribution` is such as "Debian_13", empty for an image that nothing is known of.
    """
    problems = list(_words(wish))
    family = instance_type.partition(".")[0]
    if family in table.RETIRED and not gpus_of(instance_type)[1]:
        gpu, instead = table.RETIRED[family]
        problems.append(
            f"lab_instance_type is {instance_type}, but the lab cannot run on it: {gpu} hosts are"
            f" retired or not NVIDIA's; run again with -e lab_instance_type={instead}.xlarge"
        )
    if problems:
        raise LabError("\n".join(problems))
    gpu, _ = gpus_of(instance_type)
    if not gpu:
        return None, []
    capability = table.GPUS[gpu].capability
    named = f"{instance_type} ({gpu}, {_line(capability).architecture})"
    if instance_type in table.FRACTIONS and not wish.image_brings_driver:
        problems.append(
            f"lab_instance_type is {instance_type}, a part of a GPU, which runs on NVIDIA's GRID"
            " driver alone, and the lab installs the other one: run again with -e"
            " lab_instance_type=g6.xlarge, or give an image that brings the GRID driver"
        )
    if not distribution and not wish.image_brings_driver:
        problems += _torch_problems(capability, "", distribution, wish, named)
        if problems:
            raise LabError("\n".join(problems))
        return None, [f"Nothing is known of the driver on lab_image {image}: the host will tell"]
    try:
        found = stack([capability], distribution, wish, named)
    except LabError as error:
        raise LabError("\n".join([*problems, str(error)])) from None
    if problems:
        raise LabError("\n".join(problems))
    return found, []


def _words(wish: Wish) -> Iterator[str]:
    """Say which words are none that can be meant."""
    if wish.source not in SOURCES:
        yield _bad("lab_nvidia_source", wish.source, " or ".join(SOURCES), "nvidia")
    if wish.modules not in MODULES:
        yield _bad("lab_nvidia_modules", wish.modules, ", ".join(MODULES), "auto")
    if wish.branch and not (wish.branch.isdecimal() and int(wish.branch) in table.BRANCHES):
        known = ", ".join(map(str, table.BRANCHES))
        yield _bad("lab_nvidia_branch", wish.branch, f"empty or one of {known}", "580")
    if wish.torch and wish.torch not in table.TORCH:
        known = ", ".join(table.TORCH)
        newest = next(iter(table.TORCH))
        yield _bad("lab_torch_version", wish.torch, f"empty or one of {known}", newest)
    for toolkit in wish.toolkits:
        if toolkit != "distribution" and not re.fullmatch(r"\d\d\.\d", toolkit, re.ASCII):
            yield _bad(
                "lab_cuda_toolkits", toolkit, "versions such as 13.0, or distribution", "13.0"
            )


def _bad(variable: str, value: str, rule: str, example: str) -> str:
    shown = value if len(value) <= SHOWN else value[:SHOWN] + "…"
    return (
        f'{variable} is "{shown}", but it must be {rule}: correct it in {WHERE} or run again with'
        f" -e {variable}={example}"
    )


# --- The decision -------------------------------------------------------------------------------


def stack(
    capabilities: Sequence[Version], distribution: str, wish: Wish, named: str = "the GPU"
) -> Stack:
    """Choose driver, modules, CUDA and torch for these GPUs. Raises LabError with all reasons."""
    problems = list(_words(wish))
    if problems:
        raise LabError("\n".join(problems))
    known = [each or UNKNOWN for each in capabilities]
    problems = []
    for capability in dict.fromkeys(known):
        line = _line(capability)
        problems += _module_problems(capability, distribution, wish, named)
        problems += _driver_problems(line, distribution, wish, named)
        driver = _driver(line, distribution, wish)
        problems += _torch_problems(capability, driver, distribution, wish, named)
        problems += _toolkit_problems(capability, driver, wish, named)
    if problems:
        raise LabError("\n".join(dict.fromkeys(problems)))
    lowest = min(known)
    driver = _driver(_line(lowest), distribution, wish)
    version, build = _torch(known, parse(driver), _releases(distribution, wish))
    release = table.TORCH[version]
    return Stack(
        source="image" if wish.driver or wish.image_brings_driver else wish.source,
        modules=_modules(lowest, distribution, wish),
        driver=driver,
        cuda=show(_cuda(lowest, parse(driver))),
        torch=version,
        torchvision=release.torchvision,
        build=build,
        backend="" if build == release.builds[0] else build,
    )


def without_gpu(distribution: str, wish: Wish) -> Stack:
    """Choose the build of torch for the CPU. Raises LabError."""
    problems = list(_words(wish))
    if problems:
        raise LabError("\n".join(problems))
    version = next(iter(_releases(distribution, wish)), wish.torch)
    return Stack(
        source="",
        modules="",
        driver="",
        cuda="",
        torch=version,
        torchvision=table.TORCH[version].torchvision,
        build="cpu",
        backend="cpu",
    )


def _releases(distribution: str, wish: Wish) -> list[str]:
    """List the versions of torch to choose from, those that the release's Python can have."""
    if wish.torch:
        return [wish.torch]
    known = table.DISTRIBUTIONS.get(distribution)
    return [
        version
        for version, torch in table.TORCH.items()
        if known is None or known.python >= torch.python
    ]


def _line(capability: Version) -> table.Line:
    """Return the line of a capability; one between two lines is of the one below."""
    below = [known for known in table.CAPABILITIES if known <= capability]
    return table.CAPABILITIES[max(below, default=min(table.CAPABILITIES))]


def _modules(capability: Version, distribution: str, wish: Wish) -> str:
    if wish.modules != "auto":
        return wish.modules
    flavours = _line(capability).modules
    if wish.source == "distribution" and distribution in table.DISTRIBUTIONS:
        own = table.DISTRIBUTIONS[distribution].own
        # Debian's own open modules are older than the kernels they have to build on.
        order = ("proprietary", "open") if distribution.startswith("Debian") else flavours
        return next((each for each in order if each in own and each in flavours), flavours[0])
    return flavours[0]


def _driver(line: table.Line, distribution: str, wish: Wish) -> str:
    """Return the driver that there will be; empty for one that an image brings."""
    if wish.driver or wish.image_brings_driver:
        return wish.driver
    if wish.source == "nvidia":
        newest = line.last or table.DEFAULT_BRANCH
        return wish.branch or str(min(newest, table.DEFAULT_BRANCH))
    own = table.DISTRIBUTIONS[distribution].own if distribution in table.DISTRIBUTIONS else {}
    return next(iter(own.values()), "")


def _module_problems(
    capability: Version, distribution: str, wish: Wish, named: str
) -> Iterator[str]:
    line = _line(capability)
    if wish.driver:
        return
    if wish.image_brings_driver:
        if "open" not in line.modules:
            yield (
                f"{named} needs the proprietary kernel modules, and the image brings the open ones:"
                " run again with -e lab_image=debian_13"
            )
        return
    if distribution not in table.DISTRIBUTIONS:
        known = ", ".join(each.replace("_", " ") for each in table.DISTRIBUTIONS)
        yield (
            f"There is no driver for {distribution.replace('_', ' ')}: the lab knows {known}, and"
            " images that bring a driver; run again with -e lab_image=debian_13 or"
            " dlami_ubuntu_24_04"
        )
        return
    wanted = _modules(capability, distribution, wish)
    own = table.DISTRIBUTIONS[distribution].own
    if wanted not in line.modules:
        yield (
            f"{named} runs on {' or '.join(line.modules)} kernel modules alone, and"
            f" lab_nvidia_modules is {wish.modules}: run again with -e"
            f" lab_nvidia_modules={line.modules[0]}"
        )
    elif wish.source == "distribution" and wanted not in own:
        yield (
            f"{distribution.replace('_', ' ')} itself has no {wanted} kernel modules that build on"
            " its kernel: run again with -e lab_nvidia_source=nvidia"
        )


def _driver_problems(line: table.Line, distribution: str, wish: Wish, named: str) -> Iterator[str]:
    driver = parse(_driver(line, distribution, wish))[:1]
    if not driver:
        return
    branch = driver[0]
    if line.last and branch > line.last:
        mend = (
            f"run again with -e lab_nvidia_branch={line.last}"
            if line.last >= min(table.BRANCHES) and not wish.driver
            else "choose another lab_instance_type"
        )
        yield f"{named} runs on driver {line.last} at most, and the driver is {branch}: {mend}"
    if branch < line.first:
        yield (
            f"{named} needs driver {line.first}, and the driver is {branch}: run again with -e"
            f" lab_nvidia_source=nvidia -e lab_nvidia_branch={max(line.first, 580)}"
        )
    if wish.driver or wish.source != "nvidia" or distribution not in table.DISTRIBUTIONS:
        return
    first = table.DISTRIBUTIONS[distribution].first
    if branch < first:
        yield (
            f"NVIDIA's repository has driver {first} and later for"
            f" {distribution.replace('_', ' ')}, and lab_nvidia_branch is {branch}: run again with"
            f" -e lab_nvidia_branch={max(first, table.DEFAULT_BRANCH)}"
        )
    if wish.modules == "proprietary" and branch > table.LAST_PROPRIETARY:
        yield f"Driver {branch} has no proprietary kernel modules: set lab_nvidia_modules to auto"


def _runs(version: str, build: str, capability: Version, driver: Version) -> bool:
    """Whether a build of torch has code for the GPU and a driver new enough (empty: any)."""
    if build == "cpu":
        return False
    needs = table.BUILDS[build]
    lowest = needs.lowest
    if build == "cu128" and parse(version) <= table.VOLTA_IN_CU128:
        lowest = (7, 0)
    return lowest <= capability <= _ceiling(needs) and (not driver or driver >= needs.driver)


def _ceiling(build: table.Build) -> Version:
    """Reach to the end of the major version: a later minor runs the code of an earlier one."""
    return (build.highest[0], 9)


def _torch(
    capabilities: Sequence[Version], driver: Version, releases: Sequence[str]
) -> tuple[str, str]:
    """Return the newest torch, and its best build, that all GPUs run; ("", "") for none."""
    for version in releases:
        for build in table.TORCH[version].builds:
            if all(_runs(version, build, each, driver) for each in capabilities):
                return version, build
    return "", ""


def _torch_problems(
    capability: Version, driver: str, distribution: str, wish: Wish, named: str
) -> Iterator[str]:
    release = table.DISTRIBUTIONS.get(distribution)
    if release and wish.torch and release.python < (oldest := table.TORCH[wish.torch].python):
        yield (
            f"torch {wish.torch} needs Python {show(oldest)}, and {distribution.replace('_', ' ')}"
            f" has {show(release.python)}: run again with -e"
            f" lab_torch_version={_releases(distribution, replace(wish, torch=''))[0]}"
        )
        return
    if _torch([capability], parse(driver), _releases(distribution, wish))[0]:
        return
    line = _line(capability)
    any_release = _releases(distribution, replace(wish, torch=""))
    newest, _ = _torch([capability], parse(driver), any_release)
    if not newest:
        yield (
            f"No torch runs on {named} with driver {driver or 'any'}:"
            " choose another lab_instance_type, such as g4dn.xlarge"
        )
        return
    why = f"torch {wish.torch} has no code for {line.architecture} ({show(capability)})"
    mend = f"the newest torch that runs there is {newest}: run again with -e"
    if _torch([capability], (), [wish.torch])[0]:
        needed = min(
            table.BUILDS[build].driver
            for build in table.TORCH[wish.torch].builds
            if build in table.BUILDS and _runs(wish.torch, build, capability, ())
        )
        why = f"torch {wish.torch} needs driver {show(needed)}, and the driver is {driver}"
        if not wish.driver and not wish.image_brings_driver:
            mend = f"run again with -e lab_nvidia_source=nvidia, or, with {newest}, -e"
    yield f"{named}: {why}; {mend} lab_torch_version={newest}"


def _cuda(capability: Version, driver: Version) -> Version:
    """Return the newest CUDA of this driver and GPU; empty where the driver is not known."""
    of_driver = {470: (11, 4), 535: (12, 2), 550: (12, 4)} | table.BRANCHES
    if not driver:
        return ()
    below = [branch for branch in of_driver if branch <= driver[0]]
    newest: Version = of_driver[max(below)] if below else ()
    ceiling = _line(capability).cuda
    return min(newest, ceiling) if ceiling and newest else newest


def _toolkit_problems(capability: Version, driver: str, wish: Wish, named: str) -> Iterator[str]:
    line = _line(capability)
    for toolkit in wish.toolkits:
        version = parse(toolkit)
        if not wish.driver and not wish.image_brings_driver:
            yield from _mixed(toolkit, wish)
        if not version:
            continue
        if line.cuda and version > line.cuda:
            yield (
                f"CUDA toolkit {toolkit} has no code for {named}, whose last is {show(line.cuda)}:"
                f" run again with -e lab_cuda_toolkits={show(line.cuda)}"
            )
        elif version < line.nvcc:
            yield (
                f"CUDA toolkit {toolkit} is older than {named}, which {show(line.nvcc)} knows"
                f" first: run again with -e lab_cuda_toolkits={show(max(line.nvcc, (12, 9)))}"
            )
        needed = table.CUDA_DRIVERS.get(version[0])
        if driver and needed and parse(driver) < needed:
            yield (
                f"CUDA toolkit {toolkit} needs driver {show(needed)}, and the driver is {driver}:"
                " run again with -e lab_cuda_toolkits=12.9"
            )


def _mixed(toolkit: str, wish: Wish) -> Iterator[str]:
    """Refuse a toolkit of one source beside a driver of the other: their packages collide."""
    theirs = "distribution" if toolkit == "distribution" else "nvidia"
    if theirs != wish.source:
        yield (
            f"lab_cuda_toolkits has {toolkit}, whose packages do not go with a driver from"
            f" {wish.source}: run again with -e lab_nvidia_source={theirs}"
        )
