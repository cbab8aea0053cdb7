"""`lab submit`: one call of sbatch, printed before it is made."""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

# What is shared by all hosts of the cluster, and the job that runs a script on them (examples/).
SHARED = Path("/data")
JOB = SHARED / "notebooks/examples/train_ddp.sbatch"


def parse(words: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Read the command line: what is asked, and what the script is given, after `--`."""
    parser = argparse.ArgumentParser(
        prog="lab submit",
        description="Queue a script for the workers, run by torchrun: one process a GPU.",
        epilog="What the script itself is to be given comes after --: "
        "lab submit train.py --nodes 2 --gpus 1 -- --epochs 9",
    )
    parser.add_argument("script", type=Path, help=f"a Python script below {SHARED}")
    parser.add_argument("--nodes", type=int, default=1, help="workers (%(default)s)")
    parser.add_argument("--gpus", type=int, default=0, help="GPUs of each worker (%(default)s)")
    end = words.index("--") if "--" in words else len(words)
    return parser.parse_args(words[:end]), list(words[end + 1 :])


def refusal(script: Path, shared: Path, job: Path) -> str:
    """Say why this cannot be queued, and what to do; nothing where it can."""
    if not shutil.which("sbatch"):
        return "there is no queue here: set lab_workers in lab.yml and run site.yml"
    if not script.is_file():
        return f"{script} is no file"
    if not script.is_relative_to(shared):
        return f"{script} is not below {shared}, which is all that the workers see: copy it there"
    if not job.is_file():
        return f"{job} is missing: run site.yml, which puts it there again"
    return ""


def call(asked: argparse.Namespace, script: Path, words: Sequence[str], job: Path) -> list[str]:
    """Make the call of sbatch."""
    gpus = [f"--gres=gpu:{asked.gpus}"] if asked.gpus else []
    options = [f"--nodes={asked.nodes}", *gpus, f"--job-name={script.stem}"]
    return ["sbatch", *options, str(job), str(script), *words]


def main(
    given: Sequence[str],
    *,
    shared: Path = SHARED,
    job: Path = JOB,
    run: Callable[[str, list[str]], object] = os.execvp,
) -> int:
    """Print the call and become it; 1 and one sentence where it cannot work."""
    asked, words = parse(given)
    script = asked.script.resolve()
    reason = refusal(script, shared, job)
    if reason:
        print(f"lab: {reason}", file=sys.stderr)
        return 1
    command = call(asked, script, words, job)
    print(shlex.join(command), flush=True)
    run(command[0], command)
    return 0
