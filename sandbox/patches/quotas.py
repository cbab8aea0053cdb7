"""Gap: service quotas know only `vpc`, cannot be listed, and limit nothing.

Here an EC2 account's quotas, in vCPUs, are told by GetServiceQuota and ListServiceQuotas,
and RunInstances keeps to them (VcpuLimitExceeded).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models import instances
from moto.ec2.models.instance_types import INSTANCE_TYPES
from moto.servicequotas import models, responses

from sandbox.patches import patch
from sandbox.settings import Settings


@dataclass(frozen=True)
class Quota:
    """A limit on the vCPUs that run at a time, for types whose family matches `families`."""

    code: str
    name: str
    vcpus: int
    families: str
    spot: bool

    def covers(self, instance_type: str, spot: bool) -> bool:
        """Tell whether an instance of this type counts against this quota."""
        family = re.match(r"[a-z]+", instance_type)
        return spot == self.spot and bool(family and re.fullmatch(self.families, family[0]))


_G, _P, _STANDARD = "g|gr|vt", "p", "a|c|d|h|i|im|is|m|r|t|z"
QUOTAS = (
    Quota("L-DB2E81BA", "Running On-Demand G and VT instances", 64, _G, False),
    Quota("L-3819A6DF", "All G and VT Spot Instance Requests", 8, _G, True),
    Quota("L-417A185B", "Running On-Demand P instances", 0, _P, False),
    Quota("L-7212CCBC", "All P4, P3 and P2 Spot Instance Requests", 0, _P, True),
    Quota(
        "L-1216C47A",
        "Running On-Demand Standard (A, C, D, H, I, M, R, T, Z) instances",
        32,
        _STANDARD,
        False,
    ),
    Quota(
        "L-34B43A08",
        "All Standard (A, C, D, H, I, M, R, T, Z) Spot Instance Requests",
        32,
        _STANDARD,
        True,
    ),
)


def apply(_settings: Settings) -> None:
    """Patch the quotas and make RunInstances keep to them."""
    patch(models.ServiceQuotasBackend, "get_service_quota", _get)
    patch(models.ServiceQuotasBackend, "list_aws_default_service_quotas", _list)
    responses.ServiceQuotasResponse.list_service_quotas = (  # type: ignore[attr-defined]
        responses.ServiceQuotasResponse.list_aws_default_service_quotas
    )
    patch(instances.InstanceBackend, "run_instances", _run_instances)


def _told(quota: Quota) -> dict[str, Any]:
    return {
        "ServiceCode": "ec2",
        "ServiceName": "Amazon Elastic Compute Cloud (Amazon EC2)",
        "QuotaCode": quota.code,
        "QuotaName": quota.name,
        "Value": float(quota.vcpus),
        "Unit": "None",
        "Adjustable": True,
        "GlobalQuota": False,
    }


def _get(
    original: Callable[..., Any], backend: Any, service_code: str, quota_code: str
) -> dict[str, Any]:
    for quota in QUOTAS:
        if service_code == "ec2" and quota.code == quota_code:
            return _told(quota)
    known: dict[str, Any] = original(backend, service_code, quota_code)
    return known


def _list(original: Callable[..., Any], backend: Any, service_code: str) -> list[dict[str, Any]]:
    if service_code == "ec2":
        return [_told(quota) for quota in QUOTAS]
    known: list[dict[str, Any]] = json.loads(json.dumps(original(backend, service_code)))
    return known


def vcpus_of(instance_type: str) -> int:
    """Count the vCPUs of a type; 0 if it is unknown."""
    known = INSTANCE_TYPES.get(instance_type, {})
    return int(known.get("VCpuInfo", {}).get("DefaultVCpus", 0))


def _run_instances(
    original: Callable[..., Any], backend: Any, image_id: str, count: int, *args: Any, **kw: Any
) -> Any:
    spot = bool(kw.get("instance_market_options") or kw.get("lifecycle") == "spot")
    instance_type = kw.get("instance_type", "")
    for quota in QUOTAS:
        if not quota.covers(instance_type, spot):
            continue
        used = sum(
            vcpus_of(instance.instance_type)
            for instance in backend.all_running_instances()
            if quota.covers(instance.instance_type, instance.lifecycle == "spot")
        )
        if used + count * vcpus_of(instance_type) > quota.vcpus:
            raise EC2ClientError(
                "VcpuLimitExceeded",
                f"You have requested more vCPU capacity than your current vCPU limit of"
                f" {quota.vcpus} allows for the instance bucket that the specified instance type"
                " belongs to. Please visit http://aws.amazon.com/contact-us/ec2-request to"
                " request an adjustment to this limit.",
            )
    return original(backend, image_id, count, *args, **kw)
