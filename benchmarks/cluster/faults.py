"""How long a training takes to get over the loss of a worker, and of the head for a minute."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from typing import Any

import boto3

from benchmarks.cluster import jobs
from benchmarks.converge.__main__ import ROOT, BenchmarkError, run, ssh

DEADLINE_S = 400
AWAY_S = 60
SETTLED_STEPS = 5  # a training that has made more than these is under way
STEP = re.compile(r"^epoch (\d+) step (\d+)/", re.MULTILINE)


def container(lab: str, name: str, slot: str, environment: Mapping[str, str]) -> str:
    """Name a host's container: by the identity that its SSH key is known by."""
    config = ROOT / ".lab" / lab / "ssh_config"
    said = run(["ssh", "-G", "-F", str(config), name], environment)[1]
    found = re.search(r"^hostkeyalias (i-\w+)$", said, re.MULTILINE)
    if not found:
        raise BenchmarkError(f"{config} does not say which instance {name} is")
    return f"gpulab-sandbox-{slot}-{found[1]}"


def ec2(environment: Mapping[str, str]) -> Any:
    """Make a client of the sandbox's EC2."""
    return boto3.client(
        "ec2",
        endpoint_url=environment["AWS_ENDPOINT_URL"],
        region_name=environment["AWS_REGION"],
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
    )


def until(reached: Callable[[], bool], what: str) -> float:
    """Wait for something; the seconds that it took. Raises BenchmarkError."""
    start = time.monotonic()
    while not reached():
        if time.monotonic() - start > DEADLINE_S:
            raise BenchmarkError(f"{what} did not come in {DEADLINE_S} s")
        time.sleep(1)
    return time.monotonic() - start


def steps(lab: str, job: str, environment: Mapping[str, str]) -> list[tuple[int, int]]:
    """List the steps that a training has told of, in order."""
    said = jobs.output(lab, job, environment)
    return [(int(epoch), int(step)) for epoch, step in STEP.findall(said)]


def lose_worker(lab: str, job: str, slot: str, environment: Mapping[str, str]) -> list[str]:
    """Kill a worker of a running training, give it back once that is known; what it took."""
    lost = container(lab, f"{lab}-worker-2", slot, environment)
    client = ec2(environment)
    this = {"InstanceIds": [lost.partition(f"-{slot}-")[2]]}
    # From one moment to the next, and off then: a host that loses its power.
    run(["docker", "kill", lost], environment)
    client.stop_instances(**this, Force=True)
    client.get_waiter("instance_stopped").wait(**this)
    asks = f"squeue -h -j {job} -o %T"
    known = until(lambda: "PENDING" in ssh(lab, asks, environment)[1], "the loss of a worker")
    before = len(steps(lab, job, environment))
    client.start_instances(**this)
    back = until(
        lambda: "idle" in ssh(lab, "sinfo -hN -n worker-2 -o %t", environment)[1],
        "the worker, back in the cluster",
    )
    ssh(lab, f"sudo scontrol update JobId={job} StartTime=now", environment)
    again = until(lambda: len(steps(lab, job, environment)) > before, "a step after the loss")
    return [
        f"worker killed and off: known after {known:.0f} s; back in the cluster {back:.0f} s after"
        f" its start; the first step from the checkpoint {again:.0f} s after the job's start"
        " (Slurm waits 120 s before it, here cut short)"
    ]


def lose_head(lab: str, job: str, slot: str, environment: Mapping[str, str]) -> list[str]:
    """Take the head away for a minute; what the training did meanwhile, and when it answers."""
    head = container(lab, lab, slot, environment)
    before = len(steps(lab, job, environment))
    run(["docker", "pause", head], environment)
    time.sleep(AWAY_S)
    run(["docker", "unpause", head], environment)
    answers = until(lambda: listed(lab, job, environment), "squeue's answer")
    done = len(steps(lab, job, environment)) - before
    if not done:
        raise BenchmarkError(f"job {job} did not go on while the head was away")
    return [
        f"head away for {AWAY_S} s: {done} lines of steps meanwhile; answers after {answers:.0f} s"
    ]


def listed(lab: str, job: str, environment: Mapping[str, str]) -> bool:
    """Tell whether the head answers and its queue has the job."""
    try:
        return job in ssh(lab, "squeue -h -o %A", environment)[1].split()
    except BenchmarkError:
        return False


def measure(lab: str, slot: str, environment: Mapping[str, str]) -> list[str]:
    """Train on two workers, and break them."""
    job = jobs.submit(lab, 2, 50, environment)
    until(lambda: len(steps(lab, job, environment)) > SETTLED_STEPS, "the first steps")
    said = lose_worker(lab, job, slot, environment)
    said += lose_head(lab, job, slot, environment)
    ssh(lab, f"scancel {job}", environment)
    return said
