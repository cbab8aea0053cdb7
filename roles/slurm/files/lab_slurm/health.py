"""A worker whose disk is full gets no more jobs, and gets them again when there is room.

Only what the worker has itself is looked at: a folder of the head that does not answer must not
hold the look up.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from .commands import Run, SlurmError, field, must, reason, run

SETTINGS = Path("/etc/lab/slurm.json")
REASON = "disk full"
MIN_FILES = 1000

Look = Callable[[str], os.statvfs_result]


def full(disks: Iterable[str], min_free_mb: int, look: Look = os.statvfs) -> str:
    """Tell of the first disk that is full, in a sentence; empty: none is. Missing ones are not."""
    for disk in disks:
        try:
            seen = look(disk)
        except OSError:
            continue
        free_mb = seen.f_bavail * seen.f_frsize >> 20
        if free_mb < min_free_mb:
            return f"{REASON}: {disk} has {free_mb} MB left of the {min_free_mb} that jobs need"
        if seen.f_files and seen.f_favail < MIN_FILES:
            return f"{REASON}: {disk} has room for {seen.f_favail} more files"
    return ""


def act(name: str, why: str, run: Run) -> str:
    """Drain the worker, or take it back where this program has drained it. Raises SlurmError.

    Returns what was done, empty where nothing was. A worker that was drained for another reason
    is left as it is.
    """
    shown = must(run, "scontrol", "--oneliner", "show", "node", name)
    drained = "DRAIN" in field(shown, "State")
    if why and not drained:
        must(run, "scontrol", "update", f"NodeName={name}", "State=DRAIN", f"Reason={why}")
        return f"{name} is drained: {why}"
    if not why and drained and reason(shown).startswith(REASON):
        must(run, "scontrol", "update", f"NodeName={name}", "State=RESUME")
        return f"{name} takes jobs again: there is room on its disk"
    return ""


def main(settings: Path = SETTINGS) -> int:
    """Look once."""
    told = json.loads(settings.read_text())
    try:
        done = act(told["name"], full(told["disks"], told["min_free_mb"]), run)
    except SlurmError as error:
        print(error, file=sys.stderr)
        return 1
    if done:
        print(done)
    return 0
