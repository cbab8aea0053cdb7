"""`lab keep`, `lab idle`, `lab why`, and the notices: what users ask for and are told."""

from __future__ import annotations

import contextlib
import getpass
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roles.idle_stop.files.lab_idle import collect, command, notice, wishes
from roles.idle_stop.files.lab_idle.decision import Decision, Settings
from roles.idle_stop.files.lab_idle.wishes import Wishes

HOUR = Settings(limit=3600, period=60, warn=600)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("2h", 7200), ("30m", 1800), ("90min", 5400), ("1h30m", 5400), ("1D", 86400), ("1.5h", 5400),
     (" 7d ", 604800), ("0", 0)],
)  # fmt: skip
def test_times(text: str, seconds: float) -> None:
    assert wishes.seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "2", "2 h", "h", "-1h", "2hours", "1e3m", "nanh", "2h;rm"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(ValueError, match="is no time: write for instance 30m"):
        wishes.seconds(text)


@pytest.mark.parametrize("text", ["8d", "0.5m", "0h", "9999999h"])
def test_times_out_of_range(text: str) -> None:
    with pytest.raises(ValueError, match="is not between 1 minute and 7 days"):
        wishes.seconds(text)


@given(st.text(max_size=20))
def test_any_text_is_a_time_or_refused(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert 0 <= wishes.seconds(text) <= wishes.LONGEST_SECONDS


def test_wishes_of_this_boot_come_back(tmp_path: Path) -> None:
    assert wishes.read(tmp_path, "a") == Wishes("a")
    wishes.write(tmp_path, Wishes("a", 12.5, off=True, by="ada"))
    assert wishes.read(tmp_path, "a") == Wishes("a", 12.5, off=True, by="ada")
    assert wishes.read(tmp_path, "b") == Wishes("b"), "of another boot: gone"
    assert [path.name for path in tmp_path.iterdir()] == [wishes.FILE]


BAD = ["", "{", "[]", "{}", '{"boot": "a", "kept_until": "x", "off": false, "by": ""}',
       '{"boot": "a", "kept_until": Infinity, "off": false, "by": ""}', "7" * 9999]  # fmt: skip


@pytest.mark.parametrize("text", BAD)
def test_what_cannot_be_understood_is_not_obeyed(tmp_path: Path, text: str) -> None:
    (tmp_path / wishes.FILE).write_text(text)
    with pytest.raises((ValueError, KeyError, TypeError)):
        wishes.read(tmp_path, "a")


def test_no_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / wishes.FILE).symlink_to("/etc/shadow")
    with pytest.raises(OSError, match="Too many levels"):
        wishes.read(tmp_path, "a")


def test_a_pipe_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / wishes.FILE)
    with pytest.raises(ValueError, match="is no file"):
        wishes.read(tmp_path, "a")


def config(tmp_path: Path, **over: Any) -> list[str]:
    (tmp_path / "wishes").mkdir(exist_ok=True)
    settings = {"limit_seconds": 3600, "wishes_dir": str(tmp_path / "wishes"), "user": "admin",
                "state_file": str(tmp_path / "none"), **over}  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(settings))
    return ["--config", str(tmp_path / "config.json")]


def now(tmp_path: Path) -> Wishes:
    return wishes.read(tmp_path / "wishes", collect.boot_identity())


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given_config = config(tmp_path)
    assert command.main([*given_config, "keep", "2h"]) == 0
    assert "stays on for 2 h, until " in capsys.readouterr().out
    kept = now(tmp_path).kept_until
    assert kept > 0
    assert command.main([*given_config, "idle", "off"]) == 0
    assert "off until `lab idle on` or the next boot" in capsys.readouterr().out
    assert now(tmp_path) == Wishes(collect.boot_identity(), kept, off=True, by=getpass.getuser())
    assert command.main([*given_config, "idle", "on"]) == 0
    assert command.main([*given_config, "keep", "0"]) == 0
    assert (now(tmp_path).kept_until, now(tmp_path).off) == (0, False)
    assert command.main([*given_config, "why"]) == 1
    assert "No decision yet" in capsys.readouterr().out


def test_a_bad_time_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main([*config(tmp_path), "keep", "soon"]) == 1
    said = capsys.readouterr().err
    assert said == 'lab: "soon" is no time: write for instance 30m, 2h, 1h30m or 1d\n'
    assert list((tmp_path / "wishes").iterdir()) == []


def test_garbage_is_replaced(tmp_path: Path) -> None:
    given_config = config(tmp_path)
    (tmp_path / "wishes" / wishes.FILE).write_text("{half")
    assert command.main([*given_config, "idle", "on"]) == 0
    assert now(tmp_path).by == getpass.getuser()


def test_nothing_to_keep_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main([*config(tmp_path, limit_seconds=0), "keep", "2h"]) == 0
    assert "never stops by itself" in capsys.readouterr().out


def show(folder: Path, decision: Decision) -> tuple[bool, dict[str, Any]]:
    """Whether tmux shows something, and what Jupyter does."""
    notice.show(folder, folder, decision, HOUR)
    return (folder / notice.TEXT).exists(), json.loads((folder / notice.PAGE).read_text())


def test_the_notice_is_there_shortly_before_the_stop(tmp_path: Path) -> None:
    assert show(tmp_path, Decision("wait", 2000, 1600, ())) == (False, {})
    there, page = show(tmp_path, Decision("warn", 3000, 600, ()))
    assert there
    assert page["seconds"] == 600
    assert "powers off in 10 min" in page["text"]
    assert (tmp_path / notice.TEXT).read_text() == "IDLE: off in 10 min (lab keep 2h)"
    assert show(tmp_path, Decision("wait", 0, 3600, ("ssh: 1 open",))) == (False, {})


def test_a_host_without_jupyter_has_no_notice_of_it(tmp_path: Path) -> None:
    notice.show(tmp_path, tmp_path / "none", Decision("warn", 3000, 600, ()), HOUR)
    assert [path.name for path in tmp_path.iterdir()] == [notice.TEXT]


@pytest.mark.parametrize("decision", [
    Decision("off", 3500, 100, ()), Decision("wait", 0, 3600, ()),
    Decision("wait", 0, 600, ("load: 3",)),
])  # fmt: skip
def test_no_notice(decision: Decision) -> None:
    assert not notice.near(decision, HOUR)
