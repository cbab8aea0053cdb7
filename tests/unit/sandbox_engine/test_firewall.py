from __future__ import annotations

import ipaddress
import os
import shutil
import subprocess

import pytest

from sandbox.engine.firewall import Firewall, Segment, ruleset
from sandbox.errors import SandboxError
from sandbox.model import IngressRule, Machine

from .kit import machine, tcp

SEGMENT = Segment(
    table="gpulab_sandbox_0",
    bridge="gpulab0",
    network=ipaddress.IPv4Network("172.31.0.0/16"),
    gateway="172.31.0.1",
    mark=0x67700000,
)
RULES = (
    tcp(22, 22, "127.0.0.1/32"),
    tcp(0, 65535, "0.0.0.0/0", "10.0.0.0/8"),
    IngressRule("udp", 53, 54, ("10.0.0.0/8", "10.1.0.0/16")),
    IngressRule("icmp", 8, 0, ("10.0.0.0/8",)),
    IngressRule("-1", 0, 0, ("172.31.0.6/32",)),
    IngressRule("47", 0, 0, ("10.0.0.0/8",)),
    IngressRule("icmpv6", 0, 0, ("10.0.0.0/8",)),
    tcp(80, 80, "::/0"),
    tcp(81, 81),
)
CHAIN = """\
  chain i_0123456789abcdef0 {
    ip saddr { 127.0.0.1/32 } tcp dport 22-22 accept
    tcp dport 0-65535 accept
    ip saddr { 10.0.0.0/8 } udp dport 53-54 accept
    ip saddr { 10.0.0.0/8 } ip protocol icmp accept
    ip saddr { 172.31.0.6/32 } meta nfproto ipv4 accept
    ip saddr { 10.0.0.0/8 } ip protocol 47 accept
  }
"""
OTHER = machine(instance_id="i-1", private_ip="172.31.0.6")


def test_a_machines_chain_holds_its_rules() -> None:
    assert CHAIN in ruleset(SEGMENT, [machine(ingress=RULES)], {})


def test_each_address_leads_to_its_chain_and_the_rest_is_dropped() -> None:
    text = ruleset(SEGMENT, [machine(), OTHER], {})
    jumps = "172.31.0.5 : jump i_0123456789abcdef0, 172.31.0.6 : jump i_1"
    assert f"    ip daddr vmap {{ {jumps} }}\n    ip daddr 172.31.0.0/16 drop\n" in text


def test_the_order_of_the_machines_does_not_matter() -> None:
    assert ruleset(SEGMENT, [machine(), OTHER], {}) == ruleset(SEGMENT, [OTHER, machine()], {})


def test_ports_that_are_taken_are_led_elsewhere() -> None:
    assert "nat" not in ruleset(SEGMENT, [machine()], {})
    text = ruleset(SEGMENT, [machine()], {("127.77.0.5", 22): 40000})
    assert "    ip daddr 127.77.0.5 tcp dport 22 dnat ip to 127.77.0.5:40000\n" in text


@pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("nft") is None, reason="nft reads rules as root alone"
)
@pytest.mark.parametrize("machines", [[], [machine()], [machine(ingress=RULES), OTHER]])
def test_nft_takes_the_text(machines: list[Machine]) -> None:
    text = ruleset(SEGMENT, machines, {("127.77.0.5", 22): 40000})
    done = subprocess.run(
        ["nft", "--check", "-f", "-"], input=text, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_without_nft_it_goes_on_and_says_so_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("sandbox.engine.firewall.shutil.which", lambda _: None)
    firewall = Firewall(SEGMENT)
    firewall.apply([machine()], {})
    firewall.apply([machine(), OTHER], {})
    firewall.remove()
    assert not firewall.isolates
    assert len(caplog.records) == 1
    assert "nft is not installed" in caplog.text


def test_without_nft_a_taken_port_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sandbox.engine.firewall.shutil.which", lambda _: None)
    with pytest.raises(
        SandboxError, match=r"another program .* listens at 127\.77\.0\.5:22, and nft"
    ):
        Firewall(SEGMENT).apply([machine()], {("127.77.0.5", 22): 40000})
