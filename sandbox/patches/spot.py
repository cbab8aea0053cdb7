"""Gap: RunInstances with market type spot leaves no spot request behind.

The instance gets a request, found by DescribeSpotInstanceRequests, and its SpotInstanceRequestId.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from moto.core.utils import utcnow
from moto.ec2.models import instances, spot_requests
from moto.ec2.utils import random_spot_request_id

from sandbox.patches import patch
from sandbox.settings import Settings


def apply(_settings: Settings) -> None:
    """Patch RunInstances and requests of their own."""
    instances.Instance.spot_instance_request_id = None  # type: ignore[attr-defined]
    patch(instances.InstanceBackend, "run_instances", _run_instances)
    patch(spot_requests.SpotInstanceRequest, "__init__", _initialise)


def _run_instances(original: Callable[..., Any], backend: Any, *args: Any, **kwargs: Any) -> Any:
    reservation = original(backend, *args, **kwargs)
    if kwargs.get("instance_market_options"):
        for instance in reservation.instances:
            _add_request(backend, instance)
    return reservation


def _add_request(backend: Any, instance: Any) -> None:
    # Its own __init__ would launch a second instance.
    kind: Any = spot_requests.SpotInstanceRequest
    request = kind.__new__(kind)
    request.ec2_backend = backend
    request.id = instance.spot_instance_request_id = random_spot_request_id()
    request.launch_specification = spot_requests.LaunchSpecification(
        kernel_id=None,
        ramdisk_id=None,
        image_id=instance.image_id,
        key_name=instance.key_name,
        instance_type=instance.instance_type,
        placement=instance.availability_zone,
        monitored=instance.monitored,
        subnet_id=instance.subnet_id,
    )
    request.launch_specification.groups = list(instance.security_groups)
    request.state, request._status_code, request.status_message = "active", "fulfilled", ""
    request.price, request.type, request.instance = "", "one-time", instance
    request.valid_from, request.valid_until = utcnow(), None
    request.launch_group = request.availability_zone_group = None
    request.instance_interruption_behaviour = "terminate"
    request.user_data = request.spot_fleet_id = request.launch_spec = None
    request.all_tags = {}
    backend.spot_instance_requests[request.id] = request


def _initialise(original: Callable[..., Any], request: Any, *args: Any, **kwargs: Any) -> None:
    original(request, *args, **kwargs)
    request.instance.spot_instance_request_id = request.id
