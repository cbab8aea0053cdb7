"""`lab submit`: the call of sbatch that it makes, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from roles.idle_stop.files.lab_idle import command, submit


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A shared folder with a script and the job, on a host that has a queue."""
    sbatch = tmp_path / "bin/sbatch"
    sbatch.parent.mkdir()
    sbatch.write_text("#!/bin/sh\n")
    sbatch.chmod(0o755)
    monkeypatch.setenv("PATH", str(sbatch.parent))
    (tmp_path / "data").mkdir()
    (tmp_path / "data/train me.py").touch()
    (tmp_path / "data/job.sbatch").touch()
    (tmp_path / "home.py").touch()
    return tmp_path / "data"


def said(shared: Path, *words: str) -> tuple[int, list[list[str]]]:
    ran: list[list[str]] = []
    status = submit.main(
        words, shared=shared, job=shared / "job.sbatch", run=lambda _, call: ran.append(call)
    )
    return status, ran


def test_it_is_one_call_of_sbatch_and_says_which(
    shared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = str(shared / "train me.py")
    status, ran = said(shared, script, "--nodes", "2", "--gpus", "1", "--", "--nodes", "a b")
    job = str(shared / "job.sbatch")
    asked = ["sbatch", "--nodes=2", "--gres=gpu:1", "--job-name=train me"]
    assert (status, ran) == (0, [[*asked, job, script, "--nodes", "a b"]])
    wanted = f"sbatch --nodes=2 --gres=gpu:1 '--job-name=train me' {job} '{script}' --nodes 'a b'\n"
    assert capsys.readouterr().out == wanted


def test_a_script_is_found_from_where_one_stands(
    shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(shared)
    _, ran = said(shared, "train me.py")
    assert ran[0][1:3] == ["--nodes=1", "--job-name=train me"]
    assert ran[0][-1] == str(shared / "train me.py")


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("none.py", "none.py is no file"),
        ("../home.py", "home.py is not below {shared}, which is all that the workers see: copy it"),
    ],
)
def test_what_no_worker_could_run_is_refused(
    shared: Path, capsys: pytest.CaptureFixture[str], script: str, reason: str
) -> None:
    assert said(shared, str(shared / script)) == (1, [])
    assert reason.format(shared=shared) in capsys.readouterr().err


def test_without_the_job_it_says_who_brings_it(
    shared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (shared / "job.sbatch").unlink()
    assert said(shared, str(shared / "train me.py")) == (1, [])
    assert "job.sbatch is missing: run site.yml" in capsys.readouterr().err


def test_a_lab_of_one_host_has_no_queue(
    shared: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(shared))
    assert command.main(["submit", str(shared / "train me.py")]) == 1
    assert "there is no queue here: set lab_workers" in capsys.readouterr().err


def test_the_job_is_one_of_the_examples() -> None:
    examples = Path(__file__).resolve().parents[2] / "examples"
    assert (examples / submit.JOB.name).is_file()
    assert submit.JOB.parent == submit.SHARED / "notebooks/examples"
