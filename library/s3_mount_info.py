#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Tells how the S3 mounts of a host are."""

from __future__ import annotations

DOCUMENTATION = r"""
module: s3_mount_info
short_description: Tell how the S3 mounts of a host are
description:
  - Asks each mount that M(s3_mount) keeps, and its bucket, from a child process with a deadline,
    so that neither a hanging mount nor an endpoint that is gone can hold it.
  - Tells besides whether the watch over the mount is awake, and what it saw.
  - The module itself succeeds however the mounts are.
author: GPU lab
attributes:
  check_mode:
    description: Reads only.
    support: full
  diff_mode:
    support: none
options:
  path:
    description: One mount point. Unset, all of them.
    type: path
  deadline:
    description: Seconds that one mount may take to answer.
    type: float
    default: 10
"""

EXAMPLES = r"""
- name: See how the mounts are
  s3_mount_info:
  register: seen
"""

RETURN = r"""
mounts:
  description: One entry a mount, in the order of the fstab.
  type: list
  elements: dict
  returned: always
  contains:
    path:
      description: The mount point.
      type: str
      sample: /s3
    bucket:
      description: The bucket and prefix; empty where nothing is mounted.
      type: str
      sample: my-lab-data
    state:
      description: absent, ok, dead, hung, degraded, stacked or foreign
      type: str
      sample: ok
    detail:
      description: What was seen of a mount that is not well.
      type: str
      sample: no answer within the deadline
    watched:
      description: Whether the watch over the mount is awake.
      type: bool
      sample: true
    since:
      description: Since when the watch has seen the state that it saw last; empty if it is gone.
      type: str
      sample: "2026-11-22T08:00:00+00:00"
    restarts:
      description: How often systemd mounted it anew since boot.
      type: int
      sample: 0
    line:
      description: The same in one line.
      type: str
      sample: "/s3: ok, my-lab-data, watched since 2026-11-22T08:00:00+00:00"
well:
  description: Whether every mount answers and is watched.
  type: bool
  returned: always
  sample: true
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.lab.s3mount import status
from ansible.module_utils.lab.s3mount.probe import State


def main() -> None:
    """Run as a module."""
    module = AnsibleModule(
        argument_spec={"path": {"type": "path"}, "deadline": {"type": "float", "default": 10.0}},
        supports_check_mode=True,
    )
    wanted = module.params["path"]
    paths = [wanted.rstrip("/") or "/"] if wanted else status.paths()
    mounts = [status.of(path, module.params["deadline"]) for path in paths]
    module.exit_json(
        changed=False,
        mounts=[{**mount.as_dict(), "line": mount.line()} for mount in mounts],
        well=all(mount.state == State.OK and mount.watched for mount in mounts),
    )


if __name__ == "__main__":
    main()
