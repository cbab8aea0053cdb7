"""What the queue does: how soon a job runs, how many run a second, how fast a training is."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from benchmarks.converge.__main__ import BenchmarkError, ssh

# On the head: each job alone, seconds; then many at once.
LATENCY = """
import json, subprocess, sys, time
def seconds(*command):
    start = time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - start
alone = [seconds("srun", "-n1", "true") for _ in range(20)]
wanted = ["--wait", "-n1", "--chdir=/tmp", "--output=/dev/null", "--array=1-" + sys.argv[1]]
many = seconds("sbatch", *wanted, "--wrap=true")
print(json.dumps([alone, many]))
"""
EXAMPLES = "/data/notebooks/examples"
WORK = "/data/work/bench-cluster"
RATE = re.compile(r"(\d+) images/s by (\d+) processes")


def latency(lab: str, jobs: int, environment: Mapping[str, str]) -> tuple[list[float], float]:
    """Time jobs that do nothing: seconds of each alone, and of many in one array."""
    said = ssh(lab, f"python3 - {jobs}", environment, LATENCY)[1]
    alone, many = json.loads(said.splitlines()[-1])
    return alone, many


def submit(
    lab: str, nodes: int, epochs: int, environment: Mapping[str, str], wait: bool = False
) -> str:
    """Queue the example's training on so many workers, one thread each; the job's number."""
    options = f"--parsable {'--wait ' if wait else ''}--nodes={nodes} --output={WORK}-%j.out"
    words = f"--work {WORK} --out {WORK}-out --fresh --epochs {epochs} --report 10 --keep 50"
    said = ssh(
        lab,
        f"cd {EXAMPLES} && OMP_NUM_THREADS=1 sbatch {options} train_ddp.sbatch"
        f" {EXAMPLES}/train_fashion_mnist_ddp.py {words}",
        environment,
    )[1]
    return said.split()[-1]


def output(lab: str, job: str, environment: Mapping[str, str]) -> str:
    """Read what a job has printed."""
    return ssh(lab, f"cat {WORK}-{job}.out 2>/dev/null || true", environment)[1]


def training(lab: str, nodes: int, environment: Mapping[str, str]) -> float:
    """Train an epoch on so many workers; images a second. Raises BenchmarkError."""
    job = submit(lab, nodes, 1, environment, wait=True)
    said = output(lab, job, environment)
    found = RATE.findall(said)
    if not found or int(found[-1][1]) != nodes:
        raise BenchmarkError(f"job {job} did not train on {nodes} workers:\n{said[-3000:]}")
    return float(found[-1][0])
