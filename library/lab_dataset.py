#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Chooses how a data set in a bucket is used, and copies it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: lab_dataset
short_description: Choose how a data set in a bucket is used, and copy it
description:
  - With O(state=chosen) it only looks, and says whether a prefix of a bucket is best copied to a
    fast disk, mounted, or unpacked, and why.
  - With O(state=copied) it brings what is missing or different, side by side, by rclone, which
    compares each file's checksum after the transfer. What is gone from the bucket stays, as do
    files of the user's own.
  - Needs rclone on the host. Signs with the access key in the environment of the task
    (E(AWS_ACCESS_KEY_ID), E(AWS_SECRET_ACCESS_KEY)), else with the role of the instance.
author: GPU lab
attributes:
  check_mode:
    description: Asks the bucket and the disks, copies nothing and says how many files would be.
    support: full
  diff_mode:
    description: Shows the folder, the link and the number of files before and after.
    support: full
options:
  src:
    description: The data set, as C(s3://bucket/prefix/).
    type: str
    required: true
  dest:
    description: The absolute path by which it is used. For a copy on O(fast_path), a link to it.
    type: path
    required: true
  state:
    description: Only choose, or copy as well.
    type: str
    choices: [chosen, copied]
    default: chosen
  use:
    description:
      - How the data set is to be used. V(auto) unpacks what is nothing but zip archives, copies
        what fits on the instance store, else on the data volume with room to spare, and mounts
        the rest.
    type: str
    choices: [copy, mount, unzip, auto]
    default: auto
  fast_path:
    description: Where the instance store is mounted, if there is one.
    type: path
    default: /scratch
  owner:
    description: The user, by name, whom the copy belongs to.
    type: str
    default: root
  region:
    description: The bucket's region. Unset, the instance's own on AWS, us-east-1 with O(endpoint).
    type: str
  endpoint:
    description: URL of an S3 service other than AWS.
    type: str
"""

EXAMPLES = r"""
- name: See what is best
  lab_dataset:
    src: s3://my-lab-data/imagenet/
    dest: /data/datasets/imagenet
  register: chosen

- name: Copy it, if that is best
  lab_dataset:
    src: s3://my-lab-data/imagenet/
    dest: /data/datasets/imagenet
    use: "{{ chosen.use }}"
    state: copied
    owner: admin
  when: chosen.use == 'copy'
"""

RETURN = r"""
use:
  description: copy, mount or unzip
  type: str
  returned: always
  sample: copy
reason:
  description: Why.
  type: str
  returned: always
  sample: 1,281,167 files, 148 GB, fit into the 900 GB that are free on the instance store
folder:
  description: Where a copy lies, or will; empty for the other uses.
  type: str
  returned: always
  sample: /scratch/datasets/data-datasets-imagenet
mounted:
  description: Whether a bucket is mounted at O(dest) now.
  type: bool
  returned: always
  sample: false
files:
  description: How many files lie in the bucket; 0 where nobody had to count.
  type: int
  returned: always
  sample: 1281167
bytes:
  description: Their size.
  type: int
  returned: always
  sample: 147897477120
copied:
  description: How many files were copied, or would be.
  type: int
  returned: always
  sample: 0
"""

import json
import os
import pwd
import re
import shutil
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.lab.dataset import place
from ansible.module_utils.lab.dataset.choice import USES, Decision, Survey, decide
from ansible.module_utils.lab.dataset.copy import Source
from ansible.module_utils.lab.errors import LabError
from ansible.module_utils.lab.s3mount import names, wanted
from ansible.module_utils.lab.s3mount.bucket import Bucket, Client
from ansible.module_utils.lab.s3mount.imds import InstanceMetadata
from ansible.module_utils.lab.s3mount.sigv4 import Credentials

NOTES = Path("/var/lib/lab/datasets")
KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
ARGUMENTS: dict[str, dict[str, Any]] = {
    "src": {"type": "str", "required": True},
    "dest": {"type": "path", "required": True},
    "state": {"type": "str", "choices": ["chosen", "copied"], "default": "chosen"},
    "use": {"type": "str", "choices": list(USES), "default": "auto"},
    "fast_path": {"type": "path", "default": "/scratch"},
    "owner": {"type": "str", "default": "root"},
    "region": {"type": "str"},
    "endpoint": {"type": "str"},
}


class Run:
    """One run of the module."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.params: dict[str, Any] = module.params
        self.dest = Path(wanted.mount_path(self.params["dest"]))
        self.source = Source(self._bucket())

    def main(self) -> dict[str, Any]:
        """Choose, and copy if that is asked for."""
        survey = self._survey()
        fast = Path(self.params["fast_path"])
        disks = place.disks(self.dest, fast if os.path.ismount(fast) else None)
        decision = decide(self.params["use"], survey, disks)
        result = {
            "changed": False,
            "use": decision.use,
            "reason": decision.reason,
            "folder": decision.folder,
            "mounted": place.is_mounted(self.dest),
            "files": survey.files if survey else 0,
            "bytes": survey.bytes if survey else 0,
            "copied": 0,
        }
        if self.params["state"] == "copied" and survey:
            result.update(self._copy(decision, survey))
        return result

    def _bucket(self) -> Bucket:
        found = re.fullmatch(r"s3://([^/]+)(?:/(.*))?", self.params["src"])
        if not found:
            raise LabError(f"src {self.params['src']!r} is no s3://bucket/prefix/.")
        params = {
            **self.params,
            "path_style": None,
            "bucket": found[1],
            "prefix": found[2],
        }
        return wanted.bucket_of(params, InstanceMetadata().region)

    def _survey(self) -> Survey | None:
        if self.params["use"] in ("mount", "unzip"):
            return None
        if shutil.which("rclone") is None:
            raise LabError(
                "rclone is not installed on this host: install the package rclone (apt-get install "
                "rclone), or use the role datasets."
            )
        self._ask_bucket()
        return self.source.survey()

    def _ask_bucket(self) -> None:
        """Fail with the reason in one sentence, which rclone would not give."""
        bucket, metadata = self.source.bucket, InstanceMetadata()
        key, secret, token = (os.environ.get(name, "") for name in KEYS)
        keys = (
            Credentials(key, secret, token) if key else metadata.credentials(metadata.role_name())
        )
        if not Client(bucket, keys).check():
            raise LabError(f"Nothing lies at {self.source.address}: check src.")

    def _copy(self, decision: Decision, survey: Survey) -> dict[str, Any]:
        if decision.use != "copy":
            raise LabError(
                f"{self.source.address} is not to be copied ({decision.reason}): set use: copy if "
                "it is to be all the same."
            )
        if place.is_mounted(self.dest):
            raise LabError(
                f"A bucket is mounted at {self.dest}: take it away first (s3_mount, state: absent)."
            )
        user = _user(self.params["owner"])
        owner = (user.pw_uid, user.pw_gid)
        link = place.link_needed(self.dest, decision.folder)
        if self.module.check_mode:
            copied = self.source.copy(decision.folder, None, dry=True)
        else:
            place.make(self.dest, decision.folder, owner)
            copied = self.source.copy(decision.folder, owner)
            self._note(decision, survey)
        diff = {
            "before": f"{decision.folder}: {survey.files - copied} of {survey.files} files\n",
            "after": f"{decision.folder}: {survey.files} files\n",
        }
        return {"changed": bool(copied or link), "copied": copied, "diff": diff}

    def _note(self, decision: Decision, survey: Survey) -> None:
        """Write down what the check holds the copy against, and how a boot fills it again."""
        NOTES.mkdir(parents=True, exist_ok=True)
        text = {
            "dest": str(self.dest),
            "folder": decision.folder,
            "files": survey.files,
            "bytes": survey.bytes,
            "owner": self.params["owner"],
            # Without an access key in the environment, that is with the role of the instance.
            "signs_alone": "AWS_ACCESS_KEY_ID" not in os.environ,
            "command": self.source.copy_command(decision.folder),
        }
        target = NOTES / f"{names.escape_path(str(self.dest))}.json"
        fresh = target.with_suffix(".new")
        fresh.write_text(json.dumps(text) + "\n", encoding="utf-8")
        fresh.replace(target)


def _user(name: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        raise LabError(f"There is no user {name} on this host: make it first.") from None


def main() -> None:
    """Run as a module."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    try:
        result = Run(module).main()
    except LabError as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
