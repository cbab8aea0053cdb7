#!/usr/bin/python
# Copyright: The GPU lab contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ansible module: everything that labs have in a region, and what was left behind."""

from __future__ import annotations

DOCUMENTATION = r"""
module: lab_audit
short_description: Everything that labs have in a region, and what was left behind
description:
  - Lists all that carries the project's tag, and things of the same kinds that bear its name or
    that nothing uses, each with its cost a month. It changes nothing.
options:
  region:
    description: The region to look at.
    type: str
    required: true
  prices:
    description: The dated price table, used where AWS's own price list cannot be asked.
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
- name: Look for what was left behind
  lab_audit:
    region: us-east-1
    prices: "{{ __ec2_host_prices }}"
  register: audit
"""

RETURN = r"""
items:
  description: One entry a thing; C(month) in US dollars, C(lab) is C((no tag)) for a leftover.
  returned: always
  type: list
  elements: dict
  sample: [{"lab": "lab", "kind": "volume", "id": "vol-0123456789abcdef0", "month": 8.0}]
table:
  description: The same as lines of text, with the sum.
  returned: always
  type: list
  elements: str
  sample: ["LAB  KIND  ID"]
"""

import os
from dataclasses import asdict

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.lab.aws import audit, environment, prices, seen
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
    region = module.params["region"]
    try:
        aws = Boto(region)
        environment.check(aws.endpoints, aws.access_key, os.environ)
        types = [host.type for host in seen.instances(aws)]
        table = prices.current(aws, module.params["prices"], region, types)
        found = audit.look(aws, table)
    except LabError as error:
        module.fail_json(msg=str(error))
    module.exit_json(
        changed=False,
        items=[asdict(item) for item in found.items],
        table=audit.report(found, prices.price(table, region, "", 0).note),
    )


if __name__ == "__main__":
    main()
