"""Turns the parameters of the module into what is wanted on the host."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ..errors import LabError
from . import names, units
from .bucket import Bucket
from .credentials import Access
from .fstab import Entry
from .options import (
    Version,
    check_options,
    profile_options,
    render,
    user_options,
)
from .plan import File, Wanted

# Which version of s3fs asks the metadata service for the role's name with a token.
_ROLE_WITH_TOKEN: Version = (1, 91)
_REGION_OPTION: Version = (1, 96)
_FREE_MB = "1024"  # what a cache leaves free on its disk
_SIZES = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
OLD_S3FS = (
    "s3fs 1.90 (Debian 12, Ubuntu 22.04) does not work with an instance role on AWS where IMDSv2 "
    "is required. What does: Debian 13, whose s3fs is 1.95, or an access key (access_key and "
    "secret_key, or passwd_file)."
)


def bucket_of(params: dict[str, Any], find_region: Callable[[], str]) -> Bucket:
    """Check the place of the bucket; `find_region` is asked where none is given on AWS."""
    name = str(params["bucket"])
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", name):
        raise LabError(
            f"{name!r} is no bucket name: 3 to 63 of a-z, 0-9, dot and dash, a letter or digit at "
            "both ends."
        )
    endpoint = str(params["endpoint"] or "")
    parts = urlsplit(endpoint)
    if endpoint and (parts.scheme not in ("http", "https") or not parts.hostname):
        raise LabError(f"endpoint {endpoint!r} is no URL: write http://host:port or https://host.")
    if parts.username or parts.password:
        raise LabError("endpoint holds a user or password, which fstab would show: leave them out.")
    prefix = str(params["prefix"] or "").strip("/")
    if re.search(r"[,\\\s:]", prefix):
        raise LabError(
            f"prefix {prefix!r} holds a blank, comma or colon, which s3fs does not take."
        )
    region = str(params["region"] or "") or ("us-east-1" if endpoint else find_region())
    style = params["path_style"]
    # A certificate covers one level below the service, so a dot in the name needs the path.
    path_style = bool(endpoint) or "." in name if style is None else bool(style)
    return Bucket(name, region, endpoint, path_style, prefix)


def access_of(params: dict[str, Any], environment: Callable[[], tuple[str, str]]) -> Access:
    """Decide where the credentials come from."""
    keys = (params["access_key"] or "", params["secret_key"] or "")
    source = params["credentials"]
    if source is None:
        source = "access_key" if any(keys) else "file" if params["passwd_file"] else "instance_role"
    if source == "access_key" and not all(keys):
        raise LabError("credentials: access_key needs both access_key and secret_key.")
    if source == "file" and not params["passwd_file"]:
        raise LabError("credentials: file needs passwd_file, a file with the line KEY:SECRET.")
    if source == "environment":
        keys = environment()
    if any(re.search(r"[\s:]", key) for key in keys):
        raise LabError("The access key or its secret holds a blank or a colon: copy it again.")
    return Access(source, params["iam_role"] or "", *keys, params["passwd_file"] or "")


def mount_path(given: str) -> str:
    """Check the mount point and give it without doubled or trailing slashes."""
    path = "/" + "/".join(part for part in given.split("/") if part)
    if not given.startswith("/") or ".." in given.split("/"):
        raise LabError(f"path {given!r} must be absolute and without '..'.")
    if path == "/" or re.search(r"[\n\r\t\"'`$,;\\]", path):
        raise LabError(f"path {given!r} cannot be a mount point: it is / or holds a special sign.")
    return path


def parse_size(text: str) -> int:
    """Read a size such as 20G (powers of 1024) and give bytes."""
    found = re.fullmatch(r"(\d+)\s*([KMGT]?)(?:i?B)?", text.strip().upper().replace("IB", "B"))
    if not found or int(found[1]) == 0:
        raise LabError(f"cache_size {text!r} is no size: write 500M, 20G or a number of bytes.")
    return int(found[1]) * _SIZES[found[2]]


@dataclass(frozen=True)
class Owner:
    """Whom all files belong to, as numbers."""

    uid: int
    gid: int


def build(
    params: dict[str, Any], bucket: Bucket, access: Access, owner: Owner, version: Version
) -> Wanted:
    """Make the fstab entry and the files of a mount; raises LabError for an option that is unknown.

    `access.role` is the name that version 1.90 needs, else may be empty.
    """
    path = mount_path(params["path"])
    own = user_options(params["options"])
    check_options(own, version)
    options: dict[str, str | None] = {
        # The service mounts at boot, not this line. No nofail: noauto says as much, and
        # mount.fuse of Debian 12 would hand it on to s3fs, which does not know it.
        **dict.fromkeys(("noauto", "_netdev", "nosuid", "nodev"), ""),
        **({"ro": ""} if params["read_only"] else {}),
        **({"allow_other": ""} if params["allow_other"] else {}),
        **_ownership(params["umask"], owner),
        "fsname": _source(bucket),
        "subtype": "s3fs",
        "url": bucket.service,
        ("region" if version >= _REGION_OPTION else "endpoint"): bucket.region,
        **({"use_path_request_style": ""} if bucket.path_style else {}),
        **_signing(access, path, version),
        **_cache(params),
        **profile_options(params["profile"], version),
        **own,
    }
    cache = str(params["cache_dir"] or "")
    timeout = int(params["timeout"])
    files = {
        names.UNIT_FOLDER / names.mount_unit(path): _text(
            units.mount_unit_text(path, cache, timeout)
        ),
        names.UNIT_FOLDER / names.watch_unit(path): _text(units.watch_unit_text(path)),
    }
    if access.access_key:
        files[names.key_file(path)] = File(
            f"{access.access_key}:{access.secret_key}\n".encode(), 0o600
        )
    entry = Entry(_source(bucket), path, "fuse.s3fs", render(options))
    return Wanted(params["state"], path, entry, files)


def _source(bucket: Bucket) -> str:
    return f"{bucket.name}:/{bucket.prefix}" if bucket.prefix else bucket.name


def _ownership(umask: str, owner: Owner) -> dict[str, str]:
    if not re.fullmatch(r"0?[0-7]{3}", umask):
        raise LabError(f"umask {umask!r} is not octal: write three digits in quotes, as '0022'.")
    return {"uid": str(owner.uid), "gid": str(owner.gid), "umask": umask.zfill(4)}


def _signing(access: Access, path: str, version: Version) -> dict[str, str]:
    if access.source == "anonymous":
        return {"public_bucket": "1"}
    if access.source == "file":
        return {"passwd_file": access.passwd_file}
    if access.source == "instance_role":
        named = access.role if access.role or version < _ROLE_WITH_TOKEN else "auto"
        return {"iam_role": named}
    return {"passwd_file": str(names.key_file(path))}


def needs_role_name(access: Access, version: Version) -> bool:
    """Tell whether the role must be named because this s3fs cannot ask for it with a token."""
    return access.source == "instance_role" and not access.role and version < _ROLE_WITH_TOKEN


def warnings_for(access: Access, version: Version) -> list[str]:
    """Say what is known not to work before it is tried."""
    return [OLD_S3FS] if access.source == "instance_role" and version < _ROLE_WITH_TOKEN else []


def _cache(params: dict[str, Any]) -> dict[str, str]:
    folder = str(params["cache_dir"] or "")
    if not folder:
        if params["cache_size"]:
            raise LabError("cache_size is the size of cache_dir: give that too.")
        return {}
    if not Path(folder).is_absolute() or re.search(r"[,\\\s]", folder):
        raise LabError(f"cache_dir {folder!r} must be absolute, without blanks and commas.")
    options = {"tmpdir": folder, "ensure_diskfree": _FREE_MB}
    if params["profile"] == "write":  # measured: a cache only slows writing down
        return options
    options["use_cache"] = folder
    if params["cache_size"]:
        options["x-lab-cache-bytes"] = str(parse_size(str(params["cache_size"])))
    return options


def _text(text: str) -> File:
    return File(text.encode())
