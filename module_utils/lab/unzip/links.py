"""Symbolic links in archives: only where asked for, and only to what lies inside dest."""

from __future__ import annotations

from .directory import Member
from .refusal import refusal

_LONGEST = 4095  # bytes of a target that Linux takes


def check_size(archive: str, member: Member) -> None:
    """RefusalError for a target that no filesystem takes."""
    if not 0 < member.size <= _LONGEST or member.packed > 2 * _LONGEST:
        raise refusal(
            archive,
            f"is a symbolic link with a target of {member.size} bytes (1 to {_LONGEST} can be)",
            member=member.name,
        )


def check_target(archive: str, member: Member, target: bytes) -> None:
    """RefusalError for a target outside dest, or that may turn out to be.

    It may climb only at its begin, and not above dest. Behind a name that could be
    another link, ".." would not lead back to where it seems to.
    """
    parts = [part for part in target.split(b"/") if part not in (b"", b".")]
    climbs = 0
    while climbs < len(parts) and parts[climbs] == b"..":
        climbs += 1
    if target.startswith(b"/") or b"\0" in target:
        rule = "is a symbolic link with an absolute target"
    elif climbs > member.path.count("/"):
        rule = "is a symbolic link to something outside dest"
    elif b".." in parts[climbs:]:
        rule = 'is a symbolic link that climbs by ".." behind a name'
    else:
        return
    raise refusal(archive, rule, "pack what it points to", member=member.name)
