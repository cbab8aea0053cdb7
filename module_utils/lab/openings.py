"""Whether the security group and the host's own firewall let in the same."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# The host's rule of SSH names no sources: a new address of the user's is let in by the security
# group first, and the host could be told of it over SSH only.
WIDER_ON_THE_HOST = ("tcp", "22")
NOBODY: Mapping[str, Sequence[str]] = {}
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True)
class Opening:
    """One port, or a range such as 6817-6819, that is open to one network."""

    protocol: str
    ports: str
    source: str

    def __str__(self) -> str:
        """Write it as check 80-firewall does."""
        return f"{self.protocol} {self.ports} {self.source}"

    def covers(self, other: Opening) -> bool:
        """Whether all that the other one lets in is let in here."""
        if (self.protocol, self.ports) != (other.protocol, other.ports):
            return False
        mine, its = _network(self.source), _network(other.source)
        if mine is None or its is None or mine.version != its.version:
            return self.source == other.source
        return its.subnet_of(mine)  # type: ignore[arg-type]  # both are of the same version


def _network(text: str) -> Network | None:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None  # a security group or a prefix list


def of_host(said: str) -> set[Opening]:
    """Read what check 80-firewall says: ``tcp 22 0.0.0.0/0, tcp 8888 192.0.2.0/24``."""
    return {Opening(*part.split()) for part in said.split(", ") if said != "nothing"}


def of_group(
    permissions: Iterable[Mapping[str, Any]], members: Mapping[str, Sequence[str]] = NOBODY
) -> set[Opening]:
    """Read the IpPermissions of a security group.

    A source that is one of the groups in `members` stands for the addresses given there.
    """
    found = set()
    for permission in permissions:
        first, last = permission.get("FromPort", "all"), permission.get("ToPort", "all")
        ports = str(first) if first == last else f"{first}-{last}"
        sources = [
            *(item["CidrIp"] for item in permission.get("IpRanges", ())),
            *(item["CidrIpv6"] for item in permission.get("Ipv6Ranges", ())),
            *(
                source
                for item in permission.get("UserIdGroupPairs", ())
                for source in members.get(item["GroupId"]) or [item["GroupId"]]
            ),
            *(item["PrefixListId"] for item in permission.get("PrefixListIds", ())),
        ]
        found |= {Opening(permission["IpProtocol"], ports, source) for source in sources}
    return found


def differences(group: set[Opening], host: set[Opening]) -> list[str]:
    """Say what one lets in and the other does not; nothing where they agree."""
    said = [
        f"the security group alone lets in {rule}"
        for rule in sorted(group, key=str)
        if not any(other.covers(rule) for other in host)
    ]
    for rule in sorted(host, key=str):
        ports = (rule.protocol, rule.ports)
        as_wide = any(other.covers(rule) for other in group)
        as_meant = ports == WIDER_ON_THE_HOST and any(rule.covers(other) for other in group)
        if not as_wide and not as_meant:
            said.append(f"the host's firewall alone lets in {rule}")
    return said
