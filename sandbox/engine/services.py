"""What a running machine finds in its own network: its metadata and the way to the AWS API."""

from __future__ import annotations

import socket

from sandbox.engine import metadata, netns
from sandbox.engine.relay import Loop, Relay
from sandbox.errors import SandboxError
from sandbox.model import MetadataSource


class Services:
    """The services of one start of a machine; a new start needs new ones."""

    def __init__(
        self, loop: Loop, instance_id: str, pid: int, port: int, source: MetadataSource
    ) -> None:
        self._pid = pid
        self._network = netns.network_of(pid)

        def listen() -> tuple[socket.socket, socket.socket]:
            netns.add_loopback_address(metadata.ADDRESS)
            return (
                netns.listener(metadata.ADDRESS, metadata.PORT),
                netns.listener("127.0.0.1", port),
            )

        try:
            for_metadata, for_api = netns.inside(pid, listen)
        except OSError as error:
            raise SandboxError(f"metadata of {instance_id}: {error}") from error
        self._metadata = metadata.MetadataServer(for_metadata, instance_id, source)
        self._api = Relay(loop, for_api, ("127.0.0.1", port))

    @property
    def alive(self) -> bool:
        """Whether the machine still runs as it was started, in the same network."""
        return self._network is not None and netns.network_of(self._pid) == self._network

    def close(self) -> None:
        """Stop both; the sockets no longer hold the machine's network."""
        self._metadata.close()
        self._api.close(cut=True)
