"""The table of `python -m sandbox status`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import boto3

from sandbox.account import admin_key
from sandbox.settings import REGION, Settings

COLUMNS = ("instance", "state", "type", "public address", "private address", "name")


def status_table(settings: Settings) -> str:
    """Ask the running sandbox for its instances, volumes and buckets; gives lines of text."""
    key = admin_key(settings)
    session = boto3.Session(
        aws_access_key_id=key.access_key_id,
        aws_secret_access_key=key.secret_access_key,
        region_name=REGION,
    )
    ec2 = session.client("ec2", endpoint_url=settings.endpoint_url)
    pages = ec2.get_paginator("describe_instances").paginate()
    rows = [_row(i) for page in pages for r in page["Reservations"] for i in r["Instances"]]
    volumes = ec2.describe_volumes()["Volumes"]
    size = sum(volume["Size"] for volume in volumes)
    buckets = session.client("s3", endpoint_url=settings.endpoint_url).list_buckets()["Buckets"]
    names = ", ".join(bucket["Name"] for bucket in buckets) or "none"
    return "\n".join(
        (*align((COLUMNS, *rows)), f"volumes: {len(volumes)} ({size} GiB)", f"buckets: {names}")
    )


def _row(instance: Any) -> tuple[str, ...]:
    tags = {tag["Key"]: tag["Value"] for tag in instance.get("Tags", [])}
    return (
        instance["InstanceId"],
        instance["State"]["Name"],
        instance["InstanceType"],
        instance.get("PublicIpAddress", "-"),
        instance.get("PrivateIpAddress", "-"),
        tags.get("Name", "-"),
    )


def align(rows: Sequence[Sequence[str]]) -> list[str]:
    """Pad the cells, so that columns are straight."""
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
