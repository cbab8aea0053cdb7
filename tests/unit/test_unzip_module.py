"""The module itself: its parameters, its results, and that every failure is a message."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils.lab.unzip import engines
from ansible.module_utils.testing import patch_module_args

from library import parallel_unzip

from .unzip_kit import Part, make_zip


def call(
    capsys: pytest.CaptureFixture[str], *, check: Any = False, **params: Any
) -> dict[str, Any]:
    with patch_module_args(params | {"_ansible_check_mode": check}), pytest.raises(SystemExit):
        parallel_unzip.main()
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return result


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    zips = tmp_path / "zips"
    (zips / "below").mkdir(parents=True)
    (zips / "a.zip").write_bytes(make_zip([Part(b"a", b"a")]))
    (zips / "B.ZIP").write_bytes(make_zip([Part(b"b", b"b")]))
    (zips / "below" / "c.zip").write_bytes(make_zip([Part(b"c", b"c")]))
    (zips / "labels.csv").write_text("1,2")
    return zips


def test_four_calls(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    params = {"src": str(folder), "dest": str(tmp_path / "dest")}
    said = call(capsys, check=True, **params)
    assert said["changed"] and not (tmp_path / "dest").exists()
    did = call(capsys, **params)
    assert (did["changed"], did["files"], did["bytes"], did["unchanged"]) == (True, 2, 2, 0)
    assert [Path(one["path"]).name for one in did["archives"]] == ["B.ZIP", "a.zip"]
    assert not call(capsys, **params)["changed"]
    assert not call(capsys, check=True, **params)["changed"]


@pytest.mark.parametrize(
    "case",
    [
        (["{}"], False, ["a", "b"]),
        (["{}"], True, ["a", "b", "c"]),
        (["{}/a.zip"], False, ["a"]),
        (["{}/a.zip", "{}", "{}/./a.zip"], False, ["a", "b"]),
        (["{}/below/c.zip", "{}/a.zip"], False, ["a", "c"]),
    ],
)
def test_src(
    case: tuple[list[str], bool, list[str]],
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    src, recurse, names = case
    dest = tmp_path / "dest"
    call(capsys, src=[one.format(folder) for one in src], recurse=recurse, dest=str(dest))
    assert sorted(path.name for path in dest.iterdir() if not path.name.startswith(".")) == names


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"src": []}, "src: is empty"),
        ({"src": [""]}, "src: is empty"),
        ({"src": "s3://Bucket/key.zip"}, "is no S3 address"),
        (
            {"src": "ftp://example.org/a.zip?token=hidden"},
            "'ftp://example.org/a.zip' is no address",
        ),
        ({"src": "/nowhere/a.zip"}, "cannot be read (No such file or directory)"),
        ({"src": "/dev/null"}, "is not a file"),
        ({"src": "{}/empty"}, "there is no *.zip in"),
        ({"src": "{}/zips/labels.csv"}, "is not a zip archive"),
        ({"src": "x" * 5000}, "cannot be read"),
        ({"dest": "relative"}, "is not an absolute path"),
        ({"dest": "/dev/null/below"}, "dest: "),
        ({"workers": -1}, "workers: -1 is not between"),
        ({"workers": 1000}, "workers: 1000 is not between"),
        ({"workers": "many"}, "workers"),
        ({"mode": "u=rw"}, "mode: 'u=rw' is not an octal mode"),
        ({"mode": "420"}, None),
        ({"mode": "4755"}, "mode: '4755' is not an octal mode"),
        ({"directory_mode": "0555"}, "bars the owner"),
        ({"owner": "no such user"}, "owner: there is no 'no such user'"),
        ({"group": "no such group"}, "group: there is no 'no such group'"),
        ({"limits": {"max_bytes": "much"}}, "limits.max_bytes: 'much'"),
        ({"limits": {"max_files": 0}}, "limits.max_files: 0"),
        ({"limits": {"max_smell": 1}}, "max_smell"),
        ({"conflict": "perhaps"}, "conflict"),
        ({"verify": "hash"}, "verify"),
        ({"engine": "steam"}, "engine"),
    ],
)
def test_bad_parameter_is_one_message(
    params: dict[str, Any],
    said: str | None,
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "empty").mkdir()
    filled = {
        key: value.replace("{}", str(tmp_path)) if isinstance(value, str) else value
        for key, value in params.items()
    }
    result = call(capsys, **({"src": str(folder), "dest": str(tmp_path / "dest")} | filled))
    if said is None:
        assert not result.get("failed")
        return
    assert result["failed"] and said in result["msg"] and "Traceback" not in result["msg"]
    assert "exception" not in result
    assert not (tmp_path / "dest").exists()


def test_engines_agree(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for engine in ("auto", "zlib"):
        result = call(capsys, src=str(folder), dest=str(tmp_path / engine), engine=engine)
        assert result["engine"] in ("libdeflate", "isal", "zlib")
        assert (tmp_path / engine / "a").read_bytes() == b"a"


def test_missing_engine_is_named(
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(engines, "_LIBRARY", "libnowhere.so")
    result = call(capsys, src=str(folder), dest=str(tmp_path / "dest"), engine="libdeflate")
    assert "engine: libdeflate is not on this host" in result["msg"]
    monkeypatch.setitem(sys.modules, "isal", None)
    result = call(capsys, src=str(folder), dest=str(tmp_path / "dest"))
    assert (result["engine"], result["files"]) == ("zlib", 2)


def test_unreadable_archive(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "loop.zip").symlink_to(folder / "loop.zip")
    result = call(capsys, src=str(folder), dest=str(tmp_path / "dest"))
    assert "loop.zip: cannot be read" in result["msg"]


def test_documentation_and_arguments_are_the_same() -> None:
    documented = yaml.safe_load(parallel_unzip.DOCUMENTATION)["options"]
    _same(documented, parallel_unzip.ARGUMENTS)
    returned = yaml.safe_load(parallel_unzip.RETURN)
    assert all(one["description"] and one["type"] and one["returned"] for one in returned.values())
    assert yaml.safe_load(parallel_unzip.EXAMPLES)


def _same(documented: dict[str, Any], arguments: dict[str, Any]) -> None:
    assert documented.keys() == arguments.keys()
    for name, option in arguments.items():
        for key in ("type", "default", "choices", "required", "elements"):
            assert documented[name].get(key) == option.get(key), (name, key)
        _same(documented[name].get("suboptions", {}), option.get("options", {}))


def test_returned_keys_are_documented(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = call(capsys, src=str(folder), dest=str(tmp_path / "dest"))
    documented = yaml.safe_load(parallel_unzip.RETURN)
    # What Ansible itself adds to a result that has a dest.
    common = {
        "changed",
        "diff",
        "invocation",
        "owner",
        "group",
        "uid",
        "gid",
        "mode",
        "state",
        "size",
    }
    assert result.keys() - common == documented.keys()
    assert result["archives"][0].keys() == documented["archives"]["contains"].keys()
    assert result["workers"] == len(os.sched_getaffinity(0))
