"""What a lab has cost this month, from the times at which its host was started and stopped.

AWS tells the last start and the last stop of an instance. Each run that changes something keeps
them in `.lab/<name>/usage.json`, so that a month adds up; what was started and stopped between two
runs without the playbooks is not known, and then the sum is said to be a lower bound.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from .lock import write_private
from .prices import HOURS_A_MONTH
from .session import Aws, AwsError
from .things import Instance, Volume

FILE = "usage.json"
GONE = ("stopping", "stopped", "shutting-down", "terminated")
# "User initiated (2026-11-22 10:15:00 GMT)"
WHEN = re.compile(r"\((\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) (?:GMT|UTC)\)")
HOUR = 3600.0


@dataclass(frozen=True)
class Run:
    """One run of the host, or of a worker, from start to stop; `end` is None while none is known.

    `hour` is the price of an hour in US dollars without disks, None where there was none; `seen` is
    when it was last seen running; `worker` is the number of a worker, 0 for the host.
    """

    instance: str
    type: str
    hour: float | None
    start: datetime
    seen: datetime
    end: datetime | None = None
    worker: int = 0


@dataclass(frozen=True)
class Spent:
    """US dollars of this month, so far; `hours` of running. Not `whole`: at least so much."""

    dollars: float
    hours: float
    whole: bool
    source: str = "starts and stops"

    def plus(self, dollars: float) -> Spent:
        """Add what is paid for beside hosts and disks."""
        return replace(self, dollars=self.dollars + dollars)

    @property
    def text(self) -> str:
        """The sum, as text."""
        least = "" if self.whole else "at least "
        return (
            f"{least}${self.dollars:.2f} this month ({self.hours:.1f} h running; by {self.source})"
        )


def stopped_at(reason: str) -> datetime | None:
    """Read the time out of an instance's StateTransitionReason."""
    found = WHEN.search(reason or "")
    if not found:
        return None
    return datetime.strptime(found[1], "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)


def read(folder: Path) -> tuple[Run, ...]:
    """Read what earlier runs have kept; what cannot be read is as good as none."""
    try:
        raw = json.loads((folder / FILE).read_text())
        return tuple(_run(item) for item in raw["runs"])
    except (OSError, ValueError, KeyError, TypeError):
        return ()


def _run(item: Mapping[str, Any]) -> Run:
    times = {k: datetime.fromisoformat(item[k]) for k in ("start", "seen", "end") if item[k]}
    return Run(**{**item, **times})


def save(folder: Path, runs: Iterable[Run]) -> None:
    """Keep the runs, whole or not at all. Raises OSError."""
    if not folder.is_dir():
        return
    text = json.dumps({"runs": [asdict(run) for run in runs]}, default=str, indent=1)
    if not (folder / FILE).exists() or (folder / FILE).read_text() != text:
        write_private(folder / FILE, text)


def update(
    runs: Iterable[Run], host: Instance | None, hour: float | None, now: datetime
) -> tuple[Run, ...]:
    """Take one look at the host, or a worker, into account: its last start, and its last stop."""
    kept = list(runs)
    if host is None:
        return tuple(kept)
    end = None
    if host.state in GONE:
        end = max(stopped_at(host.stopped_because) or host.launched, host.launched)
    for at, run in enumerate(kept):
        if run.instance == host.id and run.start == host.launched:
            seen = run.seen if end else now
            kept[at] = replace(run, seen=seen, end=run.end or end)
            return tuple(kept)
    kept.append(Run(host.id, host.type, hour, host.launched, end or now, end, host.worker))
    return tuple(kept)


def update_workers(
    runs: Iterable[Run], there: Iterable[Instance], hours: Mapping[str, float | None], now: datetime
) -> tuple[Run, ...]:
    """Take one look at the workers into account; `hours` are prices of an hour by instance.

    One that is gone without our doing has run until it was last seen.
    """
    kept, found = tuple(runs), list(there)
    for one in found:
        kept = update(kept, one, hours.get(one.id), now)
    alive = {one.id for one in found}
    return tuple(
        replace(run, end=run.seen)
        if run.worker and run.end is None and run.instance not in alive
        else run
        for run in kept
    )


def close(runs: Iterable[Run], ids: Iterable[str], now: datetime) -> tuple[Run, ...]:
    """End the runs of instances that are gone."""
    gone = set(ids)
    return tuple(
        replace(run, end=now) if run.instance in gone and run.end is None else run for run in runs
    )


def this_month(
    runs: Iterable[Run], volumes: Iterable[Volume], gb_month: float, now: datetime
) -> Spent:
    """Add up what ran this month (in UTC, as AWS bills) and the disks that are there now."""
    begin = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    ordered = sorted(runs, key=lambda run: run.start)
    parts = [
        _ran([run for run in ordered if run.worker == worker], begin, now)
        for worker in sorted({run.worker for run in ordered})
    ]
    dollars = sum(part.dollars for part in parts)
    hours = sum(part.hours for part in parts)
    whole = all(part.whole for part in parts)
    disks = list(volumes)
    oldest = min((v.created for v in disks if v.created), default=now)
    first = ordered[0].start if ordered else now
    # A disk is as old as its host's first run; what ran before the first that is known is missing.
    whole = whole and first <= max(begin, oldest + timedelta(hours=1))
    for volume in disks:
        born = max(volume.created or begin, begin)
        age = max((now - born).total_seconds() / HOUR, 0.0)
        dollars += volume.size * gb_month * age / HOURS_A_MONTH
    return Spent(dollars, hours, whole)


def _ran(ordered: Sequence[Run], begin: datetime, now: datetime) -> Spent:
    """Add up the runs of the host, or of the workers of one number: there is one at a time."""
    dollars = hours = 0.0
    whole = True
    for at, run in enumerate(ordered):
        last = at == len(ordered) - 1
        # A run without an end that a later one has followed: it ran at least until it was seen.
        end = run.end or (now if last else run.seen)
        length = max((min(end, now) - max(run.start, begin)).total_seconds() / HOUR, 0.0)
        hours += length
        dollars += length * (run.hour or 0.0)
        unknown = (run.end is None and not last) or (run.hour is None and length > 0)
        whole = whole and not (unknown and end >= begin)
    return Spent(dollars, hours, whole)


def bill(aws: Aws, lab: str, now: datetime) -> str:
    """Ask Cost Explorer what AWS bills of a lab this month; a text, or why it cannot be told.

    Each question costs a cent. The tag `Lab` must be activated as a cost allocation tag.
    """
    try:
        answer = aws.call(
            "ce",
            "GetCostAndUsage",
            TimePeriod={"Start": f"{now:%Y-%m}-01", "End": f"{now + timedelta(days=1):%Y-%m-%d}"},
            Granularity="MONTHLY",
            Metrics=["UnblendedCost"],
            Filter={"Tags": {"Key": "Lab", "Values": [lab]}},
        )
        sums = [float(p["Total"]["UnblendedCost"]["Amount"]) for p in answer["ResultsByTime"]]
    except AwsError as error:
        return f"AWS's bill cannot be told ({error.code})"
    except (KeyError, TypeError, ValueError):
        return "AWS's bill tells nothing of the tag Lab (activate it as a cost allocation tag)"
    if not sums:
        return "AWS's bill tells nothing of the tag Lab (activate it as a cost allocation tag)"
    return f"AWS's bill says ${sum(sums):.2f}, up to a day late"
