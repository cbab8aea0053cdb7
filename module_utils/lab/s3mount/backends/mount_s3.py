"""Mountpoint for Amazon S3: AWS's own, which writes new files from end to end and no others.

Debian has no package of it: this follows its documentation and was not run.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from ...errors import LabError
from ..fstab import Entry
from ..options import render
from ..plan import File
from . import flags
from .asked import Asked, Backend, Version, common_options, source

_OLDEST: Version = (1, 18)
_MIB = 1 << 20
_OWNED = {
    "allow-other": "allow_other",
    "cache": "cache_dir",
    "dir-mode": "umask",
    "endpoint-url": "endpoint",
    "file-mode": "umask",
    "force-path-style": "path_style",
    "foreground": "path",
    "gid": "group",
    "max-cache-size": "cache_size",
    "no-sign-request": "credentials",
    "prefix": "prefix",
    "profile": "credentials",
    "read-only": "read_only",
    "region": "region",
    "uid": "owner",
}
_PROFILES = {
    # Others may add to the bucket: what they add shows within a minute.
    "general": {"metadata-ttl": "60"},
    "read": {"metadata-ttl": "indefinite"},
    "write": {"metadata-ttl": "minimal"},
}


class MountS3(Backend):
    """See the module's documentation of `backend`."""

    name = "mountpoint"
    program = "mount-s3"
    fstype = "fuse.mount-s3"
    greetings = ("mount-s3 ",)
    newest = _OLDEST
    install = (
        "Debian has no package of it: install AWS's own mount-s3.deb (see Installing Mountpoint "
        "in the user guide of Amazon S3), or use backend: s3fs or rclone."
    )

    def version_of(self, text: str) -> Version:
        """Read what `mount-s3 --version` says."""
        found = re.search(r"^mount-s3 (\d+)\.(\d+)", text)
        if not found:
            raise LabError(f"mount-s3 does not say its version, but {text.strip()[:80]!r}.")
        version = (int(found[1]), int(found[2]))
        if version < _OLDEST:
            raise LabError(
                f"mount-s3 {version[0]}.{version[1]} is too old: {_OLDEST[0]}.{_OLDEST[1]} is the "
                "oldest that is supported."
            )
        return version

    def check(self, asked: Asked, version: Version, known: Callable[[], frozenset[str]]) -> None:
        """Refuse options that the installed program does not list."""
        del version
        flags.refuse_role_name(asked.access, self.program)
        flags.check_options(asked.options, self.program, _OWNED, known)

    def entry(self, asked: Asked, version: Version) -> Entry:
        """Write the line that mount(8) hands to our helper, which calls mount-s3."""
        del version
        bucket = asked.bucket
        changes = {} if asked.read_only else {"allow-delete": "", "allow-overwrite": ""}
        options = {
            **common_options(asked),
            **flags.credentials_option(asked),
            **({"no-sign-request": ""} if asked.access.source == "anonymous" else {}),
            **({"endpoint-url": bucket.endpoint.rstrip("/")} if bucket.endpoint else {}),
            "region": bucket.region,
            **({"force-path-style": ""} if bucket.path_style else {}),
            **changes,
            **_PROFILES[asked.profile],
            **_cache(asked),
            **asked.options,
        }
        return Entry(source(bucket), asked.path, self.fstype, render(options))

    def files(self, asked: Asked) -> dict[Path, File]:
        """Give the helper and the file of keys."""
        return flags.files(asked, self.program)


def _cache(asked: Asked) -> dict[str, str]:
    if not asked.cache_dir or asked.profile == "write":
        return {}
    size = {"max-cache-size": str(max(1, asked.cache_bytes // _MIB))} if asked.cache_bytes else {}
    return {"cache": asked.cache_dir, **size}
