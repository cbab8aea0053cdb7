#!/usr/bin/python
# Copyright: The GPU lab contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ansible module: set a lab's host aside for a new one, let go of it, or go back to it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: lab_rebuild
short_description: Set a lab's host aside for a new one, let go of it, or go back to it
description:
  - A rebuild keeps the old host, stopped and under another name, until the new one is proved. Which
    of both is which is told by their names in AWS, so that a run that is killed is mended by the
    next, from wherever it is started.
  - The new host itself is made by M(lab_host), which finds none and takes up the data volume.
options:
  state:
    description:
      - C(planned) refuses what cannot work and says what a rebuild will do. It changes nothing.
      - C(begun) stops the host, detaches the data volume and gives the host the name of the old
        one. Where an old host is there already, the rebuild has begun and nothing changes; where
        the lab has workers otherwise, it is refused.
      - C(finished) terminates the old host; refused while no other one runs with the data volume.
      - C(back) terminates the new host, if there is one, and gives the old one its name again.
    type: str
    required: true
    choices: [planned, begun, finished, back]
  confirm:
    description: The lab's name, as the user has typed it.
    type: str
    default: ""
  prices:
    description: The dated price table. Required for O(state=planned) and O(state=begun).
    type: dict
  inventory_region:
    description:
      - The region in which the inventory looks. Required for O(state=planned) and O(state=begun).
    type: str
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
- name: Set the host aside
  lab_rebuild:
    state: begun
    confirm: lab
    lab: "{{ __ec2_host_lab }}"
    images: "{{ __ec2_host_images }}"
    prices: "{{ __ec2_host_prices }}"
    inventory_region: us-east-1
"""

RETURN = r"""
steps:
  description: What was done (in check mode or with O(state=planned), what would be).
  returned: always
  type: list
  elements: str
  sample: ["Set i-0123456789abcdef0 aside as gpulab-lab-old"]
old:
  description: Id of the host that was set aside, empty where there is none (yet).
  returned: always
  type: str
  sample: ""
begun:
  description: Whether a host had been set aside already.
  returned: always
  type: bool
  sample: false
workers:
  description: The numbers of the lab's workers, which are let go of before the host is set aside.
  returned: always
  type: list
  elements: int
  sample: [1, 2]
running:
  description: Whether the lab's host runs.
  returned: always
  type: bool
  sample: true
lab_warnings:
  description: What the user should know although nothing is refused.
  returned: always
  type: list
  elements: str
  sample: []
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.lab.aws import destroy, rebuild
from ansible.module_utils.lab.aws import module as common
from ansible.module_utils.lab.aws import plan as plans
from ansible.module_utils.lab.aws.clock import Clock
from ansible.module_utils.lab.aws.lock import lock
from ansible.module_utils.lab.aws.names import Names
from ansible.module_utils.lab.errors import LabError


def run(params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """Look, decide, and do it unless only the plan is wanted. Raises LabError."""
    spec, state = common.spec(params), params["state"]
    names = Names(spec.name, spec.region)
    destroy.check_name(destroy.Wish(params["confirm"], False, ""), names)
    aws, _ = common.reach(spec, names)
    there = rebuild.look(aws, names)
    if state == "begun":
        rebuild.check_workers(there, names)
    steps = rebuild.PLANS["begun" if state == "planned" else state](names, there)
    build: list[str] = []
    warnings: list[str] = []
    if steps and state in ("planned", "begun"):
        # What the new host would be refused for is refused while the old one still runs.
        decided = common.decide(params, spec, replacing=True)
        build, warnings = [step.text for step in decided.steps], list(decided.target.warnings)
    old = there.old or (there.host if steps and state in ("planned", "begun") else None)
    answer: dict[str, Any] = {
        "changed": bool(steps) and state != "planned",
        "steps": [step.text for step in steps],
        "old": old.id if old else "",
        "begun": there.old is not None,
        "workers": list(there.workers),
        "running": there.host is not None and there.host.state == "running",
        "lab_warnings": warnings,
        "diff": plans.diff(steps),
    }
    if state == "planned":
        last = [f"Terminate {old.id} once the new host is proved"] if old else []
        answer["steps"] = [*answer["steps"], *build, *last]
    elif steps and not check_mode:
        with lock(spec.state_dir):
            rebuild.carry_out(aws, steps, Clock())
            ended = [step.args["instance"] for step in steps if "instance" in step.args]
            common.note_end(spec.state_dir, ended)
    return answer


def main() -> None:
    """Read the options, work, report."""
    module = AnsibleModule(
        argument_spec={
            "state": {
                "type": "str",
                "required": True,
                "choices": ["planned", "begun", "finished", "back"],
            },
            "confirm": {"type": "str", "default": ""},
            "prices": {"type": "dict"},
            "inventory_region": {"type": "str"},
            "lab": {"type": "dict", "required": True},
            "images": {"type": "dict", "required": True},
        },
        required_if=[
            ("state", "planned", ("prices", "inventory_region")),
            ("state", "begun", ("prices", "inventory_region")),
        ],
        supports_check_mode=True,
    )
    try:
        module.exit_json(**run(module.params, module.check_mode))
    except LabError as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
