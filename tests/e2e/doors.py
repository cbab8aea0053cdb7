"""What is open: by the security group, by the host's firewall, and by trying it, port by port."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from tests.e2e.conftest import Lab

# Beside all that listens on the host or is mentioned anywhere.
WELL_KNOWN = {21, 22, 23, 25, 53, 80, 111, 139, 443, 445, 2049, 2375, 3306, 5432, 6006, 6379, 8080,
              8443, 8787, 8888, 9090, 9100}  # fmt: skip
BRIDGE_SWITCH = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
SECONDS = 2.0
PROBE = """
import socket, sys
from concurrent.futures import ThreadPoolExecutor
def tried(port):
    try:
        socket.create_connection((sys.argv[1], int(port)), 2).close()
        return port
    except OSError:
        return ""
with ThreadPoolExecutor(64) as pool:
    print(*pool.map(tried, sys.argv[2:]))
"""


def of_the_group(rules: Iterable[Mapping[str, Any]]) -> tuple[set[int], set[str]]:
    """Return the TCP ports of a security group, and all its sources."""
    rules = list(rules)
    assert all(r["IpProtocol"] == "tcp" and r["FromPort"] == r["ToPort"] for r in rules), rules
    sources = {item["CidrIp"] for rule in rules for item in rule["IpRanges"]}
    assert not any(rule["Ipv6Ranges"] for rule in rules)
    return {rule["FromPort"] for rule in rules}, sources


def of_the_firewall(lab: Lab) -> dict[int, set[str]]:
    """Return the TCP ports that the host's own firewall opens, each with its sources."""
    listed = lab.ssh("sudo nft --stateless list chain inet lab input")
    assert "ip6 saddr" not in re.sub(r"ip6 saddr (limit|fe80)", "", listed), listed
    rule = re.compile(
        r"^\s*(?:ip saddr (?:\{ (.+) \}|(\S+)) )?tcp dport (\S+) accept$", re.MULTILINE
    )
    found = rule.findall(listed)
    # Without a source a rule would be one of IPv6, too.
    assert found and all(many or one for many, one, _ in found), listed
    return {
        int(port): {str(ip_network(source)) for source in (many or one).split(", ")}
        for many, one, port in found
    }


def listening(lab: Lab) -> set[int]:
    """Return the TCP ports at which anything listens on the host, on loopback too."""
    lines = lab.ssh("ss -Hltn").splitlines()
    return {int(line.split()[3].rpartition(":")[2]) for line in lines}


def answering(address: str, ports: Iterable[int]) -> set[int]:
    """Try the ports from this machine; one that closes the connection at once is not open."""

    def tried(port: int) -> bool:
        try:
            with socket.create_connection((address, port), SECONDS) as connection:
                connection.settimeout(SECONDS)
                try:
                    return connection.recv(1) != b""
                except TimeoutError:
                    return True
        except OSError:
            return False

    ports = sorted(ports)
    with ThreadPoolExecutor(16) as pool:
        return {
            port for port, is_open in zip(ports, pool.map(tried, ports), strict=True) if is_open
        }


def answering_a_stranger(address: str, ports: Iterable[int]) -> set[int]:
    """Try them from a second container in the host's own network."""
    network = f"gpulab-sandbox-{os.environ['GPULAB_SANDBOX_SLOT']}"
    command = ["docker", "run", "--rm", "--network", network, "--entrypoint", "python3"]
    done = subprocess.run(
        [*command, "gpulab/debian:13", "-c", PROBE, address, *map(str, sorted(ports))],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return {int(port) for port in done.stdout.split()}


def strangers_are_kept_apart() -> bool:
    """Whether this machine can apply security groups between containers at all."""
    isolates = BRIDGE_SWITCH.exists() and BRIDGE_SWITCH.read_text().strip() == "1"
    return isolates and shutil.which("nft") is not None


def compare(lab: Lab, host: Mapping[str, Any], rules: list[Any], wanted: set[int]) -> None:
    """Hold security group, firewall and what answers against each other and against ``wanted``."""
    ports, sources = of_the_group(rules)
    firewall = of_the_firewall(lab)
    assert ports == set(firewall) == wanted
    assert {port: firewall[port] for port in wanted - {22}} == dict.fromkeys(wanted - {22}, sources)
    tried = WELL_KNOWN | ports | set(firewall) | listening(lab)
    assert answering(host["PublicIpAddress"], tried) == wanted
    by_stranger = set() if strangers_are_kept_apart() else {22}
    assert answering_a_stranger(host["PrivateIpAddress"], tried) == by_stranger
