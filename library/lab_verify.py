#!/usr/bin/python
# Copyright: The GPU lab contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ansible module: prove each part of a lab on its host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: lab_verify
short_description: Prove each part of a lab on its host
description:
  - Runs every check program of a folder and returns what each of them saw.
  - A program that breaks, prints something else or outlives its deadline counts as failed.
  - The module itself succeeds whatever the checks say, so that one table can show all of them.
options:
  directory:
    description: The folder of the check programs.
    type: path
    default: /usr/local/lib/lab/checks.d
  deadline:
    description: Seconds that one program may take.
    type: float
    default: 180
  bucket_path:
    description:
      - Where the bucket is mounted. A file is written there and left for the controller, which
        looks for it in the bucket and deletes it (M(lab_verify_outside)).
    type: path
attributes:
  check_mode:
    support: full
    details: Check programs write probe files, so in check mode none of them runs.
  diff_mode:
    support: none
author: GPU lab
"""

EXAMPLES = r"""
- name: Prove the host
  lab_verify:
    bucket_path: /s3
  register: proved
"""

RETURN = r"""
results:
  description: One entry a check, in the order of the programs' names.
  returned: always
  type: list
  elements: dict
  sample: [{"check": "jupyter refuses a wrong password", "status": "ok", "detail": "401"}]
probe:
  description: The key and the SHA-256 of the file left in the bucket, empty where none is.
  returned: always
  type: dict
  sample: {"key": ".lab-verify/0a1b2c3d", "sha256": "9f86d081…"}
"""

import hashlib
import secrets
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.lab.checks import Result, run_all
from ansible.module_utils.lab.errors import LabError

PROBE_FOLDER = ".lab-verify"


def write_probe(mount: Path) -> tuple[Result, dict[str, str]]:
    """Write a small file through the mount; return the result and where it should be."""
    name, data = secrets.token_hex(8), secrets.token_bytes(4096)
    target = mount / PROBE_FOLDER / name
    check = "a file is written through the mount"
    try:
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(data)
        if target.read_bytes() != data:
            return Result(check, "failed", f"{target} reads back differently"), {}
    except OSError as error:
        return Result(check, "failed", str(error)), {}
    probe = {"key": f"{PROBE_FOLDER}/{name}", "sha256": hashlib.sha256(data).hexdigest()}
    return Result(check, "ok", f"{len(data)} bytes at {target}"), probe


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "directory": {"type": "path", "default": "/usr/local/lib/lab/checks.d"},
            "deadline": {"type": "float", "default": 180},
            "bucket_path": {"type": "path"},
        },
        supports_check_mode=True,
    )
    if module.check_mode:
        module.exit_json(changed=False, results=[], probe={})
    probe: dict[str, str] = {}
    try:
        results = run_all(Path(module.params["directory"]), module.params["deadline"])
        if module.params["bucket_path"]:
            written, probe = write_probe(Path(module.params["bucket_path"]))
            results.append(written)
    except LabError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, results=[r.as_dict() for r in results], probe=probe)


if __name__ == "__main__":
    main()
