"""Which TCP ports the programs of a machine listen at, read from the kernel's tables."""

from __future__ import annotations

from pathlib import Path

LISTEN = "0A"  # the state TCP_LISTEN in /proc/net/tcp
IPV4_BYTES = 4
MAPPED = bytes(8) + b"\xff\xff\0\0"  # an IPv4 address in IPv6 clothes, as /proc turns it
V6_LOOPBACK = bytes(12) + b"\1\0\0\0"
V4_LOOPBACK = 127  # the first byte of 127.0.0.0/8, printed last


def listening_ports(pid: int) -> set[int]:
    """Give the ports that can be reached from outside in the network of process `pid`."""
    ports: set[int] = set()
    for name in ("tcp", "tcp6"):
        try:
            ports |= parse(Path(f"/proc/{pid}/net/{name}").read_text())
        except OSError:  # the machine has just stopped, or has no IPv6
            continue
    return ports


def parse(table: str) -> set[int]:
    """Give the listening ports in the text of /proc/net/tcp or tcp6, without loopback's."""
    ports: set[int] = set()
    for line in table.splitlines()[1:]:
        _, local, _, state, *_ = line.split()
        address, _, port = local.rpartition(":")
        if state == LISTEN and not _is_loopback(address):
            ports.add(int(port, 16))
    return ports


def _is_loopback(address: str) -> bool:
    """Tell whether an address as /proc prints it (words in host byte order) is loopback."""
    words = bytes.fromhex(address)
    if len(words) == IPV4_BYTES or words.startswith(MAPPED):
        return words[-1] == V4_LOOPBACK
    return words == V6_LOOPBACK
