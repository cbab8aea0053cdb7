#!/usr/bin/python
# Copyright: The GPU lab contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ansible module: what a host is made of, and what differs from another."""

from __future__ import annotations

DOCUMENTATION = r"""
module: lab_manifest
short_description: What a host is made of, and what differs from another
description:
  - Lists image, kernel, driver, CUDA, Debian packages with versions and Python packages with
    versions and hashes. It changes nothing.
  - Two builds of one lab give equal manifests; what differs is told a line each.
options:
  image:
    description: The id of the image that the host was made from.
    type: str
    default: ""
  compare:
    description: Another manifest, as this module returned it; empty for none.
    type: str
    default: ""
  root:
    description: Where the host is looked at; another folder than C(/) is a simulated one.
    type: path
    default: /
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
author: GPU lab
"""

EXAMPLES = r"""
- name: List what the host is made of
  lab_manifest:
  register: made
"""

RETURN = r"""
manifest:
  description: The manifest as JSON, its keys in order, so that equal ones are equal files.
  returned: always
  type: str
  sample: '{"apt": {"adduser:all": "3.152"}, "kernel": "6.12.107+deb13-cloud-amd64"}'
differences:
  description: What differs from O(compare), the old before the new; empty without one.
  returned: always
  type: list
  elements: str
  sample: ["python venv numpy version: 2.4.5 -> 2.4.6"]
"""

import json
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.lab import manifest
from ansible.module_utils.lab.errors import LabError


def main() -> None:
    """Collect, compare, report."""
    module = AnsibleModule(
        argument_spec={
            "image": {"type": "str", "default": ""},
            "compare": {"type": "str", "default": ""},
            "root": {"type": "path", "default": "/"},
        },
        supports_check_mode=True,
    )
    made = manifest.collect(Path(module.params["root"]), module.params["image"])
    differences: list[str] = []
    if module.params["compare"]:
        try:
            differences = manifest.differences(json.loads(module.params["compare"]), made)
        except ValueError as error:
            module.fail_json(msg=f"compare is no JSON ({error}): give a file of manifest.yml")
        except LabError as error:
            module.fail_json(msg=str(error))
    text = json.dumps(made, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    module.exit_json(changed=False, manifest=text, differences=differences)


if __name__ == "__main__":
    main()
