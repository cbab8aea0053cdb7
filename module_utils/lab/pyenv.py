"""Python environments that are the same at the next rebuild: a lock with hashes, and what is there.

A lock is what `uv pip compile --generate-hashes` writes, below one line that says what it was made
for. The one that is given (the controller's) wins; else the one that the environment was installed
from; else one is made. Nothing is asked of an index where all of a lock is installed already.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import LabError

HEAD = "# Made by role pytorch for "
# The lock that an environment was installed from, beside its pyvenv.cfg.
MARK = "lab.lock"
EXCLUDES = "excludes.txt"
# Beside uv's own environment: held by a run that is at work.
LOCK = ".python_env.lock"
_PIN = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s;\\]+)", re.MULTILINE)
_DIRECT = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]* @ ", re.MULTILINE)

# A runner takes an argument list and further environment, and returns status and what was said.
Runner = Callable[[Sequence[str], Mapping[str, str]], tuple[int, str]]


@dataclass(frozen=True)
class Wish:
    """One environment: its folder, what goes into it, and the lock that is kept elsewhere.

    `where` are options of uv that say where packages come from; `excludes` are never installed;
    `system` lets it see the packages of the distribution.
    """

    name: str
    path: Path
    requirements: tuple[str, ...]
    lock: str = ""
    where: tuple[str, ...] = ()
    excludes: tuple[str, ...] = ()
    system: bool = False


@dataclass(frozen=True)
class Tools:
    """What installs: uv's own environment and version, settings, whether a lock is made anew."""

    home: Path
    version: str
    settings: Mapping[str, str]
    upgrade: bool = False

    @property
    def uv(self) -> Path:
        """The program."""
        return self.home / "bin/uv"


@dataclass(frozen=True)
class Result:
    """What was done to one environment, or would be: the lock and sentences, one for a change.

    `lock` is empty where check mode cannot know it.
    """

    name: str
    lock: str
    steps: tuple[str, ...]
    difference: tuple[str, ...]


def run(command: Sequence[str], more: Mapping[str, str]) -> tuple[int, str]:
    """Run a program; what it says on both channels."""
    done = subprocess.run(
        command,
        env={**os.environ, **more},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


# --- Locks --------------------------------------------------------------------------------------


def normal(name: str) -> str:
    """Write a project's name in the one way that compares."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(lock: str) -> dict[str, str]:
    """Return version by name of what a lock pins."""
    return {normal(name): version for name, version in _PIN.findall(lock)}


def hashes(lock: str) -> dict[str, list[str]]:
    """Return the hashes by name of what a lock pins, sorted."""
    found: dict[str, list[str]] = {}
    name = ""
    for line in lock.splitlines():
        if pin := _PIN.match(line):
            name = normal(pin[1])
            found[name] = []
        found.get(name, []).extend(re.findall(r"--hash=(\S+)", line))
    return {name: sorted(values) for name, values in found.items()}


def difference(old: str, new: str) -> tuple[str, ...]:
    """Say what differs between two locks, a line for each package."""
    before, after = pins(old), pins(new)
    said = []
    for name in sorted({*before, *after}):
        was, becomes = before.get(name), after.get(name)
        if was != becomes:
            said.append(f"{name} {was or '(new)'} -> {becomes or '(gone)'}")
    return tuple(said)


def head(wish: Wish, python: str) -> str:
    """Say in one line what a lock is made for; another line asks for another lock."""
    made_for = {
        "python": python,
        "machine": os.uname().machine,
        "requirements": list(wish.requirements),
        "where": list(wish.where),
        "excludes": sorted(wish.excludes),
    }
    return HEAD + json.dumps(made_for, sort_keys=True)


def chosen(wish: Wish, python: str, upgrade: bool) -> str:
    """Return the lock that holds; empty where one has to be made."""
    if upgrade:
        return ""
    wanted = head(wish, python)
    for lock in (wish.lock, _read(wish.path / MARK)):
        if lock.partition("\n")[0] == wanted:
            return lock
    return ""


@contextmanager
def alone(tools: Tools) -> Iterator[None]:
    """Wait until no other run is at work here.

    One that Ansible has begun and did not join, because it was killed, goes on by itself.
    """
    tools.home.parent.mkdir(parents=True, exist_ok=True)
    with (tools.home.parent / LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


# --- Environments -------------------------------------------------------------------------------


def installed(path: Path) -> dict[str, str]:
    """Return version by name of what an environment has.

    The names of the folders tell; reading each package's metadata would cost a third of a second.
    """
    there = {}
    for folder in (path / "lib").glob("python3*/site-packages/*.dist-info"):
        name, _, version = folder.name.removesuffix(".dist-info").rpartition("-")
        if (folder / "RECORD").exists():
            there[normal(name)] = _version(version)
    return there


def missing(path: Path, lock: str) -> list[str]:
    """List what a lock pins and an environment has not, or has in another version."""
    there = installed(path)
    found = pins(lock).items()
    return sorted(name for name, version in found if there.get(name) != _version(version))


def _version(version: str) -> str:
    """Write a version in the one way that compares: 2024.01 is 2024.1."""
    return re.sub(r"(^|\.)0+(?=\d)", r"\1", version.lower().replace("_", "."))


def make_tools(tools: Tools, runner: Runner, check: bool) -> tuple[str, ...]:
    """Install uv where it is not there in this version. Raises LabError."""
    mark = f"lib/python3*/site-packages/uv-{tools.version}.dist-info/RECORD"
    if any(tools.home.glob(mark)) and tools.uv.exists():
        return ()
    if not check:
        if not (tools.home / "bin/pip").exists():
            _must(runner, ["python3", "-m", "venv", str(tools.home)], {})
        pip = [str(tools.home / "bin/pip"), "install", "--quiet", "--disable-pip-version-check"]
        _must(runner, [*pip, f"uv=={tools.version}"], {})
    return (f"install uv {tools.version}",)


def make(wish: Wish, tools: Tools, runner: Runner = run, check: bool = False) -> Result:
    """Bring one environment to what is wished. Raises LabError.

    In check mode nothing is written; a lock is still made where uv and the environment are there,
    for only it tells what would come.
    """
    steps = list(_make_venv(wish, runner, check))
    ready = not check or (tools.uv.exists() and not steps)
    lock = ""
    if (wish.path / "pyvenv.cfg").exists():
        lock = chosen(wish, _python(wish.path), tools.upgrade)
    old = wish.lock or _read(wish.path / MARK)
    if not lock and ready:
        lock = _compile(wish, tools, runner, old)
    if not lock:
        return Result(wish.name, "", (*steps, f"lock and install {wish.name}"), ())
    installed = _read(wish.path / MARK)
    gone = sorted(set(pins(installed)) - set(pins(lock)))
    absent = missing(wish.path, lock)
    if absent or installed != lock:
        steps += [f"install {name} {pins(lock)[name]}" for name in absent]
        steps += [f"remove {name}" for name in gone]
        if installed != lock:
            steps.append(f"write {wish.path / MARK}")
        if not check:
            _install(wish, tools, runner, lock, gone)
    changed = difference(old, lock) if old else ()
    return Result(wish.name, lock, tuple(steps), changed)


def _make_venv(wish: Wish, runner: Runner, check: bool) -> list[str]:
    steps = []
    if not (wish.path / "bin/activate").exists():
        steps.append(f"make {wish.path}")
        if check:
            return steps
        _must(runner, ["python3", "-m", "venv", "--without-pip", str(wish.path)], {})
    config = wish.path / "pyvenv.cfg"
    text = _read(config)
    line = f"include-system-site-packages = {str(wish.system).lower()}"
    right = re.sub(r"^include-system-site-packages =.*$", line, text, flags=re.MULTILINE)
    excludes = "".join(f"{name}\n" for name in ["# Made by role pytorch.", *wish.excludes])
    for path, content in ((config, right), (wish.path / EXCLUDES, excludes)):
        if _read(path) != content:
            steps.append(f"write {path}")
            if not check:
                _write(path, content)
    return steps


def _compile(wish: Wish, tools: Tools, runner: Runner, old: str) -> str:
    """Make a lock; versions of the old one stay where they can, unless all are to be renewed."""
    folder = wish.path / ".lab-lock"
    folder.mkdir(exist_ok=True)
    wanted, found = folder / "requirements.in", folder / "requirements.txt"
    wanted.write_text("".join(f"{each}\n" for each in wish.requirements))
    found.write_text("" if tools.upgrade else old)
    command = [
        str(tools.uv), "pip", "compile", "--quiet", "--generate-hashes", "--no-header",
        "--no-annotate", "--python", str(wish.path / "bin/python"),
        "--excludes", str(wish.path / EXCLUDES), *wish.where,
        *(["--upgrade"] if tools.upgrade else []), "--output-file", str(found), str(wanted),
    ]  # fmt: skip
    _must(runner, command, tools.settings)
    body = found.read_text()
    for path in (wanted, found):
        path.unlink()
    folder.rmdir()
    return f"{head(wish, _python(wish.path))}\n{body}"


def _install(wish: Wish, tools: Tools, runner: Runner, lock: str, gone: Sequence[str]) -> None:
    """Install exactly a lock, and write down that it was: last, so that a killed run goes on."""
    python = ["--python", str(wish.path / "bin/python")]
    file = wish.path / (MARK + ".new")
    file.write_text(lock)
    # A direct address has no hash in a lock; what has one is compared with it in any case.
    strict = [] if _DIRECT.search(lock) else ["--require-hashes"]
    command = [str(tools.uv), "pip", "install", "--no-deps", *strict, *python, *wish.where]
    if pins(lock) or _DIRECT.search(lock):
        _must(runner, [*command, "--requirements", str(file)], tools.settings)
    if gone:
        _must(runner, [str(tools.uv), "pip", "uninstall", *python, *gone], tools.settings)
    file.replace(wish.path / MARK)


def _must(runner: Runner, command: Sequence[str], more: Mapping[str, str]) -> None:
    status, said = runner(command, more)
    if status:
        last = " ".join(said.split())[-1500:]
        program = " ".join(part for part in command[:4] if not part.startswith("-"))
        raise LabError(f"{program} ended with {status}: {last}")


def _python(path: Path) -> str:
    """Return "3.13" of an environment."""
    found = re.search(r"^version(?:_info)? = (\d+\.\d+)", _read(path / "pyvenv.cfg"), re.MULTILINE)
    return found[1] if found else ""


def _write(path: Path, content: str) -> None:
    """Write beside the final name and move there, so that no reader sees half a file."""
    beside = path.with_name(path.name + ".new")
    beside.write_text(content)
    beside.replace(path)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def as_dict(result: Result) -> dict[str, Any]:
    """Return a result as a module reports it."""
    return {
        "name": result.name,
        "lock": result.lock,
        "steps": list(result.steps),
        "difference": list(result.difference),
    }
