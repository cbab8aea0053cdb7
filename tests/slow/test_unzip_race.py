"""Archives that make workers race, with 1 to 32 of them: always one verdict, nothing outside."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from ansible.module_utils.lab.errors import LabError
from ansible.module_utils.lab.unzip import task

from tests.slow.slow_kit import folding, mount_tmpfs, unmount
from tests.unit.unzip_kit import Part, contents, make_zip, unpack

REPEATS = 100
WORKERS = (1, 2, 8, 32)
CROWD = 32  # archives: each is a range of its own, so that each worker has one

Parts = list[Part]
by_workers = pytest.mark.parametrize("workers", WORKERS)


def crowd(make: Callable[[int], Parts]) -> list[bytes]:
    return [make_zip(make(number)) for number in range(CROWD)]


def member(name: str, data: str = "") -> Part:
    return Part(name.encode(), (data or name).encode() * 20, flags=0x800)


def bad(name: str) -> Part:
    return Part(name.encode(), b"x", local={"crc": 1}, central={"crc": 1})


# Names that one filesystem keeps apart and another folds, in archives that are unpacked at once.
def by_case(number: int) -> Parts:
    letter = ("a", "A", "ä", "Ä")[number % 4]
    return [member(f"d/{number // 4}{letter}.png"), member(f"e/{number}")]


def file_or_folder(number: int) -> Parts:
    return [member("f" if number == 0 else f"F/{number}")]


APART = {"by case": by_case, "file or folder": file_or_folder}

# Taken everywhere: all make the same folders at once.
GOOD = {
    "same folders": lambda n: [
        *(member(f"p/{(n * 7 + m) % CROWD}/{n}") for m in range(4)),
        Part(b"p/empty/%d/" % (n % 5), method=0),
    ]
}


# Refused everywhere, before or while workers run.
BAD = {
    "twice in two": lambda n: [member("d/same" if n in (3, 30) else f"d/{n}")],
    "spelled twice": lambda n: [member({5: "d//s", 6: "./d/s", 7: "d/./s"}.get(n, f"d/{n}"))],
    "file and folder": lambda n: [member({8: "d/f", 9: "d/f/x"}.get(n, f"d/{n}"))],
    "one is damaged": lambda n: [member(f"d/{n}"), *([bad("d/bad")] if n == 17 else [])],
    "all are damaged": lambda n: [member(f"d/{n}"), bad(f"d/bad{n}")],
    "one is a link": lambda n: [
        member(f"d/{n}"),
        *([Part(b"l", b"/tmp", attributes=0o120777 << 16)] if n == 20 else []),
    ],
    "the last lies": lambda n: [member(f"d/{n}"), Part(b"d/l%d" % n, b"x", packed=b"\3\0")],
}


@pytest.fixture
def yard(tmp_path: Path) -> Iterator[Path]:
    mounted = mount_tmpfs(tmp_path)  # for speed alone
    (tmp_path / "in").mkdir()
    (tmp_path / "yard").mkdir()
    yield tmp_path
    if mounted:
        unmount(tmp_path)


def verdicts(yard: Path, zips: list[bytes], workers: int, repeats: int = REPEATS) -> set[str]:
    """Unpack again and again into a dest that is not there; all the different outcomes."""
    for number, data in enumerate(zips):
        (yard / "in" / f"{number:02}.zip").write_bytes(data)
    dest = yard / "yard" / "dest"
    said = set()
    for _ in range(repeats):
        try:
            unpack(yard / "in", dest, workers=workers)
        except LabError as error:
            assert "\n" not in str(error)
            said.add("refused")
            assert list(dest.parent.iterdir()) == [], f"something is left: {error}"
        else:
            said.add(repr(sorted(contents(dest).items())))
            assert list(dest.parent.iterdir()) == [dest]
            shutil.rmtree(dest)
    return said


def expected(zips: list[bytes], make: Callable[[int], Parts]) -> str:
    files = {part.name.decode(): part.data for n in range(CROWD) for part in make(n)}
    found: dict[str, bytes | None] = {}
    for path, data in files.items():
        above = Path(path)
        found.update((str(folder), None) for folder in list(above.parents)[:-1])
        found[path.rstrip("/")] = None if path.endswith("/") else data
    return repr(sorted(found.items()))


@by_workers
@pytest.mark.parametrize("case", ["same folders", "by case"])
def test_taken_where_names_are_kept_apart(case: str, workers: int, yard: Path) -> None:
    make = {**GOOD, **APART}[case]
    zips = crowd(make)
    assert verdicts(yard, zips, workers) == {expected(zips, make)}


@by_workers
@pytest.mark.parametrize("case", BAD)
def test_refused_everywhere(case: str, workers: int, yard: Path) -> None:
    assert verdicts(yard, crowd(BAD[case]), workers) == {"refused"}


@pytest.fixture(scope="module")
def folds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder on a filesystem that takes A and a for the same name."""
    root = tmp_path_factory.mktemp("folds")
    why = folding(root)
    if why:
        pytest.skip(f"no filesystem that folds names ({why}): names by case UNTESTED on one")
    yield root / "mounted" / "dir"
    unmount(root / "mounted")
    subprocess.run(["losetup", "--detach", (root / "loop").read_text()], check=False)


@by_workers
@pytest.mark.parametrize("case", APART)
def test_refused_where_names_are_folded(
    case: str, workers: int, folds: Path, tmp_path: Path
) -> None:
    shutil.rmtree(folds / "case", ignore_errors=True)
    (folds / "case" / "yard").mkdir(parents=True)
    (folds / "case" / "in").mkdir()
    assert verdicts(folds / "case", crowd(APART[case]), workers) == {"refused"}


def test_other_names_are_taken_where_names_are_folded(folds: Path) -> None:
    (folds / "good" / "yard").mkdir(parents=True)
    (folds / "good" / "in").mkdir()
    make = GOOD["same folders"]
    assert verdicts(folds / "good", crowd(make), 8, repeats=5) == {expected([], make)}


@pytest.mark.parametrize("there", ["Note.txt", "D/note.txt"])
def test_file_of_another_case_in_dest_is_kept(there: str, folds: Path, tmp_path: Path) -> None:
    dest = folds / there.replace("/", "_")
    (dest / there).parent.mkdir(parents=True)
    (dest / there).write_text("mine")
    archive = tmp_path / "a.zip"
    archive.write_bytes(make_zip([Part(there.lower().encode(), b"other")]))
    with pytest.raises(LabError, match="is there with other contents"):
        unpack(archive, dest)
    assert (dest / there).read_text() == "mine"


@contextmanager
def flipping(place: Path, outside: Path) -> Iterator[None]:
    """Another process puts a link to `outside` in the place of a folder, and back, all the time."""
    pid = os.fork()
    if not pid:
        try:
            while os.getppid() != 1:
                try:
                    os.rename(place, f"{place}.kept")  # noqa: PTH104  as fast as can be
                    os.symlink(outside, place)  # noqa: PTH211
                    os.unlink(place)  # noqa: PTH108
                    os.rename(f"{place}.kept", place)  # noqa: PTH104
                except OSError:
                    if not os.path.lexists(place):
                        Path(f"{place}.kept").mkdir(exist_ok=True)
                        os.rename(f"{place}.kept", place)  # noqa: PTH104
        finally:
            os._exit(0)
    try:
        yield
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)


@by_workers
def test_folder_that_turns_into_a_link_leads_nowhere(workers: int, yard: Path) -> None:
    for number, data in enumerate(crowd(lambda n: [member(f"d/e/{n}"), member(f"d/{n}")])):
        (yard / "in" / f"{number:02}.zip").write_bytes(data)
    outside, dest = yard / "outside", yard / "yard" / "dest"
    outside.mkdir()
    (dest / "d").mkdir(parents=True)
    ends = set()
    with flipping(dest / "d", outside):
        for _ in range(REPEATS):
            try:
                unpack(yard / "in", dest, workers=workers)
                ends.add("taken")
            except LabError:
                ends.add("refused")
            assert list(outside.iterdir()) == []
            for part in ("d", "d.kept"):
                shutil.rmtree(dest / part / "e", ignore_errors=True)
    assert ends


def both(yard: Path, archives: Path) -> list[str]:
    """Two runs at once into one dest; how each ended."""
    pipes = []
    start_read, start_write = os.pipe()
    for _ in range(2):
        read_end, write_end = os.pipe()
        if not os.fork():
            try:
                os.close(start_write)
                os.read(start_read, 1)  # until both are there
                try:
                    said = f"changed={unpack(archives, yard / 'yard' / 'dest')['changed']}"
                except LabError as error:
                    said = str(error)
                os.write(write_end, said.encode())
            finally:
                os._exit(0)
        os.close(write_end)
        pipes.append(read_end)
    os.close(start_read)
    os.close(start_write)
    ends = [os.fdopen(pipe, "rb").read().decode() for pipe in pipes]
    for _ in pipes:
        os.wait()
    return sorted(ends)


def large(yard: Path) -> None:
    parts = [member(f"{number % 9}/{number}") for number in range(3000)]
    (yard / "in" / "a.zip").write_bytes(make_zip(parts))


def test_second_run_waits_and_finds_all_done(yard: Path) -> None:
    large(yard)
    for _ in range(20):
        assert both(yard, yard / "in") == ["changed=False", "changed=True"]
        shutil.rmtree(yard / "yard" / "dest")


def test_second_run_says_who_holds_dest(yard: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task, "_PATIENCE", 0.0)
    large(yard)
    met = 0
    deadline = time.monotonic() + 30
    while met < 5 and time.monotonic() < deadline:
        first, second = both(yard, yard / "in")
        assert second == "changed=True" or first == "changed=True"
        other = first if second == "changed=True" else second
        if other != "changed=False":
            assert "another run (process " in other
            met += 1
        shutil.rmtree(yard / "yard" / "dest")
    assert met == 5
