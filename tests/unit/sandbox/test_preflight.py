from __future__ import annotations

from pathlib import Path

import pytest

from sandbox.account import environment
from sandbox.errors import SandboxError
from sandbox.preflight import check_credentials
from sandbox.settings import Settings


def test_own_environment_is_accepted(tmp_path: Path) -> None:
    check_credentials(environment(Settings(slot=3, root=tmp_path)))


def test_no_environment_is_accepted() -> None:
    check_credentials({"PATH": "/bin", "AWS_REGION": "eu-central-1", "AWS_PROFILE": ""})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE"),
        ("AWS_PROFILE", "work"),
        ("AWS_SESSION_TOKEN", "token"),
        ("AWS_ROLE_ARN", "arn:aws:iam::1:role/x"),
    ],
)
def test_real_credentials_are_refused(name: str, value: str) -> None:
    with pytest.raises(SandboxError, match=rf"^{name}.*unset {name}"):
        check_credentials({name: value})


def test_key_is_kept_and_private(tmp_path: Path) -> None:
    settings = Settings(slot=3, root=tmp_path)
    first = environment(settings)
    assert environment(settings) == first
    assert len(first["AWS_ACCESS_KEY_ID"]) == 20
    assert len(first["AWS_SECRET_ACCESS_KEY"]) == 40
    assert settings.state_dir.joinpath("secret_access_key").stat().st_mode & 0o777 == 0o600
    assert [p.name for p in settings.state_dir.iterdir()] == ["secret_access_key"]
