#!/usr/bin/python
# Copyright: The GPU lab contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ansible module: have Debian packages installed, at no cost where they are."""

from __future__ import annotations

DOCUMENTATION = r"""
module: lab_packages
short_description: Have Debian packages installed, at no cost where they are
description:
  - What M(ansible.builtin.apt) does with O(ansible.builtin.apt#module:state=present), for a tenth
    of its time on a host where all is there; that one opens apt's whole cache in each call.
  - Lists that are old, or that know a package no more, are fetched first. A lock that somebody
    holds is waited for.
options:
  name:
    description: The packages.
    type: list
    elements: str
    required: true
  install_recommends:
    description: Whether packages that they recommend come along.
    type: bool
    default: false
  cache_valid_time:
    description: Seconds that the package lists are good for.
    type: int
    default: 86400
  lock_timeout:
    description: Seconds to wait for another apt or dpkg.
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
- name: Install tmux
  lab_packages:
    name: [tmux]
"""

RETURN = r"""
installed:
  description: The packages that were missing (in check mode, that are).
  returned: always
  type: list
  elements: str
  sample: [tmux]
"""

import os
import subprocess
from collections.abc import Sequence

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.lab import apt_packages
from ansible.module_utils.lab.errors import LabError

ENVIRONMENT = {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8", "NEEDRESTART_MODE": "a"}


def run(command: Sequence[str]) -> tuple[int, str]:
    """Run a program that asks nothing."""
    done = subprocess.run(
        command,
        env={**os.environ, **ENVIRONMENT},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "list", "elements": "str", "required": True},
            "install_recommends": {"type": "bool", "default": False},
            "cache_valid_time": {"type": "int", "default": 86400},
            "lock_timeout": {"type": "int", "default": 300},
        },
        supports_check_mode=True,
    )
    params = module.params
    wish = apt_packages.Wish(
        tuple(dict.fromkeys(params["name"])),
        params["install_recommends"],
        params["cache_valid_time"],
        params["lock_timeout"],
    )
    absent = apt_packages.missing(wish.names, run) if wish.names else []
    if absent and not module.check_mode:
        try:
            apt_packages.install(absent, wish, run)
        except LabError as error:
            module.fail_json(msg=str(error))
    module.exit_json(
        changed=bool(absent),
        installed=absent,
        diff={"before": "", "after": "".join(f"{name}\n" for name in absent)},
    )


if __name__ == "__main__":
    main()
