"""The training of several processes: what of it needs neither torch nor Slurm."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
sys.path.append(str(EXAMPLES))  # as a script of that folder finds its neighbour

import train_fashion_mnist_ddp as script  # noqa: E402
from train_fashion_mnist import Progress, TrainError, end_row  # noqa: E402

# In place of srun: be one worker of the job, and say what torch would be asked to run.
SRUN = """#!/bin/bash
echo "srun ${*%% bash *}" | head -1
while [ "$1" != bash ]; do shift; done
SLURM_NODEID=${NODE:-0} bash -c "${3//\\/opt\\/lab\\/venv\\/bin\\/python/lab-python}" "${@:4}"
exit ${STEP_STATUS:-0}
"""
PYTHON = """#!/bin/bash
printf '<%s>' "$@"
echo
env | grep -E '^(GLOO|NCCL)_SOCKET|^PET_|^OMP_' | sort
"""
SCONTROL = """#!/bin/bash
echo "scontrol $*"
"""


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_each_image_of_a_batch_goes_to_one_process(size: int) -> None:
    batch = list(range(96))
    shares = [script.Team(rank, size, "cpu").mine(batch) for rank in range(size)]
    assert sorted(number for share in shares for number in share) == batch
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_a_row_of_the_curve_is_the_mean_of_its_sums(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress(epoch=1, step=50, loss=[], accuracy=[], since=[1.0, 2.0, 3.0])
    end_row(progress, 200, [20.0, 30.0, 40.0])
    assert progress.loss == [[1.25, 0.5, 75.0]]
    assert progress.since == [0.0, 0.0, 0.0]
    assert capsys.readouterr().out == "epoch 2 step 50/200 loss 0.500 accuracy 75.0 %\n"
    end_row(progress, 200, [20.0, 30.0, 40.0], said=False)
    assert (len(progress.loss), capsys.readouterr().out) == (2, "")


def test_the_command_line() -> None:
    run = script.parse([])
    assert (run.work, run.out, run.epochs) == (script.WORK, script.OUT, 3)


def test_alone_it_says_how_it_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(TrainError, match="start it by torchrun or"):
        script.join()


def test_attempts_are_counted_over_both(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SLURM_RESTART_COUNT", "TORCHELASTIC_RESTART_COUNT"):
        monkeypatch.delenv(name, raising=False)
    assert script.attempt() == 1
    monkeypatch.setenv("SLURM_RESTART_COUNT", "2")
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    assert script.attempt() == 4


def test_without_torch_it_says_which_python_has_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(script, "torch", None)
    assert script.main([]) == 2
    assert capsys.readouterr().err == "torch is missing here: use /opt/lab/venv/bin/python\n"


def batch(tmp_path: Path, *words: str, **more: str) -> tuple[int, str]:
    """Run the job script as the first worker of two; its status and what it printed."""
    for name, text in (("srun", SRUN), ("lab-python", PYTHON), ("scontrol", SCONTROL)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    said = {"SLURM_JOB_ID": "1234", "SLURM_NNODES": "2", "SLURM_CPUS_ON_NODE": "8"}
    kept = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_NODELIST": "w-[1-2]"}
    done = subprocess.run(
        ["bash", EXAMPLES / "train_ddp.sbatch", *words],
        env={**kept, **said, **more}, text=True, capture_output=True, check=False,
    )  # fmt: skip
    assert done.stderr == ""
    return done.returncode, done.stdout


def test_torch_is_asked_for_all_workers_and_every_gpu(tmp_path: Path) -> None:
    status, said = batch(tmp_path, "mine.py", "--name", "two words", SLURM_GPUS_ON_NODE="4")
    assert status == 0
    assert "srun --kill-on-bad-exit=1 " in said
    assert "<--nnodes=2><--nproc-per-node=4>" in said
    assert "<--rdzv-conf=join_timeout=60,is_host=true><--><mine.py><--name><two words>" in said
    assert "OMP_NUM_THREADS=2" in said
    assert "scontrol" not in said


def test_without_gpus_each_worker_runs_one_process_of_the_example(tmp_path: Path) -> None:
    said = batch(tmp_path, NODE="1")[1]
    assert "<--nproc-per-node=1>" in said
    assert "is_host=false>" in said
    assert said.count("<--></data/notebooks/examples/train_fashion_mnist_ddp.py>") == 1
    assert "OMP_NUM_THREADS=8" in said


def test_the_processes_meet_at_an_open_port_of_the_first_worker(tmp_path: Path) -> None:
    addresses = subprocess.run(["hostname", "-I"], text=True, capture_output=True, check=True)
    first = (addresses.stdout.split() or [""])[0]
    for job, port in (("1234", 29534), ("100", 29500), ("99", 29599)):
        said = batch(tmp_path, SLURM_JOB_ID=job)[1]
        assert f"\nPET_LOCAL_ADDR={first}\n" in said
        assert f"<--rdzv-endpoint={first}:{port}><--rdzv-id={job}>" in said


@pytest.mark.parametrize(("before", "again"), [("0", True), ("2", True), ("3", False)])
def test_a_failed_step_is_queued_again_three_times(
    tmp_path: Path, before: str, again: bool
) -> None:
    status, said = batch(tmp_path, STEP_STATUS="7", SLURM_RESTART_COUNT=before)
    assert status == 7
    assert ("scontrol requeue 1234" in said) is again


def test_the_job_is_kept_where_all_workers_see_it() -> None:
    lines = (EXAMPLES / "train_ddp.sbatch").read_text().splitlines()
    asked = [line.removeprefix("#SBATCH ") for line in lines if line.startswith("#SBATCH ")]
    assert {"--requeue", "--chdir=/data/work", "--open-mode=append"} <= set(asked)
    assert f"--output={script.WORK.parent}/%x-%j.out" in asked


def unzip(folder: Path, task: int) -> subprocess.CompletedProcess[str]:
    """Run one task of the array, with this Python in place of the lab's."""
    text = (EXAMPLES / "unzip_array.sbatch").read_text()
    return subprocess.run(
        ["bash", "-c", text.replace("/opt/lab/venv/bin/python", sys.executable), "unzip",
         folder / "from", folder / "to"],
        env={**os.environ, "SLURM_ARRAY_TASK_ID": str(task)},
        text=True, capture_output=True, check=False,
    )  # fmt: skip


def test_each_task_of_the_array_unpacks_one_archive(tmp_path: Path) -> None:
    (tmp_path / "from").mkdir()
    for name in ("a", "b"):
        with zipfile.ZipFile(tmp_path / f"from/{name}.zip", "w") as archive:
            archive.writestr("inside.txt", name)
    (tmp_path / "to/.b.new").mkdir(parents=True)
    (tmp_path / "to/.b.new/half").touch()  # of a task that was killed
    assert [unzip(tmp_path, task).returncode for task in (1, 2)] == [0, 0]
    made = {path.relative_to(tmp_path / "to"): path.read_text() for path in tmp_path.glob("to/*/*")}
    assert made == {Path("a/inside.txt"): "a", Path("b/inside.txt"): "b"}
    assert not list(tmp_path.glob("to/.*"))
    assert "to/a is there" in unzip(tmp_path, 1).stdout
    beyond = unzip(tmp_path, 3)
    assert (beyond.returncode, beyond.stdout) == (
        1,
        f"{tmp_path}/from has fewer than 3 archives\n",
    )
