"""What the two audits read: Lynis's report and Prowler's findings."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.audit_aws import findings
from benchmarks.audit_aws.reasons import REASONS
from benchmarks.hardening import __main__ as hardening
from benchmarks.hardening import left, lynis

REPORT = """\
lynis_version=3.1.4
lynis_tests_done=241
suggestion[]=SSH-7408|Consider hardening SSH configuration|Port (set 22 to )|-|
suggestion[]=XYZ-0001|Do something|-|-|
warning[]=PKGS-7392|Found one or more vulnerable packages.|-|-|
hardening_index=76
"""
HEAD = "CHECK_ID;STATUS;STATUS_EXTENDED;RESOURCE_UID;RESOURCE_NAME;RESOURCE_TAGS\n"


def test_a_report_of_lynis() -> None:
    report = lynis.read(REPORT)
    assert (report.index, report.tests, report.version) == (76, 241, "3.1.4")
    ssh, other = report.suggestions
    assert left.reason(ssh).startswith("another port")
    assert left.reason(other) == ""
    assert hardening.missed(report) == ["XYZ-0001 is left without a reason"]
    assert "| XYZ-0001 | Do something | **no reason** |" in hardening.table(report, report)


def test_an_audit_that_broke_off() -> None:
    with pytest.raises(ValueError, match="no hardening_index"):
        lynis.read("lynis_version=3.1.4\n")


def test_an_index_below_the_goal_is_missed() -> None:
    low = lynis.read("hardening_index=74\n")
    assert hardening.missed(low) == ["the index is 74, the goal 75"]


def test_findings_of_prowler(tmp_path: Path) -> None:
    rows = (
        "c_one;FAIL;gpulab-x is open;arn:1;gpulab-x;\n"
        "c_one;PASS;gpulab-y is shut;arn:2;gpulab-y;\n"
        "c_two;FAIL;default is open;arn:3;default;\n"
        "c_three;FAIL;i-1 is old;arn:4;i-1;Project=gpulab\n"
    )
    (tmp_path / "lab.csv").write_text(HEAD + rows)
    found = findings.read(tmp_path)
    assert findings.broken(found, {"c_three": "so it is"}) == ["c_one: gpulab-x is open"]
    assert "| c_one | 1 | 1 | **no reason** |" in findings.table(found, {})
    assert "c_two" not in findings.table(found, {})


def test_nothing_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        findings.read(tmp_path)


def test_no_reason_covers_what_is_never_to_fail() -> None:
    never = (
        "ec2_ami", "ec2_ebs_public", "ec2_ebs_snapshots_encrypted", "ec2_ebs_volume_encryption",
        "ec2_instance_imdsv2", "ec2_instance_port", "ec2_securitygroup", "s3_bucket_public",
        "s3_bucket_policy", "s3_bucket_level", "s3_bucket_secure", "s3_bucket_default_encryption",
    )  # fmt: skip
    assert not [check for check in REASONS if check.startswith(never)]
