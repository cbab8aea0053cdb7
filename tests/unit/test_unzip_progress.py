"""How far parallel_unzip is: the file that says so, and what is made of it."""

from __future__ import annotations

import importlib.util
import json
import os
import stat
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.lab.unzip.progress import NoProgress, ProgressFile

PLUGIN = Path(__file__).resolve().parents[2] / "plugins" / "action" / "parallel_unzip.py"


def load_plugin() -> Any:
    spec = importlib.util.spec_from_file_location("shown_unzip", PLUGIN)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


shown = load_plugin()


# The file


def read(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text()))


def test_the_file_says_how_far_the_run_is(tmp_path: Path) -> None:
    path = tmp_path / "mine" / "progress.json"
    with ProgressFile(str(path), interval=0) as progress:
        assert read(path)["stage"] == "reading"
        progress.begin(archives=2, files=30, bytes=4000)
        progress.stage("unpacking")
        progress.update(files=10, bytes=1000)
        said = read(path)
        assert said.pop("seconds") >= 0
        assert said == {
            "stage": "unpacking",
            "archives": 2,
            "files": 30,
            "bytes": 4000,
            "files_done": 10,
            "bytes_done": 1000,
        }
        assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_the_file_is_the_owner_s_alone_and_goes_with_its_folder(tmp_path: Path) -> None:
    path = tmp_path / "mine" / "progress.json"
    before = os.umask(0)
    try:
        with ProgressFile(str(path)):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    finally:
        os.umask(before)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_was_there_stays(tmp_path: Path) -> None:
    with ProgressFile(str(tmp_path / "progress.json")):
        pass
    assert list(tmp_path.iterdir()) == []


def test_the_file_goes_also_when_the_run_fails(tmp_path: Path) -> None:
    path = tmp_path / "mine" / "progress.json"
    with pytest.raises(ValueError, match="no"), ProgressFile(str(path)):
        raise ValueError("no")
    assert list(tmp_path.iterdir()) == []


def test_many_reports_are_few_writes(tmp_path: Path) -> None:
    path = tmp_path / "progress.json"
    with ProgressFile(str(path), interval=3600) as progress:
        progress.begin(1, 10, 10)
        first = path.stat().st_ino
        for done in range(10):
            progress.update(done, done)
        assert path.stat().st_ino == first
        assert read(path)["files_done"] == 0
        progress.stage("placing")
        assert path.stat().st_ino != first


@pytest.mark.parametrize("path", ["/dev/null/no/progress.json", "/proc/no/progress.json", "/"])
def test_a_file_that_cannot_be_written_fails_nothing(path: str) -> None:
    with ProgressFile(path, interval=0) as progress:
        progress.begin(1, 1, 1)
        progress.stage("unpacking")
        progress.update(1, 1)


def test_a_folder_that_vanishes_fails_nothing(tmp_path: Path) -> None:
    path = tmp_path / "mine" / "progress.json"
    with ProgressFile(str(path), interval=0) as progress:
        path.unlink()
        path.parent.rmdir()
        progress.update(1, 1)


def test_a_reader_never_sees_half_a_file(tmp_path: Path) -> None:
    path = tmp_path / "progress.json"
    over = threading.Event()
    seen: list[dict[str, Any]] = []

    def look() -> None:
        while not over.is_set():
            seen.append(read(path))

    with ProgressFile(str(path), interval=0) as progress:
        progress.begin(1, 10**9, 10**9)
        thread = threading.Thread(target=look)
        thread.start()
        for done in range(500):
            progress.update(10 ** (done % 10), done)
        over.set()
        thread.join()
    assert seen
    assert all(len(said) == 7 for said in seen)


def test_nobody_watches() -> None:
    progress = NoProgress()
    progress.begin(1, 1, 1)
    progress.update(1, 1)
    progress.stage("done")


# The lines


def sample(
    files: int,
    size: int,
    seconds: float,
    stage: str = "unpacking",
    totals: tuple[int, int] = (1, 1),
) -> Any:
    return shown.Sample(stage, 40, totals[0], totals[1], files, size, seconds)


MB = 1_000_000
HALF = [
    sample(20_000, 1_000_000_000, 2.0, totals=(60_000, 3_000_000_000)),
    sample(30_000, 1_500_000_000, 4.0, totals=(60_000, 3_000_000_000)),
]
BAR_CASES: list[tuple[list[Any], int, str]] = [
    (
        HALF,
        79,
        "[#######--------]  50 %  30,000 files   5,000 files/s    250.0 MB/s   0:06 left",
    ),
    (HALF, 61, " 50 %  30,000 files   5,000 files/s    250.0 MB/s   0:06 left"),
    (HALF, 60, " 50 %  30,000 files   5,000 files/s    250.0 MB/s"),
    (HALF, 18, " 50 %"),
    (HALF, 4, " 50 "),
    # The first look: from the beginning on.
    (HALF[:1], 61, " 33 %  20,000 files  10,000 files/s    500.0 MB/s   0:04 left"),
    # Nothing done yet, no time gone by, nothing done lately: no rate, and the bar stays as it is.
    ([sample(0, 0, 1.0, totals=(9, 9))], 79, f"[{'-' * 20}]   0 %  0 files"),
    ([sample(3, 3, 0.0, totals=(9, 9))], 79, f"[{'#' * 6}{'-' * 14}]  33 %  3 files"),
    ([sample(3, 3, 1.0, totals=(9, 9)), sample(3, 3, 2.0, totals=(9, 9))], 30, " 33 %  3 files"),
    # Only files, only bytes, neither.
    ([sample(1, 0, 1.0, totals=(2, 0))], 45, " 50 %  1 files       1 files/s      0.0 MB/s"),
    ([sample(0, MB, 1.0, totals=(0, 4 * MB))], 45, " 25 %  0 files       0 files/s      1.0 MB/s"),
    ([sample(0, 0, 0.0, totals=(0, 0))], 79, "Reading the archives"),
    # More than was said.
    ([sample(9, 9, 1.0, totals=(3, 3))], 30, "100 %  9 files       9 files/s"),
    ([sample(0, 0, 3.0, stage="reading", totals=(3, 3))], 79, "Reading the archives"),
    ([sample(3, 3, 3.0, stage="placing", totals=(3000, 3))], 79, "Moving 3,000 files into place"),
    ([sample(3, 3, 3.0, stage="placing", totals=(3000, 3))], 6, "Moving"),
]  # fmt: skip


@pytest.mark.parametrize(("samples", "width", "line"), BAR_CASES)
def test_bar(samples: list[Any], width: int, line: str) -> None:
    assert shown.format_bar(samples, width) == line
    assert len(line) <= width


def test_the_bar_does_not_change_its_length() -> None:
    frames = [
        shown.format_bar([sample(done, done, 1.0 + done, totals=(9999, 9999))], 100)
        for done in (0, 5, 50, 500, 5000, 9999)
    ]
    assert len({frame.index("]") for frame in frames}) == 1
    assert [frame.count("#") for frame in frames] == sorted(frame.count("#") for frame in frames)


LINE_CASES = [
    (
        HALF,
        "50 % of 40 archives, 30,000 of 60,000 files, 1,500.0 of 3,000.0 MB, "
        "5,000 files/s, 250.0 MB/s, 0:06 left",
    ),
    ([sample(0, 0, 1.0, totals=(9, 0))], "0 % of 40 archives, 0 of 9 files, 0.0 of 0.0 MB"),
    (
        [shown.Sample("unpacking", 1, 2, 10**6, 1, 0, 1.0)],
        "25 % of 1 archive, 1 of 2 files, 0.0 of 1.0 MB, 1 files/s, 0.0 MB/s, 0:03 left",
    ),
    ([sample(0, 0, 0.0, stage="reading")], "reading the archives"),
    ([sample(1, 1, 0.0, stage="placing")], "moving 1 files into place"),
]


@pytest.mark.parametrize(("samples", "line"), LINE_CASES)
def test_line(samples: list[Any], line: str) -> None:
    assert shown.format_line(samples) == line


@pytest.mark.parametrize(
    ("result", "line"),
    [
        (
            {"files": 60_000, "bytes": 3_000_000_000, "seconds": 12.0},
            "done, 60,000 files, 3,000.0 MB in 0:12, 5,000 files/s, 250.0 MB/s",
        ),
        ({"files": 0, "bytes": 0, "seconds": 0.0}, "done, 0 files, 0.0 MB in 0:00"),
        ({"failed": True, "msg": "x"}, "stopped"),
        ({}, "stopped"),
    ],
)
def test_last_line(result: dict[str, Any], line: str) -> None:
    assert shown.format_end(result) == line


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0:00"),
        (7.4, "0:07"),
        (59.6, "1:00"),
        (754, "12:34"),
        (3723, "1:02:03"),
        (3599.7, "1:00:00"),
    ],
)
def test_time(seconds: float, text: str) -> None:
    assert shown.format_time(seconds) == text


@pytest.mark.parametrize("text", ["", "cat: no such file", "{", "{}", "[1]", "7", '{"stage": "x"}'])
def test_what_is_no_progress_is_none(text: str) -> None:
    assert shown.parse_sample(text) is None


def test_the_file_is_what_the_plugin_reads(tmp_path: Path) -> None:
    path = tmp_path / "progress.json"
    with ProgressFile(str(path), interval=0) as progress:
        progress.begin(2, 30, 4000)
        progress.update(10, 1000)
        said = shown.parse_sample("Welcome to this host\n" + path.read_text())
    assert (said.archives, said.files, said.bytes) == (2, 30, 4000)
    assert (said.files_done, said.bytes_done) == (10, 1000)


# The watch


class View:
    """Takes what would be shown."""

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self.ends: list[dict[str, Any]] = []

    def show(self, samples: list[Any]) -> None:
        self.seen.append(samples[-1])

    def end(self, result: dict[str, Any]) -> None:
        self.ends.append(result)


def wait_for(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


TEXT = json.dumps(vars(sample(1, 1, 1.0)))


def test_a_quick_run_is_not_looked_at() -> None:
    view = View()
    with shown.Watch(lambda: TEXT, view, 60.0, 60.0):
        pass
    assert view.seen == []


def test_a_longer_run_is_looked_at_until_it_ends() -> None:
    view = View()
    with shown.Watch(lambda: TEXT, view, 0.0, 0.0):
        wait_for(lambda: len(view.seen) > 2)
    seen = len(view.seen)
    time.sleep(0.05)
    assert len(view.seen) == seen
    assert view.seen[0] == sample(1, 1, 1.0)


def test_looks_that_fail_are_given_up_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shown, "_LONGEST_WAIT", 0.01)
    looks: list[int] = []

    def fail() -> str:
        looks.append(1)
        raise OSError("the connection is gone")

    view = View()
    with shown.Watch(fail, view, 0.0, 0.0) as watch:
        wait_for(lambda: not watch._thread.is_alive())
    assert len(looks) == shown._MISSES
    assert view.seen == []
    assert view.ends == [{}]


def test_a_look_that_comes_too_late_is_not_shown() -> None:
    view = View()
    begun, go_on = threading.Event(), threading.Event()

    def slow() -> str:
        begun.set()
        go_on.wait(20)
        return TEXT

    with shown.Watch(slow, view, 0.0, 0.0) as watch:
        begun.wait(20)
        threading.Timer(0.1, go_on.set).start()
        watch.result = {"files": 1}
    watch._thread.join(20)
    assert view.seen == []
    assert view.ends == [{"files": 1}]
