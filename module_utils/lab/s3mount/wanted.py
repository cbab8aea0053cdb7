"""Turns the parameters of the module into what is wanted on the host."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ..errors import LabError
from . import names, units
from .backends.asked import Asked, Backend, Owner, Version
from .bucket import Bucket
from .credentials import Access
from .options import user_options
from .plan import File, Wanted

_SIZES = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


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


def asked_of(params: dict[str, Any], bucket: Bucket, access: Access, owner: Owner) -> Asked:
    """Gather what a mount is to be; raises LabError for a value that is none."""
    umask = str(params["umask"])
    if not re.fullmatch(r"0?[0-7]{3}", umask):
        raise LabError(f"umask {umask!r} is not octal: write three digits in quotes, as '0022'.")
    cache_dir, size = str(params["cache_dir"] or ""), str(params["cache_size"] or "")
    if size and not cache_dir:
        raise LabError("cache_size is the size of cache_dir: give that too.")
    if cache_dir and (not Path(cache_dir).is_absolute() or re.search(r"[,\\\s]", cache_dir)):
        raise LabError(f"cache_dir {cache_dir!r} must be absolute, without blanks and commas.")
    return Asked(
        path=mount_path(params["path"]),
        bucket=bucket,
        access=access,
        owner=owner,
        umask=umask.zfill(4),
        allow_other=bool(params["allow_other"]),
        read_only=bool(params["read_only"]),
        cache_dir=cache_dir,
        cache_bytes=parse_size(size) if size else 0,
        profile=str(params["profile"]),
        options=user_options(params["options"]),
    )


def build(
    state: str,
    asked: Asked,
    backend: Backend,
    version: Version,
    *,
    timeout: int,
    known: Callable[[], frozenset[str]] = frozenset,
) -> Wanted:
    """Make the fstab entry and the files of a mount; raises LabError for an option that is unknown.

    `timeout` is in seconds; `known` asks the installed program for its options.
    """
    backend.check(asked, version, known)
    path = asked.path
    files = {
        names.UNIT_FOLDER / names.mount_unit(path): _text(
            units.mount_unit_text(path, asked.cache_dir, timeout, asked.access.passwd_file)
        ),
        names.UNIT_FOLDER / names.watch_unit(path): _text(units.watch_unit_text(path)),
        **backend.files(asked),
    }
    return Wanted(state, path, backend.entry(asked, version), files)


def _text(text: str) -> File:
    return File(text.encode())
