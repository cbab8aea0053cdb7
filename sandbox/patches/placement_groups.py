"""Gap: CreatePlacementGroup, DescribePlacementGroups and DeletePlacementGroup do not exist."""

from __future__ import annotations

from typing import Any

from moto.core.responses import ActionResult, EmptyResult
from moto.ec2.exceptions import EC2ClientError
from moto.ec2.responses import EC2Response
from moto.ec2.utils import random_id

from sandbox.settings import Settings


def apply(_settings: Settings) -> None:
    """Add the three actions to moto's EC2."""
    EC2Response.create_placement_group = _create  # type: ignore[attr-defined]
    EC2Response.describe_placement_groups = _describe  # type: ignore[attr-defined]
    EC2Response.delete_placement_group = _delete  # type: ignore[attr-defined]


def _groups(response: Any) -> dict[str, dict[str, Any]]:
    # Kept in the backend's own dictionary, so that they are saved with it.
    kept = vars(response.ec2_backend)
    groups: dict[str, dict[str, Any]] = kept.setdefault("placement_groups", {})
    return groups


def _unknown(name: str) -> EC2ClientError:
    return EC2ClientError(
        "InvalidPlacementGroup.Unknown", f"The Placement Group '{name}' is unknown."
    )


def _create(response: Any) -> ActionResult:
    response.error_on_dryrun()
    name = response._get_param("GroupName")
    if name in _groups(response):
        raise EC2ClientError(
            "InvalidPlacementGroup.Duplicate", f"The Placement Group '{name}' already exists."
        )
    tags = response._parse_tag_specification().get("placement-group", {})
    group = {
        "GroupName": name,
        "GroupId": random_id(prefix="pg"),
        "State": "available",
        "Strategy": response._get_param("Strategy", "cluster"),
        "Tags": [{"Key": key, "Value": value} for key, value in tags.items()],
    }
    _groups(response)[name] = group
    return ActionResult({"PlacementGroup": group})


def _describe(response: Any) -> ActionResult:
    groups = _groups(response)
    names = response._get_param("GroupNames", [])
    if missing := [name for name in names if name not in groups]:
        raise _unknown(missing[0])
    filters = response._filters_from_querystring()
    chosen = [
        group
        for group in groups.values()
        if (not names or group["GroupName"] in names) and _matches(group, filters)
    ]
    return ActionResult({"PlacementGroups": chosen})


def _matches(group: dict[str, Any], filters: dict[str, Any]) -> bool:
    tags = {f"tag:{tag['Key']}": tag["Value"] for tag in group["Tags"]}
    fields = {"group-name": "GroupName", "state": "State", "strategy": "Strategy"}
    known = {name: group[field] for name, field in fields.items()} | tags
    return all(known.get(name) in values for name, values in filters.items())


def _delete(response: Any) -> EmptyResult:
    response.error_on_dryrun()
    name = response._get_param("GroupName")
    if name not in _groups(response):
        raise _unknown(name)
    del _groups(response)[name]
    return EmptyResult()
