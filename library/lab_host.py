#!/usr/bin/python
# Copyright: The GPU lab contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ansible module: make, mend or stop a lab in AWS."""

from __future__ import annotations

DOCUMENTATION = r"""
module: lab_host
short_description: Make, mend or stop a lab in AWS
description:
  - Makes what is missing, in this order, key pair, security group, bucket, role and instance
    profile, instance, data volume, workers; puts right what was changed by hand; starts a stopped
    host and stopped workers. It removes no worker; M(lab_workers) does.
  - Does the checks of M(lab_preflight) first, under a lock, so that two runs never make two hosts.
  - A run that is killed is mended by the next.
options:
  state:
    description:
      - C(running) makes or mends the lab and starts its host.
      - C(stopped) stops the workers, then the host, and waits for them.
    type: str
    choices: [running, stopped]
    default: running
  prices:
    description: The dated price table. Required for O(state=running).
    type: dict
  inventory_region:
    description:
      - The region in which the inventory looks; it must be that of the lab. Required for
        O(state=running).
    type: str
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
    support: full
requirements:
  - boto3
author: GPU lab
"""

EXAMPLES = r"""
- name: Make or mend the lab
  lab_host:
    lab: "{{ __ec2_host_lab }}"
    images: "{{ __ec2_host_images }}"
    prices: "{{ __ec2_host_prices }}"
    inventory_region: us-east-1
"""

RETURN = r"""
host:
  description: The lab, its host and its price, as they are afterwards.
  returned: always
  type: dict
  sample: {"name": "lab", "instance_id": "i-0123456789abcdef0", "public_ip": "203.0.113.7"}
steps:
  description: What was done (in check mode, what would be).
  returned: always
  type: list
  elements: str
  sample: ["Create bucket gpulab-111122223333-lab"]
created:
  description: Whether this run has made the host.
  returned: when O(state=running)
  type: bool
created_workers:
  description: The numbers of the workers that this run has made.
  returned: when O(state=running)
  type: list
  elements: int
  sample: [1, 2]
lab_warnings:
  description: What the user should know although nothing is refused.
  returned: when O(state=running)
  type: list
  elements: str
  sample: []
"""

import os
from datetime import UTC, datetime
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.lab.aws import apply, environment, keys, preflight, spent
from ansible.module_utils.lab.aws import module as common
from ansible.module_utils.lab.aws import plan as plans
from ansible.module_utils.lab.aws.clock import Clock
from ansible.module_utils.lab.aws.lock import lock
from ansible.module_utils.lab.aws.names import Names
from ansible.module_utils.lab.aws.power import find_all, stop, stop_workers
from ansible.module_utils.lab.aws.session import Boto
from ansible.module_utils.lab.aws.work import Work
from ansible.module_utils.lab.errors import LabError


def run(params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """Make or mend the lab. Raises LabError."""
    spec = common.spec(params)
    if check_mode:
        return _planned(common.decide(params, spec))
    with lock(spec.state_dir):
        decided = common.decide(params, spec)
        answer = _planned(decided)
        work = Work(decided.aws, decided.target, decided.there)
        keys.prepare(spec.state_dir)
        spent.save(spec.state_dir, preflight.runs(decided.target, decided.there))
        try:
            apply.carry_out(work, decided.steps)
        except LabError as error:
            done = "".join(f"\n  done: {text}" for text in work.said)
            raise LabError(f"{error}{done}") from error
        there = preflight.look_again(decided.aws, decided.target)
        spent.save(spec.state_dir, preflight.runs(decided.target, there))
        answer["host"] = preflight.summary(decided.target, there)
        return answer


def _planned(decided: common.Decided) -> dict[str, Any]:
    return {
        "changed": bool(decided.steps),
        "created": any(step.do == "launch" for step in decided.steps),
        "created_workers": [
            number
            for step in decided.steps
            if step.do == "launch_workers"
            for number in step.args["tags"]
        ],
        "diff": plans.diff(decided.steps),
        **decided.answer(),
    }


def switch_off(params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """Stop the workers and then the host, on which they rely. Raises LabError."""
    spec = common.spec(params)
    aws = Boto(spec.region)
    environment.check(aws.endpoints, aws.access_key, os.environ)
    names = Names(spec.name, spec.region)
    host, workers = find_all(aws, names)
    if host is None and not workers:
        raise LabError(
            f"There is no host of the lab {spec.name} in {spec.region} to stop: see"
            " `ansible-playbook playbooks/status.yml`"
        )
    every = [*workers, *([host] if host else ())]
    running = [one for one in every if one.state not in ("stopped", "stopping")]
    if any(one.state != "stopped" for one in every) and not check_mode:
        with lock(spec.state_dir):
            then = stop_workers(aws, workers, Clock())
            if host and host.state != "stopped":
                then.append(stop(aws, host, Clock()))
            known = spent.read(spec.state_dir)
            for one in (*every, *then):
                known = spent.update(known, one, None, datetime.now(UTC))
            spent.save(spec.state_dir, known)
    return {
        "changed": bool(running),
        "host": {"name": spec.name, "instance_id": host.id if host else "", "state": "stopped"},
        "steps": [f"Stop {one.id}, which is {one.state}" for one in running],
        "diff": {
            "before": "".join(f"instance {one.id}: {one.state}\n" for one in every),
            "after": "".join(f"instance {one.id}: stopped\n" for one in every),
        },
    }


def main() -> None:
    """Read the options, work, report."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["running", "stopped"], "default": "running"},
            "lab": {"type": "dict", "required": True},
            "images": {"type": "dict", "required": True},
            "prices": {"type": "dict"},
            "inventory_region": {"type": "str"},
            "may_create": {"type": "bool", "default": True},
        },
        required_if=[("state", "running", ("prices", "inventory_region"))],
        supports_check_mode=True,
    )
    work = run if module.params["state"] == "running" else switch_off
    try:
        module.exit_json(**work(module.params, module.check_mode))
    except LabError as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
