"""Gap: RunInstances drops part of what it is asked for.

* DisableApiTermination is ignored.
* With Count > 1 only the first instance gets the instance profile.
* A launch template's metadata options, market options, instance profile, shutdown behaviour and
  protection are ignored.
* Without a subnet the instance gets a private address at random, outside its network; in a zone
  that does not offer the type it starts all the same.
* CreateFleet's instances get no public address.
* Changing the shutdown behaviour by ModifyInstanceAttribute is "not implemented".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from moto.core.responses import EmptyResult
from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models import instances
from moto.ec2.models.instance_types import INSTANCE_TYPE_OFFERINGS
from moto.ec2.responses import instances as responses

from sandbox.patches import patch
from sandbox.settings import Settings


def apply(_settings: Settings) -> None:
    """Patch RunInstances and ModifyInstanceAttribute."""
    patch(responses.InstanceResponse, "run_instances", _respond)
    patch(instances.InstanceBackend, "run_instances", _run_instances)
    patch(responses.InstanceResponse, "modify_instance_attribute", _modify)


def _respond(original: Callable[..., Any], response: Any) -> Any:
    result = original(response)
    reservation = result.result
    profile = response._get_param("IamInstanceProfile", {})
    for instance in reservation.instances:
        if response._get_param("DisableApiTermination"):
            instance.disable_api_termination = True
    # moto has seen to the first one.
    for instance in reservation.instances[1:] if profile else []:
        _associate(response.ec2_backend, instance, profile)
    return result


def _associate(backend: Any, instance: Any, profile: dict[str, str]) -> None:
    backend.associate_iam_instance_profile(
        instance_id=instance.id,
        iam_instance_profile_name=profile.get("Name"),
        iam_instance_profile_arn=profile.get("Arn"),
    )


def _run_instances(
    original: Callable[..., Any], backend: Any, image_id: str, *args: Any, **kwargs: Any
) -> Any:
    template = kwargs.get("launch_template")
    data = backend._get_template_from_args(template).data if template else {}
    _take_from_template(kwargs, data)
    _choose_subnet(backend, kwargs)
    if kwargs.get("associate_public_ip") is False:
        kwargs["associate_public_ip"] = None  # a fleet's: as the subnet has it
    reservation = original(backend, image_id, *args, **kwargs)
    asked = kwargs.get("iam_instance_profile_name") or kwargs.get("iam_instance_profile_arn")
    for instance in reservation.instances:
        if data.get("DisableApiTermination"):
            instance.disable_api_termination = True
        if data.get("IamInstanceProfile") and not asked:
            _associate(backend, instance, data["IamInstanceProfile"])
    return reservation


def _take_from_template(kwargs: dict[str, Any], data: dict[str, Any]) -> None:
    market = (data.get("InstanceMarketOptions") or {}).get("MarketType")
    for name, value in (
        ("metadata_options", data.get("MetadataOptions")),
        ("instance_market_options", market),
        ("instance_initiated_shutdown_behavior", data.get("InstanceInitiatedShutdownBehavior")),
        ("nics", data.get("NetworkInterfaces")),
    ):
        if value and not kwargs.get(name):
            kwargs[name] = value


def _choose_subnet(backend: Any, kwargs: dict[str, Any]) -> None:
    """Settle for a default subnet as AWS does: in the zone asked for, else one with the type."""
    nics = kwargs.get("nics") or []
    subnet_id = kwargs.get("subnet_id") or next(
        (nic["SubnetId"] for nic in nics if "SubnetId" in nic), None
    )
    zones = _zones_offering(backend.region_name, kwargs.get("instance_type"))
    if subnet_id:
        zone = backend.get_subnet(subnet_id).availability_zone
    elif any("NetworkInterfaceId" in nic for nic in nics):
        return
    else:
        defaults = backend.get_default_subnets()
        zone = kwargs.get("placement") or next((z for z in sorted(defaults) if z in zones), None)
        if zone in defaults:
            kwargs["subnet_id"] = defaults[zone].id
    if zones and zone not in zones:
        raise EC2ClientError(
            "Unsupported",
            f"Your requested instance type ({kwargs['instance_type']}) is not supported in your"
            f" requested Availability Zone ({zone}). Please retry your request by not specifying"
            f" an Availability Zone or choosing {', '.join(sorted(zones))}.",
        )


def _zones_offering(region: str, instance_type: str | None) -> set[str]:
    offers = INSTANCE_TYPE_OFFERINGS["availability-zone"].get(region, [])
    return {offer["Location"] for offer in offers if offer["InstanceType"] == instance_type}


def _modify(original: Callable[..., Any], response: Any) -> Any:
    behaviour = response._get_param("InstanceInitiatedShutdownBehavior.Value")
    if behaviour is None:
        return original(response)
    response.error_on_dryrun()
    response.ec2_backend.modify_instance_attribute(
        response._get_param("InstanceId"), "instance_initiated_shutdown_behavior", behaviour
    )
    return EmptyResult()
