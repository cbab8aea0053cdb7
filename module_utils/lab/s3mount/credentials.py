"""Where the credentials of a mount come from, and what they are."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import LabError
from .imds import InstanceMetadata
from .sigv4 import Credentials


@dataclass(frozen=True)
class Access:
    """How s3fs is to sign: `source` is one of the module's choices of `credentials`."""

    source: str
    role: str = ""
    access_key: str = ""
    secret_key: str = field(default="", repr=False)
    passwd_file: str = ""


def find(access: Access, bucket: str, metadata: InstanceMetadata) -> Credentials | None:
    """Give what s3fs will sign with; None for `anonymous`."""
    if access.source == "anonymous":
        return None
    if access.source == "instance_role":
        return metadata.credentials(access.role or metadata.role_name())
    if access.source == "file":
        return read_passwd(Path(access.passwd_file), bucket)
    return Credentials(access.access_key, access.secret_key)


def read_passwd(path: Path, bucket: str) -> Credentials:
    """Read a password file of s3fs: KEY:SECRET, or BUCKET:KEY:SECRET for one bucket."""
    try:
        found = path.stat()
        lines = path.read_text(encoding="utf-8").split("\n")
    except OSError as error:
        raise LabError(f"The passwd_file {path} cannot be read ({error.strerror}).") from error
    if found.st_mode & 0o077:
        raise LabError(f"The passwd_file {path} is open to others: chmod 600 {path}.")
    general = None
    for line in lines:
        fields = line.strip().split(":")
        if line.startswith("#") or len(fields) not in (2, 3):
            continue
        if len(fields) == 3 and fields[0] == bucket:  # noqa: PLR2004 - BUCKET:KEY:SECRET
            return Credentials(fields[1], fields[2])
        if len(fields) == 2:  # noqa: PLR2004 - KEY:SECRET
            general = Credentials(fields[0], fields[1])
    if general is None:
        raise LabError(f"The passwd_file {path} holds no line KEY:SECRET for the bucket {bucket}.")
    return general


def environment_key() -> tuple[str, str]:
    """Give the access key in the environment of the task.

    The key is kept in a file, so that the mount comes back after a reboot; one
    that expires would not.
    """
    key, secret = os.environ.get("AWS_ACCESS_KEY_ID"), os.environ.get("AWS_SECRET_ACCESS_KEY")
    if not key or not secret:
        raise LabError(
            "credentials: environment needs AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the "
            "environment of the task on the host: set them with the keyword environment."
        )
    if os.environ.get("AWS_SESSION_TOKEN"):
        raise LabError(
            "The key in the environment is temporary (AWS_SESSION_TOKEN is set), so the mount "
            "would end with it: use an instance role or a lasting access key."
        )
    return key, secret
