"""The watch over a mount, what it waits for, and what it tells."""

from __future__ import annotations

import json
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from ansible.module_utils.lab.s3mount import metadata, names, status, wait, watch
from ansible.module_utils.lab.s3mount.fstab import Entry
from ansible.module_utils.lab.s3mount.probe import Health, State

OK, HUNG, DEAD = Health(State.OK), Health(State.HUNG, "no answer"), Health(State.DEAD)
SILENT = Health(State.DEGRADED, "no answer within the deadline")
REFUSED = Health(State.DEGRADED, "EACCES: Permission denied")


class Done:
    """What a watcher did, in order."""

    def __init__(self, stale: bool = False) -> None:
        self.said: list[str] = []
        self.actions = watch.Actions(
            kill=lambda path: self.said.append(f"kill {path}"),
            remount=lambda path: self.said.append(f"remount {path}"),
            stale=lambda _: stale,
        )


@pytest.fixture(autouse=True)
def run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(names, "RUN_FOLDER", tmp_path / "run")
    return tmp_path / "run"


@pytest.mark.parametrize(
    ("seen", "stale", "said"),
    [
        ([OK, OK], True, []),
        ([OK, HUNG], False, ["kill /s3"]),  # its one question was long enough
        ([OK, DEAD, DEAD, OK, DEAD, DEAD], False, []),  # systemd is about to mount anew
        ([OK, DEAD, DEAD, DEAD], False, ["kill /s3"]),
        ([Health(State.STACKED)] * 5, True, []),  # the daemon is well: killing it loses files
        ([Health(State.ABSENT)] * 5, True, []),
        ([SILENT] * 5, True, []),  # a bucket that is away comes back by itself
        ([REFUSED] * 5, False, []),  # no other key to try
        ([REFUSED], True, ["remount /s3"]),
    ],
)
def test_does_what_helps_and_nothing_else(seen: list[Health], stale: bool, said: list[str]) -> None:
    done = Done(stale)
    watcher = watch.Watcher("/s3", done.actions)
    for health in seen:
        watcher.look(health)
    assert done.said == said


def test_writes_down_what_it_saw_and_since_when(run_folder: Path) -> None:
    watcher = watch.Watcher("/s3", Done().actions)
    watcher.look(OK)
    first = json.loads((run_folder / "s3.json").read_text())
    assert (first["state"], first["detail"]) == ("ok", "")
    watcher.look(SILENT)
    assert watcher.unwell
    second = json.loads((run_folder / "s3.json").read_text())
    assert (second["state"], second["detail"]) == ("degraded", "no answer within the deadline")
    assert second["seen"] >= second["since"] >= first["since"]
    assert run_folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("answers", "remote", "last", "expected"),
    [
        ([OK], False, OK, (OK, [9.0])),
        ([OK], True, OK, (OK, [3.0])),
        ([SILENT], True, OK, (SILENT, [3.0])),
        ([OK], False, SILENT, (SILENT, [9.0])),  # nobody asked the bucket again
        ([OK], True, SILENT, (OK, [3.0])),
        ([HUNG, OK], True, OK, (OK, [3.0, 9.0])),  # slow, not hung
        ([HUNG, HUNG], True, OK, (HUNG, [3.0, 9.0])),
        ([HUNG], False, OK, (HUNG, [9.0])),
    ],
)
def test_asks_long_enough_to_tell_hung_from_slow(
    answers: list[Health],
    remote: bool,
    last: Health,
    expected: tuple[Health, list[float]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[float] = []
    left = list(answers)

    def probe(_: str, deadline: float, remote: bool) -> Health:
        del remote
        asked.append(deadline)
        return left.pop(0)

    monkeypatch.setattr(watch, "probe", probe)
    assert (watch.look("/s3", remote, last), asked) == expected


@pytest.mark.parametrize(
    ("mount", "bucket", "seen"),
    [
        (OK, OK, OK),
        (OK, REFUSED, REFUSED),
        (OK, None, OK),  # the mount itself has asked it
        (SILENT, OK, SILENT),
        (DEAD, OK, DEAD),
    ],
)
def test_a_bucket_that_is_asked_itself_counts(
    mount: Health, bucket: Health | None, seen: Health, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "probe", lambda *_, **__: mount)
    assert watch.look("/s3", True, OK, lambda *_: bucket) == seen
    assert watch.look("/s3", False, OK, lambda *_: bucket) == mount  # it was not its turn


def entry(*options: str, fstype: str = "fuse.s3fs") -> Entry:
    return Entry("b", "/s3", fstype, options)


@pytest.mark.parametrize(
    ("line", "url", "role"),
    [
        (entry("url=http://h:1", "passwd_file=/k"), "http://h:1", False),
        (entry("url=https://s3.x", "iam_role=auto"), "https://s3.x", True),
        (entry("url=https://s3.x", "public_bucket=1"), "https://s3.x", False),
        (entry("s3-env-auth", "s3-endpoint=http://h", fstype="fuse.rclone"), "http://h", True),
        (entry("s3-env-auth", "credentials=/k", fstype="fuse.rclone"), "", False),
        (entry("s3-region=r", fstype="fuse.rclone"), "", False),
        (entry("endpoint-url=http://h", fstype="fuse.mount-s3"), "http://h", True),
        (entry("no-sign-request", fstype="fuse.mount-s3"), "", False),
        (entry("credentials=/k", fstype="fuse.mount-s3"), "", False),
    ],
)
def test_reads_from_the_line_what_to_wait_for(line: Entry, url: str, role: bool) -> None:
    assert (wait.endpoint_of(line), wait.uses_role(line)) == (url, role)


def test_waits_for_the_endpoint() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        there = entry(f"url=http://127.0.0.1:{server.getsockname()[1]}")
        assert wait.missing(there) == ""
    assert wait.wait(there, 0.0).endswith("does not take connections yet")
    left = ["not yet", "not yet", ""]
    assert wait.wait(there, 10.0, lambda _: left.pop(0)) == ""


def test_waits_for_the_roles_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    pages = {metadata.ROLES: "lab-role\n"}

    def get(path: str) -> str:
        if path not in pages:
            raise OSError(path)
        return pages[path]

    monkeypatch.setattr(metadata, "get", get)
    lacking = "the instance metadata service gives no credentials of a role yet"
    assert wait.missing(entry("iam_role=auto")) == lacking
    pages[f"{metadata.ROLES}lab-role"] = '{"Code": "Failed"}'
    assert wait.missing(entry("iam_role=auto")) == lacking
    pages[f"{metadata.ROLES}lab-role"] = '{"AccessKeyId": "A"}'
    assert wait.missing(entry("iam_role=auto")) == ""
    assert wait.missing(entry("iam_role=lab-role")) == ""
    assert wait.missing(entry("iam_role=other")) == lacking


NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("age", "watched"), [(0, True), (59, True), (60, False), (3600, False), (None, False)]
)
def test_a_note_that_is_old_is_no_watch(
    age: int | None, watched: bool, run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status, "_restarts", lambda _: 2)
    monkeypatch.setattr(status, "probe", lambda *_: Health(State.OK, "", "b"))
    run_folder.mkdir()
    if age is not None:
        seen = (NOW - timedelta(seconds=age)).isoformat()
        note = {"state": "ok", "detail": "", "since": "long ago", "seen": seen}
        (run_folder / "s3.json").write_text(json.dumps(note))
    found = status.of("/s3", 1, NOW)
    assert found.watched is watched
    awake = "watched since long ago" if watched else "NOT watched"
    assert found.line() == f"/s3: ok, b, {awake}, mounted anew 2 times since boot"


def test_finds_the_mounts_that_have_a_keeper(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status, "FSTAB", tmp_path / "fstab")
    monkeypatch.setattr(names, "UNIT_FOLDER", tmp_path)
    assert status.paths() == []
    lines = [entry("ro").line(), "# a comment", "b /by-hand fuse.s3fs ro 0 0", "UUID=1 / ext4 rw"]
    status.FSTAB.write_text("\n".join(lines) + "\n")
    assert status.paths() == []
    (tmp_path / names.mount_unit("/s3")).touch()
    assert status.paths() == ["/s3"]


@pytest.mark.parametrize("text", ["", "{", '{"state": '])
def test_a_torn_note_is_none(text: str, run_folder: Path) -> None:
    run_folder.mkdir()
    (run_folder / "s3.json").write_text(text)
    assert status.read_note("/s3") == {}
