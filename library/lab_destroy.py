#!/usr/bin/python
# Copyright: The GPU lab contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ansible module: take a lab away."""

from __future__ import annotations

DOCUMENTATION = r"""
module: lab_destroy
short_description: Take a lab away
description:
  - Deletes everything in AWS that carries the lab's tags, but for the data volume, the bucket and
    images, each of which is deleted only when it is asked for.
  - Looks again afterwards and fails where something is left that should be gone.
options:
  confirm:
    description: The lab's name, as the user has typed it.
    type: str
    default: ""
  delete_data:
    description: Delete the data volume too.
    type: bool
    default: false
  delete_bucket:
    description: Delete the lab's own bucket of this name too, with all that is in it.
    type: str
    default: ""
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
- name: Take the lab away
  lab_destroy:
    confirm: lab
    lab: "{{ __ec2_host_lab }}"
    images: "{{ __ec2_host_images }}"
"""

RETURN = r"""
steps:
  description: What was deleted (in check mode, what would be).
  returned: always
  type: list
  elements: str
  sample: ["Delete key pair gpulab-lab"]
kept:
  description: What stays, and how it is deleted.
  returned: always
  type: list
  elements: str
  sample: ["bucket gpulab-111122223333-lab: …"]
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.lab.aws import destroy
from ansible.module_utils.lab.aws import module as common
from ansible.module_utils.lab.aws import plan as plans
from ansible.module_utils.lab.aws.clock import Clock
from ansible.module_utils.lab.aws.lock import lock
from ansible.module_utils.lab.aws.names import Names
from ansible.module_utils.lab.errors import LabError


def run(params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """Take the lab away. Raises LabError."""
    spec = common.spec(params)
    names = Names(spec.name, spec.region)
    wish = destroy.Wish(params["confirm"], params["delete_data"], params["delete_bucket"])
    destroy.check_name(wish, names)
    aws, bucket = common.reach(spec, names)
    there = destroy.look(aws, names, bucket)
    destroy.check_bucket(wish, there, bucket)
    steps = destroy.make_plan(wish, names, there)
    stale = destroy.stale_files(spec.state_dir)
    answer = {
        "changed": bool(steps or stale),
        "steps": [step.text for step in steps] + [f"Delete {path}" for path in stale],
        "kept": destroy.kept(wish, names, there, spec),
        "diff": plans.diff(steps),
    }
    if answer["changed"] and not check_mode:
        with lock(spec.state_dir):
            destroy.carry_out(aws, steps, Clock())
            common.note_end(spec.state_dir, there.instances)
            for path in stale:
                path.unlink(missing_ok=True)
            destroy.prove(wish, names, destroy.look(aws, names, bucket))
    return answer


def main() -> None:
    """Read the options, work, report."""
    module = AnsibleModule(
        argument_spec={
            "confirm": {"type": "str", "default": ""},
            "delete_data": {"type": "bool", "default": False},
            "delete_bucket": {"type": "str", "default": ""},
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
