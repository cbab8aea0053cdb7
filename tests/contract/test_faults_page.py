"""Each fault of docs/lifecycle.md names tests that are there."""

from __future__ import annotations

import re

import pytest

from tests.contract.conftest import ROOT

PAGE = (ROOT / "docs/lifecycle.md").read_text().partition("## When things go wrong")[2]
LINES = [line for line in PAGE.partition("\n## ")[0].splitlines() if line.startswith("| ")][
    1:
]  # without the head
# What issue 6 names; each has its line.
FAULTS = (
    "for a while", "for ever", "capacity", "quota", "expired", "permission", "reply", "IAM",
    "security group", "somebody else's", "two runs", "Ctrl-C", "each task", "protected",
    "half way", "confirmation",
)  # fmt: skip


@pytest.mark.parametrize("line", LINES, ids=lambda line: line[2:40])
def test_every_fault_names_tests_that_are_there(line: str) -> None:
    named = re.findall(r"`(tests/[^`]+)`", line.split("|")[3])
    assert named
    for name in named:
        path, _, test = name.partition("::")
        assert re.search(rf"^def {test}\(", (ROOT / path).read_text(), re.MULTILINE), name


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_has_its_line(fault: str) -> None:
    assert any(fault in line.split("|")[1] for line in LINES), fault
