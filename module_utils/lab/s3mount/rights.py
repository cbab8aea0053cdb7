"""What the units of a mount may do: what they do without, and what of root they need."""

from __future__ import annotations

from pathlib import Path

_ROOTS_MAY_ENTER, _OTHERS_MAY_ENTER = 0o100, 0o001
# What both units do without. Nothing that gives a service mounts of its own (ProtectSystem and its
# like): one made there would be seen by nobody else, and one that is gone would be held there.
CONFINED = """\
NoNewPrivileges=yes
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
ProtectClock=yes
ProtectHostname=yes
KeyringMode=private
SystemCallArchitectures=native
SystemCallErrorNumber=EPERM
"""


def capabilities(path: str, cache_dir: str, keys: str) -> str:
    """Name what a mount needs of root: to mount, and to pass over permissions only where it must.

    `keys` is a key file of the user's; it and `cache_dir` may be empty.
    """
    own = all(_is_roots(Path(one)) for one in (cache_dir, keys) if one)
    return "CAP_SYS_ADMIN" if own and _can_reach(Path(path)) else "CAP_SYS_ADMIN CAP_DAC_OVERRIDE"


def _is_roots(path: Path) -> bool:
    """Tell whether root may use a file or folder by its permissions alone."""
    return _can_reach(path) and (not path.exists() or path.stat().st_uid == 0)


def _can_reach(path: Path) -> bool:
    """Tell whether root may go through all folders above a path by their permissions alone."""
    return all(_may_pass(folder) for folder in path.parents if folder.exists())


def _may_pass(folder: Path) -> bool:
    found = folder.stat()
    needed = _ROOTS_MAY_ENTER if found.st_uid == 0 else _OTHERS_MAY_ENTER
    return bool(found.st_mode & needed)
