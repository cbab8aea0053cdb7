"""Debian's own driver and toolkit, for real and without a GPU: a quarter of an hour.

The driver is built by DKMS for the cloud kernel in a Debian 13 container that shows a GPU on a
simulated bus; the toolkit's nvcc compiles for every architecture of the table that it knows.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.slow.container_kit import booted, docker, ended, playing

SIMULATED = "/var/tmp/simulated"
PLAY = """
- hosts: all
  roles:
    - role: nvidia
"""
# A T4 on a bus of its own; kernels, modules, releases and apt are those of the container.
SIMULATE = f"""
set -e
mkdir -p {SIMULATED}/sys/bus/pci/devices/0000:00:1e.0 {SIMULATED}/proc/sys/kernel
cd {SIMULATED}
echo 0x10de >sys/bus/pci/devices/0000:00:1e.0/vendor
echo 0x030200 >sys/bus/pci/devices/0000:00:1e.0/class
echo 0x1eb8 >sys/bus/pci/devices/0000:00:1e.0/device
for folder in etc boot lib dev; do ln -s /$folder $folder; done
apt-get update -qq
apt-cache depends linux-headers-cloud-amd64 | sed -n 's/.*Depends: linux-headers-//p' | head -n 1 \\
  >proc/sys/kernel/osrelease
cat proc/sys/kernel/osrelease
"""


@pytest.fixture(params=["13", "12"], ids=["debian13", "debian12"])
def container(request: pytest.FixtureRequest) -> Iterator[str]:
    """A bare Debian of one release."""
    with booted(str(request.param)) as name:
        yield name


def converge(container: str, folder: Path, **variables: object) -> str:
    """Run the role on the container; what Ansible said."""
    return ended(playing(container, folder, PLAY, variables))


def checks(container: str) -> list[dict[str, str]]:
    said = docker("exec", container, "/usr/local/lib/lab/checks.d/15-nvidia")
    return [json.loads(line) for line in said.splitlines()]


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("container", ["13"], indirect=True, ids=["debian13"])
def test_debians_driver_is_built_for_the_cloud_kernel(container: str, tmp_path: Path) -> None:
    kernel = docker("exec", container, "sh", "-c", SIMULATE).splitlines()[-1]
    assert kernel.endswith("cloud-amd64")
    converge(container, tmp_path, nvidia_root=SIMULATED, nvidia_source="distribution")
    status = docker("exec", container, "dkms", "status")
    assert re.search(rf"^nvidia-current/550\.\S+, {re.escape(kernel)}, \S+: installed", status)
    held = docker("exec", container, "apt-mark", "showhold").split()
    assert {"nvidia-kernel-dkms", "libcuda1", "nvidia-smi", "nvidia-persistenced"} <= set(held)
    [said] = checks(container)
    assert said["status"] == "failed" and "none is loaded; reboot the host" in said["detail"]
    again = converge(container, tmp_path, nvidia_root=SIMULATED, nvidia_source="distribution")
    assert "changed=0" in again


@pytest.mark.timeout(3600)
def test_nvcc_compiles_for_the_architectures_of_the_table(container: str, tmp_path: Path) -> None:
    converge(container, tmp_path, nvidia_cuda_toolkits=["distribution"])
    driver, toolkit = checks(container)
    assert driver["status"] == "skipped"
    assert toolkit["status"] == "ok", toolkit["detail"]
    # The toolkit of Debian 12 still knows the K80.
    first = r"(11\.8 compiled for sm_37|12\.4 compiled for sm_52)"
    said = toolkit["detail"]
    assert re.match(rf"nvcc {first}, .*sm_70, .*sm_90; not run: no GPU", said), said
    assert "changed=0" in converge(container, tmp_path, nvidia_cuda_toolkits=["distribution"])
