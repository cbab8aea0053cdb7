"""Who is told on which device a file system of EFS lies, and when nobody answers any more."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sandbox.engine import file_systems
from sandbox.engine.file_systems import PORT, FileSystems
from sandbox.engine.volumes import LoopDevice
from sandbox.errors import SandboxError
from sandbox.model import IngressRule, MountTarget

ADDRESS, OTHER = "127.93.0.1", "127.93.0.2"


class Volumes:
    """Keeps books in place of loop devices."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []

    def create(
        self, name: str, _gib: int, _source: str | None, prepare: Callable[[Path], None]
    ) -> None:
        assert prepare is file_systems._format
        self.calls.append(("create", name))

    def attach(self, name: str) -> LoopDevice:
        self.calls.append(("attach", name))
        return LoopDevice(Path("/dev/loop7"), 7, int(name[-1]))

    def delete(self, name: str) -> None:
        self.calls.append(("delete", name))


@pytest.fixture
def systems(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileSystems]:
    """File systems at addresses that loopback has anyway."""
    monkeypatch.setattr(file_systems, "_ip", lambda *_: None)
    volumes: Any = Volumes()
    subject = FileSystems(volumes, "gpulab9")
    yield subject
    subject.close()


def target(name: str = "fs-1", address: str = ADDRESS, *sources: str) -> MountTarget:
    rule = IngressRule("tcp", PORT, PORT, sources or ("127.0.0.0/8",))
    return MountTarget(name, address, (rule,))


def ask(question: str, address: str = ADDRESS) -> str:
    with socket.create_connection((address, PORT), 5) as server:
        server.sendall(f"{question}\n".encode())
        try:
            return server.makefile().readline().strip()
        except ConnectionResetError:
            return ""


def test_who_is_let_in_is_told_the_device(systems: FileSystems) -> None:
    systems.serve([target()])
    assert ask("MOUNT /") == "OK 7:1 ext4"
    assert ask("MOUNT /data") == "DENIED there is no /data in this file system"
    assert systems.served == {"fs-1"}


def test_who_is_not_let_in_gets_no_answer(systems: FileSystems) -> None:
    systems.serve([target("fs-1", ADDRESS, "10.0.0.0/8")])
    assert ask("MOUNT /") == ""
    systems.serve([target()])
    assert ask("MOUNT /") == "OK 7:1 ext4", "rules change while it is served"


def test_another_file_system_takes_an_address_over(systems: FileSystems) -> None:
    systems.serve([target("fs-1"), target("fs-2", OTHER)])
    systems.serve([target("fs-3"), target("fs-2", OTHER)])
    assert [ask("MOUNT /"), ask("MOUNT /", OTHER)] == ["OK 7:3 ext4", "OK 7:2 ext4"]
    assert systems.served == {"fs-2", "fs-3"}


def test_nobody_answers_once_the_mount_target_is_gone(systems: FileSystems) -> None:
    systems.serve([target()])
    systems.serve([])
    assert systems.served == set()
    with pytest.raises(ConnectionRefusedError):
        ask("MOUNT /")


def test_an_address_that_is_taken_is_said(systems: FileSystems) -> None:
    with socket.create_server((ADDRESS, PORT)), pytest.raises(SandboxError, match=ADDRESS):
        systems.serve([target()])
    systems.serve([target()])
    assert ask("MOUNT /") == "OK 7:1 ext4"


def test_what_is_missing_to_make_one_is_named(
    systems: FileSystems, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(SandboxError, match="apt-get install e2fsprogs"):
        systems.create("fs-1")


def test_a_new_one_holds_a_file_system_and_little_else(tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.touch()
    with image.open("r+b") as file:
        file.truncate(file_systems.SIZE_GIB << 30)
    file_systems._format(image)
    said = subprocess.run(["blkid", "-p", "-o", "value", "-s", "TYPE", str(image)],
                          check=True, capture_output=True, text=True).stdout  # fmt: skip
    assert said.strip() == "ext4"
    assert image.stat().st_blocks * 512 < 300 << 20
