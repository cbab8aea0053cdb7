from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import yaml

from sandbox.engine import boot
from sandbox.engine.volumes import LoopDevice

from .kit import machine


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (None, boot.NOTHING),
        (b"", boot.NOTHING),
        (b"just text", boot.NOTHING),
        (b"#!/bin/sh\ntrue\n", boot.SCRIPT),
        (b"\n\n#!/bin/sh\ntrue\n", boot.SCRIPT),
        (b"#cloud-config\n{}", boot.CLOUD_INIT),
        (b"#cloud-configuration is not it", boot.CLOUD_INIT),  # cloud-init says what is wrong
        (b"Content-Type: multipart/mixed", boot.CLOUD_INIT),
        (b"MIME-Version: 1.0", boot.CLOUD_INIT),
        (b"## template: jinja\n#cloud-config", boot.CLOUD_INIT),
        (b"\x1f\x8b\x08gzip", boot.CLOUD_INIT),
    ],
)
def test_who_runs_user_data(data: bytes | None, kind: str) -> None:
    assert boot.user_data_kind(data) == kind


def test_settings_are_safe_for_the_shell(tmp_path: Path) -> None:
    odd = "a'b; touch x $(id)"
    boot.prepare(tmp_path, machine(login_user=odd), [])
    told = subprocess.run(
        ["sh", "-c", '. ./settings; printf %s "$LOGIN_USER"'],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert told.stdout == odd
    assert not (tmp_path / "x").exists()


def test_every_key_has_a_line(tmp_path: Path) -> None:
    boot.prepare(tmp_path, machine(public_keys=("ssh-ed25519 A\n", "ssh-rsa B")), [])
    assert (tmp_path / "authorized_keys").read_text() == "ssh-ed25519 A\nssh-rsa B\n"


def test_user_data_is_kept_byte_for_byte(tmp_path: Path) -> None:
    boot.prepare(tmp_path, machine(user_data=b"\x1f\x8b\x00\xff"), [])
    assert (tmp_path / "user-data").read_bytes() == b"\x1f\x8b\x00\xff"


def test_attachments_are_read_as_they_were_written(tmp_path: Path) -> None:
    one = boot.Attachment("/dev/sdf", "vol-1", LoopDevice(Path(), 7, 3))
    two = boot.Attachment("/dev/sdg", "vol-2", LoopDevice(Path(), 7, 12))
    boot.write_attachments(tmp_path, [one, two])
    assert boot.read_attachments(tmp_path) == [one, two]
    assert boot.read_attachments(tmp_path / "none") == []


def test_cloud_inits_files_are_yaml() -> None:
    settings = yaml.safe_load(boot.cloud_config("o'brien: x"))
    assert settings["system_info"]["default_user"]["name"] == "o'brien: x"
    facts = yaml.safe_load(boot.cloud_meta_data(machine(public_keys=("k: 1",))))
    assert facts["public-keys"] == ["k: 1"]
    assert json.loads(boot.cloud_meta_data(machine()))["instance-id"] == machine().instance_id


@pytest.mark.parametrize(
    ("files", "text"),
    [
        (["nameserver 10.0.0.2\nsearch a b\n"], "nameserver 10.0.0.2\nsearch a b\n"),
        (["# said\nnameserver 127.0.0.53\noptions edns0\n"], ""),
        (["nameserver 127.0.0.53\n", "nameserver 10.0.0.2\n"], "nameserver 10.0.0.2\n"),
        (["nameserver 127.0.0.1\nnameserver 10.0.0.2\n"], "nameserver 10.0.0.2\n"),
        (["nameserver ::1\nnameserver fd00::2\n"], "nameserver fd00::2\n"),
        (["nameserver fe80::1%eth0\n"], "nameserver fe80::1%eth0\n"),
        (["nameserver\nnameserver words\n"], ""),
        ([], ""),
    ],
)
def test_name_servers_that_a_container_can_reach(
    tmp_path: Path, files: list[str], text: str
) -> None:
    places = [tmp_path / str(number) for number in range(3)]
    for place, content in zip(places, files, strict=False):
        place.write_text(content)
    assert boot.resolv_conf(places) == text


@pytest.mark.parametrize("name", ["init", *boot.GUEST_SCRIPTS])
def test_the_scripts_are_of_any_posix_shell(name: str) -> None:
    done = subprocess.run(["sh", "-n", boot.HERE / f"{name}.sh"], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_the_banner_is_what_the_script_says_first() -> None:
    script = (boot.HERE / "init.sh").read_text()
    assert f'say "{boot.BANNER.removeprefix("sandbox: ").rstrip()}"' in script
