#!/usr/bin/python
# Copyright: The GPU lab contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ansible module: write down how ssh reaches the host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: lab_ssh
short_description: Write down how ssh reaches the host
description:
  - Waits until the host and its workers answer on port 22, compares their host keys with those on
    record, and writes the lab's own C(ssh_config) and C(known_hosts).
  - The key is on record under the instance's id, so that a new address changes nothing, and another
    key at the same instance is refused.
options:
  name:
    description: The lab's name, which is the host's name in C(ssh_config).
    type: str
    required: true
  instance_id:
    description: The instance's id.
    type: str
    required: true
  address:
    description: The address at which the host is reached.
    type: str
    required: true
  user:
    description: The user to log in as.
    type: str
    required: true
  state_dir:
    description: The lab's folder on the controller.
    type: path
    required: true
  tunnel_port:
    description: The port on the controller that leads to Jupyter on the host.
    type: int
    default: 8888
  just_made:
    description: Whether the host was made by this run, so that its key cannot be on record.
    type: bool
    default: false
  proxy:
    description:
      - A command that leads to port 22 of the host, where that is not open; the instance's id is
        appended to it. Empty to connect to the address.
    type: str
    default: ""
  workers:
    description:
      - The lab's workers. One without C(public_ip) does not run, and what is on record of it stays.
    type: list
    elements: dict
    default: []
    suboptions:
      number:
        description: Its number; in C(ssh_config) its name is that of the lab, C(-worker-) and this.
        type: int
        required: true
      instance_id:
        description: The instance's id.
        type: str
        required: true
      public_ip:
        description: The address at which it is reached; empty while it does not run.
        type: str
        default: ""
  made_workers:
    description: The numbers of the workers that were made by this run.
    type: list
    elements: int
    default: []
  timeout:
    description: Seconds to wait for the host to answer.
    type: int
    default: 300
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
author: GPU lab
"""

EXAMPLES = r"""
- name: Write down how ssh reaches the host
  lab_ssh:
    name: lab
    instance_id: i-0123456789abcdef0
    address: 203.0.113.7
    user: admin
    state_dir: .lab/lab
"""

RETURN = r"""
fingerprint:
  description: The fingerprint of the host key on record.
  returned: always
  type: str
  sample: SHA256:2Bxg0hS1…
lab_warnings:
  description: What the user should know although nothing is refused.
  returned: always
  type: list
  elements: str
  sample: []
"""

from functools import partial
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.lab import ssh_access
from ansible.module_utils.lab.aws.lock import write_private
from ansible.module_utils.lab.aws.session import side_by_side
from ansible.module_utils.lab.errors import LabError


def hosts(params: dict[str, Any]) -> list[tuple[ssh_access.Host, bool]]:
    """Return the lab's host and its workers, each with whether this run has made it."""
    first = {"number": 0, "instance_id": params["instance_id"], "public_ip": params["address"]}
    made = {*params["made_workers"], *([0] if params["just_made"] else ())}
    return [
        (
            ssh_access.Host(
                lab=params["name"],
                alias=one["instance_id"],
                address=one["public_ip"],
                user=params["user"],
                tunnel_port=params["tunnel_port"],
                state_dir=Path(params["state_dir"]).resolve(),
                proxy=f"{params['proxy']} {one['instance_id']}" if params["proxy"] else "",
                worker=one["number"],
            ),
            one["number"] in made,
        )
        for one in (first, *params["workers"])
    ]


def ask(host: ssh_access.Host, just_made: bool, timeout: int) -> tuple[str, str]:
    """Wait for a host and judge its key; return that and a warning. Raises LabError."""
    scan = ssh_access.scan_through(host.proxy) if host.proxy else ssh_access.scan
    offered = ssh_access.wait_for_keys(host.address, timeout, scan)
    return ssh_access.judge(host, ssh_access.known(host), offered, just_made)


def run(params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """Compare, write, report. Raises LabError."""
    every = hosts(params)
    awake = {host: made for host, made in every if host.address}
    timeout = params["timeout"]
    jobs = {one.alias: partial(ask, one, made, timeout) for one, made in awake.items()}
    found = side_by_side(jobs)
    host = every[0][0]
    key = found[host.alias][0]
    workers = {one: found[one.alias][0] for one in awake if one.worker}
    asleep = [one for one, _ in every if not one.address]
    changes = []
    for path, text in ssh_access.wanted_files(host, key, workers, asleep).items():
        before = path.read_text() if path.exists() else ""
        if before == text:
            continue
        changes.append(
            {"before_header": str(path), "after_header": str(path), "before": before, "after": text}
        )
        if not check_mode:
            write_private(path, text)
    return {
        "changed": bool(changes),
        "diff": changes,
        "fingerprint": ssh_access.fingerprint(key),
        "lab_warnings": [warning for _, warning in found.values() if warning],
    }


def main() -> None:
    """Read the options, work, report."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "instance_id": {"type": "str", "required": True},
            "address": {"type": "str", "required": True},
            "user": {"type": "str", "required": True},
            "state_dir": {"type": "path", "required": True},
            "tunnel_port": {"type": "int", "default": 8888},
            "just_made": {"type": "bool", "default": False},
            "proxy": {"type": "str", "default": ""},
            "workers": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "number": {"type": "int", "required": True},
                    "instance_id": {"type": "str", "required": True},
                    "public_ip": {"type": "str", "default": ""},
                },
            },
            "made_workers": {"type": "list", "elements": "int", "default": []},
            "timeout": {"type": "int", "default": 300},
        },
        supports_check_mode=True,
    )
    try:
        module.exit_json(**run(module.params, module.check_mode))
    except LabError as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
