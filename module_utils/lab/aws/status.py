"""What runs, since when, and what it costs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from . import seen
from .names import PROJECT
from .prices import price
from .session import Aws, side_by_side
from .things import Instance, Volume

HEAD = ("LAB", "HOST", "STATE", "TYPE", "ADDRESS", "UP", "SO FAR", "STOPPED", "DISKS", "BUCKET")


@dataclass(frozen=True)
class Line:
    """One host, or one lab of which only disks are left. Money in US dollars."""

    lab: str
    host: str
    state: str
    type: str
    address: str
    up_hours: float
    so_far: float | None
    stopped_month: float
    disks_gb: int
    volumes: tuple[str, ...]
    bucket: str

    def cells(self) -> tuple[str, ...]:
        """Return the line as the table shows it."""
        running = self.state == "running"
        money = "?" if self.so_far is None else f"${self.so_far:.2f}"
        return (
            self.lab,
            self.host or "-",
            self.state,
            self.type or "-",
            self.address or "-",
            span(self.up_hours) if running else "-",
            money if running else "-",
            f"${self.stopped_month:.2f}/month",
            f"{self.disks_gb} GB",
            self.bucket or "-",
        )


def look(aws: Aws) -> tuple[tuple[Instance, ...], tuple[Volume, ...]]:
    """Find every host and volume of every lab in the region. Raises AwsError."""
    ours = [{"Name": "tag:Project", "Values": [PROJECT]}]
    found = side_by_side(
        {
            "instances": lambda: seen.instances(aws, ours),
            "volumes": lambda: seen.volumes(aws, ours),
        }
    )
    return found["instances"], found["volumes"]


def lines(
    instances: Iterable[Instance],
    volumes: Sequence[Volume],
    prices: Mapping[str, Any],
    region: str,
    now: datetime,
) -> list[Line]:
    """Make the table: hosts first, then labs of which only disks are left."""
    table = [_host(i, volumes, prices, region, now) for i in instances]
    shown = {volume for line in table for volume in line.volumes}
    labs = sorted({v.tags.get("Lab", "?") for v in volumes if v.id not in shown})
    for lab in labs:
        left = [v for v in volumes if v.id not in shown and v.tags.get("Lab", "?") == lab]
        disks = sum(volume.size for volume in left)
        cost = price(prices, region, "", disks)
        ids = tuple(v.id for v in left)
        table.append(
            Line(lab, "", "no host", "", "", 0.0, None, cost.stopped_month, disks, ids, "")
        )
    return sorted(table, key=lambda line: (line.lab, line.host))


def _host(
    instance: Instance,
    volumes: Sequence[Volume],
    prices: Mapping[str, Any],
    region: str,
    now: datetime,
) -> Line:
    disks = [v for v in volumes if v.attached_to == instance.id]
    size = sum(volume.size for volume in disks)
    cost = price(prices, region, instance.type, size)
    hours = max(0.0, (now - instance.launched).total_seconds() / 3600)
    return Line(
        lab=instance.tags.get("Lab", "?"),
        host=instance.id,
        state=instance.state,
        type=instance.type,
        address=instance.public_ip,
        up_hours=round(hours, 2),
        so_far=None if cost.hour is None else round(cost.hour * hours, 2),
        stopped_month=round(cost.stopped_month, 2),
        disks_gb=size,
        volumes=tuple(v.id for v in disks),
        bucket=instance.tags.get("Bucket", ""),
    )


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
