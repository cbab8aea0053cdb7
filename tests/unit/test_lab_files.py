"""lab_files: what it writes, what it keeps, and that check mode and diff mode tell the truth."""

from __future__ import annotations

import grp
import json
import os
import pwd
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args

from library import lab_files

MINE = {
    "owner": pwd.getpwuid(os.getuid()).pw_name,
    "group": grp.getgrgid(os.getgid()).gr_name,
}


def call(
    capsys: pytest.CaptureFixture[str], *, check: Any = False, **params: Any
) -> dict[str, Any]:
    arguments = params | {"_ansible_check_mode": check, "_ansible_diff": True}
    with patch_module_args(arguments), pytest.raises(SystemExit):
        lab_files.main()
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return result


def folder(path: Path, mode: str = "0750", **more: Any) -> dict[str, Any]:
    return {"path": str(path), "mode": mode, **MINE, **more}


def file(path: Path, content: str, mode: str = "0640", **more: Any) -> dict[str, Any]:
    return {"path": str(path), "content": content, "mode": mode, **MINE, **more}


def mode_of(path: Path) -> str:
    return oct(path.stat().st_mode & 0o7777)


def test_four_calls(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = tmp_path / "a" / "b"
    params = {"folders": [folder(place)], "files": [file(place / "f", "one\n")]}
    said = call(capsys, check=True, **params)
    assert (said["changed"], said["written"]) == (True, [str(place / "f")])
    assert not (tmp_path / "a").exists()
    did = call(capsys, **params)
    assert (did["changed"], did["written"], did["diff"]) == (True, said["written"], said["diff"])
    assert (place / "f").read_text() == "one\n"
    assert (mode_of(place), mode_of(place / "f")) == ("0o750", "0o640")
    for check in (False, True):
        again = call(capsys, check=check, **params)
        assert (again["changed"], again["written"], again["diff"]) == (False, [], [])


def test_a_wrong_mode_is_a_change_and_nothing_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "f"
    call(capsys, files=[file(path, "x")])
    path.chmod(0o777)
    for check, left in ((True, "0o777"), (False, "0o640")):
        result = call(capsys, check=check, files=[file(path, "x")])
        assert (result["changed"], result["written"]) == (True, [])
        assert result["diff"][0]["after"]["mode"] == "0640"
        assert mode_of(path) == left


def test_the_diff_shows_both_contents(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"old \xff")
    result = call(capsys, files=[file(path, "new")])
    assert (result["diff"][0]["before"], result["diff"][0]["after"]) == ("old \ufffd", "new")
    assert path.read_text() == "new"


def test_what_is_to_be_kept_is_made_once_and_then_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place, path = tmp_path / "own", tmp_path / "own" / "f"
    params = {"folders": [folder(place, keep=True)], "files": [file(path, "ours", keep=True)]}
    assert call(capsys, **params)["changed"]
    path.write_text("theirs")
    place.chmod(0o700)
    assert not call(capsys, **params)["changed"]
    assert (path.read_text(), mode_of(place)) == ("theirs", "0o700")


@pytest.mark.parametrize("kind", ["folder", "link", "relative", "file"])
def test_something_else_in_the_way_is_refused_before_anything_is_written(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, path = tmp_path / "first", tmp_path / "there"
    wanted: dict[str, Any] = {"files": [file(first, "x"), file(path, "x")]}
    if kind == "folder":
        path.mkdir()
    elif kind == "link":
        path.symlink_to(first)
    elif kind == "relative":
        wanted["files"][1]["path"] = "there"
    else:
        path.touch()
        wanted = {"folders": [folder(first), folder(path)]}
    result = call(capsys, **wanted)
    assert result["failed"] and "there" in result["msg"]
    assert not first.exists()


def test_a_file_that_its_program_refuses_is_not_put_in_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "settings"
    checked = 'sh -c \'grep -q good "$1" || { echo "$1: no good" >&2; exit 1; }\' sh %s'
    assert call(capsys, files=[file(place, "good\n", validate=checked)])["changed"]
    said = call(capsys, files=[file(place, "bad\n", validate=checked)])
    assert said["failed"] and said["msg"] == f"{place} is left as it is: sh says: {place}: no good"
    assert place.read_text() == "good\n"
    assert sorted(tmp_path.iterdir()) == [place]
