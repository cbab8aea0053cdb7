"""An AWS in memory: moto in this process, with the images that the lab knows by name."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from moto import mock_aws
from moto.core.models import DEFAULT_ACCOUNT_ID as ACCOUNT
from moto.ec2.models import amis
from moto.ec2.responses import EC2Response
from moto.ec2.responses.instances import InstanceResponse
from moto.servicequotas.models import ServiceQuotasBackend
from moto.ssm.models import Parameter, ssm_backends

from sandbox.patches import placement_groups
from tests.unit.aws.kit import IMAGES, Faulty, wish

# One image instead of moto's hundreds, which take a second to list.
IMAGE: dict[str, Any] = {
    "ami_id": "ami-0deb1300000000001",
    "name": "debian-13-amd64-20261101-2300",
    "description": "Debian 13",
    "owner_id": "136693071363",
    "image_location": "amazon/debian-13-amd64-20261101-2300",
    "creation_date": "2026-11-01T00:00:00.000Z",
    "public": True,
    "architecture": "x86_64",
    "image_type": "machine",
    "platform": None,
    "state": "available",
    "sriov": "simple",
    "root_device_type": "ebs",
    "root_device_name": "/dev/xvda",
    "hypervisor": "xen",
    "virtualization_type": "hvm",
}


@pytest.fixture
def spec(tmp_path: Path) -> Any:
    """The default wishes, with the lab's folder in the test's own."""
    return wish(tmp_path)


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[Faulty]:
    """An empty account."""
    for name in ("AWS_ENDPOINT_URL", "AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    # moto knows no quotas of EC2; AWS does.
    monkeypatch.setattr(ServiceQuotasBackend, "get_service_quota", quota_of(8.0))
    monkeypatch.setattr(amis, "AMIS", [IMAGE])
    with_placement_groups(monkeypatch)
    with mock_aws():
        account = Faulty()
        for named in IMAGES.values():
            put(named["x86_64"], IMAGE["ami_id"])
        yield account


def with_placement_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let moto have them, as the sandbox does."""
    launch = InstanceResponse.run_instances
    for name, action in placement_groups.ACTIONS.items():
        monkeypatch.setattr(EC2Response, name, action, raising=False)
    monkeypatch.setattr(
        InstanceResponse, "run_instances", lambda it: placement_groups.run_instances(launch, it)
    )


def quota_of(vcpus: float) -> Any:
    """Answer GetServiceQuota with this many vCPUs."""
    return lambda *_, **__: {"ServiceCode": "ec2", "QuotaCode": "x", "Value": vcpus}


def put(name: str, value: str) -> None:
    """Put a parameter under /aws/, which the API refuses to its users."""
    make: Any = Parameter
    ssm_backends[ACCOUNT]["us-east-1"]._parameters[name].append(
        make(
            account_id=ACCOUNT, name=name, value=value, parameter_type="String", description=None,
            allowed_pattern=None, keyid=None, last_modified_date=time.time(), version=1,
            data_type="text",
        )
    )  # fmt: skip
