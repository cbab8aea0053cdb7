"""Have Debian packages installed: what is missing is asked of dpkg, apt is started only for that.

Ansible's own module opens apt's whole cache each time, which costs seconds on a host where nothing
is to be done.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from .errors import LabError

LOCKED = re.compile(r"Could not get lock|Unable to (acquire|lock)|is another process using it")
STALE = re.compile(r"Unable to locate package|has no installation candidate|404  ?Not Found")
RETRY_S = 3
COLUMNS = 3

# A runner takes an argument list and returns exit status and what was said on both channels.
Runner = Callable[[Sequence[str]], tuple[int, str]]


@dataclass(frozen=True)
class Wish:
    """Packages, whether recommended ones come along, and two times in seconds."""

    names: tuple[str, ...]
    recommends: bool = False
    lists_valid_s: int = 86400
    lock_timeout_s: int = 300


def missing(names: Sequence[str], runner: Runner) -> list[str]:
    """List the packages that are not installed whole, or in another version than `name=version`.

    A name that is no package's is there where an installed package provides it.
    """
    query = [
        "dpkg-query",
        "--show",
        "--showformat",
        "${Package}\t${db:Status-Status}\t${Version}\n",
    ]
    _, text = runner([*query, *(name.partition("=")[0] for name in names)])
    rows = (line.split("\t") for line in text.splitlines() if line.count("\t") == COLUMNS - 1)
    there = {name: version for name, state, version in rows if state == "installed"}
    absent = sorted({name for name in names if not _fits(name, there)})
    return [name for name in absent if name not in _provided(runner)] if absent else []


def _fits(name: str, there: dict[str, str]) -> bool:
    package, _, version = name.partition("=")
    return package in there and (not version or fnmatchcase(there[package], version))


def _provided(runner: Runner) -> set[str]:
    query = ["dpkg-query", "--show", "--showformat", "${db:Status-Status}\t${Provides}\n"]
    _, text = runner(query)
    rows = (line.partition("\t") for line in text.splitlines())
    provides = ",".join(names for state, _, names in rows if state == "installed")
    return {name.split()[0] for name in provides.split(",") if name.strip()}


def lists_age(root: Path, now: float) -> float:
    """Return the seconds since apt's lists were fetched; infinite where there are none."""
    folder = root / "var/lib/apt/lists"
    if not any(folder.glob("*_*")):
        return float("inf")
    return now - max(folder.stat().st_mtime, (folder / "partial").stat().st_mtime)


def install(
    names: Sequence[str],
    wish: Wish,
    runner: Runner,
    root: Path = Path("/"),
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Install packages, with fresh lists where those that are there are old. Raises LabError."""
    fetched = lists_age(root, time.time()) > wish.lists_valid_s
    if fetched:
        _apt(["update"], wish, runner, sleep)
    options = [] if wish.recommends else ["--no-install-recommends"]
    command = ["install", "--yes", *options, *names]
    try:
        _apt(command, wish, runner, sleep)
    except LabError as error:
        if fetched or not STALE.search(str(error)):
            raise
        _apt(["update"], wish, runner, sleep)
        _apt(command, wish, runner, sleep)


def _apt(
    command: Sequence[str], wish: Wish, runner: Runner, sleep: Callable[[float], None]
) -> None:
    keep = [f"Dpkg::Options::=--force-conf{each}" for each in ("def", "old")]
    settings = [*keep, f"DPkg::Lock::Timeout={wish.lock_timeout_s}", "APT::Update::Error-Mode=any"]
    options = [part for setting in settings for part in ("-o", setting)]
    left = wish.lock_timeout_s
    while True:
        status, said = runner(["apt-get", "-q", *options, *command])
        if not status:
            return
        # The lock of the lists is one that apt does not wait for itself.
        if not LOCKED.search(said) or left <= 0:
            told = [line for line in said.splitlines() if line.startswith(("E:", "W:"))]
            last = " ".join(told or said.split("\n")[-5:])[-1500:]
            raise LabError(f"apt-get {command[0]} ended with {status}: {last}")
        sleep(RETRY_S)
        left -= RETRY_S
