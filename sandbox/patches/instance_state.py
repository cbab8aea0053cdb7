"""Gap: any instance can be started, stopped or rebooted in any state, a terminated one too.

Besides, a start leaves the launch time as it was, terminating twice fails, and an Elastic IP stays
with a terminated instance.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from moto.core.utils import utcnow
from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models import instances

from sandbox.patches import patch
from sandbox.settings import Settings

# Which states an instance may be in for a call to succeed.
ALLOWED = {
    "start_instances": ("stopped", "running"),
    "stop_instances": ("stopped", "running"),
    "reboot_instances": ("running",),
}


def apply(_settings: Settings) -> None:
    """Check the state before each change of it."""
    for name, states in ALLOWED.items():
        patch(instances.InstanceBackend, name, _checked(states, name.partition("_")[0]))
    patch(instances.Instance, "start", _start)
    patch(instances.Instance, "stop", _stop)
    patch(instances.Instance, "terminate", _terminate)


def _checked(states: tuple[str, ...], verb: str) -> Callable[..., Any]:
    def check(original: Callable[..., Any], backend: Any, instance_ids: list[str]) -> Any:
        for instance in backend.get_multi_instances_by_id(instance_ids):
            if instance.state not in states:
                raise EC2ClientError(
                    "IncorrectInstanceState",
                    f"The instance '{instance.id}' is not in a state from which it can be"
                    f" {verb}ed.".replace("stoped", "stopped"),
                )
        return original(backend, instance_ids)

    return check


def _start(original: Callable[..., Any], instance: Any) -> Any:
    """Leave a running instance alone: its public address must not change."""
    if instance.state == "running":
        return copy.copy(instance._state)
    before = original(instance)
    # AWS's LaunchTime is that of the last start.
    instance.launch_time = utcnow()
    return before


def _stop(original: Callable[..., Any], instance: Any) -> Any:
    if instance.state == "stopped":
        return copy.copy(instance._state)
    return original(instance)


def _terminate(original: Callable[..., Any], instance: Any) -> Any:
    if instance.state == "terminated":
        return copy.copy(instance._state)
    for address in list(instance.ec2_backend.addresses):
        if address.instance is instance:
            instance.ec2_backend.disassociate_address(address=address.public_ip)
    return original(instance)
