"""What a security group lets in: pure questions about ports and sources."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Set

from sandbox.model import IngressRule

WIDE_RANGE_PORTS = 32  # a rule of more ports than this gets listeners only where a program listens
ALL_PORTS = (0, 65535)


def tcp_ranges(rules: Iterable[IngressRule]) -> Iterator[tuple[int, int, IngressRule]]:
    """Give (first port, last port, rule) of each rule that lets TCP in."""
    for rule in rules:
        if rule.protocol == "-1":
            yield *ALL_PORTS, rule
        elif rule.protocol == "tcp":
            yield rule.from_port, rule.to_port, rule


def admits(rules: Iterable[IngressRule], port: int, peer: str) -> bool:
    """Tell whether a TCP connection from the address `peer` may come in at `port`."""
    address = ipaddress.ip_address(peer)
    return any(
        first <= port <= last
        and any(address in ipaddress.ip_network(source, strict=False) for source in rule.sources)
        for first, last, rule in tcp_ranges(rules)
    )


def ports_to_open(rules: Iterable[IngressRule], listening: Set[int]) -> set[int]:
    """Give the ports to listen at, when the machine's programs listen at `listening`.

    The ports of a narrow rule are always open (as on AWS, the connection then fails when nothing
    answers); of a wide one only those that answer.
    """
    ports: set[int] = set()
    for first, last, rule in tcp_ranges(rules):
        if not rule.sources:
            continue
        if last - first < WIDE_RANGE_PORTS:
            ports.update(range(max(first, 1), last + 1))
        else:
            ports.update(port for port in listening if first <= port <= last)
    return ports


def has_wide_range(rules: Iterable[IngressRule]) -> bool:
    """Tell whether the open ports depend on what the machine's programs listen at."""
    return any(last - first >= WIDE_RANGE_PORTS for first, last, _ in tcp_ranges(rules))


def v4_sources(rule: IngressRule) -> list[ipaddress.IPv4Network]:
    """Give the IPv4 networks of a rule, sorted, overlaps merged."""
    networks = (ipaddress.ip_network(source, strict=False) for source in rule.sources)
    return list(
        ipaddress.collapse_addresses(
            network for network in networks if isinstance(network, ipaddress.IPv4Network)
        )
    )
