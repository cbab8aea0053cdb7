"""Archives at addresses: their identity, what is read of them, and every way it goes wrong."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.lab.errors import LabError
from ansible.module_utils.lab.unzip import http_ranges
from ansible.module_utils.lab.unzip.http_asking import Patience
from ansible.module_utils.lab.unzip.sources import Access, Archive, find_archives
from ansible.module_utils.testing import patch_module_args

from library import parallel_unzip

from .range_server import (
    LATER,
    Fault,
    RangeServer,
    Thing,
    change,
    closed,
    cut,
    fine,
    hang_up,
    s3_error,
    serving,
    stall,
    status,
)

DATA = os.urandom(1 << 20)
SECRET = "X-Amz-Signature=hush-hush"


@pytest.fixture(autouse=True)
def closed_yard(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy, no credentials and no region of whoever runs the tests; no idle connections."""
    closed(monkeypatch, read=0.3)


@pytest.fixture
def server() -> Iterator[RangeServer]:
    with serving(RangeServer({"/a.zip": Thing(DATA)})) as served:
        yield served


def find(address: str, **access: Any) -> Archive:
    (archive,) = find_archives([address], False, Access(**access))
    return archive


def read(archive: Archive, length: int = len(DATA), offset: int = 0) -> bytes:
    reader = archive.open()
    try:
        return reader.read_at(length, offset)
    finally:
        reader.close()


def test_an_archive_is_known_without_its_query(server: RangeServer) -> None:
    archive = find(f"http://me:word@127.0.0.1:{server.port}/a.zip?{SECRET}#top")
    assert archive.path == f"{server.url}/a.zip"
    assert (archive.size, archive.remote) == (len(DATA), True)
    assert archive.stamp == server.things["/a.zip"].etag
    assert server.asked[0].target == f"/a.zip?{SECRET}"
    assert server.asked[0].headers["Authorization"] == "Basic bWU6d29yZA=="
    assert "hush" not in repr(archive) and "word" not in repr(archive)
    assert sum(asked.sent for asked in server.asked) == 1


@pytest.mark.parametrize(
    ("length", "offset"),
    [
        (0, 0),
        (1, 0),
        (len(DATA), 0),
        (len(DATA) + 9, 0),
        (100, 5),
        (100, len(DATA) - 50),
        (100, len(DATA)),
        (100, len(DATA) + 50),
    ],
)
def test_reads(length: int, offset: int, server: RangeServer) -> None:
    reader = find(f"{server.url}/a.zip").open()
    expected = DATA[offset : offset + length]
    assert reader.read_at(length, offset) == expected
    buffer = bytearray(length)
    assert reader.read_into(memoryview(buffer), offset) == len(expected)
    assert buffer[: len(expected)] == expected
    assert server.connections == 1


def test_what_was_read_is_not_asked_for_again(server: RangeServer) -> None:
    reader = find(f"{server.url}/a.zip").open()
    reader.read_at(1000, 500)
    before = len(server.asked)
    assert reader.read_at(400, 600) == DATA[600:1000]
    assert len(server.asked) == before
    assert reader.read_at(400, 1200) == DATA[1200:1600]
    assert len(server.asked) == before + 1


def test_one_connection_serves_many_archives(server: RangeServer) -> None:
    for name in "bcd":
        server.things[f"/{name}.zip"] = Thing(name.encode() * 100)
    archives = find_archives([f"{server.url}/{name}.zip" for name in "bcd"], False)
    for archive in archives:
        assert len(read(archive, 100)) == 100
    assert server.connections == 1


def test_a_fork_makes_a_connection_of_its_own(server: RangeServer) -> None:
    archive = find(f"{server.url}/a.zip")
    pid = os.fork()
    if not pid:
        os._exit(read(archive) != DATA)
    assert os.waitpid(pid, 0)[1] == 0
    assert read(archive) == DATA
    assert server.connections == 2


# --- what passes ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "faults",
    [
        [cut(0)],
        [cut(1000), cut(1000), cut(5)],
        [status(503)] * 4,
        [status(429, Retry_After="1"), status(500), status(502), status(504)],
        [s3_error(503, "SlowDown"), cut(1 << 19), s3_error(400, "RequestTimeout"), hang_up],
        [hang_up, hang_up],
        [stall(1.0)],
        # Bytes came in between, so that it is no fifth failure in a row.
        [status(503), status(503), status(503), cut(1000), status(503), status(503), cut(9)],
    ],
)
def test_failures_that_pass(faults: list[Fault], server: RangeServer) -> None:
    reader = find(f"{server.url}/a.zip").open()
    server.faults = list(faults)
    buffer = bytearray(len(DATA))
    assert reader.read_into(memoryview(buffer), 0) == len(DATA)
    assert buffer == DATA and not server.faults


def test_a_cut_body_is_resumed(server: RangeServer) -> None:
    reader = find(f"{server.url}/a.zip").open()
    server.faults = [cut(1 << 19)]
    before = sum(asked.sent for asked in server.asked)
    assert reader.read_at(len(DATA), 0) == DATA
    assert server.asked[-1].headers["Range"] == f"bytes={1 << 19}-{len(DATA) - 1}"
    assert sum(asked.sent for asked in server.asked) - before == len(DATA)


def test_a_server_may_give_less_than_asked(server: RangeServer) -> None:
    archive = find(f"{server.url}/a.zip")
    heads = {"Content-Range": f"bytes 0-9/{len(DATA)}", "ETag": archive.stamp}
    reader = archive.open()
    server.faults = [status(206, DATA[:10], **heads)]
    assert reader.read_at(100, 0) == DATA[:100]
    assert server.asked[-1].headers["Range"] == "bytes=10-99"


def test_an_idle_connection_that_was_closed_is_no_failure(
    server: RangeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = find(f"{server.url}/a.zip").open()
    monkeypatch.setattr(http_ranges, "PATIENCE", Patience(tries=1))
    server.faults = [hang_up]
    assert reader.read_at(10, 0) == DATA[:10]


# --- what does not pass --------------------------------------------------------------------------


def refusal(call: Callable[[], Any], address: str) -> str:
    with pytest.raises(LabError) as caught:
        call()
    said = str(caught.value)
    assert said.startswith(f"{address}: ") and "hush" not in said and "\n" not in said
    assert "hush" not in repr(caught.value.__cause__)
    return said


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (status(503), "cannot be read, its server answered 503 (5 tries)"),
        (s3_error(500, "InternalError"), "its server answered 500 InternalError (5 tries)"),
        (hang_up, "cannot be read, the connection broke off (5 tries)"),
        (cut(0), "cannot be read, the connection broke off (5 tries)"),
        (stall(0.5), "its server does not answer in time (5 tries)"),
        (status(404), "is not there (404); check its spelling"),
        (s3_error(404, "NoSuchBucket"), "is not there (404 NoSuchBucket); check the bucket's name"),
        (status(410), "is not there (410)"),
        (status(401), "may not be read (401); check that the address is whole"),
        (s3_error(403, "AccessDenied"), "may not be read (403 AccessDenied); let the credentials"),
        (s3_error(403, "AccessDenied", "Request has expired"), "have expired (403 AccessDenied)"),
        (s3_error(400, "ExpiredToken"), "have expired (400 ExpiredToken); make new ones"),
        (s3_error(403, "SignatureDoesNotMatch"), "(403 SignatureDoesNotMatch); check the cred"),
        (s3_error(403, "InvalidObjectState"), "it is archived, restore it first"),
        (status(418), "its server answered 418 to a range request"),
        (status(304), "its server answered 304 to a range request"),
        (status(200, b"<html>please log in"), "does not answer ranges"),
        (status(206, b"x"), "does not answer ranges"),
        (status(206, b"x", Content_Range="bytes 7-7/9"), "does not answer ranges"),
        (status(206, b"x", Content_Range="bytes 0-0/*"), "does not answer ranges"),
        (status(206, b"x", Content_Range="bytes 0-0/9"), "neither a strong ETag nor a Last-Mod"),
        (status(206, b"x", Content_Range="bytes 0-0/9", ETag='W/"a"'), "neither a strong ETag"),
        (status(302, Location="/a.zip"), "refers in circles"),
        (status(302, Location="ftp://example.org/"), "refers to an address without TLS"),
        (status(302), "refers in circles"),
    ],
)
def test_refused_when_looked_for(fault: Fault, said: str, server: RangeServer) -> None:
    server.always = fault
    address = f"{server.url}/a.zip?{SECRET}"
    assert said in refusal(lambda: find(address), f"{server.url}/a.zip")


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (change("/a.zip", Thing(DATA[::-1])), "changed while it was being unpacked"),
        (change("/a.zip", Thing(DATA[:-1])), "changed while it was being unpacked"),
        (change("/a.zip", Thing(DATA, ranges=False)), "does not answer ranges"),
        (status(200, b"x" * 100), "does not answer ranges"),
        (status(416), "changed while it was being unpacked"),
        (status(206, b"x", Content_Range="bytes 0-0/100"), "changed while it was being unpacked"),
        (
            status(206, b"x", Content_Range="bytes 0-0/1048576", ETag='"a"'),
            "changed while it was being unpacked",
        ),
        (status(206, b"x" * 200, Content_Range="bytes 0-199/1048576"), "does not answer ranges"),
        (status(206, b"x" * 100, Content_Range="bytes 1-100/1048576"), "does not answer ranges"),
        (s3_error(403, "AccessDenied", "Request has expired"), "have expired"),
        (status(404), "is not there"),
    ],
)
@pytest.mark.parametrize("opened", [False, True])
def test_refused_when_read(fault: Fault, said: str, opened: bool, server: RangeServer) -> None:
    archive = find(f"{server.url}/a.zip?{SECRET}")
    if not opened:
        server.always = fault
        assert said in refusal(lambda: read(archive, 100), archive.path)
        return
    reader = archive.open()
    server.always = fault
    assert said in refusal(lambda: reader.read_at(100, 0), archive.path)


def test_a_whole_answer_is_not_read(server: RangeServer) -> None:
    server.things["/big.zip"] = Thing(bytes(64 << 20), ranges=False)
    refusal(lambda: find(f"{server.url}/big.zip"), f"{server.url}/big.zip")
    with serving():
        pass  # the server's thread has had time to send what anybody reads
    assert server.asked[-1].sent < 64 << 20


def test_waits_have_an_end(server: RangeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = find(f"{server.url}/a.zip")
    reader = archive.open()
    monkeypatch.setattr(http_ranges, "PATIENCE", Patience(whole=-1.0, slowest=1 << 30))
    assert "too slow" in refusal(lambda: reader.read_at(len(DATA), 0), archive.path)


def test_a_server_that_never_answers(server: RangeServer) -> None:
    archive = find(f"{server.url}/a.zip")
    server.always = stall(2.0)
    said = refusal(lambda: read(archive, len(DATA), 0), archive.path)
    assert "does not answer in time (5 tries)" in said or "broke off" in said


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("http://127.0.0.1:1/a.zip", "its server refuses connections (5 tries)"),
        ("http://nowhere.invalid/a.zip", "the name of its server cannot be resolved (5 tries)"),
    ],
)
def test_no_server(address: str, said: str) -> None:
    assert said in refusal(lambda: find(f"{address}?{SECRET}"), address)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("ftp://host/a.zip?hush", "'ftp://host/a.zip' is no address that archives are read from"),
        ("file:///a.zip", "is no address"),
        ("https://", "is no address"),
        ("https:///a.zip", "is no address"),
        ("http://host:port/a.zip?hush", "'http://host:port/a.zip' is no address"),
        ("http://[::1/a.zip", "is no address"),
        ("s3://", "is no S3 address; write s3://bucket/key.zip"),
        ("s3://B/a.zip", "is no S3 address"),
        ("s3://under_score/a.zip", "is no S3 address"),
    ],
)
def test_malformed_addresses(address: str, said: str) -> None:
    with pytest.raises(LabError, match=re.escape(said)) as caught:
        find(address)
    assert "hush" not in str(caught.value)


# --- versions ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("etag", "modified", "condition"),
    [
        ('"strong"', None, ("If-Match", '"strong"')),
        ('"strong"', LATER, ("If-Match", '"strong"')),
        ('W/"weak"', LATER, ("If-Unmodified-Since", LATER)),
        ("", LATER, ("If-Unmodified-Since", LATER)),
    ],
)
def test_each_read_is_pinned(
    etag: str, modified: str | None, condition: tuple[str, str], server: RangeServer
) -> None:
    server.things["/b.zip"] = Thing(DATA, etag, modified)
    archive = find(f"{server.url}/b.zip")
    assert archive.stamp == condition[1]
    assert read(archive) == DATA
    assert [asked.headers.get(condition[0]) for asked in server.asked[1:]] == [condition[1]] * 2
    server.things["/b.zip"] = Thing(DATA[::-1], etag and '"other"', modified and "Sun")
    refusal(lambda: read(archive), archive.path)


def test_queries_that_name_two_archives(server: RangeServer) -> None:
    same = [f"{server.url}/a.zip?at=1", f"{server.url}/a.zip?at=2"]
    assert len(find_archives(same, False)) == 1
    server.faults = [fine, change("/a.zip", Thing(b"another"))]
    with pytest.raises(LabError, match="two queries that name two archives"):
        find_archives(same, False)


def test_an_empty_object_has_no_bytes(server: RangeServer) -> None:
    server.things["/a.zip"] = Thing(b"")
    archive = find(f"{server.url}/a.zip")
    assert (archive.size, read(archive)) == (0, b"")
    server.things["/a.zip"] = Thing(b"", ranges=False)
    assert find(f"{server.url}/a.zip").size == 0


# --- referrals and proxies -----------------------------------------------------------------------


def test_a_referral_is_followed_and_made_again_when_it_expires(server: RangeServer) -> None:
    target = f"{server.url}/a.zip?{SECRET}"
    with serving() as front:
        front.always = status(302, b"see there", Location=target)
        archive = find(f"http://me:word@127.0.0.1:{front.port}/latest")
        assert archive.path == f"{front.url}/latest"
        reader = archive.open()
        assert reader.read_at(10, 0) == DATA[:10]
        assert "Authorization" in front.asked[-1].headers
        assert all("Authorization" not in asked.headers for asked in server.asked)
        before = len(front.asked)
        server.faults = [s3_error(403, "AccessDenied", "Request has expired")]
        assert reader.read_at(10, 20) == DATA[20:30]
        assert len(front.asked) == before + 1
        server.always = s3_error(403, "AccessDenied", "Request has expired")
        said = refusal(lambda: reader.read_at(10, 40), archive.path)
        assert "have expired" in said


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"http_proxy": "http://me:word@127.0.0.1:{}"}, None),
        ({"http_proxy": "127.0.0.1:{}"}, None),
        ({"http_proxy": "http://127.0.0.1:1", "no_proxy": "localhost,archives.test"}, "resolved"),
        ({"http_proxy": "socks5://127.0.0.1:1080"}, "http_proxy: only a proxy that is spoken to"),
    ],
)
def test_http_goes_through_the_proxy(
    variables: dict[str, str],
    said: str | None,
    server: RangeServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value.format(server.port))
    server.things["http://archives.test/a.zip"] = Thing(DATA)
    if said:
        with pytest.raises(LabError, match=said):
            find("http://archives.test/a.zip")
        return
    assert read(find("http://archives.test/a.zip")) == DATA
    assert {asked.target for asked in server.asked} == {"http://archives.test/a.zip"}
    assert server.asked[0].headers["Host"] == "archives.test"
    if "@" in variables["http_proxy"]:
        assert server.asked[0].headers["Proxy-Authorization"] == "Basic bWU6d29yZA=="


def test_boto3_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(LabError, match="install the package python3-boto3"):
        find("s3://bucket/a.zip")


def test_bundle_is_no_bundle(tmp_path: Path, server: RangeServer) -> None:
    (tmp_path / "ca.pem").write_text("not PEM")
    for path in (tmp_path / "ca.pem", tmp_path / "nowhere.pem"):
        with pytest.raises(LabError, match=re.escape(f"ca_bundle: {path} is not a file of PEM")):
            find(f"{server.url}/a.zip", ca_bundle=str(path))


# --- the module ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong", [{}, {"workers": "many"}, {"workers": -1}, {"engine": "steam"}, {"smell": 1}]
)
@pytest.mark.parametrize("listed", [False, True])
def test_nothing_of_a_secret_is_printed(
    wrong: dict[str, Any],
    listed: bool,
    server: RangeServer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    address = f"http://me:word@127.0.0.1:{server.port}/a.zip?{SECRET}#hush"
    src = [address] if listed else address
    params = {"src": src, "dest": str(tmp_path / "dest"), **wrong}
    with patch_module_args(params), pytest.raises(SystemExit):
        parallel_unzip.main()
    said = capsys.readouterr().out
    result = json.loads(said)
    assert result["failed"] and not (tmp_path / "dest").exists()
    assert result["invocation"]["module_args"]["src"] == [f"{server.url}/a.zip"]
    assert "hush" not in said and "word" not in said
    if not wrong:
        assert result["msg"].startswith(f"{server.url}/a.zip: is not a zip archive")
