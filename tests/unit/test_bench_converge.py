"""The benchmark of a converge: its ratios, and that the script by hand installs what ours does."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping

import pytest

from benchmarks.converge import __main__ as bench


def test_the_ratios_are_of_the_medians() -> None:
    times = bench.Times(first=[90.0, 120.0, 99.0], bare=[100.0, 90.0, 400.0], second=[30.0])
    said = bench.table(times)
    assert "first converge        99.0 s   0.99 of the script (goal 1.15)" in said
    assert "second converge       30.0 s   2.00 of 15 s (goal 1)" in said


@pytest.mark.parametrize("gpu", [False, True])
def test_the_script_by_hand(monkeypatch: pytest.MonkeyPatch, gpu: bool) -> None:
    """It is a whole script; with a GPU it opens Debian's other components before it installs."""
    texts: list[str] = []

    def ssh(
        lab: str, _command: str, _environment: Mapping[str, str], text: str
    ) -> tuple[float, str]:
        assert lab == bench.BARE
        texts.append(text)
        return 7.0, ""

    monkeypatch.setattr(bench, "ssh", ssh)
    assert bench.by_hand({"tmux", "nvidia-smi"}, "the lock", {}, gpu) == 7.0
    lock, script = texts
    assert lock == "the lock"
    assert "install -y -qq --no-install-recommends nvidia-smi tmux\n" in script
    assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0
    before, _, after = script.partition("apt-get update")
    assert ("non-free-firmware" in before) == gpu
    assert ("modprobe nvidia" in after) == gpu
