#!/usr/bin/python
# Copyright: The GPU lab contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ansible module: look at everything that a lab needs before anything is made."""

from __future__ import annotations

DOCUMENTATION = r"""
module: lab_preflight
short_description: Look at everything that a lab needs before anything is made
description:
  - Checks the variables, the credentials, the key on the controller and what is in AWS, side by
    side, and returns what C(lab_host) would do. It changes nothing.
  - Refuses what cannot work (quota, zones, image, a name taken by somebody else, a lost key), all
    reasons at once.
options:
  prices:
    description: The dated price table.
    type: dict
    required: true
  inventory_region:
    description: The region in which the inventory looks; it must be that of the lab.
    type: str
    required: true
  gpu:
    description:
      - What the user asks of driver, CUDA and torch, one key for each C(lab_*) variable of theirs
        without the prefix C(lab_nvidia_) or C(lab_). What cannot work on O(lab.instance_type) with
        the image is refused before anything is asked of AWS.
    type: dict
    default: {}
    suboptions:
      source:
        description: Where the driver comes from.
        type: str
        default: nvidia
      branch:
        description: The branch of the driver; empty for the one that fits.
        type: str
        default: ""
      modules:
        description: The flavour of the kernel modules.
        type: str
        default: auto
      torch:
        description: The version of torch; empty for the newest that fits.
        type: str
        default: ""
      toolkits:
        description: Versions of CUDA's toolkit.
        type: list
        elements: str
        default: []
  may_create:
    description: Whether a host may be made where there is none.
    type: bool
    default: true
extends_documentation_fragment:
  - lab
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
requirements:
  - boto3
author: GPU lab
"""

EXAMPLES = r"""
- name: Check everything before anything is made
  lab_preflight:
    lab: "{{ __ec2_host_lab }}"
    images: "{{ __ec2_host_images }}"
    prices: "{{ __ec2_host_prices }}"
    inventory_region: us-east-1
  register: preflight
"""

RETURN = r"""
gpu:
  description:
    - What the image and the wishes come to on the GPU of the type. C(driver) is a branch or a
      version, C(cuda) the newest CUDA that it runs. Empty without a GPU, or where only the host
      can tell.
  returned: always
  type: dict
  sample: {"source": "nvidia", "modules": "open", "driver": "580", "torch": "2.15.0"}
host:
  description: The lab, its host (empty C(instance_id) where there is none) and its price.
  returned: always
  type: dict
  sample: {"name": "lab", "instance_id": "", "price_hour": 0.548}
steps:
  description: What is to be done, none where all is as it should be.
  returned: always
  type: list
  elements: str
  sample: ["Create bucket gpulab-111122223333-lab"]
lab_warnings:
  description: What the user should know although nothing is refused.
  returned: always
  type: list
  elements: str
  sample: []
"""

from dataclasses import asdict
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.lab import gpu_matrix
from ansible.module_utils.lab.aws import module as common
from ansible.module_utils.lab.errors import LabError

GPU: dict[str, Any] = {
    "source": {"type": "str", "default": "nvidia"},
    "branch": {"type": "str", "default": ""},
    "modules": {"type": "str", "default": "auto"},
    "torch": {"type": "str", "default": ""},
    "toolkits": {"type": "list", "elements": "str", "default": []},
}


def _of_worker(said: str) -> str:
    """Name the variable that is meant."""
    return said.replace("lab_instance_type", "lab_worker_type")


def decide_gpu(params: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Refuse what no GPU host could be; the stack and warnings. Raises LabError."""
    image = params["lab"]["image"]
    known = params["images"].get(image, {})
    wish = gpu_matrix.Wish(
        **(params["gpu"] | {"toolkits": tuple(params["gpu"]["toolkits"])}),
        image_brings_driver=bool(known.get("driver")),
    )
    distribution, lab = known.get("distribution", ""), params["lab"]
    found, warnings = gpu_matrix.check(lab["instance_type"], image, distribution, wish)
    if lab["worker_type"] and int(lab["workers"]):
        try:
            _, more = gpu_matrix.check(lab["worker_type"], image, distribution, wish)
        except LabError as error:
            raise LabError(_of_worker(str(error))) from error
        warnings = list(dict.fromkeys([*warnings, *map(_of_worker, more)]))
    return (asdict(found) if found else {}), warnings


def main() -> None:
    """Look and report."""
    module = AnsibleModule(
        argument_spec={
            "lab": {"type": "dict", "required": True},
            "images": {"type": "dict", "required": True},
            "prices": {"type": "dict", "required": True},
            "inventory_region": {"type": "str", "required": True},
            "gpu": {"type": "dict", "default": {}, "options": GPU, "apply_defaults": True},
            "may_create": {"type": "bool", "default": True},
        },
        supports_check_mode=True,
    )
    try:
        wanted = common.spec(module.params)
        # A host that is there is started whatever it is: what it lacks, verify tells.
        gpu, warnings = decide_gpu(module.params) if module.params["may_create"] else ({}, [])
        decided = common.decide(module.params, wanted)
    except LabError as error:
        module.fail_json(msg=str(error))
    answer = decided.answer()
    answer["lab_warnings"] = warnings + answer["lab_warnings"]
    module.exit_json(changed=False, gpu=gpu, **answer)


if __name__ == "__main__":
    main()
