"""Gap: public addresses are random ones of the internet, and an Elastic IP is lost by a stop.

Here they come from the slot's loopback network, so that an instance really answers there; an
Elastic IP stays with its instance, any other public address is a new one after each start.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from ipaddress import IPv4Network
from typing import Any

from moto.ec2.models import ec2_backends, elastic_ip_addresses, elastic_network_interfaces

from sandbox.patches import patch
from sandbox.settings import ACCOUNT_ID, Settings


def apply(settings: Settings) -> None:
    """Take public addresses from `settings.public_network`."""

    def address(_original: Callable[..., Any]) -> str:
        return unused_address(settings.public_network, addresses_in_use())

    patch(elastic_network_interfaces, "random_public_ip", address)
    patch(elastic_ip_addresses, "random_ip", address)
    interface = elastic_network_interfaces.NetworkInterface
    patch(interface, "start", _start)
    patch(interface, "stop", _stop)


def unused_address(network: IPv4Network, used: set[str]) -> str:
    """Pick a free host address; x.x.0.y and x.x.255.y stay out of the draw."""
    while True:
        candidate = str(network[random.randint(256, network.num_addresses - 257)])  # noqa: S311
        if candidate not in used:
            return candidate


def addresses_in_use() -> set[str]:
    """Collect the public addresses of all regions: one machine answers at all of them."""
    used: set[str] = set()
    for backend in list(ec2_backends[ACCOUNT_ID].values()):
        used.update(address.public_ip for address in backend.addresses)
        used.update(eni.public_ip for eni in list(backend.enis.values()) if eni.public_ip)
    return used


def _elastic_address(interface: Any) -> str | None:
    for address in interface.ec2_backend.addresses:
        if address.eni is interface:
            return str(address.public_ip)
    return None


def _start(original: Callable[..., Any], interface: Any) -> None:
    if elastic := _elastic_address(interface):
        interface.public_ip = elastic
    else:
        original(interface)


def _stop(original: Callable[..., Any], interface: Any) -> None:
    if _elastic_address(interface) is None:
        original(interface)
