"""The bucket asked itself, where a mount answers from what it remembers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from ansible.module_utils.lab.errors import LabError
from ansible.module_utils.lab.s3mount import direct
from ansible.module_utils.lab.s3mount.backends.asked import Asked, Backend, Owner
from ansible.module_utils.lab.s3mount.backends.mount_s3 import MountS3
from ansible.module_utils.lab.s3mount.backends.rclone import Rclone
from ansible.module_utils.lab.s3mount.bucket import Bucket
from ansible.module_utils.lab.s3mount.credentials import Access
from ansible.module_utils.lab.s3mount.fstab import Entry
from ansible.module_utils.lab.s3mount.probe import State
from ansible.module_utils.lab.s3mount.sigv4 import Credentials

from .test_s3mount_bucket import Server, serve

BACKENDS = [Rclone, MountS3]
KEYS = "[default]\naws_access_key_id = KEY\naws_secret_access_key = a%b\n"


def entry(
    backend: Callable[[], Backend], bucket: Bucket, source: str = "key", keys: Path | None = None
) -> Entry:
    access = Access(source, access_key="KEY", secret_key="a%b")
    asked = Asked("/s3", bucket, access, Owner(1000, 1000), read_only=True, profile="read")
    made = backend().entry(asked, (1, 70))
    options = (f"credentials={keys}" if o.startswith("credentials=") else o for o in made.options)
    return Entry(made.source, made.path, made.fstype, tuple(options))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "bucket",
    [
        Bucket("b", "eu-west-1"),
        Bucket("b", "us-east-1", "http://h:1", path_style=True),
        Bucket("b", "us-east-1", "https://h", prefix="a/b"),
    ],
)
def test_the_line_of_fstab_tells_where_the_bucket_is(
    backend: Callable[[], Backend], bucket: Bucket
) -> None:
    assert direct.bucket_of(entry(backend, bucket)) == bucket


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (200, "<ListBucketResult/>", (State.OK, False)),
        (403, "<Code>AccessDenied</Code>", (State.DEGRADED, True)),
        (404, "<Code>NoSuchBucket</Code>", (State.DEGRADED, True)),
    ],
)
def test_the_bucket_is_asked_with_the_keys_of_the_mount(
    backend: Callable[[], Backend],
    status: int,
    body: str,
    expected: tuple[State, bool],
    tmp_path: Path,
) -> None:
    keys = tmp_path / "keys"
    keys.write_text(KEYS)
    with serve(Server(status=status, body=body)) as server:
        bucket = Bucket("b", "us-east-1", server.url, path_style=True)
        told = direct.health(entry(backend, bucket, keys=keys), 3.0)
    assert (told.state, told.refused) == expected
    [(method, path, headers)] = server.asked
    assert (method, path) == ("GET", "/b/?list-type=2&max-keys=1")
    assert "Credential=KEY/" in headers["authorization"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_service_that_is_away_refuses_nothing(
    backend: Callable[[], Backend], tmp_path: Path
) -> None:
    keys = tmp_path / "keys"
    keys.write_text(KEYS)
    bucket = Bucket("b", "us-east-1", "http://127.0.0.1:1", path_style=True)
    told = direct.health(entry(backend, bucket, keys=keys), 3.0)
    assert (told.state, told.refused) == (State.DEGRADED, False)


def test_keys_are_read_from_their_file_and_need_none_where_nothing_signs(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(KEYS)
    bucket = Bucket("b", "us-east-1")
    assert direct.keys_of(entry(Rclone, bucket, keys=keys)) == Credentials("KEY", "a%b")
    assert direct.keys_of(entry(Rclone, bucket, "anonymous")) is None
    keys.write_text("[default]\n")
    with pytest.raises(LabError, match=r"aws_access_key_id.*run s3_mount again"):
        direct.keys_of(entry(Rclone, bucket, keys=keys))
