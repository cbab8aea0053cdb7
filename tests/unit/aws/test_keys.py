"""The key on the controller is made whole or not at all, and read without a program."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ansible.module_utils.lab.aws import keys
from ansible.module_utils.lab.errors import LabError


def test_a_new_key_is_private(tmp_path: Path) -> None:
    made = keys.make(tmp_path / "lab", "gpulab-lab")
    assert made.public_key.startswith("ssh-ed25519 ")
    assert made.loose == ()
    assert made.path.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "lab").stat().st_mode & 0o777 == 0o700


def test_the_public_half_is_read_out_of_the_private_key(tmp_path: Path) -> None:
    made = keys.make(tmp_path, "x")
    made.path.with_suffix(".pub").unlink()
    assert keys.look(tmp_path).public_key == made.public_key
    assert keys.look(tmp_path).public_key == " ".join(
        keys.run(["ssh-keygen", "-y", "-f", str(made.path)]).split()[:2]
    )


def test_left_overs_of_a_killed_run_do_not_harm(tmp_path: Path) -> None:
    (tmp_path / "id_ed25519.new").write_text("half")
    (tmp_path / "id_ed25519.new.pub").write_text("half")
    assert keys.make(tmp_path, "x").public_key


@pytest.mark.parametrize("text", ["", "no key", "-----BEGIN\nAAAA\n-----END", "\x00\xff"])
def test_a_broken_key_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "id_ed25519").write_text(text, encoding="latin-1")
    with pytest.raises(LabError, match=r"id_ed25519 is not a private key of OpenSSH"):
        keys.look(tmp_path)


def test_loose_modes_are_seen_and_mended(tmp_path: Path) -> None:
    made = keys.make(tmp_path, "x")
    made.path.chmod(0o644)
    tmp_path.chmod(0o755)
    loose = keys.look(tmp_path)
    assert set(loose.loose) == {tmp_path, made.path}
    assert loose.public_key == made.public_key
    keys.tighten(loose)
    assert keys.look(tmp_path).loose == ()


def test_nothing_is_made_by_looking(tmp_path: Path) -> None:
    assert keys.look(tmp_path / "a" / "b").public_key == ""
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LabError, match=r"file/lab cannot be written"):
        keys.look(tmp_path / "file" / "lab")


def test_a_read_only_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)  # root, as here, writes everywhere
    with pytest.raises(LabError, match=rf"{tmp_path} is read-only for this user"):
        keys.look(tmp_path / "lab")


def test_a_missing_program_says_what_to_install() -> None:
    with pytest.raises(LabError, match="apt-get install openssh-client"):
        keys.run(["no-such-program"])
