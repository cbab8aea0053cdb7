"""Gap: the default VPC is always 172.31.0.0/16, and private addresses are not unique.

The default VPC of each region is the slot's container network; an address is given out once,
whatever the region, since all instances share that network.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from moto.ec2.models import ec2_backends, subnets, vpcs

from sandbox.patches import patch
from sandbox.settings import ACCOUNT_ID, Settings


def apply(settings: Settings) -> None:
    """Put the default VPC on `settings.vpc_network`."""

    def create_vpc(original: Callable[..., Any], backend: Any, *args: Any, **kwargs: Any) -> Any:
        if kwargs.get("is_default"):
            kwargs["cidr_block"] = str(settings.vpc_network)
        return original(backend, *args, **kwargs)

    patch(vpcs.VPCBackend, "create_vpc", create_vpc)
    patch(subnets.Subnet, "get_available_subnet_ip", _free_private_address)


def _free_private_address(original: Callable[..., Any], subnet: Any, instance: Any) -> str:
    used = {
        eni.private_ip_address
        for backend in list(ec2_backends[ACCOUNT_ID].values())
        for eni in list(backend.enis.values())
    }
    # After a restart moto begins at the network's first address again, which is the gateway's.
    used |= {str(address) for address in subnet.aws_reserved_ips}
    while (address := str(original(subnet, instance))) in used:
        pass
    return address
