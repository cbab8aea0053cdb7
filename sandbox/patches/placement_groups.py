"""Gap: placement groups do not exist.

* CreatePlacementGroup, DescribePlacementGroups and DeletePlacementGroup are missing, and so is
  ModifyInstancePlacement, of which the group's name is known here.
* RunInstances ignores the group. Here it must be there, and the type fit for its strategy.
* A group with an instance in it cannot be deleted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from moto.core.responses import ActionResult, EmptyResult
from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models.instance_types import INSTANCE_TYPES
from moto.ec2.responses import EC2Response
from moto.ec2.responses import instances as responses
from moto.ec2.utils import random_id

from sandbox.patches import patch
from sandbox.settings import Settings


def apply(_settings: Settings) -> None:
    """Add the actions to moto's EC2, and the group to its instances."""
    for name, action in ACTIONS.items():
        setattr(EC2Response, name, action)
    patch(responses.InstanceResponse, "run_instances", run_instances)


def known(backend: Any) -> dict[str, dict[str, Any]]:
    """Return the groups by their names."""
    # Kept in the backend's own dictionary, so that they are saved with it.
    groups: dict[str, dict[str, Any]] = vars(backend).setdefault("placement_groups", {})
    return groups


def _unknown(name: str) -> EC2ClientError:
    return EC2ClientError(
        "InvalidPlacementGroup.Unknown", f"The Placement Group '{name}' is unknown."
    )


def _create(response: Any) -> ActionResult:
    response.error_on_dryrun()
    name, groups = response._get_param("GroupName"), known(response.ec2_backend)
    if name in groups:
        raise EC2ClientError(
            "InvalidPlacementGroup.Duplicate", f"The Placement Group '{name}' already exists."
        )
    group = {
        "GroupName": name,
        "GroupId": random_id(prefix="pg"),
        "State": "available",
        "Strategy": response._get_param("Strategy", "cluster"),
    }
    tags = response._parse_tag_specification().get("placement-group", {})
    response.ec2_backend.create_tags([group["GroupId"]], tags)
    groups[name] = group
    return ActionResult({"PlacementGroup": _shown(response, group)})


def _shown(response: Any, group: dict[str, Any]) -> dict[str, Any]:
    tags = response.ec2_backend.tags.get(group["GroupId"], {})
    return {**group, "Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}


def _describe(response: Any) -> ActionResult:
    groups = known(response.ec2_backend)
    names = response._get_param("GroupNames", [])
    if missing := [name for name in names if name not in groups]:
        raise _unknown(missing[0])
    filters = response._filters_from_querystring()
    shown = (_shown(response, group) for group in groups.values())
    chosen = [
        group
        for group in shown
        if (not names or group["GroupName"] in names) and _matches(group, filters)
    ]
    return ActionResult({"PlacementGroups": chosen})


def _matches(group: dict[str, Any], filters: dict[str, Any]) -> bool:
    tags = {f"tag:{tag['Key']}": tag["Value"] for tag in group["Tags"]}
    fields = {"group-name": "GroupName", "state": "State", "strategy": "Strategy"}
    has = {name: group[field] for name, field in fields.items()} | tags
    return all(has.get(name) in values for name, values in filters.items())


def _delete(response: Any) -> EmptyResult:
    response.error_on_dryrun()
    name = response._get_param("GroupName")
    if name not in known(response.ec2_backend):
        raise _unknown(name)
    if any(one.placement.group_name == name for one in _alive(response.ec2_backend)):
        raise EC2ClientError(
            "InvalidPlacementGroup.InUse",
            f"The placement group '{name}' is in use and may not be deleted.",
        )
    del known(response.ec2_backend)[name]
    return EmptyResult()


def _alive(backend: Any) -> Iterator[Any]:
    for reservation in backend.reservations.values():
        yield from (one for one in reservation.instances if one.state != "terminated")


def _modify(response: Any) -> ActionResult:
    response.error_on_dryrun()
    instance = response.ec2_backend.get_instance(response._get_param("InstanceId"))
    name = response._get_param("GroupName") or ""
    if instance.state != "stopped":
        raise EC2ClientError(
            "IncorrectInstanceState", f"The instance '{instance.id}' is not in the state 'stopped'."
        )
    _check(response.ec2_backend, name, instance.instance_type)
    instance.placement.group_name = name
    return ActionResult({"Return": True})


def run_instances(original: Callable[..., Any], response: Any) -> Any:
    """Launch into a group, where one is asked for."""
    name = response._get_param("Placement.GroupName") or ""
    _check(response.ec2_backend, name, response._get_param("InstanceType", ""))
    result = original(response)
    for instance in result.result.instances if name else ():
        instance.placement.group_name = name
    return result


def _check(backend: Any, name: str, instance_type: str) -> None:
    """Refuse a group that is not there, and a type that cannot be in it."""
    if not name:
        return
    if name not in known(backend):
        raise _unknown(name)
    strategy = known(backend)[name]["Strategy"]
    fits = INSTANCE_TYPES.get(instance_type, {}).get("PlacementGroupInfo", {})
    if strategy not in fits.get("SupportedStrategies", [strategy]):
        raise EC2ClientError(
            "InvalidParameterCombination",
            f"{strategy.capitalize()} placement groups are not supported by the '{instance_type}'"
            " instance type. Specify a supported instance type or change the placement group"
            " strategy, and try again.",
        )


ACTIONS: dict[str, Callable[[Any], Any]] = {
    "create_placement_group": _create,
    "delete_placement_group": _delete,
    "describe_placement_groups": _describe,
    "modify_instance_placement": _modify,
}
