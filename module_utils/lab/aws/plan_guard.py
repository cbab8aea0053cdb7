"""The steps to what stops the host from outside."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from . import guard
from .preflight import Target
from .steps import Step
from .things import Instance, Seen
from .variables import Spec
from .workers import Wanted


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
    if host is None or (kind == "max" and _starts(wanted, host)):
        return False
    want = wanted.schedule(kind, host.id, host.launched)
    return guard.same_schedule(there.guard.schedules.get(kind), want, datetime.now(UTC))


def _starts(wanted: guard.Wanted, host: Instance) -> bool:
    """Whether the host is started by this run, from when its hours count."""
    changes = not host.spot and host.type not in wanted.spec.types
    return host.state in ("stopping", "stopped") or changes


def of_workers(target: Target, there: Seen, workers: Wanted) -> Iterator[Step]:
    """Set the schedules of the workers, each its own: one that is gone keeps none from ending."""
    wanted = guard.Wanted(target.spec, target.names, target.account)
    have, staying = there.guard.workers, workers.staying()
    for kind in wanted.kinds():
        numbers = [
            number
            for number in (*staying, *workers.missing())
            if not _worker_stands(wanted, there, kind, staying.get(number), number)
        ]
        if numbers:
            names = [target.names.schedule(kind, number) for number in numbers]
            yield Step(
                "set_worker_schedules",
                f"Have AWS stop {named(numbers)} when it stops the host",
                {"kind": kind, "numbers": numbers},
                before="".join(f"schedule {n}: {have[n].expression}\n" for n in names if n in have),
                after="".join(f"schedule {n}: {_when(target.spec, kind)}\n" for n in names),
            )
    # Those above lab_workers keep theirs as long as they are there.
    known = {one.worker for one in workers.there} | set(workers.numbers())
    for name in have:
        number = guard.number_of(name, target.names)
        if number not in known or name.rpartition("-")[2] not in wanted.kinds():
            yield Step(
                "drop_schedule",
                f"Delete schedule {name}",
                {"name": name},
                before=f"schedule {name}: {have[name].expression}",
            )


def _worker_stands(
    wanted: guard.Wanted, there: Seen, kind: str, worker: Instance | None, number: int
) -> bool:
    host = there.host(wanted.names)
    if worker is None or host is None or (kind == "max" and _starts(wanted, host)):
        return False
    want = wanted.schedule(kind, worker.id, host.launched, number)
    return guard.same_schedule(there.guard.workers.get(want.name), want, datetime.now(UTC))


def named(numbers: Iterable[int]) -> str:
    """Say which workers: `worker 2`, `workers 1, 2, 4`."""
    known = sorted(numbers)
    return f"worker{'s' if len(known) > 1 else ''} {', '.join(map(str, known))}"


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
