#!/usr/bin/python
# Copyright: The GPU lab contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ansible module: which GPUs a host has and what follows from that."""

from __future__ import annotations

DOCUMENTATION = r"""
module: gpu_facts
short_description: Which NVIDIA GPUs a host has and what follows from that
description:
  - Finds GPUs on the PCI bus, so that one without a driver is found too, reads what drives them and
    decides what driver, CUDA and torch the host is to have. It changes nothing.
  - Fails with one sentence for each reason where nothing fits.
options:
  root:
    description: >-
      Where C(etc), C(sys), C(proc), C(dev), C(boot) and C(lib) are; another folder than C(/) is a
      simulated host.
    type: path
    default: /
  source:
    description: Where a driver that is to be installed comes from.
    type: str
    choices: [nvidia, distribution]
    default: nvidia
  branch:
    description: Branch of NVIDIA's driver; empty for the one that fits.
    type: str
    default: ""
  modules:
    description: Flavour of the kernel modules.
    type: str
    choices: [auto, open, proprietary]
    default: auto
  torch:
    description: Version of torch; empty for the newest that fits.
    type: str
    default: ""
  toolkits:
    description: Versions of CUDA's toolkit that are wanted.
    type: list
    elements: str
    default: []
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
author: GPU lab
"""

EXAMPLES = r"""
- name: Look for GPUs
  gpu_facts:
  register: gpu
"""

RETURN = r"""
count:
  description: How many GPUs there are on the PCI bus.
  returned: always
  type: int
  sample: 1
expected:
  description: How many GPUs there should be, by the instance type; O(ignore:count) for others.
  returned: always
  type: int
  sample: 1
instance_type:
  description: The type of the EC2 instance; empty on other machines.
  returned: always
  type: str
  sample: g4dn.xlarge
gpus:
  description: >-
    The PCI address, PCI device id (hexadecimal), model (empty for one that is not in the table) and
    compute capability (major.minor) of each.
  returned: always
  type: list
  elements: dict
  sample: [{"address": "0000:00:1e.0", "device": "1eb8", "model": "T4", "capability": "7.5"}]
driver_loaded:
  description: Version of the kernel module that is loaded; empty for none.
  returned: always
  type: str
  sample: 580.95.05
driver_modules:
  description: Flavour of the kernel module that is loaded, V(open) or V(proprietary).
  returned: always
  type: str
  sample: open
driver_installed:
  description: Version of the kernel module that packages brought; empty for none.
  returned: always
  type: str
  sample: 580.95.05
library_installed:
  description: Version of CUDA's library that packages brought; empty for none.
  returned: always
  type: str
  sample: 580.95.05
driver_works:
  description: Whether C(nvidia-smi) reaches the driver.
  returned: always
  type: bool
  sample: true
packages:
  description: The packages around the driver, each with its state in dpkg and its version.
  returned: always
  type: list
  elements: dict
  sample: [{"name": "nvidia-kernel-open-dkms", "state": "installed", "version": "580.95.05-1"}]
dkms:
  description: NVIDIA's modules in DKMS by kernel; C(state) is V(added), V(built) or V(installed).
  returned: always
  type: list
  elements: dict
  sample: [{"module": "nvidia", "version": "580.95.05", "kernel": "6.12.107+deb13-cloud-amd64",
            "state": "installed"}]
kernel:
  description: The kernel that runs.
  returned: always
  type: str
  sample: 6.12.107+deb13-cloud-amd64
kernels:
  description: The kernels that could boot, each with whether a module of NVIDIA's is there for it.
  returned: always
  type: list
  elements: dict
  sample: [{"kernel": "6.12.107+deb13-cloud-amd64", "module": true}]
nouveau:
  description: Whether the module nouveau is loaded.
  returned: always
  type: bool
  sample: false
nodes:
  description: Names of NVIDIA's device nodes in C(/dev).
  returned: always
  type: list
  elements: str
  sample: [nvidia0, nvidiactl]
smi:
  description: >-
    What C(nvidia-smi) says of each GPU, by the names of its own query; memory in MiB, utilization
    in per cent, temperature in degrees Celsius.
  returned: always
  type: list
  elements: dict
  sample: [{"index": 0, "name": "Tesla T4", "driver_version": "580.95.05", "memory.total": 15360}]
driver_action:
  description: V(none) without a GPU, V(keep) for a driver that the image brought, else V(install).
  returned: always
  type: str
  sample: install
stack:
  description: >-
    What the host is to have. C(driver) is a branch or a version, C(cuda) the newest CUDA that it
    runs, C(backend) uv's name of torch's index (empty for Python's own). Without a GPU it is the
    build for the CPU, and no driver.
  returned: always
  type: dict
  sample: {"source": "nvidia", "modules": "open", "driver": "580", "cuda": "13.0",
           "torch": "2.15.0", "torchvision": "0.29.2", "build": "cu132", "backend": ""}
wanted_packages:
  description: The driver's packages for this host, the kernel's headers first.
  returned: always
  type: list
  elements: str
  sample: [linux-headers-cloud-amd64, nvidia-kernel-open-dkms, nvidia-driver-cuda]
switch:
  description: Whether the driver installed is of another branch, flavour or source than wanted.
  returned: always
  type: bool
  sample: false
fabric_packages:
  description: Packages of the NVLink fabric for the driver installed, where the type needs any.
  returned: always
  type: list
  elements: str
  sample: []
repository:
  description: NVIDIA's folder for this release and machine, and the SHA-256 of its keyring package.
  returned: where NVIDIA's repository has one
  type: dict
  sample: {"folder": "debian13/x86_64", "sha256": "dd28f1f6ba0038180d6b23f846cefca1"}
reboot_required:
  description: Whether the driver installed is not the one loaded.
  returned: always
  type: bool
  sample: false
problems:
  description: What is wrong with the driver that is there, each with what to do.
  returned: always
  type: list
  elements: str
  sample: []
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.lab import gpu, gpu_matrix, gpu_packages
from ansible.module_utils.lab.errors import LabError


def found(host: gpu.Host) -> dict[str, Any]:
    """Tell what is there."""
    return {
        "count": len(host.gpus),
        "expected": host.expected,
        "instance_type": host.instance_type,
        "gpus": [
            asdict(each)
            | {
                "model": gpu_matrix.model_of(each.device),
                "capability": gpu_matrix.show(each.capability),
            }
            for each in host.gpus
        ],
        "driver_loaded": host.loaded,
        "driver_modules": host.loaded_modules,
        "driver_installed": host.installed,
        "library_installed": host.library,
        "driver_works": host.works,
        "packages": [asdict(each) for each in host.packages],
        "dkms": [asdict(each) for each in host.dkms],
        "kernel": host.kernel,
        "kernels": [
            {"kernel": each, "module": each in host.kernels_with_module} for each in host.kernels
        ],
        "nouveau": host.nouveau,
        "nodes": list(host.nodes),
        "smi": list(host.smi.gpus),
    }


def decided(host: gpu.Host, wish: gpu_matrix.Wish) -> dict[str, Any]:
    """Tell what follows. Raises LabError where nothing fits."""
    stack = gpu.stack(host, wish)
    install = gpu.driver_action(host) == "install"
    answer: dict[str, Any] = {
        "driver_action": gpu.driver_action(host),
        "stack": asdict(stack),
        "wanted_packages": gpu.wanted_packages(host, stack) if install else [],
        "fabric_packages": [],
        "switch": gpu.switch(host, stack),
        "reboot_required": gpu.reboot_required(host),
        "problems": gpu.problems(host),
    }
    if install and host.installed:
        answer["fabric_packages"] = gpu_packages.fabric_packages(
            host.instance_type, stack.driver, host.installed
        )
    try:
        folder, total = gpu_packages.repository(host.distribution, host.machine)
        answer["repository"] = {"folder": folder, "sha256": total}
    except LabError:  # a distribution of an image that brings its own driver
        pass
    return answer


def main() -> None:
    """Read the host, decide, report."""
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "default": "/"},
            "source": {"type": "str", "choices": ["nvidia", "distribution"], "default": "nvidia"},
            "branch": {"type": "str", "default": ""},
            "modules": {
                "type": "str",
                "choices": ["auto", "open", "proprietary"],
                "default": "auto",
            },
            "torch": {"type": "str", "default": ""},
            "toolkits": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    params = dict(module.params)
    host = gpu.read_host(Path(params.pop("root")))
    wish = gpu_matrix.Wish(**(params | {"toolkits": tuple(params["toolkits"])}))
    try:
        answer = found(host) | decided(host, wish)
    except LabError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, **answer)


if __name__ == "__main__":
    main()
