#!/usr/bin/python
# Copyright: The GPU lab contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ansible module: keep a lab's data in a snapshot and let go of what costs."""

from __future__ import annotations

DOCUMENTATION = r"""
module: lab_retire
short_description: Keep a lab's data in a snapshot and let go of what costs
description:
  - Copies the data volume of a stopped lab into a snapshot, waits until AWS has it, and only then
    terminates the host and deletes its volumes and addresses. Key pair, security group, role and
    bucket stay; M(lab_host) makes the data volume out of the snapshot again.
  - A run that is killed is mended by the next.
options:
  confirm:
    description: The lab's name, as the user has typed it.
    type: str
    default: ""
  prices:
    description: The dated price table.
    type: dict
    required: true
extends_documentation_fragment:
  - lab
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
requirements:
  - boto3
author: GPU lab
"""

EXAMPLES = r"""
- name: Retire the lab
  lab_retire:
    confirm: lab
    lab: "{{ __ec2_host_lab }}"
    images: "{{ __ec2_host_images }}"
    prices: "{{ __ec2_host_prices }}"
"""

RETURN = r"""
steps:
  description: What was done (in check mode, what would be).
  returned: always
  type: list
  elements: str
  sample: ["Copy vol-0123456789abcdef0 (100 GB) into a snapshot"]
kept:
  description: What stays, and what it costs.
  returned: always
  type: list
  elements: str
  sample: ["snapshot snap-0123456789abcdef0: the data (100 GB, at most $5.00 a month)"]
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.lab.aws import destroy, retire
from ansible.module_utils.lab.aws import module as common
from ansible.module_utils.lab.aws import plan as plans
from ansible.module_utils.lab.aws.clock import Clock
from ansible.module_utils.lab.aws.lock import lock
from ansible.module_utils.lab.aws.names import Names
from ansible.module_utils.lab.errors import LabError


def run(params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """Retire the lab. Raises LabError."""
    spec = common.spec(params)
    names = Names(spec.name, spec.region)
    destroy.check_name(destroy.Wish(params["confirm"], False, ""), names)
    aws, bucket = common.reach(spec, names)
    there = retire.look(aws, names, bucket)
    steps = retire.make_plan(names, there)
    if steps and not check_mode:
        with lock(spec.state_dir):
            retire.carry_out(aws, names, there, steps, Clock())
            common.note_end(spec.state_dir, there.things.instances)
            there = retire.look(aws, names, bucket)
    return {
        "changed": bool(steps),
        "steps": [step.text for step in steps],
        "kept": retire.said(
            names,
            there,
            float(params["prices"]["snapshot_gb_month"]),
            float(params["prices"]["efs_gb_month"]),
        ),
        "diff": plans.diff(steps),
    }


def main() -> None:
    """Read the options, work, report."""
    module = AnsibleModule(
        argument_spec={
            "confirm": {"type": "str", "default": ""},
            "prices": {"type": "dict", "required": True},
            "lab": {"type": "dict", "required": True},
            "images": {"type": "dict", "required": True},
        },
        supports_check_mode=True,
    )
    try:
        module.exit_json(**run(module.params, module.check_mode))
    except LabError as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
