"""Prowler's findings: read, told apart by whose they are, and set in a table."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

OURS = "gpulab-"


@dataclass(frozen=True)
class Finding:
    """One check of one resource; `status` is PASS, FAIL or MANUAL."""

    check: str
    status: str
    resource: str
    said: str
    ours: bool


def read(folder: Path) -> list[Finding]:
    """Read Prowler's CSV. Raises FileNotFoundError where it wrote none."""
    paths = sorted(folder.glob("*.csv"))
    if not paths:
        raise FileNotFoundError(f"Prowler has written no CSV into {folder}")
    with paths[0].open(newline="") as file:
        return [_finding(row) for row in csv.DictReader(file, delimiter=";")]


def _finding(row: dict[str, str]) -> Finding:
    resource = row["RESOURCE_NAME"] or row["RESOURCE_UID"]
    whole = " ".join((row["RESOURCE_UID"], row["RESOURCE_NAME"], row["RESOURCE_TAGS"]))
    ours = OURS in whole or "Project=gpulab" in whole
    return Finding(row["CHECK_ID"], row["STATUS"], resource, row["STATUS_EXTENDED"], ours)


def broken(findings: Iterable[Finding], reasons: Mapping[str, str]) -> list[str]:
    """Say what of ours fails that nobody has given a reason for."""
    return sorted(
        f"{finding.check}: {finding.said}"
        for finding in findings
        if finding.ours and finding.status == "FAIL" and finding.check not in reasons
    )


def table(findings: Sequence[Finding], reasons: Mapping[str, str]) -> str:
    """Set the checks of our things in rows: how many pass and fail, and why."""
    by_check: dict[str, list[Finding]] = defaultdict(list)
    for finding in findings:
        if finding.ours:
            by_check[finding.check].append(finding)
    rows = ["| Check | Pass | Fail | Why it is left |", "|---|---|---|---|"]
    for check, found in sorted(by_check.items()):
        failed = sum(f.status == "FAIL" for f in found)
        passed = sum(f.status == "PASS" for f in found)
        why = reasons.get(check, "**no reason**") if failed else ""
        rows.append(f"| {check} | {passed} | {failed} | {why} |")
    return "\n".join(rows)
