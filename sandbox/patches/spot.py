"""Gaps of Spot instances.

* RunInstances with market type spot leaves no spot request behind. The instance gets one, found by
  DescribeSpotInstanceRequests, of the type and with the interruption behaviour and tags asked for.
* Requests do not follow their instances: here a stop by hand disables a persistent request, a start
  makes it active, an interruption leaves it open, and only AWS starts the instance then; one that
  is cancelled is kept, its stopped instance terminated. One-time instances cannot be stopped.
* Spot instances can be protected from termination, and change their type.

A persistent request whose instance is terminated is open again. AWS would launch another instance
for it; here none is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from moto.core.utils import utcnow
from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models import instances, spot_requests
from moto.ec2.models.instances import StateReason
from moto.ec2.responses import instances as responses
from moto.ec2.utils import random_spot_request_id

from sandbox.patches import patch
from sandbox.settings import Settings

INTERRUPTED = "Server.SpotInstanceShutdown"


def apply(_settings: Settings) -> None:
    """Patch RunInstances, the life of instances, and requests."""
    # What moto's instances do not have.
    instances.Instance.spot_instance_request_id = None  # type: ignore[attr-defined]  # see above
    instances.Instance.interruption = None  # type: ignore[attr-defined]  # see above
    patch(instances.InstanceBackend, "run_instances", _run_instances)
    patch(responses.InstanceResponse, "run_instances", _as_asked)
    patch(responses.InstanceResponse, "modify_instance_attribute", _modify)
    patch(instances.InstanceBackend, "start_instances", _start_instances)
    patch(instances.InstanceBackend, "stop_instances", _stop_instances)
    patch(instances.Instance, "start", _start)
    patch(instances.Instance, "stop", _stop)
    patch(instances.Instance, "terminate", _terminate)
    patch(spot_requests.SpotInstanceRequest, "__init__", _initialise)
    patch(spot_requests.SpotRequestBackend, "cancel_spot_instance_requests", _cancel)


def request_of(instance: Any) -> Any:
    """Return the spot request of an instance, None for one on demand."""
    return instance.ec2_backend.spot_instance_requests.get(instance.spot_instance_request_id)


def interrupt(instance: Any) -> None:
    """Take the capacity back: the instance stops, and its request waits for room."""
    instance.stop()
    instance.state_reason = StateReason(
        f"{INTERRUPTED}: The instance was stopped for lack of Spot capacity", INTERRUPTED
    )
    _say(request_of(instance), "open", "instance-stopped-no-capacity")


def resume(instance: Any) -> None:
    """Start an interrupted instance, as AWS does when there is room again."""
    instance.start()


def _say(request: Any, state: str, status: str) -> None:
    if request is not None and request.state != "cancelled":
        request.state, request._status_code = state, status


def _persistent(instance: Any) -> bool:
    request = request_of(instance)
    return request is not None and request.type == "persistent"


def _as_asked(original: Callable[..., Any], response: Any) -> Any:
    market = response._get_param("InstanceMarketOptions", {}) or {}
    options = market.get("SpotOptions", {})
    kind = options.get("SpotInstanceType", "one-time")
    behaviour = options.get("InstanceInterruptionBehavior", "terminate")
    if behaviour != "terminate" and kind != "persistent":
        raise EC2ClientError(
            "InvalidParameterCombination",
            f"The {behaviour} interruption behavior needs a persistent request",
        )
    result = original(response)
    tags = response._parse_tag_specification().get("spot-instances-request", {})
    for instance in result.result.instances if market.get("MarketType") == "spot" else ():
        request = request_of(instance)
        request.type, request.instance_interruption_behaviour = kind, behaviour
        request.add_tags(tags)
    return result


def _modify(original: Callable[..., Any], response: Any) -> Any:
    instance = response.ec2_backend.get_instance(response._get_param("InstanceId"))
    protects = str(response._get_param("DisableApiTermination.Value")).lower() == "true"
    if instance.lifecycle == "spot" and protects:
        raise EC2ClientError(
            "UnsupportedOperation", "You cannot enable termination protection for Spot Instances."
        )
    if instance.lifecycle == "spot" and response._get_param("InstanceType.Value"):
        raise EC2ClientError(
            "UnsupportedOperation", "You cannot modify the instance type of a Spot Instance."
        )
    return original(response)


def _start_instances(original: Callable[..., Any], backend: Any, instance_ids: list[str]) -> Any:
    for instance in backend.get_multi_instances_by_id(instance_ids):
        request = request_of(instance)
        if request is not None and instance.state == "stopped" and request.state != "disabled":
            raise EC2ClientError(
                "IncorrectSpotRequestState",
                f"You can't start the Spot Instance '{instance.id}' because the associated Spot"
                f" Instance request is not in an appropriate state to support start.",
            )
    return original(backend, instance_ids)


def _stop_instances(original: Callable[..., Any], backend: Any, instance_ids: list[str]) -> Any:
    for instance in backend.get_multi_instances_by_id(instance_ids):
        if request_of(instance) is not None and not _persistent(instance):
            raise EC2ClientError(
                "UnsupportedOperation",
                f"You can't stop the Spot Instance '{instance.id}' because it is associated with a"
                " one-time Spot Instance request.",
            )
    return original(backend, instance_ids)


def _start(original: Callable[..., Any], instance: Any) -> Any:
    before = original(instance)
    _say(request_of(instance), "active", "fulfilled")
    return before


def _stop(original: Callable[..., Any], instance: Any) -> Any:
    if instance.state != "stopped":
        _say(request_of(instance), "disabled", "instance-stopped-by-user")
    instance.interruption = None
    return original(instance)


def _terminate(original: Callable[..., Any], instance: Any) -> Any:
    before = original(instance)
    if _persistent(instance):
        _say(request_of(instance), "open", "pending-evaluation")
    else:
        _say(request_of(instance), "closed", "instance-terminated-by-user")
    return before


def _cancel(original: Callable[..., Any], backend: Any, request_ids: list[str]) -> Any:
    for request_id in request_ids:
        if request_id not in backend.spot_instance_requests:
            raise EC2ClientError(
                "InvalidSpotInstanceRequestID.NotFound",
                f"The spot instance request ID '{request_id}' does not exist",
            )
    requests = original(backend, request_ids)
    for request in requests:
        _say(request, "cancelled", "request-canceled-and-instance-running")
        backend.spot_instance_requests[request.id] = request
        if request.instance.state == "stopped":
            request.instance.terminate()
    return requests


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
