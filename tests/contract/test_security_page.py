"""docs/security.md claims nothing without a test that is there."""

from __future__ import annotations

import re

import pytest

from tests.contract.conftest import ROOT

LINES = [
    line
    for line in (ROOT / "docs/security.md").read_text().splitlines()
    if line.startswith("| ") and not line.startswith("| They")
]
CHECK = re.compile(r"\d\d-[a-z0-9_]+")


@pytest.mark.parametrize("line", LINES, ids=lambda line: line[2:40])
def test_every_line_names_a_test_that_is_there(line: str) -> None:
    named = re.findall(r"`([^`]+)`", line.split("|")[3])
    assert named
    for name in named:
        if CHECK.fullmatch(name):
            tasks = "".join(path.read_text() for path in ROOT.glob("roles/*/tasks/*.yml"))
            assert f"checks.d/{name}" in tasks, name
        else:
            assert (ROOT / name).exists(), name


def test_there_are_lines() -> None:
    assert len(LINES) >= 10
