#!/usr/bin/python
# Copyright: The GPU lab contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ansible module: which GPUs a host has and what follows from that."""

from __future__ import annotations

DOCUMENTATION = r"""
module: gpu_facts
short_description: Which NVIDIA GPUs a host has and what follows from that
description:
  - Finds GPUs on the PCI bus, so that one without a driver is found too, and changes nothing.
options:
  root:
    description: Where C(sys) and C(proc) are; another folder than C(/) is a simulated host.
    type: path
    default: /
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
  description: How many GPUs there are.
  returned: always
  type: int
  sample: 1
gpus:
  description: The PCI address and PCI device id (hexadecimal) of each.
  returned: always
  type: list
  elements: dict
  sample: [{"address": "0000:00:1e.0", "device": "1eb8"}]
driver_loaded:
  description: Version of the kernel module that is loaded; empty for none.
  returned: always
  type: str
  sample: 550.163.01
driver_installed:
  description: Version of the kernel module that Debian's package brought; empty for none.
  returned: always
  type: str
  sample: 550.163.01
driver_works:
  description: Whether C(nvidia-smi) reaches the driver.
  returned: always
  type: bool
  sample: true
driver_action:
  description: V(none) without a GPU, V(keep) for a driver that the image brought, else V(install).
  returned: always
  type: str
  sample: install
reboot_required:
  description: Whether the driver installed is not the one loaded.
  returned: always
  type: bool
  sample: false
torch_build:
  description: The build of PyTorch that this host can run, one of V(cpu), V(cu126), V(cu132).
  returned: always
  type: str
  sample: cu126
"""

from dataclasses import asdict
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.lab import gpu


def main() -> None:
    """Read the host, report."""
    module = AnsibleModule(
        argument_spec={"root": {"type": "path", "default": "/"}},
        supports_check_mode=True,
    )
    host = gpu.read_host(Path(module.params["root"]))
    module.exit_json(
        changed=False,
        count=len(host.gpus),
        gpus=[asdict(each) for each in host.gpus],
        driver_loaded=host.loaded,
        driver_installed=host.installed,
        driver_works=host.works,
        driver_action=gpu.driver_action(host),
        reboot_required=gpu.reboot_required(host),
        torch_build=gpu.torch_build(host),
    )


if __name__ == "__main__":
    main()
