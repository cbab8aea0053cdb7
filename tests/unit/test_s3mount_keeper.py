"""The parts that look after a mount: probe, cache, mount point, watch."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible.module_utils.lab.s3mount import cache, keeper, mountpoint, names, unmount
from ansible.module_utils.lab.s3mount import probe as probe_module
from ansible.module_utils.lab.s3mount.cache import trim
from ansible.module_utils.lab.s3mount.fstab import Entry
from ansible.module_utils.lab.s3mount.probe import PROBE_PREFIX, Health, State, ask, probe, use
from ansible.module_utils.lab.s3mount.probe import _steps as steps_of_probe


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


def test_leaves_no_child_behind_that_ended_late() -> None:
    probe_module._left.clear()
    child = os.fork()
    if child == 0:
        time.sleep(0.3)  # as one that a mount holds, though killed
        os._exit(0)
    probe_module._left.add(child)
    ask(lambda: steps_then("end"), 1)
    assert probe_module._left == {child}
    time.sleep(0.4)
    ask(lambda: steps_then("end"), 1)
    assert probe_module._left == set()
    with pytest.raises(ChildProcessError):
        os.waitpid(child, os.WNOHANG)


def test_tells_a_name_that_nobody_made_from_one_that_seems_to_exist(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ask(lambda: steps_of_probe(str(tmp_path), remote=True), 5).done
    # s3fs whose keys are refused shows whatever it is asked for as an empty file.
    monkeypatch.setattr("secrets.token_hex", lambda _: "seems")
    (tmp_path / f"{PROBE_PREFIX}seems").touch()
    answer = ask(lambda: steps_of_probe(str(tmp_path), remote=True), 5)
    assert (answer.steps, answer.errno) == (1, errno.EACCES)


@pytest.mark.parametrize(
    ("health", "refused"),
    [
        (Health(State.DEGRADED, "EACCES: Permission denied"), True),
        (Health(State.DEGRADED, "EIO: Input/output error"), True),
        (Health(State.DEGRADED, "no answer within the deadline"), False),
        (Health(State.DEAD, "EIO"), False),
    ],
)
def test_tells_a_refusal_from_silence(health: Health, refused: bool) -> None:
    assert health.refused is refused


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


def test_trims_what_the_disk_has_no_room_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = fill(tmp_path, "old", 64, 1000), fill(tmp_path, "new", 64, 2000)
    monkeypatch.setattr(cache, "_free", lambda _: 900 << 10)
    assert cache.trim(tmp_path, "b", 0, room=900 << 10) == 0
    assert cache.trim(tmp_path, "b", 1 << 30, room=960 << 10) == 64 << 10
    assert [path.exists() for path in (old, new)] == [False, True]


CACHE_OPTIONS = ("tmpdir=/var/c", "ensure_diskfree=300", "parallel_count=16", "multipart_size=16")


def test_says_that_the_disk_is_too_full_to_mount(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = Entry("b", "/s3", "fuse.s3fs", CACHE_OPTIONS)
    assert cache.room_needed(entry) == 556 << 20
    newer = Entry("b", "/s3", "fuse.s3fs", ("tmpdir=/c", "max_thread_count=8", "multipart_size=8"))
    assert cache.room_needed(newer) == 64 << 20
    monkeypatch.setattr(cache, "_free", lambda _: 556 << 20)
    assert cache.too_full(entry) == ""
    monkeypatch.setattr(cache, "_free", lambda _: (556 << 20) - 1)
    assert cache.too_full(entry) == (
        "the disk of its cache /var/c has 555 MiB free and s3fs needs 556: remove files there, or "
        "choose another cache_dir"
    )
    assert cache.too_full(Entry("b", "/s3", "fuse.s3fs", ("ro",))) == ""
    assert cache.too_full(Entry("b", "/s3", "fuse.rclone", CACHE_OPTIONS)) == ""


def test_trims_nothing_where_there_is_no_cache(tmp_path: Path) -> None:
    assert trim(tmp_path / "none", "b", 1) == 0


def test_sets_aside_what_lies_in_the_bare_folder(tmp_path: Path) -> None:
    folder = tmp_path / "s3"
    (folder / "deep").mkdir(parents=True)
    assert mountpoint.set_aside(folder / "deep") is None
    (folder / "deep" / "file").write_text("kept")
    aside = mountpoint.set_aside(folder)
    assert aside is not None
    assert aside.name.startswith("s3.not-in-bucket-")
    assert aside.stat().st_mode & 0o777 == 0o700
    assert (aside / "deep" / "file").read_text() == "kept"
    assert mountpoint.set_aside(folder) is None
    assert sorted(tmp_path.iterdir()) == sorted([folder, aside])


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


def test_settings_change_with_the_line_and_with_the_key(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    entry = Entry("b", "/s3", "fuse.s3fs", ("noauto", f"passwd_file={keys}"))
    without = keeper.settings_of(entry)
    keys.write_text("K:s")
    with_key = keeper.settings_of(entry)
    os.utime(keys, ns=(1, 1))
    assert len({without, with_key, keeper.settings_of(entry)}) == 3
    assert keeper.settings_of(entry) == keeper.settings_of(entry)


def test_keys_are_changed_by_their_file_and_not_by_the_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(names, "RUN_FOLDER", tmp_path)
    monkeypatch.setattr(keeper, "FSTAB", tmp_path / "fstab")
    keys = tmp_path / "keys"
    keys.write_text("K:s")
    entry = Entry("b", "/s3", "fuse.s3fs", (f"passwd_file={keys}",))
    keeper.FSTAB.write_text(entry.line() + "\n")
    assert not keeper.keys_changed("/s3")  # nothing is mounted
    names.mounted_record("/s3").write_text(keeper.settings_of(entry))
    assert not keeper.keys_changed("/s3")
    keeper.FSTAB.write_text(Entry("b", "/s3", "fuse.s3fs", (f"passwd_file={keys}", "ro")).line())
    assert not keeper.keys_changed("/s3")
    os.utime(keys, ns=(1, 1))
    assert keeper.keys_changed("/s3")


@pytest.mark.parametrize(
    ("seen", "last"),
    [
        ([State.OK, State.OK], State.OK),
        ([State.HUNG, State.ABSENT, State.OK, State.OK], State.OK),
        ([State.OK, State.DEAD], State.DEAD),  # killed at once: not waited for
        ([State.DEAD], State.DEAD),
        ([State.OK, State.ABSENT], State.ABSENT),  # s3fs was refused and went away
        ([State.HUNG] * 60, State.HUNG),
        ([State.ABSENT] * 60, State.ABSENT),
    ],
)
def test_settles_or_says_soon_that_it_does_not(
    seen: list[State], last: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    left, clock = list(seen), [0.0]

    def sleep(seconds: float) -> None:
        clock[0] += seconds

    monkeypatch.setattr(keeper, "probe", lambda *_, **__: Health(left.pop(0)))
    monkeypatch.setattr(keeper.time, "sleep", sleep)  # type: ignore[attr-defined]  # its own import
    monkeypatch.setattr(keeper.time, "monotonic", lambda: clock[0])  # type: ignore[attr-defined]
    assert keeper.settle("/s3", 3.0 if last is State.HUNG else 60.0).state is last
    assert clock[0] < 6


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
