from __future__ import annotations

import pytest

from sandbox.engine.ingress import admits, has_wide_range, ports_to_open, v4_sources
from sandbox.model import IngressRule

from .kit import tcp

ANY = "0.0.0.0/0"
HERE = "127.0.0.1/32"


@pytest.mark.parametrize(
    ("rules", "port", "peer", "admitted"),
    [
        ([], 22, "127.0.0.1", False),
        ([tcp(22, 22, HERE)], 22, "127.0.0.1", True),
        ([tcp(22, 22, HERE)], 23, "127.0.0.1", False),
        ([tcp(22, 22, HERE)], 22, "127.0.0.2", False),
        ([tcp(22, 22)], 22, "127.0.0.1", False),
        ([tcp(20, 30, "10.0.0.0/8", "127.0.0.0/30")], 30, "127.0.0.3", True),
        ([tcp(20, 30, "10.0.0.0/8", "127.0.0.0/30")], 31, "127.0.0.3", False),
        ([tcp(22, 22, "::/0")], 22, "127.0.0.1", False),
        ([tcp(22, 22, "127.0.0.9/24")], 22, "127.0.0.1", True),  # host bits set: as AWS cuts them
        ([tcp(22, 22, "10.0.0.0/8"), tcp(0, 65535, ANY)], 22, "127.0.0.1", True),
        ([IngressRule("-1", 0, 0, (ANY,))], 65535, "127.0.0.1", True),
        ([IngressRule("udp", 22, 22, (ANY,))], 22, "127.0.0.1", False),
        ([IngressRule("icmp", 22, 22, (ANY,))], 22, "127.0.0.1", False),
    ],
)
def test_who_is_let_in(rules: list[IngressRule], port: int, peer: str, admitted: bool) -> None:
    assert admits(rules, port, peer) is admitted


@pytest.mark.parametrize(
    ("rules", "listening", "ports"),
    [
        ([], {22}, set()),
        ([tcp(22, 22, HERE)], set(), {22}),
        ([tcp(22, 22)], {22}, set()),
        ([tcp(0, 2, HERE)], set(), {1, 2}),
        ([tcp(100, 131, HERE)], set(), set(range(100, 132))),
        ([tcp(100, 132, HERE)], {99, 100, 132, 133}, {100, 132}),
        ([IngressRule("-1", 0, 0, (HERE,))], {22, 8888}, {22, 8888}),
        ([tcp(22, 22, HERE), tcp(1000, 2000, HERE)], {1500}, {22, 1500}),
        ([IngressRule("udp", 1, 9, (HERE,))], {5}, set()),
    ],
)
def test_which_ports_are_open(
    rules: list[IngressRule], listening: set[int], ports: set[int]
) -> None:
    assert ports_to_open(rules, listening) == ports


@pytest.mark.parametrize(
    ("rules", "wide"),
    [
        ([tcp(100, 131, HERE)], False),
        ([tcp(100, 132, HERE)], True),
        ([IngressRule("-1", 0, 0, (HERE,))], True),
    ],
)
def test_which_rules_are_wide(rules: list[IngressRule], wide: bool) -> None:
    assert has_wide_range(rules) is wide


def test_sources_are_merged_and_of_one_family() -> None:
    rule = tcp(1, 1, "10.1.0.0/16", "10.0.0.0/8", "::/0", "192.168.0.0/25", "192.168.0.128/25")
    assert [str(network) for network in v4_sources(rule)] == ["10.0.0.0/8", "192.168.0.0/24"]
