"""Asks the bucket itself, not the mount: what a backend remembers says nothing about the bucket.

rclone and Mountpoint answer from what they have listed, so a bucket that is
away or refuses the keys does not show through the mount. Also runs on the
host, without Ansible.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from configparser import ConfigParser
from pathlib import Path

from ..errors import LabError
from . import wait
from .bucket import Bucket, Client, RefusedError
from .fstab import Entry
from .imds import InstanceMetadata
from .probe import Health, State, ask
from .sigv4 import Credentials

S3FS = "fuse.s3fs"  # asks for each name that it is asked for
_FLAGS = ("true", "")


def health(entry: Entry, deadline: float) -> Health:
    """Ask the bucket of a mount for at most `deadline` seconds, by the keys of its entry."""
    answer = ask(lambda: _steps(entry, deadline), deadline)
    state = State.OK if answer.done else State.DEGRADED
    return Health(state, answer.detail, entry.source)


def _steps(entry: Entry, timeout: float) -> Iterator[None]:
    try:
        Client(bucket_of(entry), keys_of(entry), timeout).check()
    except RefusedError as error:
        raise PermissionError(errno.EACCES, str(error)) from error
    except LabError as error:
        raise OSError(errno.EHOSTUNREACH, str(error)) from error
    yield


def bucket_of(entry: Entry) -> Bucket:
    """Read where the bucket is from the line of fstab."""
    name, _, prefix = entry.source.partition(":/")
    by_path = next(
        (entry.option(o) for o in ("s3-force-path-style", "force-path-style") if _has(entry, o)),
        "false",
    )
    region = entry.option("s3-region") or entry.option("region") or ""
    return Bucket(name, region, wait.endpoint_of(entry), by_path in _FLAGS, prefix)


def keys_of(entry: Entry) -> Credentials | None:
    """Give what the mount signs with; None where it does not. Raises LabError if there is none."""
    if file := entry.option("credentials"):
        return _read_credentials(Path(file))
    if wait.uses_role(entry):
        metadata = InstanceMetadata()
        return metadata.credentials(metadata.role_name())
    return None


def _read_credentials(path: Path) -> Credentials:
    parser = ConfigParser(interpolation=None)
    parser.read(path, encoding="utf-8")
    try:
        keys = parser["default"]
        return Credentials(keys["aws_access_key_id"], keys["aws_secret_access_key"])
    except KeyError as error:
        raise LabError(f"{path} holds no {error}: run s3_mount again.") from error


def _has(entry: Entry, name: str) -> bool:
    return entry.option(name) is not None
