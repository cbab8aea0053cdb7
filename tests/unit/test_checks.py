from __future__ import annotations

import json
from pathlib import Path

import pytest
from ansible.module_utils.lab.checks import Finished, Result, read_results, run_all, table
from ansible.module_utils.lab.errors import LabError


def line(**values: str) -> str:
    return json.dumps({"check": "c", "status": "ok", "detail": "d"} | values)


@pytest.mark.parametrize(
    ("finished", "statuses"),
    [
        (Finished(0, line(), ""), ["ok"]),
        (Finished(0, line() + "\n\n" + line(status="skipped"), ""), ["ok", "skipped"]),
        (Finished(0, "", ""), ["failed"]),
        (Finished(0, "all is well\n", ""), ["failed"]),
        (Finished(0, line(status="fine"), ""), ["failed"]),
        (Finished(0, line(check=""), ""), ["failed"]),
        (Finished(0, "[1]\n", ""), ["failed"]),
        (Finished(1, line(), "boom"), ["ok", "failed"]),
        (Finished(None, line(), ""), ["ok", "failed"]),
    ],
)
def test_only_what_a_program_says_clearly_counts(finished: Finished, statuses: list[str]) -> None:
    assert [r.status for r in read_results("prog", finished, 5)] == statuses


def test_the_reason_of_a_failure_is_told() -> None:
    assert read_results("70-jupyter", Finished(3, "", "no such unit\n"), 5) == [
        Result("70-jupyter", "failed", "exit status 3: no such unit")
    ]
    assert read_results("70-jupyter", Finished(None, "", ""), 2.5) == [
        Result("70-jupyter", "failed", "no answer within 2.5 s")
    ]


def program(folder: Path, name: str, text: str, mode: int = 0o755) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(mode)


def test_programs_run_for_real_and_keep_their_order(tmp_path: Path) -> None:
    program(tmp_path, "20-b", f"echo '{line(check='b')}'")
    program(tmp_path, "10-a", f"sleep 0.3; echo '{line(check='a')}'")
    program(tmp_path, "30-slow", "sleep 30")
    program(tmp_path, "README", "exit 1", mode=0o644)
    results = run_all(tmp_path, deadline_s=1)
    assert [(r.check, r.status) for r in results] == [
        ("a", "ok"),
        ("b", "ok"),
        ("30-slow", "failed"),
    ]


def test_a_program_that_cannot_start_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "10-broken").write_text("#!/no/such/interpreter\n")
    (tmp_path / "10-broken").chmod(0o755)
    assert [r.status for r in run_all(tmp_path, 1)] == ["failed"]


def test_a_host_without_checks_is_not_proved(tmp_path: Path) -> None:
    with pytest.raises(LabError) as error:
        run_all(tmp_path / "checks.d", 1)
    assert str(error.value) == (
        f"{tmp_path}/checks.d: it holds no check program, so nothing on this host can be proved;"
        " run ansible-playbook playbooks/configure_host.yml"
    )


def test_the_table_lines_up_and_counts() -> None:
    rows = [("host", Result("torch", "ok", "2.6.0")), ("outside", Result("gpu", "skipped", "none"))]
    assert table(rows) == [
        "ok       host     torch  2.6.0",
        "skipped  outside  gpu    none",
        "1 ok, 0 failed, 1 skipped",
    ]
