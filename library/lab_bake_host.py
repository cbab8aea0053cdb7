#!/usr/bin/python
# Copyright: The GPU lab contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ansible module: clean a host so that an image of it holds no secret."""

from __future__ import annotations

DOCUMENTATION = r"""
module: lab_bake_host
short_description: Clean a host so that an image of it holds no secret
description:
  - Runs the hooks of C(/etc/lab/before-stop.d), ends what people run, puts on the data volume what
    an image must not hold (home folders, SSH host keys, Jupyter's secrets, the lab's state, logs)
    and takes it away together with caches and the machine's id; then looks through the disk for
    what is left of it and for anything that looks like a key.
  - Where something is found, all is put back and the module fails.
  - All comes back at the next boot of this very host, or after 15 minutes if it is not stopped.
  - Not idempotent. It prepares for M(lab_bake).
options:
  instance:
    description: The id of the host's instance; what was put aside comes back to this one alone.
    type: str
    required: true
  aside:
    description: Further paths or globs to put aside.
    type: list
    elements: str
    default: []
attributes:
  check_mode:
    support: full
    description: Says what would be put aside.
  diff_mode:
    support: none
author: GPU lab
"""

EXAMPLES = r"""
- name: Clean the host
  lab_bake_host:
    instance: i-0123456789abcdef0
    aside: [/etc/my-service/token]
"""

RETURN = r"""
aside:
  description: What was put aside (in check mode, what would be).
  returned: always
  type: list
  elements: str
  sample: [/home/admin, /etc/ssh/ssh_host_ed25519_key]
"""

import os
import signal
from contextlib import suppress
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.lab import bake
from ansible.module_utils.lab.errors import LabError

ROOT = Path("/")
# The hooks are in the first one's stop. Jupyter writes its state while it ends.
# The last one writes its seed when it ends.
SERVICES = ("lab-before-stop.service", "lab-jupyter.service", "systemd-random-seed.service")
SHOWN = 20


def end_sessions() -> None:
    """Run the hooks, then end what people run."""
    for service in SERVICES:
        with suppress(LabError):  # a host of other roles has not all of them
            bake.run(["systemctl", "stop", service])
    for pid in bake.sessions(Path("/proc"), os.getpid()):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def work(instance: str, aside: list[str], check_mode: bool) -> list[str]:
    """Clean the host and prove it. Raises LabError, after all was put back."""
    paths = bake.away(ROOT, aside)
    bake.check(ROOT, paths)
    if check_mode:
        return [str(path) for path in paths]
    end_sessions()
    paths = bake.away(ROOT, aside)
    bake.put_aside(ROOT, instance, paths)
    bake.arm(ROOT)
    words = bake.known(ROOT)
    bake.clean(ROOT, paths)
    left = bake.scan(ROOT, paths, words)
    if left:
        bake.run([f"/{bake.RESTORE}"])
        raise LabError(
            f"No image is made, for it would hold what it must not: {'; '.join(left[:SHOWN])}. Take"
            ' it away, or have it put aside with -e \'{"bake_aside": ["/path"]}\', and run the same'
            " command again; the host is as it was"
        )
    return [str(path) for path in paths]


def main() -> None:
    """Read the options, work, report."""
    module = AnsibleModule(
        argument_spec={
            "instance": {"type": "str", "required": True},
            "aside": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    try:
        done = work(module.params["instance"], module.params["aside"], module.check_mode)
    except LabError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=True, aside=done)


if __name__ == "__main__":
    main()
