"""What the preflight says of that which stops the host from outside."""

from __future__ import annotations

from . import guard
from .findings import Findings
from .things import Seen


def refuse(wanted: guard.Wanted, there: Seen, findings: Findings) -> None:
    """Refuse what cannot be guarded, and what is somebody else's."""
    denied = there.guard.denied
    if wanted.kinds() and "scheduler" in denied:
        findings.problems.append(
            f"{denied['scheduler']} (to do without, and be stopped by the host's own idle timer"
            " alone: -e lab_max_hours=0 -e lab_daily_stop=)"
        )
    if wanted.budget() and "budgets" in denied:
        findings.problems.append(f"{denied['budgets']} (to do without: -e lab_monthly_budget=0)")
    findings.problems += [
        f"The schedule {schedule.name} exists, but works by another role ({schedule.role_arn}), so"
        " it is somebody else's and is not touched: choose another name with -e lab_name=…, or"
        " remove it by hand"
        for schedule in there.guard.schedules.values()
        if schedule.role_arn != wanted.role_arn
    ]
    role = there.guard.role
    if role and not wanted.names.owns(role.tags):
        findings.problems.append(
            f"The role {role.name} exists, but has not the tags Project=gpulab and"
            f" Lab={wanted.names.lab}, so it is somebody else's and is not touched: choose another"
            " name with -e lab_name=…, or remove it by hand"
        )
