"""Security groups between machines: one nftables table for the whole slot.

Traffic between containers crosses the bridge and, where br_netfilter is on, this machine's
forward hook. Traffic from this machine itself is let through for the forwarder's sockets
alone, which it knows by their mark.
"""

from __future__ import annotations

import ipaddress
import logging
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from sandbox.engine import ingress
from sandbox.errors import SandboxError
from sandbox.model import IngressRule, Machine

BRIDGE_SWITCH = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Segment:
    """The network of one slot."""

    table: str
    bridge: str
    network: ipaddress.IPv4Network
    gateway: str
    mark: int


def ruleset(
    segment: Segment, machines: Iterable[Machine], moved: Mapping[tuple[str, int], int]
) -> str:
    """Give the text of the table: what may come in at each machine's private address.

    `moved` holds the public places whose port is taken here and the port to lead them to.
    """
    known = sorted(machines, key=lambda machine: machine.instance_id)
    chains = "".join(_machine_chain(machine) for machine in known)
    verdicts = ", ".join(f"{one.private_ip} : jump {_chain_name(one)}" for one in known)
    jump = f"    ip daddr vmap {{ {verdicts} }}\n" if verdicts else ""
    return (
        f"table inet {segment.table} {{\n"
        f"{chains}"
        "  chain forward {\n"
        "    type filter hook forward priority filter - 10; policy accept;\n"
        "    meta nfproto != ipv4 accept\n"
        f"    ip daddr != {segment.network} accept\n"
        "    ct state established,related accept\n"
        f'    iifname != "{segment.bridge}" drop\n'
        f"{jump}"
        f"    ip daddr {segment.network} drop\n"
        "  }\n"
        "  chain output {\n"
        "    type filter hook output priority filter - 10; policy accept;\n"
        f"    ip daddr != {segment.network} accept\n"
        "    ct state established,related accept\n"
        f"    ip daddr {segment.gateway} accept\n"
        f"    meta mark {segment.mark:#x} accept\n"
        f"    ip daddr {segment.network} drop\n"
        "  }\n"
        f"{_moved_chain(moved)}"
        "}\n"
    )


def _chain_name(machine: Machine) -> str:
    return machine.instance_id.replace("-", "_")


def _machine_chain(machine: Machine) -> str:
    rules = "".join(f"    {match} accept\n" for rule in machine.ingress for match in _matches(rule))
    return f"  chain {_chain_name(machine)} {{\n{rules}  }}\n"


def _matches(rule: IngressRule) -> list[str]:
    sources = ingress.v4_sources(rule)
    if not sources:
        return []
    parts: list[str] = []
    if all(source.prefixlen for source in sources):  # else everyone
        parts.append(f"ip saddr {{ {', '.join(map(str, sources))} }}")
    if rule.protocol in ("tcp", "udp"):
        parts.append(f"{rule.protocol} dport {rule.from_port}-{rule.to_port}")
    elif rule.protocol == "icmp":
        parts.append("ip protocol icmp")
    elif rule.protocol == "-1":
        parts.append("meta nfproto ipv4")
    elif rule.protocol.isdigit():
        parts.append(f"ip protocol {rule.protocol}")
    else:  # icmpv6: there is no IPv6 here
        return []
    return [" ".join(parts)]


def _moved_chain(moved: Mapping[tuple[str, int], int]) -> str:
    if not moved:
        return ""
    rules = "".join(
        f"    ip daddr {ip} tcp dport {port} dnat ip to {ip}:{instead}\n"
        for (ip, port), instead in sorted(moved.items())
    )
    return (
        f"  chain moved {{\n    type nat hook output priority -100; policy accept;\n{rules}  }}\n"
    )


class Firewall:
    """Holds the table of one slot in the kernel."""

    def __init__(self, segment: Segment) -> None:
        self._segment = segment
        self._loaded: str | None = None
        self._told = False

    @property
    def isolates(self) -> bool:
        """Whether this machine can keep containers apart (nft and br_netfilter are there)."""
        try:
            bridged = BRIDGE_SWITCH.read_text().strip() == "1"
        except OSError:
            bridged = False
        return bridged and shutil.which("nft") is not None

    def apply(self, machines: Iterable[Machine], moved: Mapping[tuple[str, int], int]) -> None:
        """Put the rules of `machines` in force. Raises SandboxError when nft refuses them."""
        if not shutil.which("nft"):
            self._tell("nft is not installed (`apt-get install nftables`)")
            if moved:
                place = ":".join(map(str, min(moved)))
                raise SandboxError(
                    f"another program on this machine listens at {place}, and nft is not there to"
                    " lead round it; install it: apt-get install nftables"
                )
            return
        if not self.isolates:
            self._tell("br_netfilter is off (`modprobe br_netfilter`)")
        text = ruleset(self._segment, machines, moved)
        if text == self._loaded and self._present():
            return
        table = f"table inet {self._segment.table}"
        # One transaction: there is no moment without rules.
        _nft("-f", "-", text=f"{table} {{}}\ndelete {table}\n{text}")
        self._loaded = text

    def remove(self) -> None:
        """Take the table out of the kernel."""
        self._loaded = None
        if shutil.which("nft"):
            table = f"table inet {self._segment.table}"
            _nft("-f", "-", text=f"{table} {{}}\ndelete {table}\n")

    def _present(self) -> bool:
        command = ["nft", "list", "table", "inet", self._segment.table]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    def _tell(self, reason: str) -> None:
        if not self._told:
            log.warning("security groups do not apply between the machines: %s", reason)
        self._told = True


def _nft(*arguments: str, text: str) -> None:
    done = subprocess.run(
        ["nft", *arguments], input=text, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SandboxError(f"nft refused the rules of the security groups:\n{done.stderr}{text}")
