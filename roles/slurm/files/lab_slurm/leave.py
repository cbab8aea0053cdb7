"""Workers that leave the cluster: drained at once, forgotten when they run nothing."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field

from .back import was_absent
from .commands import Run, SlurmError, must, reason, run
from .commands import field as read

REASON = "leaves the lab"
# A job in one of these states has processes on its workers, or is about to have.
ON_A_WORKER = "RUNNING,CONFIGURING,COMPLETING,SUSPENDED,STOPPED,SIGNALING,STAGE_OUT"


@dataclass
class Outcome:
    """What became of the workers, by name; `busy` has their jobs by number."""

    drained: list[str] = field(default_factory=list)
    busy: dict[str, list[str]] = field(default_factory=dict)
    removed: list[str] = field(default_factory=list)
    taken_back: list[str] = field(default_factory=list)

    @property
    def changed(self) -> bool:
        """Whether anything was, or would be, done."""
        return bool(self.drained or self.removed or self.taken_back)


def leave(names: Iterable[str], run: Run, check: bool) -> Outcome:
    """Drain the workers that leave, and delete those of them that run no job. Raises SlurmError.

    A worker that Slurm does not know has left already. In check mode it is only told what would
    be done; a worker without a job now is told as removed.
    """
    outcome = Outcome()
    for name in names:
        shown = show(name, run)
        if not shown:
            continue
        if "DRAIN" not in read(shown, "State"):
            if not check:
                update = f"NodeName={name}"
                must(run, "scontrol", "update", update, "State=DRAIN", f"Reason={REASON}")
            outcome.drained.append(name)
        if jobs := jobs_on(name, run):
            outcome.busy[name] = jobs
            continue
        if not check:
            must(run, "scontrol", "delete", f"NodeName={name}")
        outcome.removed.append(name)
    return outcome


def take_back(names: Iterable[str], run: Run, check: bool) -> Outcome:
    """Resume workers that are there. Raises SlurmError.

    Those that were to leave and stay after all, and those that are down only because they had been
    away.
    """
    outcome = Outcome()
    for name in names:
        shown = show(name, run)
        stays = "DRAIN" in read(shown, "State") and reason(shown) == REASON
        if stays or was_absent(shown):
            if not check:
                must(run, "scontrol", "update", f"NodeName={name}", "State=RESUME")
            outcome.taken_back.append(name)
    return outcome


def show(name: str, run: Run) -> str:
    """Ask for a node; empty where Slurm does not know it. Raises SlurmError."""
    status, said = run("scontrol", "--oneliner", "show", "node", name)
    if status == 0:
        return said
    if re.search("not found|Invalid node name", said):
        return ""
    raise SlurmError(f"scontrol show node {name} failed: {' '.join(said.split())[-300:]}")


def jobs_on(name: str, run: Run) -> list[str]:
    """Ask for the jobs that are on a worker, by number. Raises SlurmError."""
    said = must(run, "squeue", "-h", "-w", name, "-t", ON_A_WORKER, "-o", "%A")
    return sorted(set(said.split()), key=int)


def main(words: list[str]) -> int:
    """Do what the words say, and print it as JSON."""
    check = "--check" in words
    action, *names = [word for word in words if word != "--check"]
    try:
        outcome = {"leave": leave, "take-back": take_back}[action](names, run, check)
    except SlurmError as error:
        if check:  # a run that was cut short has left no head that answers: nobody leaves it
            print(json.dumps(asdict(Outcome()) | {"changed": False, "why": str(error)}))
            return 0
        print(error, file=sys.stderr)
        return 1
    print(json.dumps(asdict(outcome) | {"changed": outcome.changed}))
    return 0
