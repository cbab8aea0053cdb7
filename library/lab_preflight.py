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
  lab:
    description:
      - The lab as its user wants it, one key for each C(lab_*) variable of
        C(inventory/group_vars/all/lab.yml) without the prefix, and C(state_dir), C(open_ports).
      - Checked by the module itself, so that an error names the variable, its rule and the
        command that mends it.
    type: dict
    required: true
  images:
    description: The images that have a name, each with C(x86_64), C(arm64) and C(user).
    type: dict
    required: true
  prices:
    description: The dated price table.
    type: dict
    required: true
  inventory_region:
    description: The region in which the inventory looks; it must be that of the lab.
    type: str
    required: true
  may_create:
    description: Whether a host may be made where there is none.
    type: bool
    default: true
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

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.lab.aws import module as common
from ansible.module_utils.lab.errors import LabError


def main() -> None:
    """Look and report."""
    module = AnsibleModule(
        argument_spec={
            "lab": {"type": "dict", "required": True},
            "images": {"type": "dict", "required": True},
            "prices": {"type": "dict", "required": True},
            "inventory_region": {"type": "str", "required": True},
            "may_create": {"type": "bool", "default": True},
        },
        supports_check_mode=True,
    )
    try:
        decided = common.decide(module.params, common.spec(module.params))
    except LabError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, **decided.answer())


if __name__ == "__main__":
    main()
