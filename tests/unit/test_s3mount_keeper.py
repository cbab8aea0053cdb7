"""The parts that look after a mount: probe, cache, mount point, watch."""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible.module_utils.lab.s3mount import keeper, mountpoint, names, unmount
from ansible.module_utils.lab.s3mount.cache import trim
from ansible.module_utils.lab.s3mount.fstab import Entry
from ansible.module_utils.lab.s3mount.probe import Health, State, ask, probe, use


def steps_then(action: str) -> Iterator[None]:
    yield
    if action == "hang":
        time.sleep(60)
    if action == "fail":
        raise OSError(errno.ENOTCONN, "gone")
    if action == "break":
        raise ValueError
    yield


@pytest.mark.parametrize(
    ("action", "steps", "done", "error", "detail"),
    [
        ("end", 2, True, 0, ""),
        ("fail", 1, False, errno.ENOTCONN, "ENOTCONN: Transport endpoint is not connected"),
        ("hang", 1, False, 0, "no answer within the deadline"),
        ("break", 1, False, 0, "no answer within the deadline"),
    ],
)
def test_asks_a_child(action: str, steps: int, done: bool, error: int, detail: str) -> None:
    answer = ask(lambda: steps_then(action), 0.5)
    assert (answer.steps, answer.done, answer.errno) == (steps, done, error)
    assert answer.detail == detail


def test_never_waits_for_a_child_beyond_the_deadline() -> None:
    before = time.monotonic()
    ask(lambda: steps_then("hang"), 0.2)
    assert time.monotonic() - before < 0.5


def test_knows_from_the_table_what_is_no_bucket(tmp_path: Path) -> None:
    assert probe(str(tmp_path), 1).state is State.ABSENT
    assert probe("/proc", 1) == Health(State.FOREIGN, "proc", "proc")


def test_uses_a_folder_and_leaves_nothing(tmp_path: Path) -> None:
    assert use(str(tmp_path), 5, write=True).done
    assert use(str(tmp_path), 5, write=False).done
    assert list(tmp_path.iterdir()) == []
    answer = use(str(tmp_path / "gone"), 5, write=True)
    assert (answer.steps, answer.errno) == (0, errno.ENOENT)


def fill(cache: Path, name: str, kib: int, used_at: float) -> Path:
    for folder in (cache / "b", cache / ".b.stat"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(kib << 10))
        os.utime(path, (used_at, used_at))
    return cache / "b" / name


def test_trims_what_was_not_used_for_longest(tmp_path: Path) -> None:
    old = fill(tmp_path, "deep/old", 64, 1000)
    middle = fill(tmp_path, "middle", 64, 2000)
    new = fill(tmp_path, "new", 64, 3000)
    assert trim(tmp_path, "b", 192 << 10) == 0
    assert trim(tmp_path, "b", 100 << 10) == 128 << 10
    assert [path.exists() for path in (old, middle, new)] == [False, False, True]
    assert not (tmp_path / ".b.stat/deep/old").exists()
    assert (tmp_path / ".b.stat/new").exists()


def test_never_trims_a_file_that_is_open(tmp_path: Path) -> None:
    held = fill(tmp_path, "held", 64, 1000)
    free = fill(tmp_path, "free", 64, 2000)
    with held.open():
        trim(tmp_path, "b", 1)
    assert (held.exists(), free.exists()) == (True, False)


def test_trims_nothing_where_there_is_no_cache(tmp_path: Path) -> None:
    assert trim(tmp_path / "none", "b", 1) == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives folders away")
def test_locks_and_unlocks_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "mount"
    folder.mkdir(mode=0o777)
    assert not mountpoint.is_locked(folder)
    immutable = mountpoint.lock(folder)
    assert mountpoint.is_locked(folder)
    assert mountpoint.lock(folder) is immutable
    if immutable:
        with pytest.raises(PermissionError):
            (folder / "lost").touch()
    mountpoint.unlock(folder)
    folder.rmdir()


def test_kills_only_a_daemon_that_stays_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(names, "RUN_FOLDER", tmp_path / "run")
    killed: list[str] = []
    watcher = keeper.Watcher("/s3", killed.append)
    ok, hung, degraded = Health(State.OK), Health(State.HUNG), Health(State.DEGRADED, "EIO")
    for health in (ok, hung, hung, ok, hung, degraded, Health(State.ABSENT), hung, hung):
        watcher.look(health)
    for _ in range(5):
        watcher.look(Health(State.STACKED))
    assert killed == []
    watcher.look(hung)
    watcher.look(hung)
    watcher.look(hung)
    assert killed == ["/s3"]
    watcher.look(degraded)
    assert watcher.unwell
    seen = json.loads((tmp_path / "run/s3.json").read_text())
    assert (seen["state"], seen["detail"]) == ("degraded", "EIO")


def test_settings_change_with_the_line_and_with_the_key(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    entry = Entry("b", "/s3", "fuse.s3fs", ("noauto", f"passwd_file={keys}"))
    without = keeper.settings_of(entry)
    keys.write_text("K:s")
    with_key = keeper.settings_of(entry)
    os.utime(keys, ns=(1, 1))
    assert len({without, with_key, keeper.settings_of(entry)}) == 3
    assert keeper.settings_of(entry) == keeper.settings_of(entry)


def test_runs_a_program_within_its_deadline() -> None:
    assert unmount.run(["true"], 5) == 0
    assert unmount.run(["sh", "-c", "exit 3"], 5) == 3
    before = time.monotonic()
    assert unmount.run(["sleep", "30"], 0.2) is None
    assert time.monotonic() - before < 1


def test_waits_for_no_daemon_that_is_gone() -> None:
    said: list[str] = []
    unmount.release("/nowhere/mounted", 0, said.append)
    assert said == []


def test_an_entry_that_is_gone_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "FSTAB", tmp_path / "fstab")
    keeper.FSTAB.write_text("# nothing\n")
    with pytest.raises(SystemExit, match="has no entry for /s3: run s3_mount again"):
        keeper.main(["prepare", "/s3"])
