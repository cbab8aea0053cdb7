"""Which program mounts: the one that was asked for, or the best of those that can."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ...errors import LabError
from .asked import Backend, Version
from .mount_s3 import MountS3
from .rclone import STREAMS, Rclone
from .s3fs import S3fs

BACKENDS: dict[str, Backend] = {backend.name: backend for backend in (S3fs(), Rclone(), MountS3())}
AUTO = "auto"
CHOICES = (*BACKENDS, AUTO)


@dataclass(frozen=True)
class Choice:
    """A backend and why it was taken."""

    backend: Backend
    reason: str


def choose(
    name: str, read_only: bool, random_writes: bool, installed: Mapping[str, Version]
) -> Choice:
    """Decide; raises LabError where the backend asked for cannot do what is asked of it.

    `installed` holds the versions of the backends that are there; it is only
    looked at for `auto`. What to say where the chosen one is missing is not said here.
    """
    if name != AUTO:
        backend = BACKENDS[name]
        _refuse(backend, read_only, random_writes)
        return Choice(backend, f"backend: {name} was asked for")
    if read_only:
        return _reader(installed)
    if random_writes:
        return Choice(BACKENDS["s3fs"], "only s3fs changes files in place")
    if "s3fs" not in installed and "mountpoint" in installed:
        return Choice(BACKENDS["mountpoint"], "only new files are written and s3fs is not there")
    return Choice(BACKENDS["s3fs"], "it writes, and its writing was measured")


def _reader(installed: Mapping[str, Version]) -> Choice:
    rclone = installed.get("rclone")
    if rclone:
        why = "only reading is asked for, and rclone asks S3 least often"
        if rclone < STREAMS:
            why += "; single large files would come faster with s3fs"
        return Choice(BACKENDS["rclone"], why)
    if "mountpoint" in installed:
        return Choice(BACKENDS["mountpoint"], "only reading is asked for and rclone is not there")
    return Choice(BACKENDS["s3fs"], "neither rclone nor mount-s3 is installed, which read faster")


def _refuse(backend: Backend, read_only: bool, random_writes: bool) -> None:
    if read_only:
        return
    if not backend.writes:
        raise LabError(
            f"backend: {backend.name} only reads here, as it stores a file some time after it was "
            "closed: set read_only: true, or use backend: s3fs."
        )
    if random_writes and not backend.random_writes:
        raise LabError(
            f"backend: {backend.name} writes new files from end to end and changes none in place: "
            "set random_writes: false if that is enough, or use backend: s3fs."
        )
