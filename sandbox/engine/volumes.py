"""EBS volumes: sparse files, on loop devices while they are attached."""

from __future__ import annotations

import fcntl
import os
import shutil
import struct
import subprocess
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from sandbox.errors import SandboxError

GIB = 1 << 30
ATTACH_ATTEMPTS = 5  # another process may take the free device between the look and the grab
SYS_BLOCK = Path("/sys/block")
# From linux/loop.h: struct loop_info64, its field lo_flags, and the flag that frees it at last.
LOOP_SET_STATUS64, LOOP_GET_STATUS64 = 0x4C04, 0x4C05
LOOP_INFO64_BYTES, FLAGS_AT = 232, 52
AUTOCLEAR = 4


@dataclass(frozen=True)
class LoopDevice:
    """A loop device: its node on this machine and its numbers."""

    node: Path
    major: int
    minor: int


class Volumes:
    """The volumes and snapshots of one slot, each a file under `folder`."""

    def __init__(self, folder: Path) -> None:
        self._volumes = folder / "volumes"
        self._snapshots = folder / "snapshots"

    def create(
        self,
        volume_id: str,
        gib: int,
        snapshot_id: str | None,
        prepare: Callable[[Path], None] = lambda _file: None,
    ) -> None:
        """Make a volume; nothing happens when it is there. Raises SandboxError.

        `prepare` is given its file before it has its name, so that a half-made one never counts.
        """
        target = self._volume(volume_id)
        if target.exists():
            return
        self._volumes.mkdir(parents=True, exist_ok=True)
        unfinished = target.with_suffix(".new")
        unfinished.unlink(missing_ok=True)
        if snapshot_id is None:
            unfinished.touch(mode=0o600)
        else:
            source = self._snapshot(snapshot_id)
            if not source.exists():
                raise SandboxError(f"volume {volume_id}: snapshot {snapshot_id} has no content")
            _copy(source, unfinished)
        os.truncate(unfinished, max(gib * GIB, unfinished.stat().st_size))
        prepare(unfinished)
        unfinished.rename(target)

    def delete(self, volume_id: str) -> None:
        """Delete a volume and free its loop device."""
        self.release(volume_id)
        self._volume(volume_id).unlink(missing_ok=True)

    def create_snapshot(self, snapshot_id: str, volume_id: str) -> None:
        """Keep a volume's content; what its loop device still holds is written first."""
        source = self._volume(volume_id)
        if not source.exists():
            raise SandboxError(f"snapshot {snapshot_id}: there is no volume {volume_id}")
        device = self.find(volume_id)
        for path in (device.node, source) if device else (source,):
            with path.open("rb") as opened:
                os.fsync(opened.fileno())
        self._snapshots.mkdir(parents=True, exist_ok=True)
        target = self._snapshot(snapshot_id)
        unfinished = target.with_suffix(".new")
        _copy(source, unfinished)
        unfinished.rename(target)

    def delete_snapshot(self, snapshot_id: str) -> None:
        """Delete a snapshot."""
        self._snapshot(snapshot_id).unlink(missing_ok=True)

    def find(self, volume_id: str) -> LoopDevice | None:
        """Give the loop device of a volume, if it has one."""
        path = str(self._volume(volume_id))
        return next((device for device, file in _loop_devices() if file == path), None)

    def attach(self, volume_id: str) -> LoopDevice:
        """Give the loop device of a volume, made if need be. Raises SandboxError."""
        path = self._volume(volume_id)
        if not path.exists():
            raise SandboxError(f"volume {volume_id} has no file {path}; delete the volume")
        command = ["losetup", "--find", "--show", str(path)]
        reason = ""
        for _ in range(ATTACH_ATTEMPTS):
            if device := self.find(volume_id) or self._taken_back(volume_id):
                return device
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            reason = done.stderr.strip()
        if device := self.find(volume_id):
            return device
        raise SandboxError(f"volume {volume_id}: {' '.join(command)} failed: {reason}")

    def _taken_back(self, volume_id: str) -> LoopDevice | None:
        """Keep a device that was let go of and is still in use, if there is one.

        Another machine may have the volume mounted, as the stand-in for NFS does: a second device
        for one file would be a second cache of one file system, which destroys it.
        """
        path = str(self._volume(volume_id))
        for device, file in _loop_devices(dying=True):
            if file == path:
                _keep(device)
        return self.find(volume_id)

    def release(self, volume_id: str) -> None:
        """Free a volume's loop device (in use: as soon as its last user lets go)."""
        if device := self.find(volume_id):
            _detach(device)

    def release_all_but(self, attached: Collection[str]) -> None:
        """Free the loop devices of this slot's volumes that are not in `attached`."""
        for device, file in list(_loop_devices()):
            path = Path(file.removesuffix(" (deleted)"))
            if path.parent == self._folder() and path.stem not in attached:
                _detach(device)

    def destroy(self) -> None:
        """Remove every volume and snapshot and free every loop device."""
        self.release_all_but(())
        for folder in (self._volumes, self._snapshots):
            shutil.rmtree(folder, ignore_errors=True)

    def _folder(self) -> Path:
        return self._volumes.resolve()  # the kernel tells the file's real path

    def _volume(self, volume_id: str) -> Path:
        return self._folder() / f"{volume_id}.img"

    def _snapshot(self, snapshot_id: str) -> Path:
        return self._snapshots / f"{snapshot_id}.img"


def _loop_devices(*, dying: bool = False) -> Iterator[tuple[LoopDevice, str]]:
    """Give each loop device and the path of its file: those that are to stay, or the others.

    A dying one is detached, but somebody still has it open: it goes with its last user.
    """
    for entry in SYS_BLOCK.glob("loop*"):
        try:
            file = (entry / "loop" / "backing_file").read_text().rstrip("\n")
            goes = (entry / "loop" / "autoclear").read_text().strip() == "1"
            major, minor = (entry / "dev").read_text().split(":")
        except OSError:  # not in use, or freed meanwhile
            continue
        if goes == dying:
            yield LoopDevice(Path("/dev", entry.name), int(major), int(minor)), file


def _keep(device: LoopDevice) -> None:
    """Let a device that would be freed by its last user stay."""
    try:
        with device.node.open("rb") as opened:
            status = bytearray(LOOP_INFO64_BYTES)
            fcntl.ioctl(opened, LOOP_GET_STATUS64, status)
            (flags,) = struct.unpack_from("=I", status, FLAGS_AT)
            struct.pack_into("=I", status, FLAGS_AT, flags & ~AUTOCLEAR)
            fcntl.ioctl(opened, LOOP_SET_STATUS64, bytes(status))
    except OSError:  # its last user has just gone, and it with them
        return


def _detach(device: LoopDevice) -> None:
    # A failure means that it is free already.
    subprocess.run(["losetup", "--detach", str(device.node)], capture_output=True, check=False)


def _copy(source: Path, target: Path) -> None:
    command = ["cp", "--sparse=always", "--reflink=auto", str(source), str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        target.unlink(missing_ok=True)
        raise SandboxError(f"copying {source.name} failed: {done.stderr.strip()}")
