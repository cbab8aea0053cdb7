"""Workers that come back: taken back where nothing but their absence had put them down.

Slurm (ReturnToService=1) leaves a worker that rebooted down, so that the jobs that were on it are
known to be lost; where it has not noticed (a container's uptime is that of its kernel), the worker
tells it. One that somebody has drained, or that is down for another reason, stays so.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from .commands import Run, field, reason, run

SETTINGS = Path("/etc/lab/slurm.json")
NOT_WOKEN = "not woken: "  # what our own wake program writes, see power.py
# Slurm's words for a reboot that it had not asked for, and for a start that took too long.
REBOOTED = "Node unexpectedly rebooted"
ABSENT = (REBOOTED, "ResumeTimeout reached", NOT_WOKEN)
WAIT_S = 240
BETWEEN_S = 2


def was_absent(shown: str) -> bool:
    """Tell from `scontrol show node` whether a worker is down for its absence alone."""
    state = field(shown, "State")
    down = state.startswith("DOWN") and "DRAIN" not in state
    return down and reason(shown).startswith(ABSENT)


def is_up(shown: str) -> bool:
    """Tell whether a worker answers and has not been put down."""
    state = field(shown, "State")
    return state.startswith(("IDLE", "MIXED", "ALLOCATED")) and "*" not in state


def booted_at(proc: Path = Path("/proc")) -> float:
    """Tell when the first process was started, in seconds since 1970: also in a container."""
    kernel = next(
        int(line.split()[1])
        for line in (proc / "stat").read_text().splitlines()
        if line.startswith("btime ")
    )
    # Field 22 of proc_pid_stat(5); the name before it, in brackets, may hold anything.
    ticks = int((proc / "1/stat").read_text().rpartition(")")[2].split()[19])
    return kernel + ticks / os.sysconf("SC_CLK_TCK")


def lost(name: str, booted: float, run: Run) -> list[str]:
    """List the jobs that the head believes to run here, and that this boot has ended."""
    status, shown = run(
        "env", "SLURM_TIME_FORMAT=%s", "squeue", "--noheader", f"--nodelist={name}",
        "--states=RUNNING", "--format=%i %S",
    )  # fmt: skip
    jobs = [line.split() for line in shown.splitlines()] if status == 0 else []
    return [number for number, start in jobs if start.isdigit() and int(start) < booted]


def wait(name: str, booted: float, run: Run, sleep: Callable[[float], None] = time.sleep) -> int:
    """Wait until the head knows this worker, and take it back if that is all it lacks."""
    for _ in range(WAIT_S // BETWEEN_S):
        status, shown = run("scontrol", "--oneliner", "show", "node", name)
        if status == 0 and was_absent(shown):
            run("scontrol", "update", f"NodeName={name}", "State=RESUME")
            print(f"{name} is taken back: it was down for {reason(shown)!r}, and is there")
            return 0
        if status == 0 and is_up(shown):
            jobs = lost(name, booted, run)
            if not jobs:
                return 0
            # Down it lets go of them, and is taken back in the next round.
            run("scontrol", "update", f"NodeName={name}", "State=DOWN", f"Reason={REBOOTED}")
            print(f"{name} has rebooted, and runs no more of {', '.join(jobs)}: queued again")
            continue
        sleep(BETWEEN_S)
    print(f"{name} is not up in Slurm after {WAIT_S} s: see sinfo -R", file=sys.stderr)
    return 1


def main() -> int:
    """Take this worker back."""
    return wait(json.loads(SETTINGS.read_text())["name"], booted_at(), run)
