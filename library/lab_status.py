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
    description: The dated price table.
    type: dict
    required: true
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
  register: status
"""

RETURN = r"""
hosts:
  description: One entry a host. Money in US dollars, C(so_far) since the last start.
  returned: always
  type: list
  elements: dict
  sample: [{"lab": "lab", "state": "running", "up_hours": 1.5, "so_far": 0.82}]
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

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.lab.aws import environment, status
from ansible.module_utils.lab.aws.session import Boto
from ansible.module_utils.lab.errors import LabError


def main() -> None:
    """Look and report."""
    module = AnsibleModule(
        argument_spec={
            "region": {"type": "str", "required": True},
            "prices": {"type": "dict", "required": True},
        },
        supports_check_mode=True,
    )
    region, prices = module.params["region"], module.params["prices"]
    try:
        aws = Boto(region)
        environment.check(aws.endpoints, aws.access_key, os.environ)
        instances, volumes = status.look(aws)
    except LabError as error:
        module.fail_json(msg=str(error))
    rows = status.lines(instances, volumes, prices, region, datetime.now(UTC))
    module.exit_json(changed=False, hosts=[asdict(row) for row in rows], table=status.table(rows))


if __name__ == "__main__":
    main()
