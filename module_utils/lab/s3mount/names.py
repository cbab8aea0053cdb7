"""The names of a mount's unit and files, all made from its path."""

from __future__ import annotations

from pathlib import Path

UNIT_FOLDER = Path("/etc/systemd/system")
RUN_FOLDER = Path("/run/lab-s3")
KEYS_FOLDER = Path("/etc/lab/s3")
LIBRARY = Path("/usr/local/lib")  # holds the package `lab` on the host
PROGRAM_FOLDER = LIBRARY / "lab/s3mount"
ERRORS = LIBRARY / "lab/errors.py"  # what the programs raise
HELPER_FOLDER = Path("/usr/sbin")  # the one folder in which mount(8) looks for helpers
HELPED = ("rclone", "mount-s3")
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:_.")


def escape_path(path: str) -> str:
    r"""Write a path as `systemd-escape --path` does: / as -, other signs as \xNN."""
    trimmed = "/".join(part for part in path.split("/") if part)
    if not trimmed:
        return "-"
    escaped = "".join(
        "-" if char == "/" else char if char in _PLAIN else _hex(char) for char in trimmed
    )
    return _hex(".") + escaped[1:] if escaped.startswith(".") else escaped


def _hex(char: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in char.encode())


def mount_unit(path: str) -> str:
    """Name the unit that keeps the mount."""
    return f"lab-s3@{escape_path(path)}.service"


def watch_unit(path: str) -> str:
    """Name the unit that watches the mount."""
    return f"lab-s3-watch@{escape_path(path)}.service"


def mounted_record(path: str) -> Path:
    """Name the file that says with which settings the mount was made."""
    return RUN_FOLDER / f"{escape_path(path)}.mounted"


def state_record(path: str) -> Path:
    """Name the file in which the watch writes what it saw last, as JSON."""
    return RUN_FOLDER / f"{escape_path(path)}.json"


def key_file(path: str) -> Path:
    """Name the file that holds the access key of a mount, 0600 and root's."""
    # No backslash: FUSE takes one in an option for an escape of its own.
    return KEYS_FOLDER / f"{escape_path(path).replace(chr(92), '+')}.passwd"


def credentials_file(path: str) -> Path:
    """Name the same for the programs that read the format of AWS's own tools."""
    return key_file(path).with_suffix(".credentials")


def key_files(path: str) -> tuple[Path, ...]:
    """Name every file that may hold the access key of a mount."""
    return key_file(path), credentials_file(path)


def mount_helper(program: str) -> Path:
    """Name the file that mount(8) runs for the type fuse.PROGRAM; all mounts share it."""
    return HELPER_FOLDER / f"mount.fuse.{program}"
