"""What fits what: every row of the table, what is refused, and that each mend is one."""

from __future__ import annotations

import gzip
import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import moto
import pytest
import yaml
from ansible.module_utils.lab import gpu_matrix, gpu_packages
from ansible.module_utils.lab import gpu_table as table
from ansible.module_utils.lab.errors import LabError
from ansible.module_utils.lab.gpu_matrix import Wish, check

ROOT = Path(__file__).resolve().parents[2]
T4, V100, B200 = "g4dn.xlarge", "p3dn.24xlarge", "p6-b200.48xlarge"
TYPES = [f"{family}.{size}" for family, (_, sizes) in table.FAMILIES.items() for size in sizes]
DEBIAN = ("debian_13", "Debian_13")


@pytest.fixture(scope="module")
def described() -> dict[str, Any]:
    """What DescribeInstanceTypes says of the types that AWS offers, as moto carries it."""
    path = Path(moto.__file__).parent / "ec2/resources/instance_types.json.gz"
    types = json.loads(gzip.decompress(path.read_bytes()))
    return {
        name: kind["GpuInfo"]["Gpus"][0]
        for name, kind in types.items()
        if kind.get("GpuInfo") and kind["GpuInfo"]["Gpus"][0]["Manufacturer"] == "NVIDIA"
    }


def test_every_nvidia_type_of_aws_is_in_the_table_and_no_other(described: dict[str, Any]) -> None:
    assert set(TYPES) == set(described)


@pytest.mark.parametrize("name", TYPES)
def test_count_and_memory_are_those_of_aws(name: str, described: dict[str, Any]) -> None:
    gpu, count = gpu_matrix.gpus_of(name)
    said = described[name]
    memory = table.FRACTIONS.get(name, table.GPUS[gpu].memory)
    assert memory == pytest.approx(said["MemoryInfo"]["SizeInMiB"] / 1024, abs=0.06)
    # AWS counts a part of a GPU as none; on the bus it is one.
    assert count == (1 if name in table.FRACTIONS else said["Count"])


def test_retired_types_are_offered_no_more(described: dict[str, Any]) -> None:
    families = {name.partition(".")[0] for name in described}
    assert not families & set(table.RETIRED)
    assert {instead for _, instead in table.RETIRED.values()} <= families


def test_every_gpu_has_a_line_and_every_device_one_model() -> None:
    assert all(gpu.capability in table.CAPABILITIES for gpu in table.GPUS.values())
    devices = [device for gpu in table.GPUS.values() for device in gpu.devices]
    assert len(devices) == len(set(devices))
    assert all(re.fullmatch("[0-9a-f]{4}", device) for device in devices)


def test_every_torch_has_builds_that_are_known() -> None:
    for torch in table.TORCH.values():
        assert set(torch.builds) <= {*table.BUILDS, "cpu"}


@pytest.mark.parametrize("name", TYPES)
def test_the_defaults_fit_every_type_that_is_whole(name: str) -> None:
    """With nothing chosen but the type, a Debian 13 host gets torch, but for parts of a GPU."""
    if name in table.FRACTIONS:
        with pytest.raises(LabError, match="GRID driver"):
            check(name, *DEBIAN, Wish())
        assert check(name, "ami", "", Wish(image_brings_driver=True))[0]
    else:
        found, warnings = check(name, *DEBIAN, Wish())
        assert found is not None and found.torch and not warnings


@pytest.mark.parametrize(
    ("name", "distribution", "wish", "expected"),
    [
        (T4, "Debian_13", Wish(), ("nvidia", "open", "580", "13.0", "2.15.0", "cu132", "")),
        (T4, "Debian_13", Wish(source="distribution"),
         ("distribution", "proprietary", "550.163.01", "12.4", "2.14.1", "cu126", "cu126")),
        (T4, "Debian_12", Wish(source="distribution"),
         ("distribution", "proprietary", "535.261.03", "12.2", "2.14.1", "cu126", "cu126")),
        (T4, "Debian_13", Wish(branch="595"),
         ("nvidia", "open", "595", "13.2", "2.15.0", "cu132", "")),
        (T4, "Debian_12", Wish(branch="570"),
         ("nvidia", "open", "570", "12.8", "2.14.1", "cu126", "cu126")),
        (V100, "Debian_13", Wish(),
         ("nvidia", "proprietary", "580", "12.9", "2.14.1", "cu126", "cu126")),
        (V100, "Debian_13", Wish(torch="2.10.0"),
         ("nvidia", "proprietary", "580", "12.9", "2.10.0", "cu128", "")),
        (B200, "Ubuntu_24", Wish(), ("nvidia", "open", "580", "13.0", "2.15.0", "cu132", "")),
        (B200, "Ubuntu_24", Wish(source="distribution", torch="2.8.0"),
         ("distribution", "open", "580", "13.0", "2.8.0", "cu128", "")),
        ("g6e.xlarge", "Ubuntu_24", Wish(modules="proprietary", torch="2.12.1"),
         ("nvidia", "proprietary", "580", "13.0", "2.12.1", "cu130", "")),
        (T4, "", Wish(image_brings_driver=True), ("image", "open", "", "", "2.15.0", "cu132", "")),
        (T4, "Debian_13", Wish(driver="535.183.01"),
         ("image", "open", "535.183.01", "12.2", "2.14.1", "cu126", "cu126")),
    ],
)  # fmt: skip
def test_what_is_chosen(
    name: str, distribution: str, wish: Wish, expected: tuple[str, ...]
) -> None:
    found, _ = check(name, "image", distribution, wish)
    assert found is not None
    assert (
        found.source, found.modules, found.driver, found.cuda, found.torch, found.build,
        found.backend,
    ) == expected  # fmt: skip
    assert found.torchvision == table.TORCH[found.torch].torchvision


REFUSED = {
    "V100 with torch 2.15": (
        V100, "Debian_13", Wish(torch="2.15.0"),
        "p3dn.24xlarge (V100-32, Volta): torch 2.15.0 has no code for Volta (7.0); the newest"
        " torch that runs there is 2.14.1: run again with -e lab_torch_version=2.14.1",
    ),
    "Blackwell with proprietary modules": (
        B200, "Debian_13", Wish(modules="proprietary"),
        "p6-b200.48xlarge (B200, Blackwell) runs on open kernel modules alone, and"
        " lab_nvidia_modules is proprietary: run again with -e lab_nvidia_modules=open",
    ),
    "V100 with open modules": (
        V100, "Debian_13", Wish(modules="open"),
        "p3dn.24xlarge (V100-32, Volta) runs on proprietary kernel modules alone, and"
        " lab_nvidia_modules is open: run again with -e lab_nvidia_modules=proprietary",
    ),
    "Debian's 550 with CUDA 13 wheels": (
        T4, "Debian_13", Wish(source="distribution", torch="2.15.0"),
        "g4dn.xlarge (T4, Turing): torch 2.15.0 needs driver 580, and the driver is 550.163.01; run"
        " again with -e lab_nvidia_source=nvidia, or, with 2.14.1, -e lab_torch_version=2.14.1",
    ),
    "retired": (
        "p3.2xlarge", "Debian_13", Wish(),
        "lab_instance_type is p3.2xlarge, but the lab cannot run on it: V100 hosts are retired or"
        " not NVIDIA's; run again with -e lab_instance_type=g5.xlarge",
    ),
    "V100 with a branch after its last": (
        V100, "Debian_13", Wish(branch="590"),
        "p3dn.24xlarge (V100-32, Volta) runs on driver 580 at most, and the driver is 590: run"
        " again with -e lab_nvidia_branch=580",
    ),
    "V100 with CUDA 13": (
        V100, "Debian_13", Wish(toolkits=("13.0",)),
        "CUDA toolkit 13.0 has no code for p3dn.24xlarge (V100-32, Volta), whose last is 12.9:"
        " run again with -e lab_cuda_toolkits=12.9",
    ),
    "Blackwell with an old toolkit": (
        B200, "Debian_13", Wish(toolkits=("12.4",)),
        "CUDA toolkit 12.4 is older than p6-b200.48xlarge (B200, Blackwell), which 12.8 knows"
        " first: run again with -e lab_cuda_toolkits=12.9",
    ),
    "Debian's 550 with NVIDIA's toolkit": (
        T4, "Debian_13", Wish(source="distribution", toolkits=("13.0",)),
        "lab_cuda_toolkits has 13.0, whose packages do not go with a driver from distribution: run"
        " again with -e lab_nvidia_source=nvidia\n"
        "CUDA toolkit 13.0 needs driver 580, and the driver is 550.163.01: run again with -e"
        " lab_cuda_toolkits=12.9",
    ),
    "NVIDIA's driver with Debian's toolkit": (
        T4, "Debian_13", Wish(toolkits=("distribution",)),
        "lab_cuda_toolkits has distribution, whose packages do not go with a driver from nvidia:"
        " run again with -e lab_nvidia_source=distribution",
    ),
    "an image's old driver with a new toolkit": (
        T4, "Debian_13", Wish(driver="535.183.01", toolkits=("13.0",)),
        "CUDA toolkit 13.0 needs driver 580, and the driver is 535.183.01: run again with -e"
        " lab_cuda_toolkits=12.9",
    ),
    "Blackwell with Debian's driver": (
        B200, "Debian_13", Wish(source="distribution"),
        "Debian 13 itself has no open kernel modules that build on its kernel: run again with -e"
        " lab_nvidia_source=nvidia\n"
        "p6-b200.48xlarge (B200, Blackwell) needs driver 570, and the driver is 550: run again"
        " with -e lab_nvidia_source=nvidia -e lab_nvidia_branch=580",
    ),
    "a branch before Debian 13": (
        T4, "Debian_13", Wish(branch="570"),
        "NVIDIA's repository has driver 580 and later for Debian 13, and lab_nvidia_branch is 570:"
        " run again with -e lab_nvidia_branch=580",
    ),
    "V100 on an image with open modules": (
        V100, "Ubuntu_24", Wish(image_brings_driver=True),
        "p3dn.24xlarge (V100-32, Volta) needs the proprietary kernel modules, and the image brings"
        " the open ones: run again with -e lab_image=debian_13",
    ),
    "an unknown distribution": (
        T4, "Fedora_44", Wish(),
        "There is no driver for Fedora 44: the lab knows Debian 12, Debian 13, Ubuntu 22, Ubuntu"
        " 24, and images that bring a driver; run again with -e lab_image=debian_13 or"
        " dlami_ubuntu_24_04",
    ),
    "a torch for a newer Python": (
        T4, "Ubuntu_22", Wish(torch="2.15.0"),
        "torch 2.15.0 needs Python 3.11, and Ubuntu 22 has 3.10: run again with -e"
        " lab_torch_version=2.14.1",
    ),
    "a torch that is none": (
        T4, "Debian_13", Wish(torch="9.9"), 'lab_torch_version is "9.9", but it must be empty or',
    ),
    "a source that is none": (
        T4, "Debian_13", Wish(source="debian"),
        'lab_nvidia_source is "debian", but it must be nvidia or distribution: correct it in'
        " inventory/group_vars/all/lab.yml or run again with -e lab_nvidia_source=nvidia",
    ),
    "modules that are none": (
        T4, "Debian_13", Wish(modules="closed"), 'lab_nvidia_modules is "closed", but it must be',
    ),
    "a branch that is none": (
        T4, "Debian_13", Wish(branch="5" * 300), 'lab_nvidia_branch is "' + "5" * 60 + '…", but',
    ),
    "a toolkit that is none": (
        T4, "Debian_13", Wish(toolkits=("13",)), 'lab_cuda_toolkits is "13", but it must be',
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_work_is_refused_with_what_would(case: str) -> None:
    name, distribution, wish, said = REFUSED[case]
    with pytest.raises(LabError) as refused:
        check(name, "image", distribution, wish)
    assert str(refused.value).startswith(said)


def wishes() -> Iterator[tuple[str, str, Wish]]:
    """Every GPU, source, flavour, branch and torch on every distribution, with each other."""
    names = {gpu: name for name, (gpu, sizes) in table.FAMILIES.items() if gpu not in ("L4",)}
    types = [f"{family}.{next(iter(table.FAMILIES[family][1]))}" for family in names.values()]
    for values in itertools.product(
        types, table.DISTRIBUTIONS, gpu_matrix.SOURCES, gpu_matrix.MODULES,
        ["", *map(str, table.BRANCHES)], ["", *table.TORCH],
    ):  # fmt: skip
        name, distribution, source, modules, branch, torch = values
        if source == "distribution" and branch:
            continue
        yield name, distribution, Wish(source=source, modules=modules, branch=branch, torch=torch)


def test_nothing_that_is_chosen_breaks_a_rule_of_its_own_line() -> None:
    """Each combination is either refused or within the limits that the table gives."""
    chosen = 0
    for name, distribution, wish in wishes():
        try:
            found, _ = check(name, "image", distribution, wish)
        except LabError:
            continue
        assert found is not None
        chosen += 1
        gpu = table.GPUS[gpu_matrix.gpus_of(name)[0]]
        line, build = table.CAPABILITIES[gpu.capability], table.BUILDS[found.build]
        driver = gpu_matrix.parse(found.driver)
        assert found.modules in line.modules
        assert driver >= build.driver
        assert not line.last or driver[0] <= line.last
        assert gpu.capability[0] <= build.highest[0]
        assert found.torch == wish.torch or not wish.torch
        assert found.build in table.TORCH[found.torch].builds
    assert chosen > 500


def test_every_mend_that_is_offered_mends() -> None:
    """Who types the first `-e` of each refusal is not refused for the same reason again."""
    seen = 0
    for name, distribution, wish in wishes():
        try:
            check(name, "image", distribution, wish)
        except LabError as error:
            first = str(error).splitlines()[0]
            offered = dict(re.findall(r"-e lab_(\w+)=(\S+)", first.replace(", or, with", " ")))
            if "instance_type" in offered:
                continue
            image = {"debian_13": "Debian_13"}.get(offered.pop("image", ""), distribution)
            changed: dict[str, Any] = {
                key.replace("nvidia_", "").replace("torch_version", "torch"): value
                for key, value in offered.items()
            }
            if "torch" in changed and "source" in changed:
                del changed["source"]  # one or the other
            again = Wish(**{**wish.__dict__, **changed})
            try:
                check(name, "image", image, again)
            except LabError as still:
                assert first not in str(still).splitlines()
            seen += 1
    assert seen > 500


def test_no_gpu_is_no_question() -> None:
    assert check("t3.micro", *DEBIAN, Wish()) == (None, [])
    assert check("m5.large", "ami-1", "", Wish()) == (None, [])


def test_an_image_of_which_nothing_is_known_is_told_of() -> None:
    found, warnings = check(T4, "ami-0123456789abcdef0", "", Wish())
    assert found is None
    assert warnings == [
        "Nothing is known of the driver on lab_image ami-0123456789abcdef0: the host will tell"
    ]
    with pytest.raises(LabError, match="has no code for Volta"):
        check(V100, "ami-0123456789abcdef0", "", Wish(torch="2.15.0"))


def test_the_newest_torch_is_one_that_the_releases_python_can_have() -> None:
    found, _ = check(T4, "image", "Ubuntu_22", Wish())
    assert found is not None and found.torch == "2.14.1"
    assert gpu_matrix.without_gpu("Ubuntu_22", Wish()).torch == "2.14.1"


def test_without_a_gpu_torch_is_for_the_cpu() -> None:
    found = gpu_matrix.without_gpu("Debian_13", Wish())
    assert (found.torch, found.torchvision, found.backend) == ("2.15.0", "0.29.2", "cpu")
    assert gpu_matrix.without_gpu("Debian_13", Wish(torch="2.10.0")).torchvision == "0.25.0"
    with pytest.raises(LabError, match="lab_torch_version"):
        gpu_matrix.without_gpu("Debian_13", Wish(torch="1.0"))


def test_two_kinds_of_gpu_get_what_both_run() -> None:
    found = gpu_matrix.stack([(7, 0), (9, 0)], "Debian_13", Wish(driver="580.95.05"))
    assert (found.torch, found.build) == ("2.14.1", "cu126")


def test_a_gpu_newer_than_the_table_gets_the_newest() -> None:
    assert gpu_matrix.stack([()], "Debian_13", Wish()).torch == next(iter(table.TORCH))


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (("Debian_13", "nvidia", "580", "open"),
         ["nvidia-kernel-open-dkms", "nvidia-driver-cuda", "nvidia-persistenced"]),
        (("Debian_12", "nvidia", "580", "proprietary"),
         ["nvidia-kernel-dkms", "nvidia-driver-cuda", "nvidia-persistenced"]),
        (("Debian_13", "distribution", "550", "proprietary"),
         ["nvidia-kernel-dkms", "nvidia-smi", "libcuda1", "nvidia-persistenced"]),
        (("Debian_12", "distribution", "535", "open"),
         ["nvidia-open-kernel-dkms", "nvidia-smi", "libcuda1", "nvidia-persistenced"]),
        (("Ubuntu_24", "nvidia", "580", "open"),
         ["nvidia-dkms-580-open", "libnvidia-compute-580", "nvidia-utils-580",
          "nvidia-persistenced"]),
        (("Ubuntu_24", "nvidia", "590", "open"),
         ["nvidia-dkms-open", "libnvidia-compute", "nvidia-utils", "nvidia-persistenced"]),
        (("Ubuntu_22", "nvidia", "580", "proprietary"),
         ["nvidia-dkms-580", "libnvidia-compute-580", "nvidia-utils-580", "nvidia-persistenced"]),
        (("Ubuntu_24", "distribution", "580", "open"),
         ["nvidia-headless-no-dkms-580-server-open", "linux-modules-nvidia-580-server-open-aws",
          "nvidia-utils-580-server"]),
    ],
)  # fmt: skip
def test_the_headless_set(arguments: tuple[str, str, str, str], names: list[str]) -> None:
    assert gpu_packages.packages(*arguments) == names


@pytest.mark.parametrize(
    ("distribution", "kernel", "names"),
    [
        ("Debian_13", "6.12.107+deb13-cloud-amd64",
         ["linux-headers-cloud-amd64", "linux-headers-6.12.107+deb13-cloud-amd64"]),
        ("Debian_12", "6.1.0-40-amd64", ["linux-headers-amd64", "linux-headers-6.1.0-40-amd64"]),
        ("Debian_13", "6.12.107+deb13-cloud-arm64",
         ["linux-headers-cloud-arm64", "linux-headers-6.12.107+deb13-cloud-arm64"]),
        ("Ubuntu_24", "7.0.0-1014-aws", ["linux-headers-aws", "linux-headers-7.0.0-1014-aws"]),
        ("Debian_13", "6.8.0-1014-aws", []),
        ("Debian_13", "5.10.0-microvm", []),
    ],
)  # fmt: skip
def test_the_headers_are_the_meta_package_and_the_running_kernels(
    distribution: str, kernel: str, names: list[str]
) -> None:
    assert gpu_packages.headers(distribution, kernel) == names


def test_the_fabric_manager_is_exactly_of_the_drivers_version() -> None:
    exact = ["nvidia-fabricmanager=580.95.05-*"]
    assert gpu_packages.fabric_packages("p5.48xlarge", "580", "580.95.05") == exact
    assert gpu_packages.fabric_packages("p4d.24xlarge", "570", "570.1") == [
        "nvidia-fabricmanager-570=570.1-*"
    ]
    assert gpu_packages.fabric_packages(B200, "580", "580.95.05") == [*exact, "nvlsm"]
    assert gpu_packages.fabric_packages("p5.4xlarge", "580", "580.95.05") == []
    assert gpu_packages.fabric_packages(T4, "580", "580.95.05") == []


def test_the_repository_is_that_of_exactly_this_release() -> None:
    assert gpu_packages.repository("Debian_13", "x86_64")[0] == "debian13/x86_64"
    assert gpu_packages.repository("Ubuntu_24", "aarch64")[0] == "ubuntu2404/sbsa"
    assert gpu_packages.repository("Debian_13", "aarch64") == ("debian13/sbsa", "")
    with pytest.raises(LabError, match="no folder for Fedora 44"):
        gpu_packages.repository("Fedora_44", "x86_64")


def test_toolkits_and_what_their_compiler_knows() -> None:
    assert gpu_packages.toolkit_packages(["12.9", "13.0", "distribution"]) == [
        "cuda-toolkit-12-9", "cuda-toolkit-13-0", "nvidia-cuda-toolkit",
    ]  # fmt: skip
    assert gpu_packages.nvcc_knows("12.4.131")[-1] == "sm_90"
    assert "sm_70" in gpu_packages.nvcc_knows("12.9")
    assert gpu_packages.nvcc_knows("13.0")[0] == "sm_75"
    assert "sm_103" in gpu_packages.nvcc_knows("13.0")


def test_prices_and_table_name_the_same_families() -> None:
    """A family that has a price is known here: as offered, or as retired."""
    prices = yaml.safe_load((ROOT / "roles/ec2_host/vars/main/prices.yml").read_text())
    families = {name.partition(".")[0] for name in prices["__ec2_host_prices"]["instance_hour"]}
    assert families <= set(table.FAMILIES) | set(table.RETIRED)


def ubuntus_names() -> Iterator[str]:
    """Every package that the lists name for Ubuntu, over all branches, flavours and sources."""
    for modules in ("open", "proprietary"):
        yield from gpu_packages.packages("Ubuntu_24", "distribution", "580", modules)
        for branch in map(str, table.BRANCHES):
            yield from gpu_packages.packages("Ubuntu_24", "nvidia", branch, modules)
            yield f"nvidia-driver-pinning-{branch}"
            for name in gpu_packages.fabric_packages(B200, branch, "1"):
                yield name.partition("=")[0]
    yield from gpu_packages.headers("Ubuntu_24", "7.0.0-1014-aws")[:1]
    yield from gpu_packages.toolkit_packages(["12.9", "13.0", "13.2", "distribution"])


def test_ubuntus_names_are_those_that_others_have_recorded() -> None:
    """Recorded lists stand for an index; a name that only a guide gives is known as such."""
    recorded = json.loads((ROOT / "tests/unit/data/ubuntu_packages.json").read_text())
    seen = {*recorded["cuda_repository"], *recorded["archive"]}
    named = set(ubuntus_names())
    assert named - seen <= set(recorded["documented_only"])
    # The default, of a host on which nothing is chosen, is recorded whole.
    defaults = gpu_packages.packages("Ubuntu_24", "nvidia", str(table.DEFAULT_BRANCH), "open")
    assert set(defaults) <= seen
    assert set(gpu_packages.packages("Ubuntu_24", "distribution", "580", "open")) <= seen
