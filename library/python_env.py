#!/usr/bin/python
# Copyright: The GPU lab contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ansible module: Python environments that are the same at the next rebuild."""

from __future__ import annotations

DOCUMENTATION = r"""
module: python_env
short_description: Python environments that are the same at the next rebuild
description:
  - Installs uv, makes environments and installs exactly what a lock with hashes names, several
    environments side by side.
  - A lock that is given wins over the one that the environment was installed from; where neither
    was made for these requirements, this Python and these sources, one is made, in which the
    versions of the old one stay as far as they can.
  - Where all is installed already, no network is needed.
options:
  environments:
    description: The environments.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: The name.
        type: str
        required: true
      path:
        description: The folder.
        type: path
        required: true
      requirements:
        description: What goes into it, as pip names it.
        type: list
        elements: str
        default: []
      lock:
        description: The lock; empty for none.
        type: str
        default: ""
      where:
        description: Options of uv that say where packages come from.
        type: list
        elements: str
        default: []
      excludes:
        description: Names that are never installed, because the distribution brings them.
        type: list
        elements: str
        default: []
      system:
        description: Whether the environment sees the packages of the distribution.
        type: bool
        default: false
  upgrade:
    description: Whether the locks are made anew, with the newest versions that fit.
    type: bool
    default: false
  uv_home:
    description: Folder of the environment that uv lives in.
    type: path
    required: true
  uv_version:
    description: Version of uv.
    type: str
    required: true
  settings:
    description: Environment variables of uv, such as the cache and the CAs to trust.
    type: dict
    default: {}
attributes:
  check_mode:
    support: full
    description: A lock is made where uv is there, for only it tells what would be installed.
  diff_mode:
    support: full
requirements:
  - python3-venv
author: GPU lab
"""

EXAMPLES = r"""
- name: Make an environment
  python_env:
    uv_home: /opt/lab/uv
    uv_version: 0.13.9
    environments:
      - name: lab
        path: /opt/lab/venv
        requirements: [numpy]
  register: made
"""

RETURN = r"""
environments:
  description: >-
    For each environment its name, its lock (empty where check mode cannot know it), what was done,
    and what differs from the lock before, a line for each package.
  returned: always
  type: list
  elements: dict
  sample: [{"name": "lab", "lock": "", "steps": ["install numpy 2.4.6"], "difference": []}]
"""

from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.lab import pyenv
from ansible.module_utils.lab.errors import LabError

LISTS = ("requirements", "where", "excludes")
ENVIRONMENT: dict[str, Any] = {
    "name": {"type": "str", "required": True},
    "path": {"type": "path", "required": True},
    "lock": {"type": "str", "default": ""},
    "system": {"type": "bool", "default": False},
    **{name: {"type": "list", "elements": "str", "default": []} for name in LISTS},
}


def wish(given: dict[str, Any]) -> pyenv.Wish:
    """Read one environment of the options."""
    lists = {name: tuple(given[name]) for name in LISTS}
    return pyenv.Wish(**(given | lists | {"path": Path(given["path"])}))


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "environments": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": ENVIRONMENT,
            },
            "upgrade": {"type": "bool", "default": False},
            "uv_home": {"type": "path", "required": True},
            "uv_version": {"type": "str", "required": True},
            "settings": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    params, check = module.params, module.check_mode
    tools = pyenv.Tools(
        Path(params["uv_home"]), params["uv_version"], params["settings"], params["upgrade"]
    )
    try:
        with nullcontext() if check else pyenv.alone(tools), ThreadPoolExecutor() as pool:
            before = pyenv.make_tools(tools, pyenv.run, check)
            wishes = [wish(each) for each in params["environments"]]
            made = list(pool.map(lambda each: pyenv.make(each, tools, check=check), wishes))
    except LabError as error:
        module.fail_json(msg=str(error))
    steps = [*before, *(f"{each.name}: {step}" for each in made for step in each.steps)]
    module.exit_json(
        changed=bool(steps),
        environments=[pyenv.as_dict(each) for each in made],
        diff={"before": "", "after": "".join(f"{step}\n" for step in steps)},
    )


if __name__ == "__main__":
    main()
