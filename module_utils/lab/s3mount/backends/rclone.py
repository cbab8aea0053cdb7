"""rclone's mount: lists a folder in one request a thousand keys, and keeps what it knows."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from ...errors import LabError
from ..bucket import Bucket
from ..credentials import Access
from ..fstab import Entry
from ..options import render
from ..plan import File
from . import flags
from .asked import Asked, Backend, Version, common_options, source

_OLDEST: Version = (1, 60)  # Debian 12 and 13
STREAMS: Version = (1, 68)  # reads one file over several connections
_OWNED = {
    "allow-other": "allow_other",
    "cache-dir": "cache_dir",
    "config": "credentials",
    "daemon": "path",
    "devname": "bucket",
    "gid": "group",
    "read-only": "read_only",
    "s3-access-key-id": "access_key",
    "s3-endpoint": "endpoint",
    "s3-env-auth": "credentials",
    "s3-force-path-style": "path_style",
    "s3-profile": "credentials",
    "s3-region": "region",
    "s3-secret-access-key": "secret_key",
    "s3-session-token": "credentials",
    "s3-shared-credentials-file": "passwd_file",
    "uid": "owner",
    "umask": "umask",
    "vfs-cache-max-size": "cache_size",
}
_COMMON = {
    # Neither asked for nor needed: dates of files cost a HEAD each, as does looking before a GET.
    "no-modtime": "",
    "no-checksum": "",
    "s3-no-head-object": "",
    "poll-interval": "0",
    "contimeout": "10s",
    "timeout": "60s",
    "low-level-retries": "5",
}
_PROFILES = {
    # Others may add to the bucket: what they add shows within a minute.
    "general": {"dir-cache-time": "1m", "attr-timeout": "1m"},
    "read": {"dir-cache-time": "24h", "attr-timeout": "10m"},
}
_STREAMS = {"vfs-read-chunk-size": "16M", "vfs-read-chunk-streams": "16"}
_ONE_STREAM = {"vfs-read-chunk-size": "64M", "buffer-size": "64M"}
_CACHE = {"vfs-cache-mode": "full", "vfs-fast-fingerprint": "", "vfs-read-ahead": "256M"}


class Rclone(Backend):
    """See the module's documentation of `backend`."""

    name = "rclone"
    program = "rclone"
    fstype = "fuse.rclone"
    # It can, but uploads some time after the file was closed: what a program believes to be
    # stored would be lost with the host.
    writes = False
    newest = (1, 75)
    install = "install the package rclone (apt-get install rclone), or use the role s3."

    def version_of(self, text: str) -> Version:
        """Read what `rclone --version` says."""
        found = re.search(r"^rclone v(\d+)\.(\d+)", text)
        if not found:
            raise LabError(f"rclone does not say its version, but {text.strip()[:80]!r}.")
        version = (int(found[1]), int(found[2]))
        if version < _OLDEST:
            raise LabError(
                f"rclone {version[0]}.{version[1]} is too old: {_OLDEST[0]}.{_OLDEST[1]} is the "
                "oldest that is supported, as in Debian 12."
            )
        return version

    def check(self, asked: Asked, version: Version, known: Callable[[], frozenset[str]]) -> None:
        """Refuse writing, and options that the installed rclone does not list."""
        del version
        if asked.profile == "write":
            raise LabError("profile: write is for a mount that writes, and rclone's only reads.")
        flags.refuse_role_name(asked.access, self.program)
        flags.check_options(asked.options, self.program, _OWNED, known)

    def entry(self, asked: Asked, version: Version) -> Entry:
        """Write the line that mount(8) hands to our helper, which calls rclone."""
        bucket = asked.bucket
        options = {
            **common_options(asked),
            **flags.credentials_option(asked),
            **reach(bucket, asked.access),
            **_COMMON,
            **_PROFILES[asked.profile],
            **(_STREAMS if version >= STREAMS else _ONE_STREAM),
            **_cache(asked),
            **asked.options,
        }
        return Entry(source(bucket), asked.path, self.fstype, render(options))

    def files(self, asked: Asked) -> dict[Path, File]:
        """Give the helper and the file of keys."""
        return flags.files(asked, self.program)

    def warnings(self, access: Access, version: Version) -> list[str]:
        """Say what an rclone as old as Debian's is slow at."""
        if version >= STREAMS:
            return []
        return [
            f"rclone {version[0]}.{version[1]} reads a file over one connection: large files come "
            f"slower than with s3fs. From {STREAMS[0]}.{STREAMS[1]} on it uses several."
        ]


def reach(bucket: Bucket, access: Access) -> dict[str, str]:
    """Give the options by which any command of rclone finds the service and signs."""
    return {
        **({} if access.source == "anonymous" else {"s3-env-auth": ""}),
        "s3-provider": "Other" if bucket.endpoint else "AWS",
        **({"s3-endpoint": bucket.endpoint.rstrip("/")} if bucket.endpoint else {}),
        "s3-region": bucket.region,
        "s3-force-path-style": str(bucket.path_style).lower(),
    }


def _cache(asked: Asked) -> dict[str, str]:
    if not asked.cache_dir:
        return {}
    size = {"vfs-cache-max-size": f"{asked.cache_bytes}B"} if asked.cache_bytes else {}
    # Kept until the size is reached, not for an hour as is rclone's own default.
    return {**_CACHE, "vfs-cache-max-age": "8760h", "cache-dir": asked.cache_dir, **size}
