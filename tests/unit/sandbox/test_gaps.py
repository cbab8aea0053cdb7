"""Each gap of moto is still one, and is filled by the sandbox's patches."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.sandbox.gaps import PROBES

ROOT = Path(__file__).resolve().parents[3]


def results(how: str, folder: Path) -> dict[str, bool]:
    """Probe in a process of its own: moto cannot be unpatched."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.unit.sandbox.gaps", how, str(folder)],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, bool] = json.loads(done.stdout.splitlines()[-1])  # moto prints, too
    return told


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bool]:
    return results("plain", tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="module")
def patched(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bool]:
    return results("patched", tmp_path_factory.mktemp("patched"))


@pytest.mark.parametrize("name", PROBES)
def test_patch_fills_the_gap(patched: dict[str, bool], name: str) -> None:
    assert patched[name]


@pytest.mark.parametrize("name", PROBES)
def test_moto_still_has_the_gap(plain: dict[str, bool], name: str) -> None:
    assert not plain[name], f"moto does this itself now: the patch for {name} can go"
