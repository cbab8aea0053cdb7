"""Locks and environments: what is decided, with a uv that is simulated."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from ansible.module_utils.lab import pyenv
from ansible.module_utils.lab.errors import LabError
from hypothesis import given
from hypothesis import strategies as st

DEMO = "sha256:" + "a" * 64


class Uv:
    """An index and a uv: compile pins the newest, unless the old lock has it; install obeys."""

    def __init__(self, index: Mapping[str, list[str]]) -> None:
        self.index = dict(index)
        self.asked: list[str] = []
        self.dies_at = ""

    def __call__(self, command: Sequence[str], _more: Mapping[str, str]) -> tuple[int, str]:
        verb = command[2] if command[1] == "pip" else Path(command[0]).name
        self.asked.append(verb)
        if verb == self.dies_at:
            return 1, "error: connection\n  broken"
        if command[1] == "-m":
            self.venv(Path(command[-1]))
        elif verb == "compile":
            self.compile(command)
        elif verb == "install" and "--requirements" in command:
            self.install(command)
        elif verb == "uninstall":
            site = Path(command[command.index("--python") + 1]).parent.parent
            for name in command[5:]:
                for folder in site.glob(f"lib/*/*/{name}-*.dist-info"):
                    (folder / "RECORD").unlink()
        return 0, ""

    def venv(self, path: Path) -> None:
        (path / "bin").mkdir(parents=True)
        for name in ("activate", "pip", "uv", "python"):
            (path / "bin" / name).touch()
        (path / "pyvenv.cfg").write_text(
            "home = /usr/bin\ninclude-system-site-packages = false\nversion = 3.13.5\n"
        )
        record = path / "lib/python3.13/site-packages/uv-1.dist-info/RECORD"
        record.parent.mkdir(parents=True)
        record.touch()

    def compile(self, command: Sequence[str]) -> None:
        found, wanted = Path(command[-2]), Path(command[-1])
        old = pyenv.pins(found.read_text())
        lines = []
        for name in wanted.read_text().split():
            version = old.get(name, self.index[name][-1])
            lines.append(f"{name}=={version} \\\n    --hash={DEMO}\n")
        found.write_text("".join(lines))

    def install(self, command: Sequence[str]) -> None:
        python = Path(command[command.index("--python") + 1])
        lock = Path(command[-1]).read_text()
        for name, version in pyenv.pins(lock).items():
            site = python.parent.parent / "lib/python3.13/site-packages"
            for older in site.glob(f"{name}-*.dist-info/RECORD"):
                older.unlink()
            folder = site / f"{name}-{version}.dist-info"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "RECORD").touch()


@pytest.fixture
def tools(tmp_path: Path) -> pyenv.Tools:
    return pyenv.Tools(tmp_path / "uv", "1", {})


@pytest.fixture
def wish(tmp_path: Path) -> pyenv.Wish:
    return pyenv.Wish("lab", tmp_path / "venv", ("demo", "other"))


INDEX = {"demo": ["1.0"], "other": ["2.1"], "third": ["3"]}


def build(wish: pyenv.Wish, tools: pyenv.Tools, uv: Uv, check: bool = False) -> pyenv.Result:
    pyenv.make_tools(tools, uv, check)
    return pyenv.make(wish, tools, uv, check)


def test_do_again_and_again(wish: pyenv.Wish, tools: pyenv.Tools) -> None:
    uv = Uv(INDEX)
    first = build(wish, tools, uv)
    assert pyenv.pins(first.lock) == {"demo": "1.0", "other": "2.1"}
    assert "install demo 1.0" in first.steps
    uv.asked.clear()
    again = build(replace(wish, lock=first.lock), tools, uv)
    assert (again.steps, again.difference, again.lock) == ((), (), first.lock)
    assert uv.asked == [], "a second run asks nobody"
    assert build(replace(wish, lock=first.lock), tools, uv, check=True).steps == ()


def test_a_rebuild_installs_what_the_lock_says_though_newer_is_to_be_had(
    wish: pyenv.Wish, tools: pyenv.Tools, tmp_path: Path
) -> None:
    lock = build(wish, tools, Uv(INDEX)).lock
    newer = Uv({**INDEX, "demo": ["1.0", "2.0"]})
    other = replace(wish, path=tmp_path / "rebuilt", lock=lock)
    rebuilt = build(other, tools, newer)
    assert rebuilt.lock == lock and "compile" not in newer.asked
    assert pyenv.missing(other.path, lock) == []
    assert rebuilt.difference == ()


def test_an_upgrade_renews_the_lock_and_says_what_differs(
    wish: pyenv.Wish, tools: pyenv.Tools
) -> None:
    lock = build(wish, tools, Uv(INDEX)).lock
    newer = Uv({**INDEX, "demo": ["1.0", "2.0"]})
    upgraded = build(replace(wish, lock=lock), replace(tools, upgrade=True), newer)
    assert upgraded.difference == ("demo 1.0 -> 2.0",)
    assert pyenv.missing(wish.path, upgraded.lock) == []


def test_another_wish_keeps_the_versions_that_are_there(
    wish: pyenv.Wish, tools: pyenv.Tools
) -> None:
    lock = build(wish, tools, Uv(INDEX)).lock
    newer = Uv({**INDEX, "demo": ["1.0", "2.0"]})
    more = replace(wish, lock=lock, requirements=("demo", "third"))
    found = build(more, tools, newer)
    assert found.difference == ("other 2.1 -> (gone)", "third (new) -> 3")
    assert pyenv.pins(found.lock)["demo"] == "1.0"
    assert "remove other" in found.steps
    assert pyenv.missing(wish.path, lock) == ["other"]


def test_the_lock_of_the_host_serves_where_the_controllers_is_lost(
    wish: pyenv.Wish, tools: pyenv.Tools
) -> None:
    lock = build(wish, tools, Uv(INDEX)).lock
    again = build(wish, tools, newer := Uv({"demo": ["9"], "other": ["9"]}))
    assert again.lock == lock and newer.asked == []


def test_a_package_that_somebody_removed_comes_back(wish: pyenv.Wish, tools: pyenv.Tools) -> None:
    uv = Uv(INDEX)
    lock = build(wish, tools, uv).lock
    record = next(wish.path.glob("lib/*/*/demo-*.dist-info/RECORD"))
    record.unlink()
    assert build(replace(wish, lock=lock), tools, uv).steps == ("install demo 1.0",)


def test_killed_anywhere_the_next_run_mends_it(wish: pyenv.Wish, tools: pyenv.Tools) -> None:
    uv = Uv(INDEX)
    for verb in ("python3", "compile", "install"):
        uv.dies_at = verb
        with pytest.raises(LabError, match=r"ended with 1: error: connection broken"):
            build(wish, tools, uv)
    uv.dies_at = ""
    done = build(wish, tools, uv)
    assert pyenv.missing(wish.path, done.lock) == []
    assert build(wish, tools, uv).steps == ()


def test_check_mode_on_a_bare_host_writes_nothing(
    wish: pyenv.Wish, tools: pyenv.Tools, tmp_path: Path
) -> None:
    uv = Uv(INDEX)
    assert pyenv.make_tools(tools, uv, check=True) == ("install uv 1",)
    found = pyenv.make(wish, tools, uv, check=True)
    assert found.steps == (f"make {wish.path}", "lock and install lab") and found.lock == ""
    assert uv.asked == [] and list(tmp_path.iterdir()) == []


def test_check_mode_tells_what_an_upgrade_would_bring(wish: pyenv.Wish, tools: pyenv.Tools) -> None:
    lock = build(wish, tools, Uv(INDEX)).lock
    newer = Uv({**INDEX, "demo": ["1.0", "2.0"]})
    up = replace(tools, upgrade=True)
    told = build(replace(wish, lock=lock), up, newer, check=True)
    assert told.difference == ("demo 1.0 -> 2.0",)
    assert (wish.path / pyenv.MARK).read_text() == lock


def test_a_lock_for_another_python_is_made_anew(wish: pyenv.Wish, tools: pyenv.Tools) -> None:
    lock = build(wish, tools, Uv(INDEX)).lock
    foreign = lock.replace('"python": "3.13"', '"python": "3.11"')
    (wish.path / pyenv.MARK).write_text(foreign)
    uv = Uv(INDEX)
    assert build(replace(wish, lock=foreign), tools, uv).lock == lock
    assert "compile" in uv.asked


def test_seeing_the_distributions_packages_is_switched_on_and_off(
    wish: pyenv.Wish, tools: pyenv.Tools
) -> None:
    uv = Uv(INDEX)
    build(replace(wish, system=True), tools, uv)
    assert "include-system-site-packages = true" in (wish.path / "pyvenv.cfg").read_text()
    done = build(wish, tools, uv)
    assert done.steps[0] == f"write {wish.path / 'pyvenv.cfg'}"
    assert "include-system-site-packages = false" in (wish.path / "pyvenv.cfg").read_text()


def test_an_environment_may_be_empty(wish: pyenv.Wish, tools: pyenv.Tools) -> None:
    uv = Uv(INDEX)
    assert pyenv.pins(build(replace(wish, requirements=()), tools, uv).lock) == {}
    assert "install" not in uv.asked[2:]


LOCK = """# Made by role pytorch for {}
torch==2.15.0+cpu \\
    --hash=sha256:22 \\
    --hash=sha256:11
Jinja2==3.1.6 ; python_version >= "3.11" \\
    --hash=sha256:33
mine @ git+https://example.org/mine@0123
"""


def test_a_lock_is_read() -> None:
    assert pyenv.pins(LOCK) == {"torch": "2.15.0+cpu", "jinja2": "3.1.6"}
    assert pyenv.hashes(LOCK) == {
        "torch": ["sha256:11", "sha256:22"],
        "jinja2": ["sha256:33"],
    }


@pytest.mark.parametrize(
    ("folder", "pinned"),
    [
        ("tzdata-2024.01", "tzdata==2024.1"),
        ("My_Pkg-1.0", "my-pkg==1.0"),
        ("a.b-1.0+cpu", "a-b==1.0+cpu"),
    ],
)
def test_names_and_versions_compare_however_they_are_written(
    folder: str, pinned: str, tmp_path: Path
) -> None:
    record = tmp_path / f"lib/python3.13/site-packages/{folder}.dist-info/RECORD"
    record.parent.mkdir(parents=True)
    record.touch()
    assert pyenv.missing(tmp_path, pinned + "\n") == []


LOCKS = st.dictionaries(st.from_regex(r"\A[a-z]{1,5}\Z"), st.from_regex(r"\A[1-9]\.[0-9]\Z"))


@given(LOCKS, LOCKS)
def test_the_difference_leads_from_one_to_the_other(
    old: dict[str, str], new: dict[str, str]
) -> None:
    locks = ["".join(f"{n}=={v}\n" for n, v in each.items()) for each in (old, new)]
    found = dict(old)
    for line in pyenv.difference(*locks):
        name, _, _, becomes = line.split()
        found.pop(name, None)
        if becomes != "(gone)":
            found[name] = becomes
    assert found == new


def test_the_head_names_all_that_the_lock_depends_on(wish: pyenv.Wish) -> None:
    head = pyenv.head(wish, "3.13")
    made_for = json.loads(head.removeprefix(pyenv.HEAD))
    assert set(made_for) == {"python", "machine", "requirements", "where", "excludes"}
    assert head != pyenv.head(replace(wish, where=("--torch-backend", "cpu")), "3.13")


def test_two_runs_wait_for_each_other(tmp_path: Path) -> None:
    tools = pyenv.Tools(tmp_path / "opt/uv", "1", {})
    begun = threading.Event()
    order: list[str] = []

    def second() -> None:
        begun.set()
        with pyenv.alone(tools):
            order.append("second")

    with pyenv.alone(tools):
        other = threading.Thread(target=second)
        other.start()
        begun.wait()
        other.join(0.2)
        order.append("first")
    other.join()
    assert order == ["first", "second"]
