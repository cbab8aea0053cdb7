"""The benchmark of s3_mount: its proxy, its command lines, its figures."""

from __future__ import annotations

import http.client
import shutil
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from benchmarks.s3_mount import __main__ as bench
from benchmarks.s3_mount import ways
from benchmarks.s3_mount.programs import Programs
from benchmarks.s3_mount.service import Lag, images
from benchmarks.s3_mount.sets import SETS, Target
from benchmarks.unzip.measure import Cost
from benchmarks.unzip.table import Result

BODY = b"x" * 400_000
needs_compiler = pytest.mark.skipif(not shutil.which("cc"), reason="lag.c needs a C compiler")


class Echo(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        read = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b"" if self.command == "HEAD" else BODY if self.command == "GET" else read
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_HEAD = do_PUT = do_POST = answer  # noqa: N815 - names of the base class

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def upstream() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


def ask(port: int, method: str, path: str, body: bytes = b"") -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request(method, path, body)
    found = connection.getresponse().read()
    connection.close()
    return found


@needs_compiler
def test_the_proxy_counts_delays_and_limits(upstream: int) -> None:
    with Lag(Programs(), upstream, latency=100, rate=2) as lag:
        began = time.monotonic()
        connection = http.client.HTTPConnection("127.0.0.1", lag.port, timeout=20)
        for method, path in (("HEAD", "/a"), ("GET", "/?list-type=2"), ("HEAD", "/prefix=")):
            connection.request(method, path)
            connection.getresponse().read()
        connection.close()
        # Three requests of 100 ms; 400 kB at 2 MB/s are 200 ms, less the 50 ms that are saved up.
        assert 0.44 < time.monotonic() - began < 3
        body = b"PUT /within the body HTTP/1.1\r\n\r\n" + BODY
        assert ask(lag.port, "PUT", "/b", body) == body
        assert lag.requests() == Counter(HEAD=2, LIST=1, PUT=1)
        assert ask(lag.port, "GET", "/c") == BODY
        assert lag.requests() == Counter(GET=1)
        assert not +lag.requests()


def test_the_users_line_is_theirs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    place = ways.Place(8333, tmp_path / "mnt", tmp_path / "cache", tmp_path / "passwd")
    words = ways.users_line(place, Programs()).argv
    theirs = [f"use_cache={tmp_path / 'cache'}", "allow_other", "uid=1001", "mp_umask=002"]
    assert [*words[5::2]][:5] == [*theirs, "multireq_max=5"]


def test_every_set_names_ways_that_there_are() -> None:
    for one in SETS.values():
        assert set(one.ways) <= set(ways.WAYS)
        assert {target.way for target in one.targets} <= set(one.ways)
        assert ways.USERS in one.ways


def test_images_lie_in_their_folders() -> None:
    assert images(21)[::20] == ["train/c00/00000.jpg", "train/c00/00020.jpg"]


def phase(**seconds: float) -> bench.Phase:
    results = {
        name: Result(name, [Cost(wall, 0.0, 0.0, 0, 0.0, "")]) for name, wall in seconds.items()
    }
    return bench.Phase(results, {name: Counter(GET=1500) for name in seconds})


def test_holds_figures_against_targets() -> None:
    phases = {"walk": phase(**{ways.USERS: 90.0, ways.S3FS: 8.0, ways.DIRECT: 1.0})}
    targets = [Target("walk", ways.S3FS, 10), Target("walk", ways.RCLONE, 50)]
    assert [str(one) for one in bench.judge(phases, targets)] == [
        "walk, s3fs, profile read, times the users' line: 11.25 (>= 10) met"
    ]
    assert bench.render(phases["walk"]).split("\n")[3] == (
        "| s3fs, profile read | 8.00 (8.00-8.00) | 11.25 | 0.12 | 1,500 GET |"
    )


@pytest.mark.parametrize("words", [["--sets", "none"], ["--rounds", "0"], ["--scale", "-1"]])
def test_refuses_what_makes_no_sense(words: list[str]) -> None:
    with pytest.raises(SystemExit):
        bench.parse(words)
