#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Mounts an S3 bucket as a folder, and keeps it mounted."""

from __future__ import annotations

DOCUMENTATION = r"""
module: s3_mount
short_description: Mount an S3 bucket as a folder that stays mounted
description:
  - Mounts a bucket with s3fs, rclone or Mountpoint for Amazon S3, proves that it can be listed
    and written, and keeps it mounted by a systemd service over crashes, reboots, and stop and
    start of the instance.
  - The entry in C(/etc/fstab) (C(noauto)) is the one record of what is mounted and how, so that
    C(mount PATH) works by hand too. The service C(lab-s3@PATH.service) mounts it and mounts it
    again when s3fs ends; C(lab-s3-watch@PATH.service) sees a hang and keeps the cache's size.
  - The bucket is asked before s3fs is, as s3fs ends with 0 for an absent bucket, refused
    credentials, a wrong region or an endpoint that is down. Each of these fails this task.
  - The bare mount point is for root alone, and for nobody to write, and is immutable where the file
    system allows it, so that nothing is written beneath a mount that is gone.
  - A mount that is dead, hangs or lies over another is replaced.
author: GPU lab
attributes:
  check_mode:
    description: Asks the host and the bucket, changes nothing and says what would be changed.
    support: full
  diff_mode:
    description: Shows the fstab and the state of the mount before and after.
    support: full
options:
  path:
    description: The mount point, an absolute path.
    type: path
    required: true
    aliases: [name]
  bucket:
    description: The bucket. Required unless O(state) is V(unmounted) or V(absent).
    type: str
    aliases: [src]
  state:
    description:
      - V(mounted) configures, mounts and proves the mount; a mount that was made with other
        settings is made anew.
      - V(present) only configures, for the next boot, and leaves a live mount alone.
      - V(unmounted) unmounts and keeps the configuration. Files that are open are uploaded first.
      - V(absent) unmounts and removes the configuration, the key file and the empty mount point.
      - V(remounted) is V(mounted) with a new mount in any case.
    type: str
    choices: [present, mounted, unmounted, absent, remounted]
    default: mounted
  prefix:
    description: Mount only what lies under this prefix. It is made in the bucket if it is missing.
    type: str
  region:
    description:
      - The bucket's region. Unset, the instance's own on AWS, and us-east-1 with O(endpoint).
    type: str
  endpoint:
    description: URL of an S3 service other than AWS, as C(http://127.0.0.1:8333).
    type: str
    aliases: [url, endpoint_url]
  path_style:
    description:
      - Whether the bucket is named in the path of the URL and not in the host name. Unset, it is
        with O(endpoint) or a dot in the bucket's name.
    type: bool
  credentials:
    description:
      - Where the credentials come from. Unset, V(access_key) or V(file) where these are given,
        else V(instance_role).
      - V(environment) takes the access key from the environment of the task and keeps it in a
        file that only root can read, so that the mount comes back after a reboot.
      - V(anonymous) signs nothing, for public buckets.
    type: str
    choices: [instance_role, access_key, file, environment, anonymous]
  iam_role:
    description: The name of the role with O(credentials=instance_role). Unset, the instance's own.
    type: str
  access_key:
    description: The access key id. It is kept with its secret in a file that only root can read.
    type: str
  secret_key:
    description: The secret of O(access_key).
    type: str
  passwd_file:
    description: A file on the host, mode 0600, with a line C(KEY:SECRET) or C(BUCKET:KEY:SECRET).
    type: path
  owner:
    description: The user, by name or number, whom all files of the mount belong to.
    type: str
    default: root
  group:
    description: The group, by name or number. Unset, the primary group of O(owner).
    type: str
  umask:
    description: The permissions that files and folders of the mount do not have, in octal.
    type: str
    default: '0022'
  allow_other:
    description: Whether users other than root may enter the mount at all.
    type: bool
    default: true
  read_only:
    description: Mount read-only.
    type: bool
    default: false
  random_writes:
    description:
      - Whether programs append to files, change them in the middle or rename them. Only s3fs
        does; without it new files can be written from end to end.
    type: bool
    default: true
  backend:
    description:
      - The program that mounts. V(s3fs) reads and writes as programs are used to. V(rclone)
        only reads here, and asks S3 far less often. V(mountpoint) is Mountpoint for Amazon S3,
        which reads and writes new files; Debian has no package of it.
      - V(auto) takes rclone with O(read_only) where it is installed, else Mountpoint, else s3fs,
        and s3fs for all that writes; RV(backend_reason) says why.
    type: str
    choices: [s3fs, rclone, mountpoint, auto]
    default: s3fs
  cache_dir:
    description:
      - A folder for whole files that were read, and for those being written. Unset, nothing is
        cached on disk and C(/tmp) holds what is being written.
    type: path
  cache_size:
    description:
      - How much O(cache_dir) may hold, as V(20G). What was not used for longest is removed once a
        minute; 1 GiB of its disk is left free in any case.
    type: str
  profile:
    description:
      - A measured set of options of the backend. V(general) is for reading and writing beside
        others, V(read) for data that nobody changes while it is mounted, V(write) for data that
        only this host writes.
    type: str
    choices: [general, read, write]
    default: general
  options:
    description:
      - More options of the backend, as a mapping, a list or a string with commas; those of rclone
        and Mountpoint without their dashes in front. They override those of O(profile); a value of
        V(false) in a mapping takes one away. What the installed version does not know is refused.
    type: raw
  probe:
    description:
      - Whether a small file is written, read back and deleted after mounting, unless O(read_only).
        The mount is listed in any case.
    type: bool
    default: true
  timeout:
    description: Seconds that the mount may take to answer.
    type: int
    default: 60
"""

EXAMPLES = r"""
- name: Mount the lab's bucket with the instance's role
  s3_mount:
    bucket: my-lab-data
    path: /s3
    owner: admin
    cache_dir: /data/.s3cache
    cache_size: 20G

- name: Mount a read-only data set from a server of our own
  s3_mount:
    bucket: datasets
    prefix: imagenet
    path: /imagenet
    endpoint: https://s3.example.org
    access_key: "{{ vault_s3_access_key }}"
    secret_key: "{{ vault_s3_secret_key }}"
    profile: read
    read_only: true

- name: Take the mount and its configuration away
  s3_mount:
    path: /s3
    state: absent
"""

RETURN = r"""
state_before:
  description: absent, ok, dead, hung, degraded, stacked or foreign
  type: str
  returned: always
  sample: dead
state_after:
  description: The same, after the run; in check mode as it would be.
  type: str
  returned: always
  sample: ok
detail:
  description: What was seen of a mount that is not well.
  type: str
  returned: always
  sample: "ENOTCONN"
healed:
  description: Whether a mount that was dead, hung or stacked was replaced.
  type: bool
  returned: always
  sample: true
actions:
  description: What was done, or would be.
  type: list
  elements: str
  returned: always
  sample: [write the fstab entry, mount]
fstab:
  description: The entry of the mount point; empty where there is none.
  type: str
  returned: always
  sample: "my-lab-data /s3 fuse.s3fs noauto,_netdev,... 0 0"
backend:
  description: The backend that mounts; empty where nothing is to be mounted.
  type: str
  returned: always
  sample: rclone
backend_reason:
  description: Why it was taken.
  type: str
  returned: always
  sample: only reading is asked for, and rclone asks S3 least often
backend_version:
  description: The version of its program, empty where it is not installed.
  type: str
  returned: always
  sample: "1.95"
unit:
  description: The systemd service that keeps the mount.
  type: str
  returned: always
  sample: lab-s3@s3.service
"""

import grp
import pwd
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.lab.errors import LabError
from ansible.module_utils.lab.s3mount import bucket as s3
from ansible.module_utils.lab.s3mount import credentials, host, names, wanted
from ansible.module_utils.lab.s3mount.backends.asked import Owner, Version
from ansible.module_utils.lab.s3mount.backends.choose import AUTO, BACKENDS, CHOICES, Choice, choose
from ansible.module_utils.lab.s3mount.imds import InstanceMetadata
from ansible.module_utils.lab.s3mount.plan import Action, Found, Plan, Wanted, make_plan
from ansible.module_utils.lab.s3mount.probe import Health, State, probe

ARGUMENTS: dict[str, dict[str, Any]] = {
    "path": {"type": "path", "required": True, "aliases": ["name"]},
    "bucket": {"type": "str", "aliases": ["src"]},
    "state": {
        "type": "str",
        "choices": ["present", "mounted", "unmounted", "absent", "remounted"],
        "default": "mounted",
    },
    "prefix": {"type": "str"},
    "region": {"type": "str"},
    "endpoint": {"type": "str", "aliases": ["url", "endpoint_url"]},
    "path_style": {"type": "bool"},
    "credentials": {
        "type": "str",
        "choices": ["instance_role", "access_key", "file", "environment", "anonymous"],
    },
    "iam_role": {"type": "str"},
    "access_key": {"type": "str", "no_log": False},
    "secret_key": {"type": "str", "no_log": True},
    "passwd_file": {"type": "path", "no_log": False},
    "owner": {"type": "str", "default": "root"},
    "group": {"type": "str"},
    "umask": {"type": "str", "default": "0022"},
    "allow_other": {"type": "bool", "default": True},
    "read_only": {"type": "bool", "default": False},
    "random_writes": {"type": "bool", "default": True},
    "backend": {"type": "str", "choices": list(CHOICES), "default": "s3fs"},
    "cache_dir": {"type": "path"},
    "cache_size": {"type": "str"},
    "profile": {"type": "str", "choices": ["general", "read", "write"], "default": "general"},
    "options": {"type": "raw"},
    "probe": {"type": "bool", "default": True},
    "timeout": {"type": "int", "default": 60},
}


def find_owner(owner: str, group: str | None) -> Owner:
    """Look the user and group up on the host."""
    try:
        user = pwd.getpwuid(int(owner)) if owner.isdecimal() else pwd.getpwnam(owner)
        uid, gid = user.pw_uid, user.pw_gid
    except KeyError:
        if not owner.isdecimal():
            raise LabError(f"There is no user {owner} on this host: make it first.") from None
        uid = gid = int(owner)
    if group is None:
        return Owner(uid, gid)
    if group.isdecimal():
        return Owner(uid, int(group))
    try:
        return Owner(uid, grp.getgrnam(group).gr_gid)
    except KeyError:
        raise LabError(f"There is no group {group} on this host: make it first.") from None


@dataclass(frozen=True)
class Remote:
    """The bucket and how the mount signs for it."""

    bucket: s3.Bucket
    access: credentials.Access


class Run:
    """One run of the module."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.params: dict[str, Any] = module.params
        self.choice, self.version = self._choose()
        self.metadata = InstanceMetadata()

    def main(self) -> dict[str, Any]:
        """Decide, then do, unless in check mode."""
        aim, remote = self._aim()
        found = host.look(aim)
        plan = make_plan(aim, found)
        result = self._result(aim, found, plan)
        if remote and self.params["state"] != "present":
            self._ask_bucket(remote, aim, found, plan)
        if self.module.check_mode:
            return result
        worker = host.Host(aim, self.choice.backend)
        worker.apply(plan)
        if remote and Action.START in plan.actions:
            self._start(worker)
        elif found.health.state is State.DEGRADED and plan.mounted_after:
            self._recover(worker)
        elif not plan.changes:
            return result
        after = probe(aim.path, host.PROBE_DEADLINE)
        return {**result, "state_after": str(after.state), "detail": after.detail}

    def _aim(self) -> tuple[Wanted, Remote | None]:
        path = wanted.mount_path(self.params["path"])
        # Only the folder around it is resolved: the mount itself may hang.
        path = str(Path(path).parent.resolve() / Path(path).name)
        self.params["path"] = path
        host.require_systemd()
        if self.params["state"] in ("unmounted", "absent"):
            return Wanted(self.params["state"], path), None
        backend, version = self.choice.backend, self._version()
        bucket = wanted.bucket_of(self.params, self.metadata.region)
        access = wanted.access_of(self.params, credentials.environment_key)
        backend.refuse_metadata(access, version, self.metadata.wants_token)
        if backend.needs_role_name(access, version):
            access = credentials.Access(access.source, self.metadata.role_name())
        self.module.no_log_values.update({access.secret_key} - {""})
        owner = find_owner(self.params["owner"], self.params["group"])
        asked = wanted.asked_of(self.params, bucket, access, owner)
        aim = wanted.build(
            self.params["state"],
            asked,
            backend,
            version,
            timeout=int(self.params["timeout"]),
            known=lambda: host.known_options(backend),
        )
        files = {**aim.files, **host.programs()}
        return Wanted(aim.state, path, aim.entry, files), Remote(bucket, access)

    def _choose(self) -> tuple[Choice, Version | None]:
        """Take the backend asked for, or the best of those installed, and its version."""
        name = self.params["backend"]
        if self.params["state"] in ("unmounted", "absent"):
            return Choice(BACKENDS["s3fs"], ""), None
        found = {
            backend.name: version
            for backend in (BACKENDS.values() if name == AUTO else (BACKENDS[name],))
            if (version := host.installed_version(backend))
        }
        choice = choose(name, self.params["read_only"], self.params["random_writes"], found)
        return choice, found.get(choice.backend.name)

    def _version(self) -> Version:
        backend = self.choice.backend
        if self.version is None and not self.module.check_mode:
            raise LabError(f"{backend.program} is not installed on this host: {backend.install}")
        # Not installed, in check mode: what the next run would install.
        return self.version or host.candidate_version(backend) or backend.newest

    def _ask_bucket(self, remote: Remote, aim: Wanted, found: Found, plan: Plan) -> None:
        """Fail with the reason if the bucket cannot be mounted; make a missing prefix."""
        if Action.START not in plan.actions and found.health.state is State.OK:
            return
        if self.version and Action.START in plan.actions:
            for text in self.choice.backend.warnings(remote.access, self.version):
                self.module.warn(text)
        try:
            keys = credentials.find(remote.access, remote.bucket.name, self.metadata)
            wait = min(s3.TIMEOUT, float(self.params["timeout"]))
            client = s3.Client(remote.bucket, keys, wait)
            there = client.check()
            if remote.bucket.prefix and not there:
                self._make_prefix(client)
        except LabError:
            if not self.module.check_mode:
                host.lock_bare(aim.path)
            raise

    def _make_prefix(self, client: s3.Client) -> None:
        if self.params["read_only"]:
            raise LabError(
                f"Nothing lies under {client.bucket.prefix}/ in {client.bucket.name}, and "
                "a read-only mount cannot make it: check prefix."
            )
        if not self.module.check_mode:
            client.make_prefix()

    def _start(self, worker: host.Host) -> None:
        write = self.params["probe"] and not self.params["read_only"]
        worker.start(float(self.params["timeout"]), write)

    def _recover(self, worker: host.Host) -> None:
        health = worker.recover(float(self.params["timeout"]))
        if health.state is not State.OK:
            raise LabError(
                f"{worker.path} is mounted and the bucket answers this host, but not through the "
                f"mount within {self.params['timeout']} s ({health.detail}): see journalctl -u "
                f"{worker.unit}, then run this again with state: remounted."
            )

    def _result(self, aim: Wanted, found: Found, plan: Plan) -> dict[str, Any]:
        before, after = host.entry_differs(aim, found)
        then = _expected(found.health, plan)
        return {
            "changed": plan.changes,
            "actions": [str(action) for action in plan.actions],
            "state_before": str(found.health.state),
            "state_after": str(then),
            "detail": found.health.detail,
            "healed": plan.healed,
            "fstab": after if aim.entry else ("" if aim.state == "absent" else before),
            "backend": self.choice.backend.name if aim.entry else "",
            "backend_reason": self.choice.reason,
            "backend_version": ".".join(map(str, self.version)) if self.version else "",
            "unit": names.mount_unit(aim.path),
            "diff": [
                {
                    "before_header": "/etc/fstab",
                    "after_header": "/etc/fstab",
                    "before": found.fstab,
                    "after": plan.fstab_after,
                },
                {
                    "before_header": aim.path,
                    "after_header": aim.path,
                    "before": f"{found.health.state}\n",
                    "after": "".join(f"{line}\n" for line in (then, *plan.actions)),
                },
            ],
        }


def _expected(before: Health, plan: Plan) -> State:
    if not plan.mounted_after:
        return State.ABSENT
    return State.OK if Action.START in plan.actions else before.state


def main() -> None:
    """Run as a module."""
    needs_bucket = [("state", state, ["bucket"]) for state in ("present", "mounted", "remounted")]
    module = AnsibleModule(
        argument_spec=ARGUMENTS,
        required_if=needs_bucket,
        required_together=[("access_key", "secret_key")],
        mutually_exclusive=[("access_key", "passwd_file"), ("access_key", "iam_role")],
        supports_check_mode=True,
    )
    try:
        result = Run(module).main()
    except LabError as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
