"""File systems of EFS: each a volume with a file system on it, told of at a mount target's address.

The address is one of this machine's own on the slot's bridge, where the hosts look for it. Who
asks there on port 2049 is told on which device the file system lies, as the stand-in for an NFS
server does (sandbox/image/nfs); the hosts' mount.nfs4 mounts that.
"""

from __future__ import annotations

import shutil
import socketserver
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sandbox.engine import ingress
from sandbox.engine.volumes import Volumes
from sandbox.errors import SandboxError
from sandbox.model import MountTarget

PORT = 2049
KIND = "ext4"
SIZE_GIB = 64  # as good as without end, on a sparse file
FILES = 500_000
JOURNAL_MIB = 64
LONGEST_LINE = 4096
PATIENCE_S = 10


class FileSystems:
    """The file systems of one slot, and who answers for them."""

    def __init__(self, volumes: Volumes, bridge: str) -> None:
        self._volumes = volumes
        self._bridge = bridge
        self._servers: dict[str, _Server] = {}

    @property
    def served(self) -> set[str]:
        """The ids of the file systems that can be mounted now."""
        return {server.target.file_system_id for server in self._servers.values()}

    def create(self, file_system_id: str) -> None:
        """Make a file system; nothing happens when it is there. Raises SandboxError."""
        if not shutil.which(f"mkfs.{KIND}"):
            raise SandboxError(
                f"mkfs.{KIND} is not installed (`apt-get install e2fsprogs`), and EFS needs it"
            )
        self._volumes.create(file_system_id, SIZE_GIB, None, prepare=_format)

    def delete(self, file_system_id: str) -> None:
        """Delete a file system; its mount targets are gone by then."""
        self._volumes.delete(file_system_id)

    def serve(self, targets: Sequence[MountTarget]) -> None:
        """Answer at these addresses alone. Raises SandboxError."""
        wanted = {target.address: target for target in targets}
        for address in self._servers.keys() - wanted.keys():
            self._end(address)
        for address, target in wanted.items():
            there = self._servers.get(address)
            if there and there.target.file_system_id == target.file_system_id:
                there.target = target
                continue
            if there:
                self._end(address)
            self._begin(target)

    def close(self) -> None:
        """Answer nowhere any more; what is mounted stays so."""
        for address in list(self._servers):
            self._servers.pop(address).stop()

    def _begin(self, target: MountTarget) -> None:
        device = self._volumes.attach(target.file_system_id)
        _ip("replace", target.address, self._bridge)
        try:
            self._servers[target.address] = _Server(target, f"{device.major}:{device.minor}")
        except OSError as error:
            raise SandboxError(f"mount target {target.address}: {error}") from error

    def _end(self, address: str) -> None:
        self._servers.pop(address).stop()
        _ip("delete", address, self._bridge)


class _Server(socketserver.ThreadingTCPServer):
    """Answers at one address."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, target: MountTarget, device: str) -> None:
        self.target = target
        self.device = device
        super().__init__((target.address, PORT), _Asked)
        self._thread = threading.Thread(
            target=self.serve_forever, name=f"efs-{target.address}", daemon=True
        )
        self._thread.start()

    def verify_request(self, _request: Any, client_address: Any) -> bool:
        """Let in whom the security groups let in; the others get no answer."""
        return ingress.admits(self.target.ingress, PORT, str(client_address[0]))

    def stop(self) -> None:
        """End, and let go of the socket."""
        self.shutdown()
        self.server_close()
        self._thread.join()


class _Asked(socketserver.StreamRequestHandler):
    """One connection: one line is asked, one is answered."""

    timeout = PATIENCE_S
    server: _Server

    def handle(self) -> None:
        """Tell of the root of the file system, which is all there is to be mounted."""
        asked = self.rfile.readline(LONGEST_LINE).decode(errors="replace").strip()
        whole = asked == "MOUNT /"
        refused = f"DENIED there is no {asked.removeprefix('MOUNT ')} in this file system"
        answer = f"OK {self.server.device} {KIND}" if whole else refused
        self.wfile.write(f"{answer}\n".encode())


def _format(path: Path) -> None:
    small = ["-N", str(FILES), "-J", f"size={JOURNAL_MIB}", "-E", "lazy_itable_init=1"]
    command = [f"mkfs.{KIND}", "-q", "-F", "-m", "0", *small, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SandboxError(f"{' '.join(command)} failed: {done.stderr.strip()}")


def _ip(what: str, address: str, bridge: str) -> None:
    command = ["ip", "address", what, f"{address}/32", "dev", bridge]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode and what != "delete":  # one that is gone is as good as deleted
        raise SandboxError(f"{' '.join(command)} failed: {done.stderr.strip()}")
