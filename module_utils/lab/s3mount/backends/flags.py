"""What rclone and Mountpoint have in common: mounted by our own helper, from long options."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from pathlib import Path

from ...errors import LabError
from .. import helper, names
from ..credentials import Access, read_passwd
from ..plan import File
from .asked import Asked, Options


def credentials_option(asked: Asked) -> dict[str, str]:
    """Name the file of keys, where the mount signs with keys."""
    if asked.access.source in ("instance_role", "anonymous"):
        return {}
    return {"credentials": str(names.credentials_file(asked.path))}


def files(asked: Asked, program: str) -> dict[Path, File]:
    """Give the helper of mount(8) and the file of keys, in the format of AWS's own tools."""
    wanted = {names.mount_helper(program): File(helper.script(program).encode(), 0o755)}
    access = asked.access
    if not credentials_option(asked):
        return wanted
    key, secret = access.access_key, access.secret_key
    if access.source == "file":
        keys = read_passwd(Path(access.passwd_file), asked.bucket.name)
        key, secret = keys.access_key, keys.secret_key
    text = f"[default]\naws_access_key_id = {key}\naws_secret_access_key = {secret}\n"
    wanted[names.credentials_file(asked.path)] = File(text.encode(), 0o600)
    return wanted


def check_options(
    options: Options, program: str, owned: dict[str, str], known: Callable[[], frozenset[str]]
) -> None:
    """Refuse what a parameter is for, and what the program does not list; empty is anything."""
    for name in options:
        if name in owned:
            raise LabError(
                f"The option {name} is set by the parameter {owned[name]} of s3_mount: use that."
            )
    there = known() if options else frozenset()
    for name in options if there else ():
        if name not in there:
            near = difflib.get_close_matches(name, there, n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise LabError(f"{program} on this host does not know the option {name}.{hint}")


def refuse_role_name(access: Access, program: str) -> None:
    """Refuse a role that is named: these programs take the instance's own."""
    if access.source == "instance_role" and access.role:
        raise LabError(
            f"iam_role is for s3fs: {program} takes the role of the instance, so leave it out."
        )
