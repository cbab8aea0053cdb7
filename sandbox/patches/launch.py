"""Gaps of RunInstances: it launches whatever it is asked to, as often as it is asked.

* The same ClientToken gives more instances rather than the same ones.
* Unknown images, instance types and key pairs are accepted.
* The sandbox's own limits, told as AWS tells its own (`Unsupported`): images for which there is
  no container image, and subnets outside the default VPC.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from ipaddress import IPv4Network
from typing import Any

from moto.core.responses import ActionResult
from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models import instances
from moto.ec2.models.instance_types import INSTANCE_TYPES
from moto.ec2.responses import instances as responses

from sandbox.patches import patch
from sandbox.settings import Settings


def apply(settings: Settings) -> None:
    """Patch RunInstances from outside, over all other patches of it."""

    def run_instances(
        original: Callable[..., Any], backend: Any, image_id: str, *args: Any, **kwargs: Any
    ) -> Any:
        if key_name := kwargs.get("key_name"):
            backend.describe_key_pairs(key_names=[key_name])
        if not kwargs.get("is_instance_type_default"):
            _check_type(kwargs.get("instance_type"))
        _check_image(backend, image_id, kwargs.get("launch_template"))
        _check_network(backend, settings.vpc_network, kwargs)
        return original(backend, image_id, *args, **kwargs)

    patch(instances.InstanceBackend, "run_instances", run_instances)
    patch(responses.InstanceResponse, "run_instances", _once_per_token)


def _check_type(instance_type: str | None) -> None:
    if instance_type not in INSTANCE_TYPES:
        raise EC2ClientError(
            "InvalidParameterValue", f"Invalid value '{instance_type}' for InstanceType."
        )


def _check_image(backend: Any, image_id: str | None, template: dict[str, Any] | None) -> None:
    if template and not image_id:
        image_id = backend._get_template_from_args(template).image_id
    if not image_id:
        raise EC2ClientError("MissingParameter", "The request must contain the parameter ImageId")
    found = backend.describe_images(ami_ids=[image_id])
    if not found:
        raise EC2ClientError("InvalidAMIID.Unavailable", f"The image '{image_id}' is deregistered")
    if found[0].docker_image is None:
        raise EC2ClientError(
            "Unsupported",
            f"The sandbox cannot launch {image_id} ({found[0].name}): it has images for Debian 13"
            " and Debian 12 only; choose debian_13 or debian_12.",
        )


def _check_network(backend: Any, network: IPv4Network, kwargs: dict[str, Any]) -> None:
    nics = kwargs.get("nics") or []
    asked = [kwargs.get("subnet_id"), *(nic.get("SubnetId") for nic in nics)]
    for subnet_id in filter(None, asked):
        subnet = backend.get_subnet(subnet_id)
        if not subnet.cidr.subnet_of(network):
            raise EC2ClientError(
                "Unsupported",
                f"The sandbox cannot launch in {subnet_id} ({subnet.cidr_block}): its instances"
                f" live in the default VPC, {network}; choose a subnet of that.",
            )


def _once_per_token(original: Callable[..., Any], response: Any) -> Any:
    token = response._get_param("ClientToken")
    if not token or response._get_param("DryRun", False):
        return original(response)
    asked = json.dumps(response.params, sort_keys=True, default=str)
    for reservation in response.ec2_backend.reservations.values():
        if getattr(reservation, "client_token", None) == token:
            _check_repeat(reservation, asked)
            return ActionResult(reservation)
    result = original(response)
    result.result.client_token, result.result.asked = token, asked
    return result


def _check_repeat(reservation: Any, asked: str) -> None:
    if reservation.asked != asked:
        raise EC2ClientError(
            "IdempotentParameterMismatch",
            "Arguments on this idempotent request are inconsistent with arguments used in"
            " previous request(s).",
        )
    if all(instance.state == "terminated" for instance in reservation.instances):
        raise EC2ClientError(
            "IdempotentInstanceTerminated",
            "The request uses the same client token as a previous request whose instances are"
            " terminated.",
        )
