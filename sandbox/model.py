"""What the control plane (moto) tells the engine (Docker): plain data, no AWS client in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True)
class IngressRule:
    """One permission of a security group, for traffic into an instance.

    `protocol` is "tcp", "udp", "icmp" or "-1" (all); ports are inclusive and ignored for the
    last two. `sources` are CIDRs: groups named as a source are already resolved to the /32s of
    their members' private addresses.
    """

    protocol: str
    from_port: int
    to_port: int
    sources: tuple[str, ...]


@dataclass(frozen=True)
class Machine:
    """An instance as it should be, running or stopped (a terminated one is left out)."""

    instance_id: str
    running: bool
    image: str  # Docker image reference
    login_user: str
    hostname: str
    private_ip: str
    public_ip: str | None
    root_gib: int
    public_keys: tuple[str, ...] = ()
    user_data: bytes | None = None
    volumes: Mapping[str, str] = field(default_factory=dict)  # device name -> volume id
    ingress: tuple[IngressRule, ...] = ()


@dataclass(frozen=True)
class MountTarget:
    """The address at which a file system of EFS answers, and whom its security groups let in."""

    file_system_id: str
    address: str
    ingress: tuple[IngressRule, ...] = ()


# The metadata tree of one instance, made anew at each request:
# "meta-data/instance-id" -> "i-0123…", "user-data" -> b"…".
MetadataTree = Mapping[str, str | bytes]


@dataclass(frozen=True)
class MetadataOptions:
    """How an instance's metadata service answers (EC2's MetadataOptions)."""

    tokens_required: bool
    enabled: bool = True


@dataclass(frozen=True)
class Metadata:
    """One answer of the control plane to the metadata service."""

    options: MetadataOptions
    tree: MetadataTree


class Engine(Protocol):
    """What runs the machines. Each call is synchronous: it returns when it is true."""

    def converge(self, machines: Sequence[Machine]) -> None:
        """Bring containers, networks, ports and attached volumes in step with `machines`.

        Returns when each running machine answers on port 22 of its public (else private)
        address; containers not named here are removed. Calling it again does nothing.
        """

    def powered_off(self) -> set[str]:
        """Ids of machines that switched themselves off since they were last started."""

    def reboot(self, instance_id: str) -> None:
        """Restart a running machine; returns when it answers again."""

    def create_volume(self, volume_id: str, gib: int, snapshot_id: str | None) -> None:
        """Make a volume, empty or with the content of a snapshot."""

    def delete_volume(self, volume_id: str) -> None:
        """Delete a volume and free its loop device."""

    def create_snapshot(self, snapshot_id: str, volume_id: str) -> None:
        """Keep a volume's content as it is now."""

    def delete_snapshot(self, snapshot_id: str) -> None:
        """Delete a snapshot."""

    def create_file_system(self, file_system_id: str) -> None:
        """Make an empty file system."""

    def delete_file_system(self, file_system_id: str) -> None:
        """Delete a file system with all that is in it."""

    def serve_file_systems(self, targets: Sequence[MountTarget]) -> None:
        """Let file systems be mounted at these addresses, and at no others."""

    def create_image(self, image_id: str, instance_id: str) -> str:
        """Keep a machine's root disk as a Docker image; returns its reference."""

    def delete_image(self, image_id: str) -> None:
        """Delete an image made by create_image."""

    def console_output(self, instance_id: str) -> str:
        """Give what the machine has printed on its console since its last start."""

    def close(self) -> None:
        """Let go of sockets and threads; containers stay as they are."""

    def destroy(self) -> None:
        """Remove every container, network, loop device, mount and volume of this slot."""


# How the engine asks for an instance's metadata.
MetadataSource = Callable[[str], Metadata]
