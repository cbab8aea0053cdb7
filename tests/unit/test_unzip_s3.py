"""Archives at s3://, against moto's S3: found, signed for, read, and what is told when not."""

from __future__ import annotations

import os
import random
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from ansible.module_utils.lab.errors import LabError
from ansible.module_utils.lab.unzip import s3_address
from ansible.module_utils.lab.unzip.http_answers import Pin
from ansible.module_utils.lab.unzip.sources import Access, Archive, find_archives
from ansible.module_utils.lab.unzip.task import run
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

from .range_server import S3_ERROR, closed
from .unzip_kit import Part, contents, make_zip, request, unpack

DATA = os.urandom(1 << 18)
KEYS = ["set/a.zip", "set/B.ZIP", "set/labels.csv", "set/deep/c.zip", "ü b+c?.zip", "top.zip"]


class Handler(WSGIRequestHandler):
    """Keeps quiet."""

    def log(self, type: str, message: str, *args: Any) -> None:
        """Write nothing."""


class Moto:
    """Moto's S3 behind a list of what it was asked; `faults` are answered in its stead."""

    def __init__(self) -> None:
        self.inside = DomainDispatcherApplication(create_backend_app)
        self.asked: list[dict[str, str]] = []
        self.faults: list[tuple[str, bytes]] = []
        self.url = ""
        self.client: Any = None

    def __call__(self, environ: dict[str, Any], start: Any) -> Any:
        mine = {name: str(value) for name, value in environ.items() if name.isupper()}
        self.asked.append(mine)
        if self.faults and environ["REQUEST_METHOD"] == "GET":
            status, body = self.faults.pop(0)
            start(status, [("Content-Length", str(len(body)))])
            return [body]
        return self.inside(environ, start)

    def gets(self) -> list[str]:
        """The ranges that were asked for."""
        return [one["HTTP_RANGE"] for one in self.asked if "HTTP_RANGE" in one]


@pytest.fixture(scope="module")
def served() -> Iterator[Moto]:
    moto = Moto()
    server = make_server("127.0.0.1", 0, moto, threaded=True, request_handler=Handler)
    moto.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    moto.client = boto3.client(
        "s3",
        region_name="us-east-1",
        endpoint_url=moto.url,
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
    yield moto
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def closed_yard(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    closed(monkeypatch, read=2.0)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDHUSH")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush-hush")
    monkeypatch.setattr("botocore.endpoint.time.sleep", lambda seconds: None)


@pytest.fixture
def s3(served: Moto, monkeypatch: pytest.MonkeyPatch) -> Moto:
    monkeypatch.setenv("AWS_ENDPOINT_URL", served.url)
    served.client.create_bucket(Bucket="lab-data")
    for left in served.client.list_objects_v2(Bucket="lab-data").get("Contents", []):
        served.client.delete_object(Bucket="lab-data", Key=left["Key"])
    for key in KEYS:
        served.client.put_object(Bucket="lab-data", Key=key, Body=DATA)
    served.asked.clear()
    served.faults.clear()
    return served


def find(address: str, recurse: bool = False, **access: Any) -> list[Archive]:
    return find_archives([address], recurse, Access(**access))


def test_an_object_is_read_by_signed_ranges(s3: Moto) -> None:
    (archive,) = find("s3://lab-data/set/a.zip")
    assert (archive.path, archive.size, archive.remote) == (
        "s3://lab-data/set/a.zip",
        1 << 18,
        True,
    )
    assert archive.stamp.startswith('"') and "hush" not in repr(archive).lower()
    assert not s3.gets()
    reader = archive.open()
    assert reader.read_at(1 << 17, 1000) == DATA[1000 : 1000 + (1 << 17)]
    buffer = bytearray(100)
    assert reader.read_into(memoryview(buffer), len(DATA) - 50) == 50
    asked = [one for one in s3.asked if "HTTP_RANGE" in one]
    assert s3.gets() == ["bytes=0-0", "bytes=1000-132071", "bytes=262094-262143"]
    assert all("X-Amz-Signature=" in one["QUERY_STRING"] for one in asked)
    assert {one["HTTP_IF_MATCH"] for one in asked} == {archive.stamp}


@pytest.mark.parametrize(
    ("address", "recurse", "keys"),
    [
        ("s3://lab-data/set/", False, ["set/B.ZIP", "set/a.zip"]),
        ("s3://lab-data/set/", True, ["set/B.ZIP", "set/a.zip", "set/deep/c.zip"]),
        ("s3://lab-data/", False, ["top.zip", "ü b+c?.zip"]),
        ("s3://lab-data", False, ["top.zip", "ü b+c?.zip"]),
        ("s3://lab-data/ü b+c?.zip", False, ["ü b+c?.zip"]),
    ],
)
def test_a_prefix_stands_for_its_archives(
    address: str, recurse: bool, keys: list[str], s3: Moto
) -> None:
    archives = find(address, recurse)
    assert [archive.path for archive in archives] == [f"s3://lab-data/{key}" for key in keys]
    for archive in archives:
        assert archive.open().read_at(20, 10) == DATA[10:30]


def test_all_pages_are_listed(s3: Moto, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "2")
    assert len(find("s3://lab-data", recurse=True)) == 5
    assert sum("list-type=2" in one["QUERY_STRING"] for one in s3.asked) == 3


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("s3://lab-data/set/d.zip", "s3://lab-data/set/d.zip: is not there (404); check bucket, k"),
        (
            "s3://lab-data/set",
            "s3://lab-data/set: is not there (404); check bucket, key and endpoint, and",
        ),
        ("s3://lab-nowhere/a.zip", "s3://lab-nowhere/a.zip: is not there (404)"),
        ("s3://lab-nowhere/", "is not there (404 NoSuchBucket); check bucket"),
        (
            "s3://lab-data/set/none/",
            "src: there is no *.zip directly below s3://lab-data/set/none/",
        ),
    ],
)
def test_what_is_not_there(address: str, said: str, s3: Moto) -> None:
    with pytest.raises(LabError, match=re.escape(said)):
        find(address)


@pytest.mark.parametrize("given", ["parameter", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"])
def test_the_endpoint(given: str, s3: Moto, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    if given != "parameter":
        monkeypatch.setenv(given, s3.url)
    (archive,) = find("s3://lab-data/top.zip", endpoint=s3.url if given == "parameter" else None)
    assert archive.open().read_at(1, 0) == DATA[:1]


@pytest.mark.parametrize("region", [None, "us-east-1", "eu-west-1"])
def test_the_region_is_found(region: str | None, s3: Moto) -> None:
    client = boto3.client("s3", region_name="eu-west-1", endpoint_url=s3.url)
    place: Any = {"LocationConstraint": "eu-west-1"}
    if "lab-ireland" not in {one["Name"] for one in client.list_buckets()["Buckets"]}:
        client.create_bucket(Bucket="lab-ireland", CreateBucketConfiguration=place)
    client.put_object(Bucket="lab-ireland", Key="a.zip", Body=DATA)
    (archive,) = find("s3://lab-ireland/a.zip", region=region)
    assert archive.open().read_at(10, 0) == DATA[:10]
    assert "%2Feu-west-1%2Fs3%2F" in s3.asked[-1]["QUERY_STRING"]


def test_addresses_on_aws_are_of_the_buckets_region(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_address.Bucket, "_region", lambda self: "eu-west-3")
    for name in ("lab-data", "lab.data"):
        url = s3_address.Bucket(name, Access()).sign("a b.zip")
        assert url.startswith(f"https://s3.eu-west-3.amazonaws.com/{name}/a%20b.zip?")
        assert "X-Amz-SignedHeaders=host&" in url


def test_a_changed_object_is_another_archive(s3: Moto) -> None:
    (archive,) = find("s3://lab-data/top.zip")
    reader = archive.open()
    s3.client.put_object(Bucket="lab-data", Key="top.zip", Body=DATA[::-1])
    for read in (lambda: reader.read_at(10, 0), archive.open):
        with pytest.raises(LabError, match="changed while it was being unpacked"):
            read()
    (again,) = find("s3://lab-data/top.zip")
    assert again.stamp != archive.stamp and again.open().read_at(3, 0) == DATA[:-4:-1]


EXPIRED = S3_ERROR.format("AccessDenied", "Request has expired").encode()


def test_an_expired_signature_is_renewed(s3: Moto, monkeypatch: pytest.MonkeyPatch) -> None:
    signed: list[str] = []
    sign = s3_address.Bucket.sign

    def counted(bucket: s3_address.Bucket, key: str) -> str:
        signed.append(key)
        return sign(bucket, key)

    monkeypatch.setattr(s3_address.Bucket, "sign", counted)
    (archive,) = find("s3://lab-data/top.zip")
    reader = archive.open()
    assert len(signed) == 1
    s3.faults = [("403 Forbidden", EXPIRED)]
    assert reader.read_at(10, 0) == DATA[:10]
    assert len(signed) == 2
    s3.faults = [("403 Forbidden", EXPIRED)] * 2
    with pytest.raises(LabError, match=r"have expired \(403 AccessDenied\); make new ones"):
        reader.read_at(10, 20)
    assert len(signed) == 3


def test_a_signature_is_used_for_some_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    class Fake:
        name = "b"
        signed = 0

        def sign(self, key: str) -> str:
            self.signed += 1
            return f"https://b/{key}?{self.signed}"

    now = 1000.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    fake: Any = Fake()
    address = s3_address.S3Address(fake, "k")
    assert [address.url(), address.url()] == ["https://b/k?1"] * 2
    now += 301
    assert address.url() == "https://b/k?2"


def test_denied(s3: Moto) -> None:
    s3.faults = [("403 Forbidden", S3_ERROR.format("AccessDenied", "").encode())]
    with pytest.raises(LabError, match=r"set/: may not be read \(403 AccessDenied\); let the cre"):
        find("s3://lab-data/set/")


@pytest.mark.parametrize(
    ("variables", "access", "said"),
    [
        ({"AWS_ACCESS_KEY_ID": ""}, {}, "s3://lab-data: this host has no credentials for S3"),
        ({}, {"endpoint": "127.0.0.1"}, "endpoint: is not the URL of an S3 service"),
        ({}, {"endpoint": "http://127.0.0.1:1"}, "S3 cannot be asked for it (EndpointConnection"),
        ({}, {"region": "no region!"}, "S3 cannot be asked for it (InvalidRegionError)"),
        ({"AWS_PROFILE": "nobody"}, {}, "S3 cannot be asked for it (ProfileNotFound)"),
    ],
)
def test_no_way_to_s3(
    variables: dict[str, str],
    access: dict[str, str],
    said: str,
    s3: Moto,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in variables.items():
        if value:
            monkeypatch.setenv(name, value)
        else:
            monkeypatch.delenv(name)
    with pytest.raises(LabError, match=re.escape(said)) as caught:
        find_archives(["s3://lab-data/a.zip"], False, Access(**access))
    assert "hush" not in str(caught.value).lower()


def test_pins_are_equal_however_they_were_found(s3: Moto) -> None:
    bucket = s3_address.Bucket("lab-data", Access())
    assert dict(bucket.find("set/", recurse=False))["set/a.zip"] == bucket.look_at("set/a.zip")
    assert bucket.look_at("set/a.zip").size == Pin(1 << 18, "").size


# --- whole runs ----------------------------------------------------------------------------------


def archive_of(seed: int) -> tuple[bytes, dict[str, bytes]]:
    rng = random.Random(seed)  # noqa: S311  no secret
    files = {f"d{n % 5}/{n}.png": rng.randbytes(4000) for n in range(400)}
    return make_zip([Part(name.encode(), data) for name, data in files.items()]), files


def files_in(dest: Path) -> dict[str, bytes]:
    return {name: data for name, data in contents(dest).items() if data is not None}


def test_a_bucket_is_unpacked_and_a_second_run_reads_nothing(s3: Moto, tmp_path: Path) -> None:
    first, files = archive_of(1)
    second = make_zip([Part(b"more/a", b"a"), Part(b"more/b", b"b")])
    s3.client.put_object(Bucket="lab-data", Key="run/first.zip", Body=first)
    s3.client.put_object(Bucket="lab-data", Key="run/second.zip", Body=second)
    dest = tmp_path / "dest"
    assert unpack("s3://lab-data/run/", dest, check=True)["changed"] and not dest.exists()
    did = unpack("s3://lab-data/run/", dest)
    assert (did["changed"], did["files"]) == (True, 402)
    assert [one["path"] for one in did["archives"]] == [
        "s3://lab-data/run/first.zip",
        "s3://lab-data/run/second.zip",
    ]
    assert files_in(dest) == files | {"more/a": b"a", "more/b": b"b"}
    notes = b"".join(path.read_bytes() for path in dest.rglob("*") if path.is_file())
    assert b"X-Amz-" not in notes and b"HUSH" not in notes
    s3.asked.clear()
    again = unpack("s3://lab-data/run/", dest)
    assert not again["changed"] and not s3.gets()
    (dest / "more/a").unlink()
    assert unpack("s3://lab-data/run/", dest)["files"] == 1
    assert files_in(dest)["more/a"] == b"a"


def test_a_changed_object_is_updated(s3: Moto, tmp_path: Path) -> None:
    for seed in (1, 2):
        body, files = archive_of(seed)
        s3.client.put_object(Bucket="lab-data", Key="run.zip", Body=body)
        did = unpack("s3://lab-data/run.zip", tmp_path / "dest")
        assert (did["changed"], did["files"]) == (True, 400)
        assert files_in(tmp_path / "dest") == files
    assert did["archives"][0]["state"] == "updated"


def test_workers_sign_anew(s3: Moto, tmp_path: Path) -> None:
    body, files = archive_of(1)
    s3.client.put_object(Bucket="lab-data", Key="run.zip", Body=body)
    found = request("s3://lab-data/run.zip", tmp_path / "dest", workers=3)
    s3.faults = [("403 Forbidden", EXPIRED), ("503 Slow Down", b"")]
    assert run(found, check=False)["files"] == 400
    assert files_in(tmp_path / "dest") == files and not s3.faults
