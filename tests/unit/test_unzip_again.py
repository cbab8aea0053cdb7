"""Second runs, mends, changed archives, what is in the way, kills: how dest is left."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.lab.errors import LabError
from ansible.module_utils.lab.unzip import place, pool, task
from ansible.module_utils.lab.unzip.dest import hold_dest
from ansible.module_utils.lab.unzip.worker import Modes, Source, Worker

from .unzip_kit import LISTS, STATE, Part, contents, make_zip, request, unpack

STAGE = ".parallel_unzip.part"
FILES = {"train/0/a.png": b"a" * 900, "train/1/b.png": b"b" * 300, "top.txt": b"t"}


def write(path: Path, files: dict[str, bytes], *more: Part) -> Path:
    path.write_bytes(
        make_zip([*(Part(name.encode(), data) for name, data in files.items()), *more])
    )
    return path


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return write(tmp_path / "a.zip", FILES, Part(b"empty/"))


def files_in(dest: Path) -> dict[str, bytes]:
    return {path: data for path, data in contents(dest).items() if data is not None}


@pytest.mark.parametrize("verify", ["manifest", "stat", "crc"])
def test_second_run_changes_nothing(archive: Path, tmp_path: Path, verify: str) -> None:
    dest = tmp_path / "dest"
    assert unpack(archive, dest, verify=verify)["files"] == 3
    before = {path: path.stat().st_mtime_ns for path in [dest, *dest.rglob("*")]}
    again = unpack(archive, dest, verify=verify)
    assert (again["changed"], again["files"], again["unchanged"]) == (False, 0, 3)
    assert again["archives"][0]["state"] == "unchanged"
    assert again["diff"]["before"] == again["diff"]["after"] == ""
    assert before == {path: path.stat().st_mtime_ns for path in [dest, *dest.rglob("*")]}


def test_second_run_does_not_read_the_archive(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unpack(archive, tmp_path / "dest")
    monkeypatch.setattr(task, "run_pool", None)
    monkeypatch.setattr("ansible.module_utils.lab.unzip.plan.read_directory", None)
    assert not unpack(archive, tmp_path / "dest")["changed"]


def test_check_mode_tells_what_the_run_then_does(archive: Path, tmp_path: Path) -> None:
    dest = tmp_path / "up" / "dest"
    said = unpack(archive, dest, check=True)
    assert not dest.parent.exists()
    did = unpack(archive, dest)
    for key in ("changed", "files", "bytes", "unchanged", "archives", "diff"):
        assert said[key] == did[key]
    assert "train/0/a.png (900 bytes)\n" in said["diff"]["after"]
    assert not unpack(archive, dest, check=True)["changed"]
    (dest / "top.txt").unlink()
    said = unpack(archive, dest, check=True)
    assert (said["changed"], said["diff"]["after"]) == (True, "top.txt (1 bytes)\n")
    assert not (dest / "top.txt").exists()


def remove(path: Path) -> None:
    path.unlink()


def cut(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("harm", [remove, cut])
def test_what_is_missing_or_altered_is_mended_alone(
    archive: Path, tmp_path: Path, harm: Callable[[Path], None]
) -> None:
    dest = tmp_path / "dest"
    unpack(archive, dest)
    harm(dest / "train/1/b.png")
    (dest / "empty").rmdir()
    kept = (dest / "train/0/a.png").stat().st_ino
    mended = unpack(archive, dest)
    assert (mended["changed"], mended["files"], mended["unchanged"]) == (True, 1, 2)
    assert mended["archives"][0]["state"] == "mended"
    assert files_in(dest) == FILES and (dest / "empty").is_dir()
    assert (dest / "train/0/a.png").stat().st_ino == kept
    assert not unpack(archive, dest)["changed"]


def test_altered_bytes_of_the_same_length_are_found_by_crc(archive: Path, tmp_path: Path) -> None:
    dest = tmp_path / "dest"
    unpack(archive, dest)
    (dest / "top.txt").write_bytes(b"X")
    assert not unpack(archive, dest)["changed"]
    assert unpack(archive, dest, verify="crc")["files"] == 1
    assert files_in(dest) == FILES


def test_touched_archive_is_not_unpacked_again(archive: Path, tmp_path: Path) -> None:
    unpack(archive, tmp_path / "dest")
    os.utime(archive, (1, 1))
    assert not unpack(archive, tmp_path / "dest")["changed"]
    noted = json.loads((tmp_path / "dest" / STATE).read_text())
    assert noted["archives"][str(archive)]["stamp"] == str(10**9)


def test_changed_archive_replaces_what_it_brought(archive: Path, tmp_path: Path) -> None:
    dest = tmp_path / "dest"
    unpack(archive, dest)
    write(archive, {"top.txt": b"T", "train/0/a.png": FILES["train/0/a.png"], "new": b"n"})
    said = unpack(archive, dest, check=True)
    did = unpack(archive, dest)
    assert said["diff"] == did["diff"]
    assert did["diff"]["before"] == "top.txt (other contents)\n"
    assert (did["files"], did["unchanged"], did["archives"][0]["state"]) == (2, 1, "updated")
    assert (dest / "top.txt").read_bytes() == b"T"
    assert (dest / "train/1/b.png").exists()  # without purge
    assert not unpack(archive, dest)["changed"]


def test_purge_removes_what_a_changed_archive_no_longer_brings(
    archive: Path, tmp_path: Path
) -> None:
    dest = tmp_path / "dest"
    unpack(archive, dest)
    (dest / "foreign").write_text("mine")
    write(archive, {"top.txt": b"T"})
    did = unpack(archive, dest, purge=True)
    assert (did["removed"], did["diff"]["before"].count("\n")) == (2, 3)
    assert contents(dest) == {"top.txt": b"T", "foreign": b"mine", "empty": None}
    assert not unpack(archive, dest, purge=True)["changed"]


def test_purge_follows_no_link_and_no_forged_note(archive: Path, tmp_path: Path) -> None:
    dest, outside = tmp_path / "dest", tmp_path / "outside"
    unpack(archive, dest)
    outside.mkdir()
    (outside / "b.png").write_text("mine")
    (dest / "train/1/b.png").unlink()
    (dest / "train/1").rmdir()
    (dest / "train/1").symlink_to(outside)
    forge_list(dest, "f\t4\t0\t../outside/b.png\n")
    write(archive, {"top.txt": b"T"})
    unpack(archive, dest, purge=True)
    assert (outside / "b.png").read_text() == "mine"


def forge_list(dest: Path, line: str) -> None:
    """Add a line to the list of the one archive, with all sums put right."""
    noted = json.loads((dest / STATE).read_text())
    (entry,) = noted["archives"].values()
    text = gzip.decompress((dest / LISTS / f"{entry['listed']}.tsv.gz").read_bytes())
    text += line.encode()
    entry["listed"] = hashlib.sha256(text).hexdigest()
    (dest / LISTS / f"{entry['listed']}.tsv.gz").write_bytes(gzip.compress(text))
    (dest / STATE).write_text(json.dumps(noted))


def test_archives_share_folders_but_no_file(tmp_path: Path) -> None:
    zips = [
        write(tmp_path / f"{n}.zip", {f"train/{n}.png": b"x"}, Part(b"train/")) for n in range(11)
    ]
    dest = tmp_path / "dest"
    assert unpack(zips, dest)["files"] == 11
    assert sorted(path.name for path in (dest / "train").iterdir()) == sorted(
        f"{n}.png" for n in range(11)
    )
    assert not unpack(tmp_path, dest)["changed"]  # the folder stands for the same archives
    write(tmp_path / "11.zip", {"train/more.png": b"y"})
    more = unpack(tmp_path, dest)
    assert (more["files"], more["unchanged"]) == (1, 11)
    write(tmp_path / "12.zip", {"train/./3.png": b"x"})
    with pytest.raises(LabError, match=r"3.zip: member 'train/3.png' is in .*/12.zip as well"):
        unpack(tmp_path, dest)


def test_foreign_file_is_kept_unless_asked(archive: Path, tmp_path: Path) -> None:
    dest = tmp_path / "dest"
    dest.mkdir()
    (dest / "top.txt").write_text("mine")
    with pytest.raises(
        LabError, match=r"dest/top.txt: is there with other contents and was not brought"
    ):
        unpack(archive, dest)
    assert contents(dest) == {"top.txt": b"mine"}
    assert unpack(archive, dest, overwrite=True)["files"] == 3
    assert files_in(dest) == FILES


def test_identical_foreign_file_is_taken_over(archive: Path, tmp_path: Path) -> None:
    dest = tmp_path / "dest"
    dest.mkdir()
    (dest / "top.txt").write_bytes(b"t")
    done = unpack(archive, dest)
    assert (done["files"], done["unchanged"]) == (2, 1)
    assert files_in(dest) == FILES


def test_lost_note_costs_nothing_but_reading(archive: Path, tmp_path: Path) -> None:
    dest = tmp_path / "dest"
    unpack(archive, dest)
    for note in (
        "",
        "{",
        '{"version": 99}',
        '{"version": 1, "archives": {"x": {"files": 1}}}',
        "[]",
    ):
        (dest / STATE).write_text(note)
        assert not unpack(archive, dest)["changed"]
    (dest / STATE).unlink()
    os.mkfifo(dest / STATE)
    assert not unpack(archive, dest)["changed"]


@pytest.mark.parametrize("harm", [b"", b"x", None])
def test_harmed_list_costs_nothing_but_reading(
    harm: bytes | None, archive: Path, tmp_path: Path
) -> None:
    dest = tmp_path / "dest"
    unpack(archive, dest)
    (listed,) = (dest / LISTS).iterdir()
    if harm is None:
        listed.unlink()
    else:
        listed.write_bytes(harm)
    assert not unpack(archive, dest)["changed"]
    assert listed.exists()
    (dest / "top.txt").unlink()
    assert unpack(archive, dest)["files"] == 1


def test_lists_of_former_versions_are_removed(archive: Path, tmp_path: Path) -> None:
    dest = tmp_path / "dest"
    unpack(archive, dest)
    (before,) = (dest / LISTS).iterdir()
    write(archive, {"top.txt": b"T"})
    unpack(archive, dest)
    (after,) = (dest / LISTS).iterdir()
    assert before != after


def test_file_of_another_archive_is_kept(archive: Path, tmp_path: Path) -> None:
    dest = tmp_path / "dest"
    unpack(archive, dest)
    other = write(tmp_path / "b.zip", {"top.txt": b"other"})
    with pytest.raises(
        LabError, match=r"top.txt: is there with other contents and came from .*a\.zip"
    ):
        unpack(other, dest)
    assert files_in(dest) == FILES


@pytest.mark.parametrize("what", ["link", "folder", "fifo"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_what_is_no_file_is_never_replaced(
    archive: Path, tmp_path: Path, what: str, overwrite: bool
) -> None:
    dest = tmp_path / "dest"
    dest.mkdir()
    place_of_file = dest / "top.txt"
    if what == "link":
        place_of_file.symlink_to(tmp_path / "elsewhere")
    elif what == "folder":
        place_of_file.mkdir()
    else:
        os.mkfifo(place_of_file)
    with pytest.raises(LabError, match=r"top.txt: is .* where a file is to go"):
        unpack(archive, dest, overwrite=overwrite)
    assert not (tmp_path / "elsewhere").exists()
    assert not (dest / "train").exists()


@pytest.mark.parametrize("target", ["outside", "nothing"])
def test_link_to_a_folder_is_not_followed(archive: Path, tmp_path: Path, target: str) -> None:
    dest, outside = tmp_path / "dest", tmp_path / "outside"
    dest.mkdir()
    outside.mkdir()
    (dest / "train").symlink_to(tmp_path / target)
    with pytest.raises(LabError, match="dest/train: is a symbolic link where a folder is to go"):
        unpack(archive, dest, overwrite=True)
    assert contents(outside) == {} and not (dest / "top.txt").exists()


def test_dest_that_is_a_file_or_below_one(archive: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for dest in (tmp_path / "file", tmp_path / "file" / "below"):
        for check in (True, False):
            with pytest.raises(LabError, match="dest: "):
                unpack(archive, dest, check=check)
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(LabError, match="link to nothing"):
        unpack(archive, tmp_path / "link")


def test_file_that_appears_meanwhile_is_kept(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dest = tmp_path / "dest"
    true_move = place.move_in

    def move(stage: int, into: int, *rest: Any) -> None:
        (dest / "top.txt").write_text("mine")
        true_move(stage, into, *rest)

    monkeypatch.setattr(task, "move_in", move)
    with pytest.raises(LabError, match=r"top.txt appeared in dest"):
        unpack(archive, dest)
    assert (dest / "top.txt").read_text() == "mine" and not (dest / STAGE).exists()


def test_archive_that_changes_meanwhile(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    true_pool = pool.run_pool

    def run_pool(*given: Any) -> pool.Done:
        done = true_pool(*given)
        os.utime(archive, (1, 1))
        return done

    monkeypatch.setattr(task, "run_pool", run_pool)
    with pytest.raises(LabError, match="changed while it was being unpacked"):
        unpack(archive, tmp_path / "dest")
    assert not (tmp_path / "dest").exists()


class _Failing(Worker):
    """Fails at its second range, in a way that the test sets."""

    fail: Callable[[], None]

    def extract(self, source: Source, first: int, last: int) -> None:
        if self.files:
            _Failing.fail()
        super().extract(source, first, last)


def _full() -> None:
    raise OSError(28, "No space left on device")


def _bug() -> None:
    raise ZeroDivisionError


def _out_of_memory() -> None:
    raise MemoryError


FAILURES: dict[str, tuple[Callable[[], None], str]] = {
    "killed": (
        lambda: os.kill(os.getpid(), signal.SIGKILL),
        r"killed by signal 9 \(out of memory\?\)",
    ),
    "ended": (lambda: os.kill(os.getpid(), signal.SIGTERM), "killed by signal 15"),
    "exit": (lambda: os._exit(3), "ended with status 3"),
    "bug": (_bug, "ended with status 1"),
    "disk full": (_full, "the disk is full"),
    "no memory": (_out_of_memory, "ran out of memory"),
}


@pytest.mark.parametrize("workers", [1, 2, 8])
@pytest.mark.parametrize("how", FAILURES)
def test_worker_that_dies_fails_the_run_and_leaves_nothing(
    how: str, workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = write(tmp_path / "a.zip", {f"{n}/x": b"%d" % n for n in range(3000)})
    fail, said = FAILURES[how]
    monkeypatch.setattr(_Failing, "fail", fail, raising=False)
    monkeypatch.setattr(task, "Worker", _Failing)
    with pytest.raises(LabError, match=said):
        unpack(archive, tmp_path / "dest", workers=workers)
    assert not (tmp_path / "dest").exists()
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_too_little_room_is_seen_before_the_start(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ansible.module_utils.lab.unzip.plan.free_space", lambda _: (100, None))
    with pytest.raises(LabError, match="12288 bytes are needed and 100 are free"):
        unpack(archive, tmp_path / "dest")
    monkeypatch.setattr("ansible.module_utils.lab.unzip.plan.free_space", lambda _: (1 << 40, 3))
    with pytest.raises(LabError, match="7 inodes are needed and 3 are free"):
        unpack(archive, tmp_path / "dest", check=True)
    assert not (tmp_path / "dest").exists()


def test_leftover_of_a_killed_run_is_removed(archive: Path, tmp_path: Path) -> None:
    dest = tmp_path / "dest"
    (dest / STAGE / "train").mkdir(parents=True)
    (dest / STAGE / "train/half.png").write_text("half")
    unpack(archive, dest)
    assert files_in(dest) == FILES
    (dest / STAGE).symlink_to(tmp_path)
    assert unpack(archive, dest, check=True)["changed"]
    assert unpack(archive, dest)["changed"]
    assert archive.exists() and not (dest / STAGE).is_symlink()
    assert not unpack(archive, dest)["changed"]


KILLED_RUN = """
import os, sys
sys.path.insert(0, {root!r})
import tests.conftest
from pathlib import Path
from tests.unit.unzip_kit import unpack
print("ready", flush=True)
sys.stdin.readline()
unpack([Path(p) for p in {zips!r}], Path({dest!r}), workers=2)
"""


@pytest.mark.parametrize("step", range(6))
def test_killed_run_is_mended_by_the_next(step: int, tmp_path: Path) -> None:
    """SIGKILL to the parent alone, at six moments; its workers must end by themselves."""
    files = [{f"train/{a}/{n}.png": os.urandom(2000) for n in range(1500)} for a in range(3)]
    zips = [write(tmp_path / f"{number}.zip", some) for number, some in enumerate(files)]
    dest = tmp_path / "dest"
    code = KILLED_RUN.format(
        root=str(Path(__file__).parents[2]), zips=list(map(str, zips)), dest=str(dest)
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout and child.stdin and child.stdout.readline() == "ready\n"
        child.stdin.write("\n")
        child.stdin.flush()
        time.sleep(0.03 + step * 0.06)
        child.kill()
    unpack(zips, dest)
    assert files_in(dest) == {path: data for some in files for path, data in some.items()}
    assert not (dest / STAGE).exists()
    assert not unpack(zips, dest, verify="crc")["changed"]


@pytest.mark.parametrize("after", range(4))
def test_run_killed_while_it_moves_files_in(
    after: int, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dies after a few renames, over an older version of the same archive."""
    dest = tmp_path / "dest"
    unpack(archive, dest)
    newer = {path: data.upper() for path, data in FILES.items()} | {"train/2/c.png": b"c"}
    write(archive, newer)
    true_rename, left = os.rename, [after]

    def rename(source: Any, target: Any, **where: Any) -> None:
        if where and not str(source).startswith(STATE):
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1
        true_rename(source, target, **where)

    monkeypatch.setattr(os, "rename", rename)
    with pytest.raises(KeyboardInterrupt):
        unpack(archive, dest)
    monkeypatch.undo()
    assert unpack(archive, dest)["changed"]
    assert files_in(dest) == newer
    assert not unpack(archive, dest)["changed"]


def test_second_run_at_once_says_who_holds_dest(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(task, "_PATIENCE", 0.2)
    dest = tmp_path / "dest"
    with (
        hold_dest(str(dest), 0o755, 0),
        pytest.raises(LabError, match=rf"another run \(process {os.getpid()}\) has been unpacking"),
    ):
        unpack(archive, dest)
    assert unpack(archive, dest)["changed"]


def test_mode_is_set_and_kept(archive: Path, tmp_path: Path) -> None:
    dest = tmp_path / "dest"
    modes = Modes(0o640, 0o750, exact=True)
    unpack(archive, dest, modes=modes)
    assert (dest / "top.txt").stat().st_mode & 0o7777 == 0o640
    assert (dest / "train/0").stat().st_mode & 0o7777 == 0o750
    (dest / "top.txt").chmod(0o600)
    done = unpack(archive, dest, modes=modes)
    assert (done["changed"], done["files"], done["repaired"]) == (True, 0, 1)
    assert (dest / "top.txt").stat().st_mode & 0o7777 == 0o640
    assert not unpack(archive, dest, modes=modes)["changed"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_owner_is_set_and_kept(archive: Path, tmp_path: Path) -> None:
    dest = tmp_path / "dest"
    modes = Modes(0o644, 0o755, uid=1234, gid=2345)
    unpack(archive, dest, modes=modes)
    written = [dest, *dest.rglob("*")]
    assert (dest / LISTS) in written
    assert {(path.stat().st_uid, path.stat().st_gid) for path in written} == {(1234, 2345)}
    os.chown(dest / "top.txt", 0, 0)
    assert unpack(archive, dest, modes=modes)["repaired"] == 1
    assert not unpack(archive, dest, modes=modes)["changed"]
    assert request(archive, dest, modes=modes).modes.owned
