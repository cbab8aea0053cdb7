"""Whole runs from a web server: what comes out, what is fetched, and what is left when it fails."""

from __future__ import annotations

import os
import random
import resource
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from ansible.module_utils.lab.errors import LabError
from ansible.module_utils.lab.unzip.task import run

from .range_server import (
    Handler,
    RangeServer,
    Thing,
    change,
    closed,
    cut,
    fine,
    hang_up,
    serving,
    stall,
    status,
)
from .unzip_kit import Part, contents, make_zip, request, unpack

SECRET = "token=hush-hush"


def parts(seed: int, count: int = 2000) -> list[Part]:
    """Members of 1 to 8 KB, packed and stored, and one of several MB."""
    rng = random.Random(seed)  # noqa: S311  no secret
    small = [
        Part(
            f"d{n % 9}/{n}.png".encode(),
            rng.randbytes(rng.randrange(1000, 8000)),
            rng.choice((0, 8)),
        )
        for n in range(count)
    ]
    return [*small, Part(b"big.bin", rng.randbytes(1 << 22) + bytes(1 << 22))]


ZIP = make_zip(parts(1))
OTHER = make_zip(parts(2))


@pytest.fixture(autouse=True)
def closed_yard(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    closed(monkeypatch, read=0.5)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr(tempfile, "tempdir", None)


@pytest.fixture
def server() -> Iterator[RangeServer]:
    with serving(RangeServer({"/a.zip": Thing(ZIP)})) as served:
        yield served


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes | None]:
    folder = tmp_path_factory.mktemp("from a file")
    (folder / "a.zip").write_bytes(ZIP)
    unpack(folder / "a.zip", folder / "dest")
    return contents(folder / "dest")


def address(server: RangeServer) -> str:
    return f"{server.url}/a.zip?{SECRET}"


@pytest.mark.parametrize("workers", [1, 2, 8])
def test_it_gives_what_the_file_gives(
    workers: int, server: RangeServer, expected: dict[str, bytes | None], tmp_path: Path
) -> None:
    dest = tmp_path / "dest"
    did = unpack(address(server), dest, workers=workers)
    assert (did["changed"], did["files"]) == (True, 2001)
    assert did["archives"][0]["path"] == f"{server.url}/a.zip"
    assert contents(dest) == expected
    assert sum(asked.sent for asked in server.asked) < len(ZIP) * 1.05 + (128 << 10)
    assert server.connections <= workers + 1
    assert "hush" not in repr(did)
    assert all(b"hush" not in path.read_bytes() for path in dest.rglob(".*") if path.is_file())


def test_a_second_run_asks_once(server: RangeServer, tmp_path: Path) -> None:
    unpack(address(server), tmp_path / "dest")
    server.asked.clear()
    for check in (True, False):
        assert not unpack(f"{server.url}/a.zip?other=signature", tmp_path / "dest", check)[
            "changed"
        ]
    assert [asked.sent for asked in server.asked] == [1, 1]


def test_check_mode_reads_the_directory_alone(server: RangeServer, tmp_path: Path) -> None:
    said = unpack(address(server), tmp_path / "dest", check=True)
    assert said["files"] == 2001 and not (tmp_path / "dest").exists()
    assert sum(asked.sent for asked in server.asked) < 512 << 10


def test_a_missing_file_is_fetched_alone(server: RangeServer, tmp_path: Path) -> None:
    dest = tmp_path / "dest"
    unpack(address(server), dest)
    (dest / "d3/3.png").unlink()
    server.asked.clear()
    assert unpack(address(server), dest)["files"] == 1
    assert (dest / "d3/3.png").exists()
    assert sum(asked.sent for asked in server.asked) < 512 << 10


def test_a_changed_archive_replaces_what_it_brought(server: RangeServer, tmp_path: Path) -> None:
    unpack(address(server), tmp_path / "dest")
    server.things["/a.zip"] = Thing(OTHER)
    did = unpack(address(server), tmp_path / "dest")
    assert (did["files"], did["archives"][0]["state"]) == (2001, "updated")
    (tmp_path / "other.zip").write_bytes(OTHER)
    unpack(tmp_path / "other.zip", tmp_path / "from the file")
    assert contents(tmp_path / "dest") == contents(tmp_path / "from the file")


def test_a_shaky_server(
    server: RangeServer, expected: dict[str, bytes | None], tmp_path: Path
) -> None:
    faults = [cut(0), cut(999), cut(1 << 20), status(503), hang_up, stall(0.9), fine, fine, fine]
    lots = random.Random(3).choices(faults, k=40)  # noqa: S311  no secret

    def shaky(handler: Handler) -> bool:
        return lots.pop()(handler) if lots else False

    server.always = shaky
    assert unpack(address(server), tmp_path / "dest", workers=4)["files"] == 2001
    assert contents(tmp_path / "dest") == expected


@pytest.mark.parametrize("asked_before", [3, 4, 5, 6])
def test_an_archive_that_changes_meanwhile_leaves_dest_as_it_was(
    asked_before: int, server: RangeServer, tmp_path: Path
) -> None:
    dest = tmp_path / "dest"
    server.faults = [*[fine] * asked_before, change("/a.zip", Thing(OTHER))]
    with pytest.raises(LabError, match=r"/a\.zip: changed while it was being unpacked") as caught:
        unpack(address(server), dest)
    assert "hush" not in str(caught.value)
    assert not server.faults
    assert not dest.exists() or not list(dest.iterdir())
    assert unpack(address(server), dest)["files"] == 2001


def test_a_server_that_goes_away_leaves_dest_as_it_was(server: RangeServer, tmp_path: Path) -> None:
    dest = tmp_path / "dest"
    wanted = request(address(server), dest, workers=2)

    def gone(handler: Handler) -> bool:
        return hang_up(handler) if len(server.asked) > 6 else False

    server.always = gone
    with pytest.raises(LabError, match=r"cannot be read, the connection broke off \(5 tries\)"):
        run(wanted, check=False)
    assert not dest.exists() or not list(dest.iterdir())


@contextmanager
def files_no_larger_than(limit: int) -> Iterator[None]:
    """Let this process, and what it forks, write no file of more bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_the_archive_is_never_stored(server: RangeServer, tmp_path: Path) -> None:
    """The disk holds at no time more than the output, nor any file as large as the archive."""
    members = [part for part in parts(1) if part.name != b"big.bin"]
    server.things["/a.zip"] = Thing(make_zip(members))
    dest = tmp_path / "dest"
    output = sum(len(part.data) for part in members)
    most = 0
    over = threading.Event()

    def watch() -> None:
        nonlocal most
        while not over.is_set():
            most = max(most, used(tmp_path))
            time.sleep(0.02)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        with files_no_larger_than(256 << 10):
            unpack(address(server), dest)
    finally:
        over.set()
        watcher.join()
    assert len(server.things["/a.zip"].data) > 256 << 10
    assert max(most, used(tmp_path)) < output + (256 << 10)
    assert not list((tmp_path / "tmp").iterdir())


def used(folder: Path) -> int:
    """Bytes of all files below."""
    total = 0
    for where, _, names in os.walk(folder):
        for name in names:
            try:
                total += (Path(where) / name).stat().st_size
            except FileNotFoundError:
                continue  # moved into place meanwhile
    return total
