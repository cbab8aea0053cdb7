"""The benchmark of parallel_unzip: its data, its peers, its figures."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from benchmarks.unzip import data, measure, peers, table
from benchmarks.unzip.check import find_fault, wanted_of
from benchmarks.unzip.errors import MissingError
from benchmarks.unzip.measure import Cost
from benchmarks.unzip.rounds import Plan, Task, compare, rotate
from benchmarks.unzip.server import Server, find_range
from benchmarks.unzip.tools import Tools
from benchmarks.unzip.yard import FolderYard
from benchmarks.unzip.zips import ZipWriter, members_of, pack, unpacked

TINY = 1 / 1500  # one image in each of the 40 zips
SLOW = {peers.UNARCHIVE, peers.OURS_ANSIBLE}  # seconds of Ansible's own for each zip
PAIRS = [(one, key) for one in peers.LOCAL for key in "abg" if key == "b" or one.name not in SLOW]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> data.Place:
    return data.Place(tmp_path_factory.mktemp("cache") / "bench-unzip", TINY)


def cost(wall: float, cpu: float = 0.0, error: str = "") -> Cost:
    return Cost(wall, cpu, 0.0, 0, 0.0, error)


def result(name: str, *walls: float, cpu: float = 1.0) -> table.Result:
    return table.Result(name, [cost(wall, cpu) for wall in walls])


def named(*results: table.Result) -> dict[str, table.Result]:
    return {one.name: one for one in results}


# Data


@pytest.mark.parametrize("key", "abcdefg")
def test_a_data_set_is_what_pythons_zipfile_reads(place: data.Place, key: str) -> None:
    folder = data.build(data.SETS[key], place)
    archives = data.archives_of(folder)
    assert len(archives) == {"a": 40, "d": 6}.get(key, 1)
    for path in archives:
        with zipfile.ZipFile(path) as archive:
            assert archive.testzip() is None


def test_a_data_set_is_made_once_and_the_same_each_time(place: data.Place, tmp_path: Path) -> None:
    folder = data.build(data.SETS["a"], place)
    before = [path.stat().st_mtime_ns for path in data.archives_of(folder)]
    again = data.build(data.SETS["a"], place)
    assert [path.stat().st_mtime_ns for path in data.archives_of(again)] == before
    other = data.build(data.SETS["a"], data.Place(tmp_path, TINY))
    assert [path.read_bytes() for path in data.archives_of(other)] == [
        path.read_bytes() for path in data.archives_of(folder)
    ]


def test_sets_b_f_and_g_hold_the_same_images_in_their_own_ways(place: data.Place) -> None:
    (one,), (stored,), (zip64,) = (
        data.archives_of(data.build(data.SETS[key], place)) for key in "bfg"
    )
    contents = [
        {member.name: unpacked(member) for member in members_of(path)}
        for path in (one, stored, zip64)
    ]
    assert contents[0] == contents[1] == contents[2]
    assert {member.method for member in members_of(one)} == {zipfile.ZIP_DEFLATED}
    assert {member.method for member in members_of(stored)} == {zipfile.ZIP_STORED}
    assert zip64.read_bytes().count(b"PK\x06\x06") == 1


def test_an_image_packs_like_a_jpeg() -> None:
    image = data.image(7)
    packed = pack("7.jpg", image)
    assert packed.method == zipfile.ZIP_DEFLATED
    assert 0.97 < len(packed.data) / len(image) < 1


def test_more_members_than_16_bits_count(tmp_path: Path) -> None:
    with ZipWriter(tmp_path / "many.zip") as archive:
        for n in range(70_000):
            archive.add(pack(str(n), b""))
    assert len(zipfile.ZipFile(tmp_path / "many.zip").namelist()) == 70_000


def test_a_set_that_cannot_be_had_says_why_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    place = data.Place(tmp_path / "cache", TINY)
    with pytest.raises(MissingError, match="openclipart-png is a Debian package"):
        data.build(data.SETS["i"], place)
    assert list(place.folder("i").parent.iterdir()) == []


# Peers


def job(place: data.Place, key: str, dest: Path) -> peers.Job:
    folder = data.build(data.SETS[key], place)
    return peers.Job(folder, dest, 2, Tools(place.cache / "tools", fetch=False))


@pytest.mark.parametrize(("peer", "key"), PAIRS, ids=[f"{one.name}-{key}" for one, key in PAIRS])
def test_a_peer_really_unpacks(
    place: data.Place, tmp_path: Path, peer: peers.Peer, key: str
) -> None:
    work = job(place, key, tmp_path / "out")
    work.dest.mkdir()
    try:
        command = peer.command(work)
    except MissingError as error:
        pytest.skip(str(error))
    spent = measure.run(command.words, work.dest, command.environment, 60)
    assert spent.error == ""
    assert find_fault(work.dest, wanted_of(work.archives)) == ""
    assert spent.cpu > 0


def test_a_peer_that_this_machine_lacks_is_named_with_the_reason(
    place: data.Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = job(place, "b", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    ready, missing = peers.able(peers.LOCAL, work)
    assert missing["7zz"] == "7zz is not installed (Debian package 7zip)"
    assert missing["limit"] == "there is no C compiler (cc)"
    assert "zipfile" in {one.name for one in ready}
    assert "xargs -P 2 unzip" not in missing  # one zip: left out, not missing


# Checks


def write_zip(path: Path, **files: bytes) -> Path:
    with ZipWriter(path) as archive:
        for name, content in files.items():
            archive.add(pack(name, content))
    return path


@pytest.mark.parametrize(
    ("files", "fault"),
    [
        ({"one": b"1111", "two": b"22"}, ""),
        ({"one": b"1111", "two": b"22", ".parallel_unzip.json": b"{}"}, ""),
        ({"one": b"1111"}, "1 files instead of 2"),
        ({"one": b"1111", "too": b"22"}, "two: no bytes instead of 2"),
        ({"one": b"1111", "two": b"2"}, "two: 1 bytes instead of 2"),
        ({"one": b"1112", "two": b"22"}, "one: other contents"),
    ],
)
def test_a_wrong_output_is_found(tmp_path: Path, files: dict[str, bytes], fault: str) -> None:
    wanted = wanted_of([write_zip(tmp_path / "x.zip", one=b"1111", two=b"22")])
    dest = tmp_path / "out"
    dest.mkdir()
    for name, content in files.items():
        (dest / name).write_bytes(content)
    assert find_fault(dest, wanted) == fault


# Measuring


def shell(script: str, tmp_path: Path, deadline: float = 30) -> Cost:
    yard = tmp_path / "yard"
    yard.mkdir(exist_ok=True)
    return measure.run(["sh", "-c", script], yard, {}, deadline)


def burn(seconds: float) -> str:
    code = f"import time\nwhile time.process_time() < {seconds}: pass"
    return f"{sys.executable} -c '{code}'"


def test_cpu_of_grandchildren_counts_and_sleep_does_not(tmp_path: Path) -> None:
    spent = shell(f"({burn(0.3)}) & wait; sleep 0.7", tmp_path)
    assert 0.3 <= spent.cpu < 0.9
    assert spent.wall >= 1.0


def test_a_failure_gives_status_and_words(tmp_path: Path) -> None:
    assert shell("echo no such thing; exit 3", tmp_path).error == "exit status 3: no such thing"


def test_a_run_ends_at_its_deadline(tmp_path: Path) -> None:
    spent = shell("sleep 60", tmp_path, deadline=0.2)
    assert spent.error == "not done by the deadline"
    assert spent.wall < 30


def test_peers_that_fail_or_lie_are_out(tmp_path: Path) -> None:
    wanted = wanted_of([write_zip(tmp_path / "x.zip", one=b"1")])

    def peer(name: str, script: str) -> peers.Peer:
        words = ["sh", "-c", script, "sh"]
        return peers.Peer(name, lambda job: peers.Command([*words, str(job.dest)], {}))

    good = peer("good", 'printf 1 >"$1/one"')
    lies = peer("lies", "true")
    fails = peer("fails", "exit 1")
    yard = FolderYard(tmp_path / "yards")
    work = peers.Job(tmp_path, Path(), 1, Tools(tmp_path))
    found = compare([good, lies, fails], Task(work, wanted, yard), Plan(3, 30, 0, {})).results
    assert [len(one.costs) for one in found] == [3, 0, 0]
    assert [one.good for one in found] == [True, False, False]
    assert found[1].reason.startswith("failed: 0 files instead of 1")
    assert found[2].reason.startswith("failed: exit status 1")


def test_an_interrupted_run_keeps_its_whole_rounds(tmp_path: Path) -> None:
    wanted = wanted_of([write_zip(tmp_path / "x.zip", one=b"1")])
    calls: list[str] = []

    def peer(name: str) -> peers.Peer:
        def command(job: peers.Job) -> peers.Command:
            calls.append(name)
            if len(calls) == 4:
                raise KeyboardInterrupt
            return peers.Command(["sh", "-c", 'printf 1 >"$1/one"', "sh", str(job.dest)], {})

        return peers.Peer(name, command)

    yard = FolderYard(tmp_path / "yards")
    work = peers.Job(tmp_path, Path(), 1, Tools(tmp_path))
    outcome = compare([peer("a"), peer("b")], Task(work, wanted, yard), Plan(5, 30, 0, {}))
    assert not outcome.whole
    assert [len(one.costs) for one in outcome.results] == [1, 1]


def test_every_peer_is_first_and_last_at_times() -> None:
    members = [peers.Peer(name, lambda _: peers.Command([], {})) for name in "abc"]
    orders = ["".join(one.name for one in rotate(members, turn)) for turn in range(6)]
    assert {order[0] for order in orders} == set("abc")
    assert {order[-1] for order in orders} == set("abc")
    assert all(sorted(order) == list("abc") for order in orders)


# Figures


def test_a_ratio_is_of_the_rounds_and_not_of_the_medians() -> None:
    ours, peer = result("ours", 1.0, 2.0, 9.0), result("peer", 2.0, 6.0, 9.0)
    assert table.ratio(peer, ours, table.wall) == 2.0
    assert table.median(peer, table.wall) == 6.0


def test_the_table_is_sorted_and_names_what_is_missing() -> None:
    text = table.render(
        named(
            result(peers.OURS, 3.0),
            result(peers.LIMIT, 2.0),
            table.Result("7zz", reason="skipped: not installed"),
        )
    ).splitlines()
    assert text[2].startswith("| limit | 2.00 (2.00-2.00) | 1.00 (1.00-1.00) | 1.00 | 1.00 | 0.67")
    assert text[3].startswith(f"| {peers.OURS} | 3.00 (3.00-3.00) | 1.00 (1.00-1.00) | 1.50")
    assert text[4] == "| 7zz | skipped: not installed |"


def verdicts(results: Sequence[table.Result], limited: bool = True) -> dict[str, bool]:
    return {one.text: one.met for one in table.judge(named(*results), limited)}


def test_targets_are_judged_from_the_figures() -> None:
    results = [
        result(peers.LIMIT, 1.0, cpu=1.0),
        result(peers.LIMIT_ZLIB, 1.0, cpu=1.0),
        result(peers.OURS, 2.0, cpu=1.2),
        result(peers.OURS_ZLIB, 2.0, cpu=1.4),
        result("bsdtar", 2.5, cpu=1.1),
        result(peers.USERS_LINE, 3.9, cpu=5.0),
        result(peers.UNARCHIVE, 12.0, cpu=5.0),
        result(peers.OURS_ANSIBLE, 2.9, cpu=5.0),
    ]
    assert verdicts(results) == {
        "CPU / limit, libdeflate": False,
        "CPU / limit, zlib": True,
        "wall / that of the best peer (bsdtar)": True,
        "CPU / that of the best peer (bsdtar)": False,
        "faster than xargs -P 10 unzip": False,
        "through Ansible, faster than unarchive": True,
    }
    assert "CPU / limit, libdeflate" not in verdicts(results, limited=False)
    assert verdicts(results[:1]) == {}


# S3


@pytest.fixture
def bucket(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / "key.zip").write_bytes(bytes(range(100)))
    server = Server(tmp_path, 0.0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/bench"
    server.shutdown()
    server.server_close()


def fetch(address: str, **headers: str) -> tuple[int, bytes, str]:
    request = urllib.request.Request(address, headers=headers)  # noqa: S310  our own server
    with urllib.request.urlopen(request) as answer:  # noqa: S310
        return answer.status, answer.read(), answer.headers["ETag"] or ""


@pytest.mark.parametrize(
    ("header", "first", "past"),
    [
        ("bytes=0-9", 0, 10),
        ("bytes=90-", 90, 100),
        ("bytes=-5", 95, 100),
        ("bytes=95-200", 95, 100),
    ],
)
def test_the_server_answers_ranges(bucket: str, header: str, first: int, past: int) -> None:
    assert find_range(header, 100) == (first, past)
    status, body, _ = fetch(f"{bucket}/key.zip", Range=header)
    assert (status, body) == (206, bytes(range(first, past)))


def test_the_server_pins_a_version(bucket: str) -> None:
    status, body, etag = fetch(f"{bucket}/key.zip")
    assert (status, body) == (200, bytes(range(100)))
    assert fetch(f"{bucket}/key.zip", **{"If-Match": etag})[0] == 200
    with pytest.raises(urllib.error.HTTPError, match="412"):
        fetch(f"{bucket}/key.zip", **{"If-Match": '"other"'})


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [("/none.zip", {}, "404"), ("/key.zip", {"Range": "bytes=100-"}, "416")],
)
def test_the_server_refuses(bucket: str, path: str, headers: dict[str, str], status: str) -> None:
    with pytest.raises(urllib.error.HTTPError, match=status):
        fetch(bucket + path, **headers)


def test_boto3_downloads_from_the_server(bucket: str, tmp_path: Path) -> None:
    target = tmp_path / "got.zip"
    environment = {
        **os.environ,
        "AWS_ENDPOINT_URL": bucket.rpartition("/")[0],
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
        "AWS_REGION": "us-east-1",
    }
    script = peers.HERE / "s3_peer.py"
    subprocess.run(
        [sys.executable, script, "s3://bench/key.zip", target], env=environment, check=True
    )
    assert zlib.crc32(target.read_bytes()) == zlib.crc32(bytes(range(100)))
