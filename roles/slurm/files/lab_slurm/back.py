"""Workers that come back: taken back where nothing but their absence had put them down.

Slurm (ReturnToService=1) leaves a worker that rebooted down, so that the jobs that were on it are
known to be lost. One that somebody has drained, or that is down for another reason, stays so.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

from .commands import Run, field, reason, run

SETTINGS = Path("/etc/lab/slurm.json")
NOT_WOKEN = "not woken: "  # what our own wake program writes, see power.py
# Slurm's words for a reboot that it had not asked for, and for a start that took too long.
ABSENT = ("Node unexpectedly rebooted", "ResumeTimeout reached", NOT_WOKEN)
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


def wait(name: str, run: Run, sleep: Callable[[float], None] = time.sleep) -> int:
    """Wait until the head knows this worker, and take it back if that is all it lacks."""
    for _ in range(WAIT_S // BETWEEN_S):
        status, shown = run("scontrol", "--oneliner", "show", "node", name)
        if status == 0 and was_absent(shown):
            run("scontrol", "update", f"NodeName={name}", "State=RESUME")
            print(f"{name} is taken back: it was down for {reason(shown)!r}, and is there")
            return 0
        if status == 0 and is_up(shown):
            return 0
        sleep(BETWEEN_S)
    print(f"{name} is not up in Slurm after {WAIT_S} s: see sinfo -R", file=sys.stderr)
    return 1


def main() -> int:
    """Take this worker back."""
    return wait(json.loads(SETTINGS.read_text())["name"], run)
