#!/usr/bin/python
# Copyright: The GPU lab contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ansible module: make, list and prune images of a lab's configured host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: lab_bake
short_description: Make, list and prune images of a lab's configured host
description:
  - Makes an image of the host, which it stops for that, and waits until AWS has it.
    M(lab_bake_host) has cleaned the host before. M(lab_host) makes new hosts from the newest.
  - Lists the lab's images with what each costs a month, and deletes old ones.
options:
  state:
    description:
      - C(baked) stops the host and makes an image. It leaves the host stopped. Not idempotent.
      - C(listed) changes nothing.
      - C(pruned) deletes all but the newest O(keep) images with their snapshots.
    type: str
    choices: [baked, listed, pruned]
    default: listed
  keep:
    description: How many images O(state=pruned) leaves.
    type: int
    default: 1
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
- name: Make an image of the host
  lab_bake:
    state: baked
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
  sample: ["Make the image gpulab-lab-20261122T103000Z of i-0123456789abcdef0"]
image:
  description: The id of the image that was made.
  returned: always
  type: str
  sample: ""
bakes:
  description: The lab's images afterwards, the newest first, with what each costs a month.
  returned: always
  type: list
  elements: str
  sample: ["image ami-0123456789abcdef0 of 2026-11-22, of a host made from debian_13: available"]
"""

from datetime import UTC, datetime
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.lab.aws import bake, power
from ansible.module_utils.lab.aws import module as common
from ansible.module_utils.lab.aws import plan as plans
from ansible.module_utils.lab.aws.clock import Clock
from ansible.module_utils.lab.aws.lock import lock
from ansible.module_utils.lab.aws.names import Names
from ansible.module_utils.lab.aws.session import Aws
from ansible.module_utils.lab.aws.steps import Step
from ansible.module_utils.lab.aws.variables import Spec
from ansible.module_utils.lab.errors import LabError


def run(params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """Look, decide, do it, and list what there is. Raises LabError."""
    spec = common.spec(params)
    names = Names(spec.name, spec.region)
    if params["keep"] < 0:
        raise LabError(f"keep is {params['keep']}, but must be 0 or more: give -e bake_keep=1")
    aws, _ = common.reach(spec, names)
    steps = _plan(aws, names, params)
    image = ""
    if steps and not check_mode:
        with lock(spec.state_dir):
            image = _carry_out(aws, names, spec, steps)
    return {
        "changed": bool(steps),
        "steps": [step.text for step in steps],
        "image": image,
        "bakes": bake.said(
            bake.look(aws, names), float(params["prices"]["snapshot_gb_month"]), names.lab
        ),
        "diff": plans.diff(steps),
    }


def _plan(aws: Aws, names: Names, params: dict[str, Any]) -> list[Step]:
    if params["state"] == "baked":
        return bake.make_plan(names, power.find(aws, names), datetime.now(UTC))
    if params["state"] == "pruned":
        return bake.prune_plan(bake.look(aws, names), params["keep"])
    return []


def _carry_out(aws: Aws, names: Names, spec: Spec, steps: list[Step]) -> str:
    if steps[0].do == "delete":
        bake.prune(aws, steps)
        return ""
    image = bake.carry_out(aws, names, steps, Clock())
    common.note_end(spec.state_dir, [step.args["instance"] for step in steps if step.do == "stop"])
    return image


def main() -> None:
    """Read the options, work, report."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["baked", "listed", "pruned"], "default": "listed"},
            "keep": {"type": "int", "default": 1},
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
