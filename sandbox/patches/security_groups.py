"""Gaps of security groups.

* One that is in use, or named as a source by another, is deleted (AWS: DependencyViolation).
* Those given under NetworkInterfaces, or added to the interface later, do not show on the
  instance.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from moto.ec2.exceptions import DependencyViolationError
from moto.ec2.models import elastic_network_interfaces as interfaces
from moto.ec2.models import instances, security_groups

from sandbox.patches import patch
from sandbox.settings import Settings


def apply(_settings: Settings) -> None:
    """Patch deletion, and what groups an instance has."""
    patch(security_groups.SecurityGroupBackend, "delete_security_group", _delete)
    patch(instances.Instance, "prep_nics", _prepare_interfaces)
    patch(interfaces.NetworkInterfaceBackend, "modify_network_interface_attribute", _modify)


def _delete(
    original: Callable[..., Any],
    backend: Any,
    name: str | None = None,
    group_id: str | None = None,
) -> Any:
    group = backend.get_security_group_by_name_or_id(group_id or name)
    if group and not group.is_default and _in_use(backend, group):
        raise DependencyViolationError(f"resource {group.id} has a dependent object")
    return original(backend, name=name, group_id=group_id)


def _in_use(backend: Any, group: Any) -> bool:
    if any(group in interface.group_set for interface in backend.enis.values()):
        return True
    others = [g for groups in backend.groups.values() for g in groups.values() if g is not group]
    return any(
        rule.source_group.get("GroupId") == group.id
        for other in others
        for rule in [*other.ingress_rules, *other.egress_rules]
    )


def _prepare_interfaces(
    original: Callable[..., Any], instance: Any, nic_spec: list[dict[str, Any]], **kwargs: Any
) -> None:
    original(instance, nic_spec, **kwargs)
    if not instance.nics:
        return
    primary = instance.nics[0]
    if not instance.security_groups:
        instance.security_groups = list(primary._group_set)
    # The instance's own list rules from now on, so that ModifyInstanceAttribute can shorten it.
    primary._group_set = []
    # An interface made with the instance goes with it, unless asked otherwise.
    if not any("NetworkInterfaceId" in n or "DeleteOnTermination" in n for n in nic_spec):
        primary.delete_on_termination = True


def _modify(
    original: Callable[..., Any], backend: Any, eni_id: str, group_ids: list[str], *rest: Any
) -> Any:
    result = original(backend, eni_id, group_ids, *rest)
    interface = backend.get_network_interface(eni_id)
    if group_ids and interface.instance and interface is interface.instance.nics.get(0):
        interface.instance.security_groups = list(interface._group_set)
        interface._group_set = []
    return result
