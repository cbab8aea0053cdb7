"""Jobs of a Slurm cluster: on its head those in the queue, on a worker those that need it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from .decision import Signal

# Role slurm writes it: which part of the cluster this host is.
SETTINGS = Path("/etc/lab/slurm.json")
STEP = "slurmstepd"
# With control groups of version 2 one such process holds the place of the others, job or no job.
HOLDER = "infinity"
QUEUE = ["squeue", "--noheader", "--format=%T"]
WAITING = [*QUEUE, "--states=PENDING"]

# Runs a command within a deadline and gives what it prints. Raises what it likes where it fails.
Output = Callable[[list[str]], str]


def look(output: Output, steps: Callable[[], Sequence[Sequence[str]]]) -> Signal:
    """Give the signal of this host; "absent" where it is in no cluster.

    ``steps`` lists the arguments of each process of Slurm that keeps a step of a job. What the
    head cannot tell of its own queue is unknown, so that it raises. A worker whose head does not
    answer goes by its own jobs alone: where the head is off, nobody waits for this worker.
    """
    try:
        role = json.loads(SETTINGS.read_text())["role"]
    except FileNotFoundError:
        return Signal("cluster", "absent", "no Slurm here")
    if role == "head":
        return head_signal(output(QUEUE))
    running = sum(HOLDER not in arguments for arguments in steps())
    if running:
        return Signal("cluster", "active", f"{running} steps of jobs run here")
    try:
        waiting = output(WAITING)
    except Exception as error:  # the deadline, a head that is off: see above
        return Signal("cluster", "idle", f"no job here, and the head says nothing ({error})")
    return worker_signal(waiting)


def head_signal(queue: str) -> Signal:
    """Read the states of all jobs that are queued or running, one a line."""
    states = _states(queue)
    if not states:
        return Signal("cluster", "idle", "no job queued or running")
    counted = (f"{count} {state.lower()}" for state, count in sorted(Counter(states).items()))
    return Signal("cluster", "active", f"jobs of the cluster: {', '.join(counted)}")


def worker_signal(queue: str) -> Signal:
    """Read the states of the jobs that wait: for this worker, as far as it can know."""
    waiting = len(_states(queue))
    if waiting:
        return Signal("cluster", "active", f"{waiting} jobs wait for workers")
    return Signal("cluster", "idle", "no job here, and none waits")


def _states(queue: str) -> list[str]:
    states: Iterable[str] = (line.strip() for line in queue.splitlines())
    found = [state for state in states if state]
    if wrong := [state for state in found if not state.isupper()]:
        raise ValueError(f"squeue says {wrong[0]!r}, which is no state of a job")
    return found
