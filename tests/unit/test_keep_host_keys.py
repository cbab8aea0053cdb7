"""The SSH host keys go along with the data volume: roles/base/files/keep-host-keys."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "roles/base/files/keep-host-keys"


class Host:
    """Folders that stand for a host and its data volume."""

    def __init__(self, folder: Path, keys: str, volume: Path) -> None:
        self.keys, self.volume = folder / keys, volume / ".lab/ssh_host_keys"
        self.keys.mkdir(parents=True)
        volume.mkdir(exist_ok=True)
        for kind in ("rsa", "ed25519"):
            (self.keys / f"ssh_host_{kind}_key").write_text(f"{keys} {kind} private\n")
            (self.keys / f"ssh_host_{kind}_key.pub").write_text(f"ssh-{kind} {keys}{kind} root@h\n")
        self.reload = f"touch {folder}/reloaded-{keys}"

    def run(self, *arguments: str, reload: str = "") -> list[str]:
        environment = os.environ | {"SSH_KEYS": str(self.keys), "SSH_RELOAD": reload or self.reload}
        *rest, instance = arguments
        done = subprocess.run(
            ["sh", str(SCRIPT), *rest, str(self.volume), instance],
            env=environment, capture_output=True, text=True, check=True,
        )  # fmt: skip
        return done.stdout.splitlines()

    def contents(self) -> dict[str, str]:
        return {path.name: path.read_text() for path in self.keys.iterdir()}


@pytest.fixture
def old(tmp_path: Path) -> Host:
    return Host(tmp_path, "old", tmp_path / "data")


@pytest.fixture
def new(tmp_path: Path) -> Host:
    return Host(tmp_path, "new", tmp_path / "data")


def test_they_are_kept_once_and_for_root_alone(old: Host) -> None:
    assert old.run("--check", "keep", "i-1") == [f"kept: {old.volume}"]
    assert not old.volume.exists()
    assert old.run("keep", "i-1") == [f"kept: {old.volume}"]
    assert old.run("keep", "i-1") == []
    assert old.volume.stat().st_mode & 0o777 == 0o700
    assert old.volume.parent.stat().st_mode & 0o777 == 0o755, "others keep things there too"
    assert (old.volume / "ssh_host_rsa_key").stat().st_mode & 0o777 == 0o600


def test_a_key_that_was_changed_on_the_host_is_kept_anew(old: Host) -> None:
    old.run("keep", "i-1")
    (old.keys / "ssh_host_rsa_key").write_text("changed\n")
    assert old.run("keep", "i-1") == [f"kept: {old.volume}"]
    assert (old.volume / "ssh_host_rsa_key").read_text() == "changed\n"


def test_the_next_host_takes_them_over(old: Host, new: Host, tmp_path: Path) -> None:
    old.run("keep", "i-1")
    before = new.contents()
    said = ["restore", "ssh-ed25519 olded25519", "ssh-rsa oldrsa"]
    assert new.run("keep", "i-2") == said
    assert new.contents() == before, "not before they are on record"
    assert new.run("restore", "i-2") == ["restored"]
    assert new.contents() == old.contents()
    assert (new.keys / "ssh_host_ed25519_key").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "reloaded-new").exists()
    assert new.run("keep", "i-2") == []


def test_where_the_daemon_does_not_take_them_the_next_run_tries_again(old: Host, new: Host) -> None:
    old.run("keep", "i-1")
    with pytest.raises(subprocess.CalledProcessError):
        new.run("restore", "i-2", reload="false")
    assert new.run("keep", "i-2")[0] == "restore"
    assert new.run("restore", "i-2") == ["restored"]
