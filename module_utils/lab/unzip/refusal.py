"""How an archive is refused: one sentence with archive, member, rule and mend."""

from __future__ import annotations

from ansible.module_utils.lab.errors import LabError

ASK_MAKER = "fetch it again, or have it packed anew by its maker"


class RefusalError(LabError):
    """An archive that breaks a rule; dest was left as it was."""


def refusal(
    archive: str, rule: str, mend: str = ASK_MAKER, member: str | bytes = ""
) -> RefusalError:
    """Say that `archive` (or its `member`) breaks `rule`, and what to do about it."""
    if isinstance(member, bytes):
        member = member.decode("utf-8", "backslashreplace")
    shown = member if len(member) <= _SHOWN else member[:_SHOWN] + "…"
    what = f"member {shown!r} " if member else ""
    return RefusalError(f"{archive}: {what}{rule}; {mend}")


_SHOWN = 120
