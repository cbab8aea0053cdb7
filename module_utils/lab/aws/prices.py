"""What a lab costs, by the dated table in roles/ec2_host/vars/main/prices.yml."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

HOURS_A_MONTH = 730


@dataclass(frozen=True)
class Price:
    """US dollars; `hour` is None for a type that the table does not list."""

    hour: float | None
    stopped_month: float
    note: str

    @property
    def running(self) -> str:
        """The price of a running hour, as text."""
        return "not in the price table" if self.hour is None else f"${self.hour:.3f} an hour"

    @property
    def stopped(self) -> str:
        """The price of a stopped month, as text."""
        return f"${self.stopped_month:.2f} a month"


def price(table: Mapping[str, Any], region: str, instance_type: str, disk_gb: int) -> Price:
    """Add up one host: instance, public address and disks while running, disks while stopped."""
    disks = disk_gb * float(table["gp3_gb_month"])
    instance = table["instance_hour"].get(instance_type)
    hour = None
    if instance is not None:
        running = float(instance) + float(table["public_ipv4_hour"])
        hour = running + disks / HOURS_A_MONTH
    note = f"on-demand Linux, {table['region']}, as of {table['date']}, without the bucket"
    if region != table["region"]:
        note += f"; {region} may differ, often by 10 to 30 %"
    return Price(hour, disks, note)
