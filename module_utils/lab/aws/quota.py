"""The account's vCPU quota against what runs and what is to be started."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .findings import Findings
from .session import Aws, AwsError
from .things import Seen
from .variables import Spec

# Service quotas of EC2 are counted in vCPUs and by family: the letters before the number.
QUOTAS = {
    "L-DB2E81BA": ("Running On-Demand G and VT instances", {"g", "gr", "vt"}),
    "L-417A185B": ("Running On-Demand P instances", {"p"}),
    "L-1216C47A": (
        "Running On-Demand Standard (A, C, D, H, I, M, R, T, Z) instances",
        set("acdhimrtz"),
    ),
}


# Spot capacity has quotas of its own.
SPOT_QUOTAS = {
    "L-3819A6DF": ("All G and VT Spot Instance Requests", {"g", "gr", "vt"}),
    "L-7212CCBC": ("All P4, P3 and P2 Spot Instance Requests", {"p"}),
    "L-34B43A08": (
        "All Standard (A, C, D, H, I, M, R, T, Z) Spot Instance Requests",
        set("acdhimrtz"),
    ),
}


@dataclass(frozen=True)
class Need:
    """What is to be started: the type of each host, and what AWS says of the types.

    `quotas` are in vCPUs by code, or why one could not be read.
    """

    spec: Spec
    starting: Sequence[str]
    kinds: Mapping[str, Mapping[str, Any] | None]
    quotas: Mapping[str, float | str | None]


def room(aws: Aws, there: Seen, need: Need, findings: Findings) -> None:
    """Compare the vCPU quotas with what runs and what is to be started."""
    spot = need.spec.spot
    by_code: dict[str, Counter[str]] = {}
    for kind in need.starting:
        if (code := quota_code(kind, spot)) and need.kinds.get(kind) is not None:
            by_code.setdefault(code, Counter())[kind] += 1
    for code, counts in by_code.items():
        used = _vcpus(aws, there, code, spot)
        _compare(need, code, counts, used, findings)


def _compare(
    need: Need, code: str, counts: Mapping[str, int], used: int, findings: Findings
) -> None:
    quota, spot, region = need.quotas.get(code), need.spec.spot, need.spec.region
    name = (SPOT_QUOTAS if spot else QUOTAS)[code][0]
    if not isinstance(quota, (int, float)):
        findings.warnings.append(
            f"The quota {code} ({name}) could not be read ({quota or 'not there'}), so"
            " it is not known whether the host has room in it"
        )
        return
    needed = sum(count * _size(need.kinds[kind]) for kind, count in counts.items())
    if used + needed > quota:
        many = sum(counts.values()) > 1
        what = " and ".join(f"{n} x {kind}" if n > 1 else kind for kind, n in counts.items())
        fewer = ", or take fewer with -e lab_workers=…" if many else ""
        findings.problems.append(
            f"{what} need{'' if many else 's'} {needed} vCPUs, but the quota {code} ({name})"
            f" in {region} is {quota:g}, of which {used} are in use: ask for more with `aws"
            f" service-quotas request-service-quota-increase --service-code ec2 --quota-code {code}"
            f" --desired-value {used + needed} --region {region}` (hours to days){fewer}"
        )


def _size(kind: Mapping[str, Any] | None) -> int:
    return int(kind["VCpuInfo"]["DefaultVCpus"]) if kind else 0


def quota_code(instance_type: str, spot: bool = False) -> str:
    """Code of the quota that a type counts for, empty where it is not known."""
    letters = re.match(r"[a-z]+", instance_type)
    family = letters.group() if letters else ""
    quotas = SPOT_QUOTAS if spot else QUOTAS
    return next((code for code, (_, families) in quotas.items() if family in families), "")


def _vcpus(aws: Aws, there: Seen, code: str, spot: bool) -> int:
    """How many vCPUs of a quota run now."""
    running = [
        instance.type
        for instance in there.instances
        if instance.state in ("pending", "running")
        and instance.spot == spot
        and quota_code(instance.type, spot) == code
    ]
    if not running:
        return 0
    kinds = aws.pages(
        "ec2", "DescribeInstanceTypes", "InstanceTypes", InstanceTypes=sorted(set(running))
    )
    sizes = {kind["InstanceType"]: int(kind["VCpuInfo"]["DefaultVCpus"]) for kind in kinds}
    return sum(sizes.get(kind, 0) for kind in running)


def look(aws: Aws, types: Iterable[str], spot: bool = False) -> dict[str, float | str | None]:
    """Return the quotas that some types count for, by code; None or a reason where unreadable."""
    codes = {code for kind in types if (code := quota_code(kind, spot))}
    return {code: _look(aws, code) for code in sorted(codes)}


def _look(aws: Aws, code: str) -> float | str | None:
    try:
        answer = aws.call("service-quotas", "GetServiceQuota", ServiceCode="ec2", QuotaCode=code)
    except AwsError as error:
        return error.code
    value = answer["Quota"].get("Value")
    return None if value is None else float(value)
