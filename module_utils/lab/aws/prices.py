"""What a lab costs: by AWS's own price list where it can be asked, else by the dated table.

The table is roles/ec2_host/vars/main/prices.yml; what the price list says goes into a copy of it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..errors import LabError
from .session import Aws, AwsError, side_by_side

HOURS_A_MONTH = 730
INSTANCE = {"operatingSystem": "Linux", "tenancy": "Shared", "capacitystatus": "Used",
            "preInstalledSw": "NA"}  # fmt: skip


@dataclass(frozen=True)
class Price:
    """US dollars; `hour` is None for a type that nobody has a price of.

    `host_hour` is the part of `hour` that ends with the host: instance and public address.
    """

    hour: float | None
    stopped_month: float
    note: str
    disks_month: float = 0.0
    snapshots_month: float = 0.0
    addresses_month: float = 0.0
    host_hour: float | None = None
    shared_month: float = 0.0

    @property
    def running(self) -> str:
        """The price of a running hour, as text."""
        return "not in the price table" if self.hour is None else f"${self.hour:.3f} an hour"

    @property
    def stopped(self) -> str:
        """The price of a stopped month and its parts, as text."""
        parts = {
            "disks": self.disks_month,
            "snapshots (at most)": self.snapshots_month,
            "addresses": self.addresses_month,
            "file system": self.shared_month,
        }
        said = ", ".join(f"{name} ${cost:.2f}" for name, cost in parts.items() if cost)
        return f"${self.stopped_month:.2f} a month" + (f" ({said})" if said else "")


@dataclass(frozen=True)
class Held:
    """What is paid for whether the host runs or not: sizes in GiB, addresses kept by name.

    `shared_gb` is what a file system of EFS holds.
    """

    disk_gb: int
    snapshot_gb: int = 0
    addresses: int = 0
    shared_gb: float = 0.0


def price(table: Mapping[str, Any], region: str, instance_type: str, held: Held | int) -> Price:
    """Add up one host: instance, public address and disks while running, the rest always."""
    if isinstance(held, int):
        held = Held(held)
    disks = held.disk_gb * float(table["gp3_gb_month"])
    snapshots = held.snapshot_gb * float(table["snapshot_gb_month"])
    shared = held.shared_gb * float(table["efs_gb_month"])
    address = float(table["public_ipv4_hour"])
    # A running host's address costs the same, whichever kind it is.
    addresses = held.addresses * address * HOURS_A_MONTH
    instance = table["instance_hour"].get(instance_type)
    host_hour = None if instance is None else float(instance) + address
    return Price(
        hour=None
        if host_hour is None
        else host_hour + (disks + snapshots + shared) / HOURS_A_MONTH,
        stopped_month=disks + snapshots + addresses + shared,
        note=_note(table, region),
        disks_month=disks,
        snapshots_month=snapshots,
        addresses_month=addresses,
        host_hour=host_hour,
        shared_month=shared,
    )


def together(costs: Sequence[Price]) -> Price:
    """Add up hosts, the first of which bears what is held beside them; the note is the first's."""

    def total(hours: Iterable[float | None]) -> float | None:
        known = list(hours)
        return None if None in known else sum(hour for hour in known if hour is not None)

    return replace(
        costs[0],
        hour=total(cost.hour for cost in costs),
        host_hour=total(cost.host_hour for cost in costs),
        stopped_month=sum(cost.stopped_month for cost in costs),
        disks_month=sum(cost.disks_month for cost in costs),
    )


def _note(table: Mapping[str, Any], region: str) -> str:
    if table.get("asked"):
        return (
            f"on-demand Linux, {table['region']}, by AWS's price list of today, without the bucket"
        )
    note = f"on-demand Linux, {table['region']}, as of {table['date']}, without the bucket"
    if "why_not_asked" in table:
        note += f"; AWS's price list: {table['why_not_asked']}"
    if region != table["region"]:
        note += f"; {region} may differ, often by 10 to 30 %"
    return note


def current(
    aws: Aws, table: Mapping[str, Any], region: str, types: Iterable[str]
) -> Mapping[str, Any]:
    """Return the table with AWS's prices of today for these types and the region's disks.

    Where the price list cannot be asked, the table as it is, and why (`why_not_asked`).
    """
    wanted = sorted(set(types) - {""})
    try:
        found = side_by_side(
            {
                **{kind: lambda kind=kind: _instance(aws, region, kind) for kind in wanted},  # type: ignore[misc]
                "": lambda: _disk(aws, region),
            }
        )
    except AwsError as error:
        return {**table, "why_not_asked": error.code}
    except (LabError, ValueError, KeyError, TypeError) as error:
        return {**table, "why_not_asked": f"not understood ({type(error).__name__})"}
    disk = found.pop("")
    missing = [kind for kind in wanted if found[kind] is None]
    if disk is None or missing:
        return {**table, "why_not_asked": f"has no price of {', '.join(missing) or 'gp3'}"}
    hours = {**(table["instance_hour"] if region == table["region"] else {}), **found}
    return {**table, "asked": True, "region": region, "gp3_gb_month": disk, "instance_hour": hours}


def _instance(aws: Aws, region: str, kind: str) -> float | None:
    return _cheapest(aws, {**INSTANCE, "instanceType": kind, "regionCode": region}, "Hrs")


def _disk(aws: Aws, region: str) -> float | None:
    wanted = {"productFamily": "Storage", "volumeApiName": "gp3", "regionCode": region}
    return _cheapest(aws, wanted, "GB-Mo")


def _cheapest(aws: Aws, fields: Mapping[str, str], unit: str) -> float | None:
    """Return the one on-demand price of a product in US dollars, None where there is none."""
    filters = [{"Type": "TERM_MATCH", "Field": key, "Value": fields[key]} for key in sorted(fields)]
    answer = aws.call(
        "pricing", "GetProducts", ServiceCode="AmazonEC2", Filters=filters, MaxResults=100
    )
    found = [
        float(part["pricePerUnit"]["USD"])
        for product in answer.get("PriceList", ())
        for term in json.loads(product)["terms"].get("OnDemand", {}).values()
        for part in term["priceDimensions"].values()
        if part["unit"] == unit and "USD" in part["pricePerUnit"]
    ]
    return min((cost for cost in found if cost > 0), default=None)
