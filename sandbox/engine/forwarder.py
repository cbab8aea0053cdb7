"""Public addresses: loopback addresses of this machine whose open ports lead to the machines.

A connection is taken on exactly (public address, port), its source is checked against the
security groups, and it goes on over the bridge to the machine's private address, so that the
machine's own firewall has its say as well.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sandbox.engine import ingress, netns
from sandbox.engine.listening import listening_ports
from sandbox.engine.relay import Loop, Relay
from sandbox.errors import SandboxError
from sandbox.model import IngressRule

Place = tuple[str, int]  # public address, port


@dataclass(frozen=True)
class Target:
    """A running machine as the forwarder sees it."""

    pid: int
    private_ip: str
    rules: tuple[IngressRule, ...]


@dataclass(frozen=True)
class Door:
    """An open port: its relay, the address it leads to, and where it really listens."""

    relay: Relay
    private_ip: str
    port: int


class Forwarder:
    """Keeps the public ports of all machines as their security groups say."""

    def __init__(self, loop: Loop, mark: int) -> None:
        self._loop = loop
        self._mark = mark
        self._targets: dict[str, Target] = {}
        self._doors: dict[Place, Door] = {}

    def sync(self, targets: Mapping[str, Target]) -> None:
        """Open and close ports for `targets` (by public address). Raises SandboxError."""
        self._targets = dict(targets)
        self._apply(targets)

    def refresh(self) -> None:
        """Look again for listening programs behind rules of many ports. Raises SandboxError."""
        self._apply(
            {ip: one for ip, one in self._targets.items() if ingress.has_wide_range(one.rules)},
            partial=True,
        )

    def moved(self) -> dict[Place, int]:
        """Give the places whose port was taken on this machine, with the port used instead."""
        return {place: door.port for place, door in self._doors.items() if door.port != place[1]}

    def cut(self, ip: str | None) -> None:
        """End the connections of a public address: its machine has gone down."""
        for place, door in self._doors.items():
            if place[0] == ip:
                door.relay.cut()

    def close(self) -> None:
        """Stop listening and cut what is open."""
        self._targets = {}
        self._close(list(self._doors))

    def _apply(self, targets: Mapping[str, Target], *, partial: bool = False) -> None:
        wanted: dict[Place, Target] = {}
        for ip, target in targets.items():
            wide = ingress.has_wide_range(target.rules)
            listening = listening_ports(target.pid) if wide else set()
            for port in ingress.ports_to_open(target.rules, listening):
                wanted[ip, port] = target
        concerned = (place for place in self._doors if not partial or place[0] in targets)
        self._close([place for place in concerned if not self._fits(place, wanted)])
        for place in wanted.keys() - self._doors.keys():
            self._doors[place] = self._open(place, wanted[place])

    def _fits(self, place: Place, wanted: Mapping[Place, Target]) -> bool:
        target = wanted.get(place)
        return target is not None and target.private_ip == self._doors[place].private_ip

    def _close(self, places: Iterable[Place]) -> None:
        for place in places:
            # As on AWS, a rule taken away does not end the connections it let in; a machine
            # that is gone does.
            self._doors.pop(place).relay.close(cut=place[0] not in self._targets)

    def _open(self, place: Place, target: Target) -> Door:
        ip, port = place

        def admit(peer: str) -> bool:
            now = self._targets.get(ip)
            return now is not None and ingress.admits(now.rules, port, peer)

        listening = _listen(ip, port)
        relay = Relay(
            self._loop, listening, (target.private_ip, port), admit=admit, mark=self._mark
        )
        return Door(relay, target.private_ip, listening.getsockname()[1])


def _listen(ip: str, port: int) -> socket.socket:
    """Listen at (ip, port), or at another port when a program has this one on all addresses."""
    try:
        return netns.listener(ip, port)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise SandboxError(f"listening at {ip}:{port} failed: {error.strerror}") from error
    return netns.listener(ip, 0)
