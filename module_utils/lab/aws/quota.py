"""The account's vCPU quota against what runs and what is to be started."""

from __future__ import annotations

import re
from collections.abc import Mapping
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
    """What is to be started; `quota` is in vCPUs, or why it could not be read."""

    spec: Spec
    kind: Mapping[str, Any] | None
    quota: float | str | None


def room(aws: Aws, there: Seen, need: Need, findings: Findings) -> None:
    """Compare the vCPU quota with what runs and what is to be started."""
    spec, quota = need.spec, need.quota
    code = quota_code(spec.instance_type, spec.spot)
    name = (SPOT_QUOTAS if spec.spot else QUOTAS).get(code, ("",))[0]
    if not code or need.kind is None:
        return
    if not isinstance(quota, (int, float)):
        findings.warnings.append(
            f"The quota {code} ({name}) could not be read ({quota or 'not there'}), so"
            " it is not known whether the host has room in it"
        )
        return
    used = _vcpus(aws, there, code, spec.spot)
    needed = int(need.kind["VCpuInfo"]["DefaultVCpus"])
    if used + needed > quota:
        findings.problems.append(
            f"{spec.instance_type} needs {needed} vCPUs, but the quota {code} ({name})"
            f" in {spec.region} is {quota:g}, of which {used} are in use: ask for more with `aws"
            f" service-quotas request-service-quota-increase --service-code ec2 --quota-code {code}"
            f" --desired-value {used + needed} --region {spec.region}` (hours to days)"
        )


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


def look(aws: Aws, instance_type: str, spot: bool = False) -> float | str | None:
    """Return the quota in vCPUs; None or a reason where it cannot be read."""
    code = quota_code(instance_type, spot)
    if not code:
        return None
    try:
        answer = aws.call("service-quotas", "GetServiceQuota", ServiceCode="ec2", QuotaCode=code)
    except AwsError as error:
        return error.code
    value = answer["Quota"].get("Value")
    return None if value is None else float(value)
