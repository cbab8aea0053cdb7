"""lab_files, lab_packages and lab_unit look before a module is run: what the look lets pass."""

from __future__ import annotations

import grp
import os
import pwd
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleActionFail

from plugins.action import lab_files, lab_packages, lab_unit

MINE = {
    "owner": pwd.getpwuid(os.getuid()).pw_name,
    "group": grp.getgrgid(os.getgid()).gr_name,
}


def shell(command: str) -> tuple[int, str]:
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout


def unasked(command: str) -> tuple[int, str]:
    raise AssertionError(command)


@pytest.fixture
def wish(tmp_path: Path) -> dict[str, Any]:
    """A folder and two files, all as the task wants them; the second is only to be there."""
    folder = tmp_path / "a folder"
    folder.mkdir()
    folder.chmod(0o750)
    for name, text in (("it's", "one\nzwei ü\n"), ("kept", "somebody's")):
        (folder / name).write_text(text)
        (folder / name).chmod(0o640)
    return {
        "folders": [{"path": str(folder), "mode": "0750", **MINE}],
        "files": [
            {
                "path": f"{folder}/it's",
                "mode": "0640",
                "content": "one\nzwei ü\n",
                "validate": "false",
                **MINE,
            },
            {"path": f"{folder}/kept", "mode": "0600", "content": "x", "keep": True},
        ],
    }


def terminal(command: str) -> tuple[int, str]:
    """Answer as over ssh, where a terminal ends lines in its own way."""
    status, said = shell(command)
    return status, said.replace("\n", "\r\n")


def test_files_that_are_right_pass(wish: dict[str, Any]) -> None:
    assert lab_files.is_as_wanted(wish, shell)
    assert lab_files.is_as_wanted(wish, terminal)
    assert lab_files.is_as_wanted({"folders": wish["folders"]}, shell)
    assert lab_files.is_as_wanted({"files": wish["files"]}, shell)


def _content(file: Path) -> None:
    file.write_text("one\nzwei ü\n ")


def _mode(file: Path) -> None:
    file.chmod(0o644)


def _gone(file: Path) -> None:
    file.unlink()


def _link(file: Path) -> None:
    file.rename(file.with_name("aside"))
    file.symlink_to("aside")


def _folder(file: Path) -> None:
    file.unlink()
    file.mkdir(mode=0o640)


def _folders_mode(file: Path) -> None:
    file.parent.chmod(0o755)


def _other_gone(file: Path) -> None:
    file.with_name("kept").unlink()


def _other_is_folder(file: Path) -> None:
    file.with_name("kept").unlink()
    file.with_name("kept").mkdir()


DRIFTS = [
    _content, _mode, _gone, _link, _folder, _folders_mode, _other_gone, _other_is_folder
]  # fmt: skip


@pytest.mark.parametrize("drift", DRIFTS)
def test_each_drift_is_the_modules(wish: dict[str, Any], drift: Callable[[Path], None]) -> None:
    drift(Path(wish["files"][0]["path"]))
    assert not lab_files.is_as_wanted(wish, shell)


def test_another_owner_is_the_modules(wish: dict[str, Any]) -> None:
    wish["files"][0]["owner"] = "nobody"
    assert not lab_files.is_as_wanted(wish, shell)
    del wish["files"][0]["owner"]  # root, then
    assert lab_files.is_as_wanted(wish, shell) == (MINE["owner"] == "root")


@pytest.mark.parametrize(
    "spoil",
    [
        {"folders": [{"path": "relative", "mode": "0755"}]},
        {"folders": [{"path": "/tmp"}]},
        {"folders": [{"path": "/tmp", "mode": "u=rwx"}]},
        {"folders": [{"path": "/tmp", "mode": "0899"}]},
        {"folders": [{"path": "/tmp", "mode": "0755", "content": "x"}]},
        {"files": [{"path": "/tmp/x", "mode": "0644"}]},
        {"files": [{"path": "/tmp/x", "mode": "0644", "content": {"a": 1}}]},
        {"files": [{"path": "/tmp/x", "mode": "0644", "content": "", "backup": True}]},
        {"files": "/tmp/x"},
        {"unknown": True},
        {"folders": [], "files": []},
    ],
)
def test_what_the_look_does_not_understand_is_not_asked(spoil: dict[str, Any]) -> None:
    assert not lab_files.is_as_wanted(spoil, unasked)


def answer(text: str, status: int = 0) -> Callable[[str], tuple[int, str]]:
    return lambda command: (status, text)


def test_packages_that_are_installed_pass() -> None:
    there = answer("tmux installed\nlibc6 installed\nlibc6 installed\n")
    assert lab_packages.is_all_there({"name": ["tmux", "libc6"]}, there)
    assert lab_packages.is_all_there({"name": "tmux,libc6", "lock_timeout": 5}, there)
    assert lab_packages.is_all_there({"name": []}, unasked)


def test_packages_that_are_not_whole_are_the_modules() -> None:
    for state in ("", "tmux config-files\n", "tmux half-configured\n", "tmux2 installed\n"):
        assert not lab_packages.is_all_there({"name": ["tmux"]}, answer(state, 1))


@pytest.mark.parametrize(
    "given",
    [{"name": ["tmux=3.5a"]}, {"name": ["tmux*"]}, {"name": ["-x"]}, {"name": ["a", 1]}, {},
     {"name": ["tmux"], "state": "absent"}],
)  # fmt: skip
def test_what_the_query_cannot_answer_is_not_asked(given: dict[str, Any]) -> None:
    assert not lab_packages.is_all_there(given, unasked)


RIGHT = "LoadState=loaded\nUnitFileState=enabled\nActiveState=active\nNeedDaemonReload=no\n"
WISH = {"name": "a.service", "enabled": True, "state": "started", "daemon_reload": False}


def right(wish: dict[str, Any], said: str) -> bool:
    seen = lab_unit.look("a.service", answer(said))
    return lab_unit.is_as_wanted(lab_unit.read_wish(wish), seen)


def test_a_unit_that_is_right_passes() -> None:
    assert right(WISH, RIGHT)
    assert right({"name": "a.service", "enabled": "true"}, RIGHT.replace("=active", "=inactive"))
    off = RIGHT.replace("=enabled", "=disabled").replace("=active", "=inactive")
    assert right({"name": "a.service", "enabled": False, "state": "stopped"}, off)


@pytest.mark.parametrize(
    ("old", "new"),
    [("=loaded", "=not-found"), ("=enabled", "=disabled"), ("=enabled", "=enabled-runtime"),
     ("=active", "=failed"), ("=active", "=activating"), ("Reload=no", "Reload=yes")],
)  # fmt: skip
def test_a_unit_in_any_other_state_is_the_modules(old: str, new: str) -> None:
    assert not right(WISH, RIGHT.replace(old, new))


def test_a_reload_that_is_asked_for_and_a_silent_systemd_are_the_modules() -> None:
    assert not right({**WISH, "daemon_reload": True}, RIGHT)
    assert not right(WISH, "Failed to connect to bus: No such file or directory\n")
    assert not right({"name": "a.service", "enabled": False}, RIGHT)


@pytest.mark.parametrize(
    ("given", "message"),
    [({"name": "a", "masked": True}, "no argument masked"), ({}, "needs the name"),
     ({"name": "a", "state": "restarted"}, "must be started or stopped")],
)  # fmt: skip
def test_a_unit_that_cannot_be_meant_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(AnsibleActionFail, match=message):
        lab_unit.read_wish(given)
