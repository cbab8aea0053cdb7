#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ansible module: unpack zip archives in parallel, contained in one folder, all or nothing."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: parallel_unzip
short_description: Unpack zip archives in parallel, contained in one folder, all or nothing
version_added: "0.1.0"
description:
  - Unpacks one archive, a list of them, or all archives of a folder into O(dest), the work split
    over processes inside archives as well as across them.
  - Nothing is written outside O(dest), whatever the archives say. Members that are absolute,
    climb out by C(..), are links (see O(symlinks)) or special files, overlap, lie about their
    sizes, are there twice (over all archives given together), are encrypted, or could be read
    differently by two programs, are refused, and so is an archive that is cut off or no archive
    at all. The message names archive, member and rule.
  - Archives are unpacked into a hidden folder in O(dest) and moved into place when all of them
    are known to be whole. A refused or failed run leaves O(dest) as it was; a killed one is
    mended by the next.
  - What was unpacked is noted in C(.parallel_unzip.json) in O(dest), so that a second run is
    quick, and puts back only what was removed or altered.
options:
  src:
    description:
      - Paths on the host of zip files, or of folders that stand for the C(*.zip) in them.
      - Also addresses. C(s3://bucket/key.zip) is read with the credentials that boto3 finds, such
        as the role of the instance, and needs the package C(python3-boto3); C(s3://bucket/prefix/)
        stands for the C(*.zip) in it, as a folder does. C(https://) and C(http://) are read where
        the server answers ranges, presigned addresses as well.
      - Of an archive at an address only what is needed is fetched, range by range, and held to
        one version by its ETag (else its Last-Modified; without either it is refused); the archive
        itself is never stored. One that changes meanwhile is refused, what the network breaks is
        tried again and resumed.
      - Query, user and password of an address are used, but neither shown nor noted.
    type: list
    elements: str
    required: true
  dest:
    description:
      - Folder to unpack into, an absolute path. It is made where it is missing; it may be a mount
        point.
    type: path
    required: true
  recurse:
    description: Whether a folder in O(src) stands for the archives below it as well.
    type: bool
    default: false
  region:
    description:
      - Region of the buckets in O(src). It need not be right, the bucket's own is asked for.
      - If unset, the environment's (E(AWS_REGION), E(AWS_DEFAULT_REGION)), else us-east-1.
    type: str
  endpoint:
    description:
      - URL of an S3 service other than AWS, as C(http://127.0.0.1:8333).
      - If unset, the environment's (E(AWS_ENDPOINT_URL_S3), E(AWS_ENDPOINT_URL)), else AWS.
    type: str
    aliases: [endpoint_url]
  ca_bundle:
    description: Path on the host of certificates (PEM) to trust for addresses, beside the host's
      own.
    type: path
  workers:
    description: Number of processes. V(0) is one for each core that this host lets the module
      use; where O(src) holds an address, four for each core and at most 16.
    type: int
    default: 0
  strict:
    description:
      - Whether to refuse as well what real programs write but a careful packer would not. These
        are data descriptors, bytes around the archive or between members, comments of members,
        second names in Unicode path fields, and names that differ by case or accents alone.
    type: bool
    default: false
  symlinks:
    description:
      - What to do with an archive that holds symbolic links. V(inside) makes them if their target
        is relative and lies inside O(dest). It may climb by C(..) at its begin only.
      - No file is ever written through a link, made by an archive or by anybody else.
    type: str
    choices: [refuse, inside]
    default: refuse
  conflict:
    description:
      - What to do with a file in O(dest) that this module did not bring, or brought from another
        archive, and whose contents differ. A file with the same contents is taken over in any
        case.
      - Files of ours that were altered are always put right. Links and folders in the way are
        never removed.
    type: str
    choices: [refuse, overwrite]
    default: refuse
  verify:
    description:
      - How a later run finds out that everything is in place.
      - V(manifest) believes the note in O(dest), V(stat) looks at each file and its size, V(crc)
        reads all files.
    type: str
    choices: [manifest, stat, crc]
    default: stat
  purge:
    description: Whether files that a changed archive no longer brings are removed.
    type: bool
    default: false
  owner:
    description: Owner, by name or number, of the files and folders that are written.
    type: str
  group:
    description: Group, by name or number, of the files and folders that are written.
    type: str
  mode:
    description:
      - Mode of files, octal, such as V('0644').
      - If unset, the umask decides, and files that the archive marks as executable are so.
        Setuid, setgid and sticky bits are never taken from an archive.
    type: str
  directory_mode:
    description: Mode of folders, octal, at least V('0700'). If unset, the umask decides.
    type: str
  limits:
    description: Bounds against archives that would fill the disk.
    type: dict
    suboptions:
      max_bytes:
        description: Bytes of all archives together when unpacked, a number or such as V(500G). 2T
          if unset.
        type: str
      max_files:
        description: Members of all archives together. 10,000,000 if unset.
        type: int
      max_ratio:
        description: Unpacked size over the size of the archive, counted from 10 MiB on. 250 if
          unset.
        type: int
      max_depth:
        description: Folders in a member's path. 32 if unset.
        type: int
      max_name:
        description: Bytes in a member's path. 1024 if unset.
        type: int
  engine:
    description: Decompressor. V(auto) takes the first that the host has.
    type: str
    choices: [auto, libdeflate, isal, zlib]
    default: auto
  progress_file:
    description:
      - Set by the action plugin of the same name, which shows how far a run is; leave it unset.
      - A path on the host for a small JSON file that is there while the module runs.
    type: path
attributes:
  check_mode:
    description: The archives' directories are read and compared with O(dest); nothing is written.
    support: full
  diff_mode:
    description: Up to 40 paths on either side, then their number.
    support: full
author:
  - GPU lab
"""

EXAMPLES = r"""
- name: Unpack all archives of a folder, as one data set
  parallel_unzip:
    src: /s3/datasets/fashion-mnist
    dest: /data/datasets/fashion-mnist
    owner: admin

- name: Unpack one archive with bounds of one's own
  parallel_unzip:
    src: /s3/incoming/photos.zip
    dest: /data/datasets/photos
    strict: true
    limits:
      max_bytes: 50G
      max_files: 100000

- name: Unpack what lies in a bucket, without a copy of the archives
  parallel_unzip:
    src: s3://my-bucket/datasets/fashion-mnist/
    dest: /data/datasets/fashion-mnist

- name: Unpack from a web server
  parallel_unzip:
    src: https://example.org/photos.zip
    dest: /data/datasets/photos
"""

RETURN = r"""
dest:
  description: The folder that was unpacked into.
  returned: success
  type: str
  sample: /data/datasets/fashion-mnist
files:
  description: Number of files written by this run (in check mode, that would be).
  returned: success
  type: int
  sample: 70000
bytes:
  description: Bytes written by this run (in check mode, that would be).
  returned: success
  type: int
  sample: 27301114
unchanged:
  description: Number of files that were in place already.
  returned: success
  type: int
  sample: 0
removed:
  description: Number of files removed because a changed archive no longer brings them.
  returned: success
  type: int
  sample: 0
repaired:
  description: Number of files whose owner, group or mode alone was put right.
  returned: success
  type: int
  sample: 0
workers:
  description: Number of processes.
  returned: success
  type: int
  sample: 8
engine:
  description: Decompressor used, one of C(libdeflate), C(isal), C(zlib).
  returned: success
  type: str
  sample: libdeflate
seconds:
  description: Wall time in seconds.
  returned: success
  type: float
  sample: 2.81
archives:
  description: The archives in the order of their paths.
  returned: success
  type: list
  elements: dict
  contains:
    path:
      description: Path of the archive, or its address without query, user and password.
      type: str
      sample: /s3/datasets/fashion-mnist/test.zip
    state:
      description: One of C(extracted), C(updated) (the archive changed), C(mended) (files were
        missing), C(unchanged).
      type: str
      sample: extracted
    files:
      description: Number of files that it brings.
      type: int
      sample: 10000
    bytes:
      description: Bytes that it brings when unpacked.
      type: int
      sample: 3900159
"""

import grp
import os
import pwd
import re
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.lab.errors import LabError
from ansible.module_utils.lab.unzip.limits import parse_limits
from ansible.module_utils.lab.unzip.plan import Request
from ansible.module_utils.lab.unzip.progress import ProgressFile
from ansible.module_utils.lab.unzip.sources import Access, find_archives, shown_address
from ansible.module_utils.lab.unzip.task import run
from ansible.module_utils.lab.unzip.worker import Modes

ARGUMENTS: dict[str, Any] = {
    "src": {"type": "list", "elements": "str", "required": True},
    "dest": {"type": "path", "required": True},
    "recurse": {"type": "bool", "default": False},
    "region": {"type": "str"},
    "endpoint": {"type": "str", "aliases": ["endpoint_url"]},
    "ca_bundle": {"type": "path"},
    "workers": {"type": "int", "default": 0},
    "strict": {"type": "bool", "default": False},
    "symlinks": {"type": "str", "choices": ["refuse", "inside"], "default": "refuse"},
    "conflict": {"type": "str", "choices": ["refuse", "overwrite"], "default": "refuse"},
    "verify": {"type": "str", "choices": ["manifest", "stat", "crc"], "default": "stat"},
    "purge": {"type": "bool", "default": False},
    "owner": {"type": "str"},
    "group": {"type": "str"},
    "mode": {"type": "str"},
    "directory_mode": {"type": "str"},
    "limits": {
        "type": "dict",
        "options": {
            "max_bytes": {"type": "str"},
            "max_files": {"type": "int"},
            "max_ratio": {"type": "int"},
            "max_depth": {"type": "int"},
            "max_name": {"type": "int"},
        },
    },
    "engine": {"type": "str", "choices": ["auto", "libdeflate", "isal", "zlib"], "default": "auto"},
    "progress_file": {"type": "path"},
}
_MOST_WORKERS = 256
_REMOTE_FOR_CORE = 4
_REMOTE_WORKERS = 16
_OCTAL = re.compile(r"0?[0-7]{3}")
_OWNER_RWX = 0o700


def _workers(asked: int, remote: bool) -> int:
    """Choose the number of processes; from afar they mostly wait, so there are more."""
    if not 0 <= asked <= _MOST_WORKERS:
        raise LabError(f"workers: {asked} is not between 0 (one for each core) and {_MOST_WORKERS}")
    cores = len(os.sched_getaffinity(0))
    return asked or (
        max(cores, min(_REMOTE_FOR_CORE * cores, _REMOTE_WORKERS)) if remote else cores
    )


def _mode(name: str, value: str | None, default: int) -> int:
    if value is None:
        return default
    if not _OCTAL.fullmatch(value):
        raise LabError(
            f"{name}: {value!r} is not an octal mode; write it in quotes, such as '0644'"
        )
    return int(value, 8)


def _modes(params: dict[str, Any]) -> Modes:
    umask = os.umask(0)
    os.umask(umask)
    folder = _mode("directory_mode", params["directory_mode"], 0o777 & ~umask | _OWNER_RWX)
    if folder & _OWNER_RWX != _OWNER_RWX:
        raise LabError(
            f"directory_mode: {params['directory_mode']!r} bars the owner from the folders; "
            "use '0700' or more"
        )
    return Modes(
        file=_mode("mode", params["mode"], 0o666 & ~umask),
        folder=folder,
        exact=params["mode"] is not None,
        uid=_number("owner", params["owner"]),
        gid=_number("group", params["group"]),
    )


def _number(kind: str, value: str | None) -> int:
    """Uid or gid of a name or number; -1 for None."""
    if value is None:
        return -1
    if value.isdecimal():
        return int(value)
    try:
        return pwd.getpwnam(value).pw_uid if kind == "owner" else grp.getgrnam(value).gr_gid
    except KeyError:
        raise LabError(
            f"{kind}: there is no {value!r} on this host; make it or name another"
        ) from None


def make_request(params: dict[str, Any]) -> Request:
    """Check the module's parameters and find its archives; LabError for what is wrong with them."""
    if not Path(params["dest"]).is_absolute():
        raise LabError(f"dest: {params['dest']!r} is not an absolute path; write it from / on")
    access = Access(params["region"], params["endpoint"], params["ca_bundle"])
    _workers(params["workers"], remote=False)  # what is wrong with it is told before a look at src
    archives = find_archives(params["src"], params["recurse"], access)
    return Request(
        workers=_workers(params["workers"], any(archive.remote for archive in archives)),
        modes=_modes(params),
        limits=parse_limits(params["limits"]),
        archives=archives,
        dest=os.path.realpath(params["dest"]),
        strict=params["strict"],
        links=params["symlinks"] == "inside",
        overwrite=params["conflict"] == "overwrite",
        purge=params["purge"],
        verify=params["verify"],
        engine=params["engine"],
    )


class Module(AnsibleModule):  # type: ignore[misc]  # Ansible has no types
    """Shows addresses without their queries and passwords, also where a parameter is refused."""

    def exit_json(self, **kwargs: Any) -> None:
        """End well."""
        super().exit_json(invocation=self._invocation(), **kwargs)

    def fail_json(self, msg: str, **kwargs: Any) -> None:
        """End with a message."""
        super().fail_json(msg, invocation=self._invocation(), **kwargs)

    def _invocation(self) -> dict[str, Any]:
        src = self.params.get("src")
        given = src.split(",") if isinstance(src, str) else src
        if isinstance(given, list):
            src = [shown_address(one) if isinstance(one, str) else one for one in given]
        return {"module_args": {**self.params, "src": src}}


def _progress(path: str | None) -> AbstractContextManager[ProgressFile | None]:
    return ProgressFile(path) if path else nullcontext()


def main() -> None:
    """Run the module."""
    # no_log: the system's log would get the addresses whole.
    module = Module(argument_spec=ARGUMENTS, supports_check_mode=True, no_log=True)
    try:
        with _progress(module.params["progress_file"]) as progress:
            result = run(make_request(module.params), module.check_mode, progress)
    except LabError as error:
        module.fail_json(msg=str(error))
    except MemoryError:
        module.fail_json(
            msg="parallel_unzip ran out of memory; run again with fewer workers or archives"
        )
    module.exit_json(**result)


if __name__ == "__main__":
    main()
