"""Hosts on Spot capacity: persistent requests, which AWS would fill again if nobody cancelled them.

AWS can take such a host back at any time, with a notice of two minutes; it stops, keeps its disks,
and AWS starts it again when there is room. Only AWS can: a start by hand is refused meanwhile. A
host that was stopped by hand stays stopped. Cancelling the request of a stopped host terminates it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .findings import Findings
from .names import Names
from .session import Aws, unless
from .things import Instance
from .variables import Spec

# States of a request that can still cost.
ALIVE = ("open", "active", "disabled")
GONE = {"InvalidSpotInstanceRequestID.NotFound"}
# What StartInstances answers while only AWS may start the host.
NOT_NOW = {"IncorrectSpotRequestState"}
INTERRUPTED = "Server.SpotInstanceShutdown"
MARKET = {
    "MarketType": "spot",
    "SpotOptions": {"SpotInstanceType": "persistent", "InstanceInterruptionBehavior": "stop"},
}


def asked_for(spec: Spec) -> dict[str, Any]:
    """Return what RunInstances is told of the market."""
    return {"InstanceMarketOptions": MARKET} if spec.spot else {}


def requests(aws: Aws, names: Names) -> tuple[str, ...]:
    """Return the lab's requests that are not over. Raises AwsError."""
    filters = [*names.filters(), {"Name": "state", "Values": list(ALIVE)}]
    found = aws.pages(
        "ec2", "DescribeSpotInstanceRequests", "SpotInstanceRequests", Filters=filters
    )
    return tuple(sorted(raw["SpotInstanceRequestId"] for raw in found))


def cancel(aws: Aws, ids: Sequence[str]) -> None:
    """Cancel requests, so that AWS starts and makes nothing for them any more. Raises AwsError."""
    for request in ids:
        _cancel(aws, request)


def _cancel(aws: Aws, request: str) -> None:
    """One request a call, so that one that is gone stops none of the others."""
    ids = [request]
    unless(GONE, lambda: aws.call("ec2", "CancelSpotInstanceRequests", SpotInstanceRequestIds=ids))


def interrupted(host: Instance) -> bool:
    """Tell whether AWS has stopped the host, and will start it."""
    return host.spot and host.state == "stopped" and host.stop_code == INTERRUPTED


def advice(host: Instance, lab: str) -> list[str]:
    """Say of an interrupted host that it will cost again by itself."""
    if not interrupted(host):
        return []
    return [
        f"The Spot host {host.id} of the lab {lab} was stopped by AWS, which starts it again when"
        " there is room; it costs then. To keep it from that: `ansible-playbook"
        f" playbooks/destroy.yml -e lab_name={lab}`, which keeps the data volume"
    ]


def waits(host: Instance, names: Names) -> str:
    """Say that only AWS can start the host, and what can be done."""
    return (
        f"AWS has taken back the Spot capacity of {host.id} and starts it again when there is room;"
        " nobody else can. Run the same command again later. To go on now without its system disk:"
        f" `ansible-playbook playbooks/rebuild.yml -e lab_name={names.lab} -e lab_spot=false -e"
        " rebuild_without_home=true`"
    )


def drift(host: Instance, spec: Spec, findings: Findings) -> None:
    """Say what an existing host keeps although lab.yml says otherwise."""
    if host.spot != spec.spot:
        kind = "a Spot host" if host.spot else "on demand"
        findings.warnings.append(
            f"lab_spot is {str(spec.spot).lower()}, but the host {host.id} is {kind} and stays so:"
            " playbooks/rebuild.yml makes a new one in its place"
        )
    if host.spot and host.type not in spec.types:
        findings.warnings.append(
            f"The host {host.id} is a {host.type} on Spot capacity, which cannot become"
            f" {spec.instance_type}: playbooks/rebuild.yml makes a new one in its place"
        )
