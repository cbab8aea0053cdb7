"""The hooks before a stop: in order, each with an end, all of them within the deadline."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

import pytest

from roles.idle_stop.files import before_stop


def hook(folder: Path, name: str, script: str, mode: int = 0o755) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(mode)


def test_hooks_run_by_name_and_are_told_their_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trace = tmp_path / "trace"
    for name in ("20-b", "10-a"):
        hook(tmp_path / "hooks", name, f"echo {name} $LAB_SECONDS_LEFT >> {trace}")
    hook(tmp_path / "hooks", "30-note", "exit 1", mode=0o644)
    before_stop.hooks(tmp_path / "hooks", time.monotonic() + 30)
    assert trace.read_text().split() == ["10-a", "30", "20-b", "30"]
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()] == [
        "hook 10-a", "hook 20-b",
    ]  # fmt: skip


def test_a_hook_that_hangs_is_ended_with_its_children(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hook(
        tmp_path / "hooks", "10-hangs", f"sleep 60 & echo $! > {tmp_path}/child; trap '' TERM; wait"
    )
    hook(tmp_path / "hooks", "20-next", f"touch {tmp_path}/next")
    begun = time.monotonic()
    before_stop.hooks(tmp_path / "hooks", begun + 0.5)
    assert time.monotonic() - begun < 15
    assert (tmp_path / "next").exists()
    assert "hook 10-hangs: ended after 1 s, its deadline" in capsys.readouterr().out
    child = (tmp_path / "child").read_text().strip()
    state = Path(f"/proc/{child}/stat")
    assert not state.exists() or state.read_text().split()[2] == "Z"


@pytest.mark.parametrize(
    ("script", "said"), [("exit 3", "hook 10-x: failed with 3 in "), ("", "hook 10-x: done in ")]
)
def test_how_it_went_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], script: str, said: str
) -> None:
    hook(tmp_path / "hooks", "10-x", script)
    before_stop.hooks(tmp_path / "hooks", time.monotonic() + 9)
    assert capsys.readouterr().out.startswith(said)


def test_a_hook_that_cannot_start(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "10-x").write_text("#!/no/such/shell\n")
    (tmp_path / "10-x").chmod(0o755)
    before_stop.hooks(tmp_path, time.monotonic() + 9)
    assert "hook 10-x: did not start: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("groups", "units"),
    [
        ("0::/system.slice/lab-s3@s3.service\n", ["lab-s3@s3.service"]),
        ("7:cpu:/\n1:name=systemd:/system.slice/lab-s3@s3.service\n", ["lab-s3@s3.service"]),
        ("0::/user.slice/session-1.scope\n", []),
    ],
)
def test_who_keeps_the_bucket_mounted(tmp_path: Path, groups: str, units: list[str]) -> None:
    for pid, name in (("7", "s3fs"), ("8", "bash")):
        (tmp_path / pid).mkdir()
        (tmp_path / pid / "comm").write_text(f"{name}\n")
        (tmp_path / pid / "cgroup").write_text(groups)
    (tmp_path / "9").mkdir()
    assert before_stop.units_of_mounts(tmp_path) == units


def test_what_was_unmounted_is_mounted_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []

    def run(argv: list[str], _seconds: float, _what: str) -> bool:
        asked.append(argv)
        return True

    monkeypatch.setattr(before_stop, "run", run)
    monkeypatch.setattr(before_stop, "units_of_mounts", lambda: ["a.service"])
    stopped = tmp_path / "run/unmounted.json"
    assert before_stop.unmount(stopped, 5)
    assert json.loads(stopped.read_text()) == ["a.service"]
    before_stop.again(stopped)
    before_stop.again(stopped)
    assert asked == [["systemctl", "stop", "a.service"],
                     ["systemctl", "start", "--no-block", "a.service"]]  # fmt: skip


def test_nothing_mounted_is_nothing_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(before_stop, "units_of_mounts", list)
    assert before_stop.unmount(tmp_path / "none/x", 5)
    assert not (tmp_path / "none").exists()


def test_a_process_that_has_ended_needs_no_end() -> None:
    process = subprocess.Popen(["true"], start_new_session=True)
    process.wait()
    before_stop.end(process)
