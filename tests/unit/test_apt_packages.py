"""Packages are asked of dpkg, and apt is started only for those that are missing."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from ansible.module_utils.lab import apt_packages
from ansible.module_utils.lab.apt_packages import Wish
from ansible.module_utils.lab.errors import LabError

DPKG = "tmux\tinstalled\t3.5a-3\ns3fs\thalf-configured\t1.95-1\nold\tconfig-files\t1\n"
PROVIDES = "installed\tawk, other (= 1)\ninstalled\t\nconfig-files\tgone\n"
BUSY = "E: Could not get lock /var/lib/apt/lists/lock. It is held by process 7 (apt-get)"


class Apt:
    """Answer each apt-get with the next of these; the last one for ever."""

    def __init__(self, *answers: tuple[int, str]) -> None:
        self.answers = list(answers)
        self.commands: list[str] = []

    def __call__(self, command: Sequence[str]) -> tuple[int, str]:
        self.commands.append(" ".join(part for part in command if "::" not in part))
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A host whose lists are fresh."""
    (tmp_path / "var/lib/apt/lists/partial").mkdir(parents=True)
    (tmp_path / "var/lib/apt/lists/debian_dists_trixie_InRelease").touch()
    return tmp_path


def nap(_seconds: float) -> None:
    """Wait no time."""


@pytest.mark.parametrize(
    ("names", "absent"),
    [
        (["tmux"], []),
        (["tmux", "s3fs", "old", "none"], ["none", "old", "s3fs"]),
        (["tmux=3.5a-3", "tmux=3.*"], []),
        (["tmux=3.4"], ["tmux=3.4"]),
        (["awk", "other", "gone"], ["gone"]),
    ],
)
def test_what_is_not_there_whole_is_missing(names: list[str], absent: list[str]) -> None:
    def dpkg(command: Sequence[str]) -> tuple[int, str]:
        return (0, PROVIDES) if "Provides" in command[3] else (1, DPKG)

    assert apt_packages.missing(names, dpkg) == absent


def test_the_age_of_the_lists(root: Path, tmp_path: Path) -> None:
    assert apt_packages.lists_age(root, time.time()) < 60
    assert apt_packages.lists_age(root, time.time() + 90000) > 86400
    assert apt_packages.lists_age(tmp_path / "bare", 0) == float("inf")


def test_one_apt_for_all(root: Path) -> None:
    apt = Apt((0, ""))
    apt_packages.install(["a", "b"], Wish(("a", "b")), apt, root, nap)
    assert apt.commands == ["apt-get -q -o -o -o -o install --yes --no-install-recommends a b"]


def test_lists_that_are_not_there_are_fetched_first(tmp_path: Path) -> None:
    apt = Apt((0, ""))
    apt_packages.install(["a"], Wish(("a",), recommends=True), apt, tmp_path, nap)
    assert [command.split()[6] for command in apt.commands] == ["update", "install"]
    assert "--no-install-recommends" not in apt.commands[1]


@pytest.mark.parametrize(
    "said", ["E: Unable to locate package a", "E: Failed to fetch http://x/a.deb  404  Not Found"]
)
def test_lists_that_know_a_package_no_more_are_fetched_again(said: str, root: Path) -> None:
    apt = Apt((100, said), (0, ""))
    apt_packages.install(["a"], Wish(("a",)), apt, root, nap)
    assert [command.split()[6] for command in apt.commands] == ["install", "update", "install"]


def test_a_lock_is_waited_for(root: Path) -> None:
    waited: list[float] = []
    apt = Apt((100, BUSY), (100, BUSY), (0, ""))
    apt_packages.install(["a"], Wish(("a",)), apt, root, waited.append)
    assert len(waited) == 2


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (BUSY, f"apt-get install ended with 100: {BUSY}"),
        ("Reading\nE: Broken\nW: Also", "apt-get install ended with 100: E: Broken W: Also"),
        ("no word of apt's", "apt-get install ended with 100: no word of apt's"),
    ],
)
def test_what_apt_says_is_told(said: str, told: str, root: Path) -> None:
    naps: Callable[[float], None] = nap
    with pytest.raises(LabError) as refused:
        apt_packages.install(["a"], Wish(("a",), lock_timeout_s=6), Apt((100, said)), root, naps)
    assert str(refused.value) == told
