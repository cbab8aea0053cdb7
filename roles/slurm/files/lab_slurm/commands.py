"""Slurm's own commands, and what they print."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable

TIMEOUT_S = 60

# Runs a command: its status, and what it printed, errors included where it failed.
Run = Callable[..., tuple[int, str]]


class SlurmError(Exception):
    """Something that Slurm refused, in a sentence."""


def run(*command: str) -> tuple[int, str]:
    """Run a command to its end, for a minute at most."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=TIMEOUT_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return 1, str(error)
    return done.returncode, done.stdout if done.returncode == 0 else done.stderr + done.stdout


def must(run: Run, *command: str) -> str:
    """Run a command that has to succeed. Raises SlurmError."""
    status, said = run(*command)
    if status:
        raise SlurmError(f"{' '.join(command)} failed: {' '.join(said.split())[-300:]}")
    return said


def field(shown: str, name: str) -> str:
    """Read a field of what `scontrol --oneliner show` printed; empty where there is none."""
    found = re.search(rf"(?:^| ){name}=(\S*)", shown)
    return found[1] if found else ""


def reason(shown: str) -> str:
    """Read why a node is down or drained; its author and time are left out."""
    found = re.search(r" Reason=(.*?)(?: \[[^\]]*\])?(?: [A-Z]\w+=|$)", shown.strip())
    return found[1] if found else ""
