"""The steps to what stops the host from outside."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from . import guard
from .preflight import Target
from .steps import Step
from .things import Instance, Seen
from .variables import Spec


def stopper(target: Target, there: Seen) -> Iterator[Step]:
    """Make the role early, so that all of AWS knows it when the schedules want it."""
    wanted = guard.Wanted(target.spec, target.names, target.account)
    name, role = target.names.stopper, there.guard.role
    if not wanted.kinds():
        return
    if role is None:
        yield Step("create_stopper", f"Create role {name}", after=f"role {name}")
    if role is None or role.policy != wanted.policy():
        yield Step(
            "allow_stop",
            f"Let role {name} stop the host and nothing else",
            after=f"role {name}: may stop instances of this lab",
        )


def schedules(target: Target, there: Seen) -> Iterator[Step]:
    """Set the schedules for the host that runs by then; each start has a new one."""
    wanted = guard.Wanted(target.spec, target.names, target.account)
    host, have = there.host(target.names), there.guard.schedules
    for kind in wanted.kinds():
        if not _stands(wanted, host, there, kind):
            name = target.names.schedule(kind)
            yield Step(
                "set_schedule",
                f"Have AWS stop the host {_when(target.spec, kind)}",
                {"kind": kind},
                before=f"schedule {name}: {have[kind].expression}" if kind in have else "",
                after=f"schedule {name}: {_when(target.spec, kind)}",
            )
    for kind in have:
        if kind not in wanted.kinds():
            name = target.names.schedule(kind)
            yield Step(
                "drop_schedule",
                f"Delete schedule {name}",
                {"name": name},
                before=f"schedule {name}: {have[kind].expression}",
            )


def _stands(wanted: guard.Wanted, host: Instance | None, there: Seen, kind: str) -> bool:
    """Whether a schedule is right for the host as it is; one to be started needs another."""
    if host is None:
        return False
    changes = not host.spot and host.type not in wanted.spec.types
    to_start = host.state in ("stopping", "stopped") or changes
    if kind == "max" and to_start:
        return False
    want = wanted.schedule(kind, host.id, host.launched)
    return guard.same_schedule(there.guard.schedules.get(kind), want, datetime.now(UTC))


def _when(spec: Spec, kind: str) -> str:
    if kind == "max":
        return f"{spec.max_hours} h after its start"
    return f"daily at {spec.daily_stop} ({spec.timezone})"


def budget(target: Target, there: Seen) -> Iterator[Step]:
    """Set, change or delete the budget."""
    have = there.guard.budget
    want = guard.Wanted(target.spec, target.names, target.account).budget()
    if guard.same_budget(have, want):
        return
    name, before = (
        target.names.role,
        f"budget {target.names.role}: ${have.dollars:g}" if have else "",
    )
    if want:
        yield Step(
            "set_budget",
            f"Have e-mails sent to {want.email} at 50, 80 and 100 % of ${want.dollars:g} a month",
            before=before,
            after=f"budget {name}: ${want.dollars:g}, {want.email}",
        )
    else:
        yield Step("drop_budget", f"Delete budget {name}", before=before)
