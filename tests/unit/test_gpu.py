"""What is found on a simulated host, what is decided from it, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from ansible.module_utils.lab import gpu
from ansible.module_utils.lab.gpu import Dkms, Host, Package, Smi
from ansible.module_utils.lab.gpu_matrix import Wish

from tests.unit.gpu_kit import (
    DEBIAN_13,
    H100,
    KERNEL,
    NEWER,
    OPEN,
    PROPRIETARY,
    SMI_LINE,
    T4,
    V100,
    device,
    packages,
    programs,
    working,
    write,
)  # fmt: skip

UBUNTU = 'ID=ubuntu\nID_LIKE=debian\nVERSION_ID="24.04"\n'
OTHER = "6.12.200+deb13-cloud-amd64"
BARE = Host(gpus=(T4,), distribution="Debian_13", kernel=KERNEL)


def test_gpus_are_told_from_other_devices_and_from_their_own_audio(tmp_path: Path) -> None:
    device(tmp_path, "0000:00:1e.0", "0x10de", "0x030200", "0x1eb8")
    device(tmp_path, "0000:00:1d.0", "0x10de", "0x030000", "0x2237")
    device(tmp_path, "0000:00:1e.1", "0x10de", "0x040300", "0x10f8")
    device(tmp_path, "0000:00:03.0", "0x1d0f", "0x030000", "0x1111")
    assert gpu.find_gpus(tmp_path) == (gpu.Gpu("0000:00:1d.0", "2237"), T4)


def test_a_host_without_a_bus_has_none_and_no_program_is_run(tmp_path: Path) -> None:
    def refuse(command: Sequence[str]) -> tuple[int, str]:
        raise AssertionError(command)

    assert gpu.read_host(tmp_path, refuse).gpus == ()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (PROPRIETARY, ("550.163.01", "proprietary")),
        (OPEN, ("580.95.05", "open")),
        ("", ("", "")),
        ("x", ("", "")),
    ],
)
def test_the_loaded_driver_is_read(tmp_path: Path, text: str, found: tuple[str, str]) -> None:
    write(tmp_path, "proc/driver/nvidia/version", text)
    assert gpu.loaded_driver(tmp_path) == found


@pytest.mark.parametrize(
    ("text", "name"),
    [(DEBIAN_13, "Debian_13"), (UBUNTU, "Ubuntu_24"), ("ID=debian\n", "Debian_"), ("", "")],
)
def test_the_distribution_is_read(text: str, name: str) -> None:
    assert gpu.distribution(text) == name


def test_packages_are_read_with_their_state() -> None:
    text = (
        "nvidia-kernel-dkms\tinstalled\t1:535.261.03-1+b1\n"
        "libcuda1\thalf-configured\t535.261.03-1\n"
        "nvidia-open-kernel-dkms\tnot-installed\t\n"
        "nvidia-smi\tconfig-files\t550.163.01-2\n"
    )
    found = gpu.packages(programs(dpkg_query=(1, text)))
    assert found == (
        Package("nvidia-kernel-dkms", "installed", "1:535.261.03-1+b1"),
        Package("libcuda1", "half-configured", "535.261.03-1"),
    )
    assert found[0].upstream == "535.261.03"
    assert Host(packages=found).installed == "535.261.03"
    assert Host(packages=found).library == ""


@pytest.mark.parametrize(
    ("name", "is_module"),
    [
        ("nvidia-kernel-dkms", True), ("nvidia-kernel-open-dkms", True),
        ("nvidia-open-kernel-dkms", True), ("nvidia-dkms-580-open", True), ("nvidia-dkms", True),
        ("nvidia-dkms-580-server-open", True), ("nvidia-dkms-open", True),
        ("linux-modules-nvidia-580-server-open-aws", True), ("nvidia-kernel-common", False),
        ("nvidia-kernel-support", False), ("nvidia-persistenced", False),
    ],
)  # fmt: skip
def test_the_package_of_the_module_is_known_under_each_of_its_names(
    name: str, is_module: bool
) -> None:
    host = Host(packages=(Package(name, "installed", "580.95.05-1"),))
    assert bool(host.installed) is is_module


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (f"nvidia-current/550.163.01, {KERNEL}, x86_64: installed",
         (Dkms("nvidia-current", "550.163.01", KERNEL, "installed"),)),
        (f"nvidia/580.95.05, {KERNEL}, x86_64: built (WARNING! Diff between built and installed)",
         (Dkms("nvidia", "580.95.05", KERNEL, "built"),)),
        ("nvidia/580.95.05: added", (Dkms("nvidia", "580.95.05", "", "added"),)),
        (f"nvidia, 515.48, {KERNEL}, x86_64: installed",
         (Dkms("nvidia", "515.48", KERNEL, "installed"),)),
        ("lustre-client/2.15, 6.12, x86_64: installed", ()),
        ("", ()),
    ],
)  # fmt: skip
def test_dkms_is_read(line: str, found: tuple[Dkms, ...]) -> None:
    assert gpu.dkms(programs(dkms=(0, line + "\n"))) == found


@pytest.mark.parametrize(
    ("path", "there"),
    [
        ("updates/dkms/nvidia-current.ko.xz", True), ("updates/dkms/nvidia.ko.zst", True),
        ("kernel/nvidia-580srv-open/nvidia.ko", True), ("updates/dkms/nvidia-uvm.ko", False),
        ("updates/dkms/nvidia-current-uvm.ko.xz", False), ("kernel/drivers/gpu/nouveau.ko", False),
    ],
)  # fmt: skip
def test_a_module_is_found_as_a_file(tmp_path: Path, path: str, there: bool) -> None:
    write(tmp_path, f"lib/modules/{KERNEL}/{path}")
    assert gpu.has_module(tmp_path, KERNEL) is there


def test_nvidia_smi_is_read_with_numbers_where_there_are_numbers() -> None:
    seen = gpu.smi(programs(nvidia_smi=(0, SMI_LINE + SMI_LINE.replace(" 0\n", " [N/A]\n"))))
    assert len(seen.gpus) == 2
    assert seen.gpus[0]["memory.total"] == 15360
    assert seen.gpus[0]["compute_cap"] == "7.5"
    assert seen.gpus[1]["ecc.errors.uncorrected.volatile.total"] == "[N/A]"
    failed = gpu.smi(programs(nvidia_smi=(9, "NVIDIA-SMI has failed\nbecause\n")))
    assert failed == Smi(9, said="NVIDIA-SMI has failed because")


def test_a_whole_host_is_read(tmp_path: Path) -> None:
    device(tmp_path, "0000:00:1e.0", "0x10de", "0x030200", "0x1eb8")
    write(tmp_path, "etc/os-release", DEBIAN_13)
    write(tmp_path, "proc/sys/kernel/osrelease", KERNEL)
    write(tmp_path, "proc/sys/kernel/arch", "x86_64\n")
    write(tmp_path, "proc/driver/nvidia/version", OPEN)
    write(tmp_path, "proc/modules", "nouveau 3000 0 - Live\nnvidia 5000 0 - Live\n")
    write(tmp_path, "sys/devices/virtual/dmi/id/product_name", "g4dn.xlarge\n")
    write(tmp_path, f"boot/vmlinuz-{KERNEL}")
    write(tmp_path, f"boot/vmlinuz-{OTHER}")
    write(tmp_path, f"lib/modules/{KERNEL}/updates/dkms/nvidia.ko.xz")
    for name in ("nvidia0", "nvidiactl", "null"):
        write(tmp_path, f"dev/{name}")
    dpkg = "nvidia-kernel-open-dkms\tinstalled\t580.95.05-1\n"
    asked = programs(
        nvidia_smi=(0, SMI_LINE),
        dpkg_query=(1, dpkg),
        dkms=(0, f"nvidia/580.95.05, {KERNEL}, x86_64: installed\n"),
    )
    host = gpu.read_host(tmp_path, asked)
    assert host == Host(
        gpus=(T4,), instance_type="g4dn.xlarge", distribution="Debian_13", kernel=KERNEL,
        machine="x86_64", loaded="580.95.05", loaded_modules="open",
        packages=(Package("nvidia-kernel-open-dkms", "installed", "580.95.05-1"),),
        dkms=(Dkms("nvidia", "580.95.05", KERNEL, "installed"),), kernels=(KERNEL, OTHER),
        kernels_with_module=(KERNEL,), nouveau=True, nodes=("nvidia0", "nvidiactl"),
        smi=host.smi,
    )  # fmt: skip
    assert host.works and host.expected == 1


def test_a_missing_nvidia_smi_is_a_driver_that_does_not_work(tmp_path: Path) -> None:
    device(tmp_path, "0000:00:1e.0", "0x10de", "0x030200", "0x1eb8")
    host = gpu.read_host(tmp_path, programs())
    assert not host.works and host.smi == Smi(127)


BROKEN = replace(BARE, packages=packages("580.95.05", state="half-configured"))
ON_IMAGE = replace(working("595.91.07"), packages=(), dkms=())


@pytest.mark.parametrize(
    ("there", "action", "reboot", "build"),
    [
        (Host(), "none", False, "cpu"),
        # a fresh Debian, and the same before and after the reboot
        (BARE, "install", False, "cu132"),
        (working(loaded="", smi=Smi()), "install", True, "cu132"),
        (working(), "install", False, "cu132"),
        # an upgrade under a running module: nvidia-smi reports a mismatch
        (working(packages=packages("580.105.08"), smi=Smi(18)), "install", True, "cu132"),
        # a Deep Learning AMI
        (ON_IMAGE, "keep", False, "cu132"),
        (replace(ON_IMAGE, loaded="579.99"), "keep", False, "cu126"),
        (replace(ON_IMAGE, loaded="580.0"), "keep", False, "cu132"),
        (replace(ON_IMAGE, loaded="580.95.05", gpus=(V100,)), "keep", False, "cu126"),
        (replace(ON_IMAGE, loaded="525.60.13"), "keep", False, "cu126"),
        # an image whose driver does not work: packages on top would make it worse
        (replace(ON_IMAGE, smi=Smi(9)), "keep", False, "cu132"),
        # our own installation was interrupted
        (BROKEN, "install", False, "cu132"),
        # a GPU that is newer than the table
        (replace(BARE, gpus=(NEWER,)), "install", False, "cu132"),
    ],
)
def test_what_follows(there: Host, action: str, reboot: bool, build: str) -> None:
    assert gpu.driver_action(there) == action
    assert gpu.reboot_required(there) is reboot
    assert gpu.stack(there, Wish()).build == build


def test_a_capability_that_the_table_lacks_is_the_one_of_nvidia_smi() -> None:
    seen = Smi(0, ({"compute_cap": "12.0"},))
    assert gpu.capabilities(replace(BARE, gpus=(NEWER,), smi=seen)) == [(12, 0)]
    assert gpu.capabilities(replace(BARE, gpus=(NEWER,))) == [()]
    assert gpu.capabilities(BARE) == [(7, 5)]


def test_the_packages_are_headers_and_the_headless_set() -> None:
    assert gpu.wanted_packages(BARE, gpu.stack(BARE, Wish())) == [
        "linux-headers-cloud-amd64", f"linux-headers-{KERNEL}", "nvidia-kernel-open-dkms",
        "nvidia-driver-cuda", "nvidia-persistenced",
    ]  # fmt: skip
    debians = gpu.wanted_packages(BARE, gpu.stack(BARE, Wish(source="distribution")))
    assert debians[2:] == ["nvidia-kernel-dkms", "nvidia-smi", "libcuda1", "nvidia-persistenced"]


@pytest.mark.parametrize(
    ("there", "wish", "switch"),
    [
        (working(), Wish(), False),
        (working(), Wish(branch="590"), True),
        (working(), Wish(modules="proprietary"), True),
        (working(), Wish(source="distribution"), True),
        (BARE, Wish(), False),
        (ON_IMAGE, Wish(branch="590"), False),
        # interrupted: it is installed on, not removed first
        (BROKEN, Wish(), False),
    ],
)
def test_another_branch_flavour_or_source_is_a_switch(
    there: Host, wish: Wish, switch: bool
) -> None:
    assert gpu.switch(there, gpu.stack(there, wish)) is switch


def test_a_switch_that_was_interrupted_is_gone_on_with() -> None:
    """The packages are gone, the module still runs, and the driver is not the image's."""
    assert gpu.driver_action(replace(ON_IMAGE, ours=True)) == "install"


def test_a_host_on_which_all_is_well_has_no_problems() -> None:
    assert gpu.problems(working()) == []
    assert gpu.problems(Host()) == []
    assert gpu.problems(working(count=4)) == []


def test_what_the_reboot_will_mend_is_no_problem() -> None:
    assert gpu.problems(working(loaded="", smi=Smi(9, said="failed"))) == []


def test_modules_that_are_prebuilt_need_no_dkms() -> None:
    prebuilt = (Package("linux-modules-nvidia-580-server-open-aws", "installed", "580.95.05-1"),)
    assert gpu.problems(working(packages=prebuilt, dkms=())) == []
    assert len(gpu.problems(working(packages=prebuilt, dkms=(), kernels=(KERNEL, OTHER)))) == 1


@pytest.mark.parametrize(
    ("there", "said"),
    [
        (BROKEN, "The package nvidia-kernel-open-dkms is half-configured: see why with `dpkg"
         " --configure --pending`, then run site.yml again"),
        (working(packages=packages("580.95.05", "580.105.08")),
         "The kernel module is 580.95.05, CUDA's library 580.105.08: both must be one version; run"
         " site.yml again, which installs one set"),
        (working(kernels=(KERNEL, OTHER)),
         f"The driver 580.95.05 has no module for the kernel {OTHER}, which could boot (DKMS has"
         f" none): run `apt-get install linux-headers-{OTHER}` and `dkms autoinstall -k {OTHER}`,"
         " whose log is /var/lib/dkms/*/*/build/make.log; or remove that kernel"),
        (working(dkms=(Dkms("nvidia", "580.95.05", KERNEL, "built"),)), "DKMS says built"),
        (working(smi=Smi(18, said="Driver/library version mismatch")),
         "nvidia-smi: Driver/library version mismatch; a reboot loads the driver that is"),
        (working(smi=Smi(127)), "nvidia-smi: it is not installed;"),
        (working(instance_type="g4dn.12xlarge"),
         "g4dn.12xlarge has 4 GPU(s), nvidia-smi sees 1: see `dmesg | grep -i -e nvrm -e xid`;"),
        (working(gpus=(T4, H100), instance_type=""), "the PCI bus has 2 GPU(s), nvidia-smi sees 1"),
    ],
)  # fmt: skip
def test_each_problem_says_what_to_do(there: Host, said: str) -> None:
    found = " | ".join(gpu.problems(there))
    assert said in found


def test_a_program_that_is_not_there_is_no_error() -> None:
    assert gpu.run(["/nonexistent/program"]) == (127, "")
    assert gpu.run(["echo", "seen"]) == (0, "seen\n")
