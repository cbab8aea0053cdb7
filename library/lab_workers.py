#!/usr/bin/python
# Copyright: The GPU lab contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ansible module: take workers of a lab away."""

from __future__ import annotations

DOCUMENTATION = r"""
module: lab_workers
short_description: Take workers of a lab away
description:
  - Terminates workers of a lab by their numbers, with what stops them from outside, and forgets how
    they were reached. What does not bear the lab's tags and C(Role=worker) is not touched, and so
    never its host.
  - Whether a worker still runs a job is for the caller to know.
  - With the last worker of a lab whose C(workers) is 0 go the rules by which they reached one
    another.
  - C(lab_host) makes and starts workers.
options:
  state:
    description: Workers are only taken away here.
    type: str
    choices: [absent]
    default: absent
  numbers:
    description: The numbers of the workers; one that is not there is fine.
    type: list
    elements: int
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
- name: Take the third worker away
  lab_workers:
    state: absent
    numbers: [3]
    lab: "{{ __ec2_host_lab }}"
    images: "{{ __ec2_host_images }}"
"""

RETURN = r"""
steps:
  description: What was done (in check mode, what would be).
  returned: always
  type: list
  elements: str
  sample: ["Terminate i-0123456789abcdef0 (worker 3, g4dn.xlarge) with its root volume"]
left:
  description: The numbers of the workers that are there afterwards.
  returned: always
  type: list
  elements: int
  sample: [1, 2]
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.lab import ssh_access
from ansible.module_utils.lab.aws import launch, remove
from ansible.module_utils.lab.aws import module as common
from ansible.module_utils.lab.aws import plan as plans
from ansible.module_utils.lab.aws.clock import Clock
from ansible.module_utils.lab.aws.lock import lock, write_private
from ansible.module_utils.lab.aws.names import Names
from ansible.module_utils.lab.errors import LabError


def run(params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """Take the workers away. Raises LabError."""
    spec = common.spec(params)
    names = Names(spec.name, spec.region)
    numbers = remove.check_numbers(params["numbers"])
    aws, _ = common.reach(spec, names)
    there = remove.look(aws, names)
    steps = remove.make_plan(spec, names, there, numbers)
    doomed = [one for one in there.workers if one.worker in numbers]
    if steps and not check_mode:
        with lock(spec.state_dir):
            remove.carry_out(aws, steps, Clock())
            common.note_end(spec.state_dir, doomed)
            gone = {one.worker: one.id for one in doomed}
            for number in gone:
                launch.token_file(spec.state_dir, number).unlink(missing_ok=True)
            for path, text in ssh_access.forget(spec.state_dir, spec.name, gone).items():
                write_private(path, text)
    return {
        "changed": bool(steps),
        "steps": [step.text for step in steps],
        "left": sorted({one.worker for one in there.workers} - numbers),
        "diff": plans.diff(steps),
    }


def main() -> None:
    """Read the options, work, report."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["absent"], "default": "absent"},
            "numbers": {"type": "list", "elements": "int", "required": True},
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
