"""Root passes over permissions only where a mount cannot do without."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ansible.module_utils.lab.s3mount.rights import capabilities

MOUNTS, OVERRIDES = "CAP_SYS_ADMIN", "CAP_SYS_ADMIN CAP_DAC_OVERRIDE"
USER = 12345


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder that is the user's alone, as a home is on Debian 13."""
    if os.geteuid() != 0:
        pytest.skip("only root gives folders to others")
    for folder in (tmp_path, *tmp_path.parents):
        if folder.owner() != "root" or not folder.stat().st_mode & 0o100:
            pytest.skip(f"{folder} is not root's")
    made = tmp_path / "home"
    made.mkdir(mode=0o700)
    os.chown(made, USER, USER)
    return made


def test_what_is_not_there_yet_will_be_roots() -> None:
    assert capabilities("/no/such/mount", "/no/such/cache", "/no/such/keys") == MOUNTS


def test_a_mount_point_that_nobody_may_enter_is_no_reason(tmp_path: Path) -> None:
    tmp_path.chmod(0o000)
    assert capabilities(str(tmp_path), "", "") == MOUNTS


def test_a_mount_in_a_private_home(home: Path) -> None:
    assert capabilities(str(home / "s3"), "", "") == OVERRIDES
    home.chmod(0o711)
    assert capabilities(str(home / "s3"), "", "") == MOUNTS


def test_keys_and_caches_of_a_user(home: Path) -> None:
    home.chmod(0o711)
    keys = home / "keys"
    keys.touch()
    assert capabilities("/s3", "", str(keys)) == MOUNTS
    os.chown(keys, USER, USER)
    assert capabilities("/s3", "", str(keys)) == OVERRIDES
    assert capabilities("/s3", str(home), "") == OVERRIDES
    assert capabilities("/s3", str(home / "cache"), "") == MOUNTS
