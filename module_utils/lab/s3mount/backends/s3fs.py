"""s3fs: reads and writes as programs are used to; one HEAD a file that is opened."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ...errors import LabError
from .. import names
from ..credentials import Access
from ..fstab import Entry
from ..options import NEWEST, check_options, parse_version, profile_options, render
from ..plan import File
from .asked import Asked, Backend, Version, common_options, source

# Which version asks the metadata service for the role's name with a token.
_ROLE_WITH_TOKEN: Version = (1, 91)
_REGION_OPTION: Version = (1, 96)
_FUSE3: Version = (1, 97)  # which needs no leave to mount over files
_FREE_MB = "1024"  # what a cache leaves free on its disk
OLD_S3FS = (
    "s3fs 1.90 (Debian 12, Ubuntu 22.04) cannot use the role of an instance that requires IMDSv2, "
    "as this one does. What can: Debian 13, whose s3fs is 1.95; backend: rclone with read_only; or "
    "an access key (access_key and secret_key, or passwd_file)."
)


class S3fs(Backend):
    """See the module's documentation of `backend`."""

    name = "s3fs"
    program = "s3fs"
    fstype = "fuse.s3fs"
    random_writes = True
    # What s3fs says of itself whenever it starts.
    greetings = ("s3fs version", "Loaded mime", "init v", "-- ")
    newest = NEWEST
    install = "install the package s3fs (apt-get install s3fs), or use the role s3."

    def version_of(self, text: str) -> Version:
        """Read what `s3fs --version` says."""
        return parse_version(text)

    def check(self, asked: Asked, version: Version, known: Callable[[], frozenset[str]]) -> None:
        """Refuse options that this version does not know: s3fs cannot list those that it does."""
        del known
        check_options(asked.options, version)

    def entry(self, asked: Asked, version: Version) -> Entry:
        """Write the line that mount(8) hands to s3fs."""
        bucket = asked.bucket
        options = {
            **common_options(asked),
            "fsname": source(bucket),
            "subtype": "s3fs",
            "url": bucket.service,
            ("region" if version >= _REGION_OPTION else "endpoint"): bucket.region,
            **({"use_path_request_style": ""} if bucket.path_style else {}),
            # What root wrote a moment before must not keep the mount from coming back.
            **({"nonempty": ""} if version < _FUSE3 else {}),
            **self._signing(asked, version),
            **_cache(asked),
            **profile_options(asked.profile, version),
            **asked.options,
        }
        return Entry(source(bucket), asked.path, self.fstype, render(options))

    def files(self, asked: Asked) -> dict[Path, File]:
        """Keep an access key in a file that only root can read."""
        access = asked.access
        if not access.access_key:
            return {}
        line = f"{access.access_key}:{access.secret_key}\n"
        return {names.key_file(asked.path): File(line.encode(), 0o600)}

    def needs_role_name(self, access: Access, version: Version) -> bool:
        """Tell whether this s3fs cannot ask for the role with a token."""
        return access.source == "instance_role" and not access.role and version < _ROLE_WITH_TOKEN

    def refuse_metadata(
        self, access: Access, version: Version, wants_token: Callable[[], bool]
    ) -> None:
        """Refuse 1.90 with a role where IMDSv2 is required: it asks for the role in vain."""
        if access.source == "instance_role" and version < _ROLE_WITH_TOKEN and wants_token():
            raise LabError(OLD_S3FS)

    def _signing(self, asked: Asked, version: Version) -> dict[str, str]:
        access = asked.access
        if access.source == "anonymous":
            return {"public_bucket": "1"}
        if access.source == "file":
            return {"passwd_file": access.passwd_file}
        if access.source == "instance_role":
            named = access.role if access.role or version < _ROLE_WITH_TOKEN else "auto"
            return {"iam_role": named}
        return {"passwd_file": str(names.key_file(asked.path))}


def _cache(asked: Asked) -> dict[str, str]:
    if not asked.cache_dir:
        return {}
    options = {"tmpdir": asked.cache_dir, "ensure_diskfree": _FREE_MB}
    if asked.profile == "write":  # measured: a cache only slows writing down
        return options
    options["use_cache"] = asked.cache_dir
    if asked.cache_bytes:
        options["x-lab-cache-bytes"] = str(asked.cache_bytes)
    return options
