"""What runs, since when, and what it costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from . import bake, efs, seen, spot
from .bake import Bake
from .names import PROJECT
from .prices import Held, price
from .retire import advice
from .session import Aws, side_by_side
from .spent import Run, Spent, this_month, update, update_workers
from .things import FileSystem, Instance, Snapshot, Volume

HEAD = (
    "LAB", "HOST", "STATE", "TYPE", "ADDRESS", "UP", "RUNNING", "THIS MONTH", "STOPPED", "DISKS",
    "BUCKET",
)  # fmt: skip


@dataclass(frozen=True)
class Line:
    """One host, or one lab of which only disks are left. Money in US dollars."""

    lab: str
    host: str
    state: str
    type: str
    address: str
    up_hours: float
    hour: float | None
    spent: Spent
    stopped_month: float
    disks_gb: int
    volumes: tuple[str, ...]
    bucket: str
    advice: tuple[str, ...] = ()
    worker: int = 0

    def cells(self) -> tuple[str, ...]:
        """Return the line as the table shows it."""
        running = self.state == "running"
        hour = "?" if self.hour is None else f"${self.hour:.3f}/h"
        least = "" if self.spent.whole else ">= "
        return (
            self.lab,
            f"{self.host or '-'}{f' (worker {self.worker})' if self.worker else ''}",
            self.state,
            self.type or "-",
            self.address or "-",
            span(self.up_hours) if running else "-",
            hour if self.host else "-",
            f"{least}${self.spent.dollars:.2f}",
            f"${self.stopped_month:.2f}/month",
            f"{self.disks_gb} GB",
            self.bucket or "-",
        )


@dataclass(frozen=True)
class Found:
    """Everything of every lab in the region that is paid for by the month."""

    instances: tuple[Instance, ...] = ()
    volumes: tuple[Volume, ...] = ()
    snapshots: tuple[Snapshot, ...] = ()
    addresses: tuple[str, ...] = ()
    bakes: Mapping[str, tuple[Bake, ...]] = field(default_factory=dict)
    file_systems: tuple[FileSystem, ...] = ()


@dataclass(frozen=True)
class Rates:
    """How it is priced: the table, the region, the moment, and what earlier runs have kept."""

    prices: Mapping[str, Any]
    region: str
    now: datetime
    runs: Callable[[str], Sequence[Run]] = lambda _lab: ()
    retire_days: int = 0


def look(aws: Aws) -> Found:
    """Find every host, volume, snapshot and file system of every lab here. Raises AwsError."""
    ours = [{"Name": "tag:Project", "Values": [PROJECT]}]
    return Found(
        **side_by_side(
            {
                "instances": lambda: seen.instances(aws, ours),
                "volumes": lambda: seen.volumes(aws, ours),
                "snapshots": lambda: seen.snapshots(aws, ours),
                "bakes": lambda: bake.by_lab(aws, ours),
                "file_systems": lambda: efs.every(aws),
            }
        )
    )


def lines(found: Found, rates: Rates) -> list[Line]:
    """Make the table: each lab's hosts, or what is left of a lab without one."""
    table = [_host(host, found, rates) for host in found.instances]
    with_host = {line.lab for line in table}
    rest = [
        *(volume.tags for volume in found.volumes),
        *(snapshot.tags for snapshot in found.snapshots),
        *(system.tags for system in found.file_systems),
    ]
    left = sorted({lab_of(tags) for tags in rest} - with_host)
    return sorted([*table, *(_left(lab, found, rates) for lab in left)], key=_place)


def lab_of(tags: Mapping[str, str]) -> str:
    """Name the lab of these tags."""
    return tags.get("Lab", "?")


def _place(line: Line) -> tuple[str, int, str]:
    return line.lab, line.worker, line.host


def _host(instance: Instance, found: Found, rates: Rates) -> Line:
    lab = lab_of(instance.tags)
    # The first host of a lab, no worker if it can be, bears what belongs to none of them.
    mine = [i for i in found.instances if lab_of(i.tags) == lab]
    first = min(mine, key=lambda i: i.worker).id == instance.id
    disks = [
        v
        for v in found.volumes
        if v.attached_to == instance.id or (first and lab_of(v.tags) == lab and not v.attached_to)
    ]
    systems = _file_systems(lab, found) if first else []
    held = Held(
        sum(v.size for v in disks),
        _snapshots(lab, found) if first else 0,
        shared_gb=sum(efs.gib(one) for one in systems),
    )
    cost = price(rates.prices, rates.region, instance.type, held)
    hours = max(0.0, (rates.now - instance.launched).total_seconds() / 3600)
    kept = rates.runs(lab)
    own = [run for run in kept if run.worker == instance.worker]
    # What workers have cost that are gone is told in the line of the host.
    there = {i.worker for i in mine}
    gone = [run for run in kept if first and run.worker not in there]
    runs = (
        *update(own, instance, cost.host_hour, rates.now),
        *update_workers(gone, (), {}, rates.now),
    )
    return Line(
        lab=lab,
        host=instance.id,
        state=instance.state,
        type=instance.type,
        address=instance.public_ip,
        up_hours=round(hours, 2),
        hour=cost.hour,
        spent=_spent(runs, disks, systems, rates),
        stopped_month=round(cost.stopped_month, 2),
        disks_gb=held.disk_gb,
        volumes=tuple(v.id for v in disks),
        bucket=instance.tags.get("Bucket", ""),
        advice=(
            *spot.advice(instance, lab),
            *(
                ()
                if instance.worker
                else advice(instance, rates.retire_days, cost.stopped, lab, rates.now)
            ),
            *(_bakes(lab, found, rates) if first else ()),
            *_on_efs(systems, rates),
        ),
        worker=instance.worker,
    )


def _left(lab: str, found: Found, rates: Rates) -> Line:
    disks = [v for v in found.volumes if lab_of(v.tags) == lab]
    systems = _file_systems(lab, found)
    held = Held(
        sum(v.size for v in disks),
        _snapshots(lab, found),
        shared_gb=sum(efs.gib(one) for one in systems),
    )
    cost = price(rates.prices, rates.region, "", held)
    return Line(
        lab=lab,
        host="",
        state="no host",
        type="",
        address="",
        up_hours=0.0,
        hour=None,
        spent=_spent(rates.runs(lab), disks, systems, rates),
        stopped_month=round(cost.stopped_month, 2),
        disks_gb=held.disk_gb,
        volumes=tuple(v.id for v in disks),
        bucket="",
        advice=(*_bakes(lab, found, rates), *_on_efs(systems, rates)),
    )


def _bakes(lab: str, found: Found, rates: Rates) -> list[str]:
    """Say which images of the lab's host there are, and what they cost."""
    bakes = found.bakes.get(lab, ())
    return bake.said(bakes, float(rates.prices["snapshot_gb_month"]), lab) if bakes else []


def _spent(
    runs: Sequence[Run], disks: Sequence[Volume], systems: Sequence[FileSystem], rates: Rates
) -> Spent:
    """Add up this month: hosts, disks, file systems."""
    found = this_month(runs, disks, float(rates.prices["gp3_gb_month"]), rates.now)
    gb_month = float(rates.prices["efs_gb_month"])
    return found.plus(sum(efs.spent(one, gb_month, rates.now) for one in systems))


def _file_systems(lab: str, found: Found) -> list[FileSystem]:
    return [one for one in found.file_systems if lab_of(one.tags) == lab]


def _on_efs(systems: Sequence[FileSystem], rates: Rates) -> list[str]:
    """Say which file systems have /data, what they hold, and what that costs."""
    gb_month = float(rates.prices["efs_gb_month"])
    return [f"{lab_of(one.tags)}: /data is the {efs.said(one, gb_month)}" for one in systems]


def _snapshots(lab: str, found: Found) -> int:
    return sum(s.size for s in found.snapshots if lab_of(s.tags) == lab)


def footer(rows: Sequence[Line], rates: Rates) -> list[str]:
    """Say what the figures are, and which labs are paid for although nobody needs them."""
    if not rows:
        return ["There is no lab in this region, and nothing of one that costs."]
    note = price(rates.prices, rates.region, "", 0).note
    return [
        *(text for row in rows for text in row.advice),
        "RUNNING: with address and disks. THIS MONTH: so far, by starts, stops and disks (>=: runs"
        f" that these playbooks have not seen are missing). Prices: {note}.",
    ]


def span(hours: float) -> str:
    """Say a duration: 42 min, 5 h 10 min, 3 d 4 h."""
    minutes = int(hours * 60)
    if minutes < 60:  # noqa: PLR2004 - minutes in an hour
        return f"{minutes} min"
    if minutes < 24 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes // 1440} d {minutes % 1440 // 60} h"


def table(rows: Sequence[Line]) -> list[str]:
    """Set the lines in columns."""
    cells = [HEAD, *(row.cells() for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(HEAD))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    ]
