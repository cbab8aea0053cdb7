"""The bucket, by s3fs with a limited key, and its example data."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sandbox.conftest import Account, wait_for

pytestmark = pytest.mark.sandbox


@pytest.fixture(scope="module")
def bucket(account: Account) -> str:
    name = f"mounted-{uuid.uuid4().hex}"
    account.client("s3").create_bucket(Bucket=name)
    return name


@pytest.fixture(scope="module")
def mounted(
    account: Account, bucket: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """The bucket as a folder, mounted by s3fs with the key of a user limited to it."""
    if shutil.which("s3fs") is None or not Path("/dev/fuse").exists():
        pytest.skip("s3fs or /dev/fuse is missing on this machine")
    iam, name = account.client("iam"), f"user-{uuid.uuid4().hex}"
    iam.create_user(UserName=name)
    arn = f"arn:aws:s3:::{bucket}"
    objects = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject"]
    statements = [
        {"Effect": "Allow", "Action": "s3:ListBucket", "Resource": arn},
        {"Effect": "Allow", "Action": objects, "Resource": f"{arn}/*"},
    ]
    iam.put_user_policy(
        UserName=name,
        PolicyName="p",
        PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": statements}),
    )
    key = iam.create_access_key(UserName=name)["AccessKey"]
    folder = tmp_path_factory.mktemp("s3fs")
    password, point = folder / "password", folder / "mount"
    password.write_text(f"{key['AccessKeyId']}:{key['SecretAccessKey']}")
    password.chmod(0o600)
    point.mkdir()
    options = f"url={account.settings.endpoint_url},endpoint=us-east-1,use_path_request_style"
    subprocess.run(
        ["s3fs", bucket, str(point), "-o", f"passwd_file={password},{options}"], check=True
    )
    assert wait_for(lambda: os.path.ismount(point), 10)
    yield point
    subprocess.run(["fusermount", "-u", str(point)], check=True)


def keys_of(account: Account, bucket: str) -> set[str]:
    listed = account.client("s3").list_objects_v2(Bucket=bucket)
    return {entry["Key"] for entry in listed.get("Contents", [])}


def test_nested_folders(account: Account, bucket: str, mounted: Path) -> None:
    deep = mounted / "one" / "two & three" / "four+five=ü"
    deep.mkdir(parents=True)
    (deep / "file name.txt").write_text("hello")
    assert [entry.name for entry in deep.iterdir()] == ["file name.txt"]
    assert "one/two & three/four+five=ü/file name.txt" in keys_of(account, bucket)


def test_folder_made_by_another_client(account: Account, bucket: str, mounted: Path) -> None:
    account.client("s3").put_object(Bucket=bucket, Key="elsewhere/made/file", Body=b"abc")
    assert (mounted / "elsewhere" / "made" / "file").read_bytes() == b"abc"


def test_rename_and_delete(account: Account, bucket: str, mounted: Path) -> None:
    folder = mounted / "old"
    folder.mkdir()
    (folder / "a").write_bytes(b"a" * 100_000)
    folder.rename(mounted / "new")
    (mounted / "new" / "a").rename(mounted / "new" / "b")
    assert (mounted / "new" / "b").stat().st_size == 100_000
    shutil.rmtree(mounted / "new")
    assert not {key for key in keys_of(account, bucket) if key.startswith(("old", "new"))}


def test_big_file_in_parts(account: Account, bucket: str, mounted: Path) -> None:
    content = os.urandom(1 << 20) * 40
    (mounted / "big").write_bytes(content)
    stored = account.client("s3").get_object(Bucket=bucket, Key="big")
    assert stored["Body"].read() == content
    with (mounted / "big").open("rb") as file:
        file.seek(33 << 20)
        assert file.read(4096) == content[33 << 20 : (33 << 20) + 4096]


def test_ranges_cost_what_they_are_long(account: Account, bucket: str) -> None:
    s3, mib = account.client("s3"), 1 << 20
    s3.put_object(Bucket=bucket, Key="large", Body=bytes(256 * mib))

    def timed(count: int, length: int) -> float:
        started = time.monotonic()
        for n in range(count):
            span = f"bytes={n * mib}-{n * mib + length - 1}"
            part = s3.get_object(Bucket=bucket, Key="large", Range=span)["Body"].read()
            assert len(part) == length
        return (time.monotonic() - started) / count

    # moto's own way copies 256 MiB for each, some tenths of a second.
    assert timed(20, 1024) < 0.1
    s3.delete_object(Bucket=bucket, Key="large")


def test_bucket_of_a_lab_has_the_example_data(account: Account) -> None:
    s3, name = account.client("s3"), f"gpulab-{uuid.uuid4().hex}"
    started = time.monotonic()
    s3.create_bucket(Bucket=name)
    assert time.monotonic() - started < 60
    keys = keys_of(account, name)
    folder = "datasets/fashion-mnist"
    assert keys == {
        *(f"{folder}/train-{n:02d}.zip" for n in range(10)),
        f"{folder}/test.zip",
        f"{folder}/labels-train.csv",
        f"{folder}/labels-test.csv",
        f"{folder}/README.txt",
    }
    body = s3.get_object(Bucket=name, Key=f"{folder}/labels-test.csv")["Body"].read()
    assert len(body.splitlines()) == 10_001
    s3.create_bucket(Bucket=name)  # again: nothing is put twice or taken away
    assert keys_of(account, name) == keys
