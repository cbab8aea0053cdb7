#!/usr/bin/python
# Copyright: The GPU lab contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ansible module: what runs, since when, and what it costs."""

from __future__ import annotations

DOCUMENTATION = r"""
module: lab_status
short_description: What runs, since when, and what it costs
description:
  - Returns every host of every lab in the region, and the disks that labs without a host have left.
    It changes nothing.
options:
  region:
    description: The region to look at.
    type: str
    required: true
  prices:
    description: The dated price table, used where AWS's own price list cannot be asked.
    type: dict
    required: true
  labs_dir:
    description: The folder on the controller with a folder for each lab.
    type: path
    required: true
  cost_explorer:
    description: Whether to ask AWS for its bill of each lab, at one cent a question.
    type: bool
    default: false
  retire_days:
    description: Days stopped after which a lab is said to be forgotten; 0 for never.
    type: int
    default: 0
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
- name: Look at the labs
  lab_status:
    region: us-east-1
    prices: "{{ __ec2_host_prices }}"
    labs_dir: .lab
  register: status
"""

RETURN = r"""
hosts:
  description: One entry a host, or a lab that has none. Money in US dollars.
  returned: always
  type: list
  elements: dict
  sample: [{"lab": "lab", "state": "running", "up_hours": 1.5, "stopped_month": 12.8}]
table:
  description: The same as lines of text.
  returned: always
  type: list
  elements: str
  sample: ["LAB  HOST  STATE"]
"""

import os
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.lab.aws import environment, prices, spent, status
from ansible.module_utils.lab.aws.session import Boto
from ansible.module_utils.lab.errors import LabError


def main() -> None:
    """Look and report."""
    module = AnsibleModule(
        argument_spec={
            "region": {"type": "str", "required": True},
            "prices": {"type": "dict", "required": True},
            "labs_dir": {"type": "path", "required": True},
            "retire_days": {"type": "int", "default": 0},
            "cost_explorer": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    region, folder = module.params["region"], Path(module.params["labs_dir"])
    try:
        aws = Boto(region)
        environment.check(aws.endpoints, aws.access_key, os.environ)
        found = status.look(aws)
        types = [host.type for host in found.instances]
        table = prices.current(aws, module.params["prices"], region, types)
    except LabError as error:
        module.fail_json(msg=str(error))
    now = datetime.now(UTC)
    rates = status.Rates(table, region, now, lambda lab: spent.read(folder / lab),
                         module.params["retire_days"])  # fmt: skip
    rows = status.lines(found, rates)
    labs = sorted({row.lab for row in rows}) if module.params["cost_explorer"] else []
    bills = [f"{lab}: {spent.bill(aws, lab, now)}" for lab in labs]
    module.exit_json(
        changed=False,
        hosts=[asdict(row) for row in rows],
        table=[*status.table(rows), *bills, *status.footer(rows, rates)],
    )


if __name__ == "__main__":
    main()
