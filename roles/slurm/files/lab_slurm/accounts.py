"""The cluster, its users and their limits in Slurm's accounting: what is missing is added.

Two steps, with the start of slurmctld between them: `users` before it, since it refuses to run
for a cluster that is not registered; `limits` after it, since gres/gpu is known only once it has
registered.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable

from .commands import Run, SlurmError, must, run

ACCOUNT = "lab"
QOS = "normal"  # every user has it
GPU = "gres/gpu"
PATIENCE_S = 30


def show(run: Run, *words: str) -> list[list[str]]:
    """List something of the accounting. Raises SlurmError."""
    said = must(run, "sacctmgr", "--noheader", "--parsable2", "show", *words)
    return [line.split("|") for line in said.splitlines() if line]


def plan_users(run: Run, cluster: str, users: list[str]) -> list[list[str]]:
    """Return the commands that register what is not: cluster, account, users. Raises SlurmError."""
    plan = []
    if [cluster] not in show(run, "cluster", "format=cluster"):
        plan.append(["add", "cluster", cluster])
    rows = (
        show(run, "associations", f"cluster={cluster}", "format=account,user") if not plan else []
    )
    if [ACCOUNT, ""] not in rows:
        plan.append(["add", "account", ACCOUNT, f"cluster={cluster}", "description=the lab"])
    missing = [user for user in users if [ACCOUNT, user] not in rows]
    if missing:
        words = [f"account={ACCOUNT}", f"cluster={cluster}"]
        plan.append(["add", "user", ",".join(missing), *words])
    return plan


def plan_limits(run: Run, gpus: int) -> list[list[str]]:
    """Return the command that sets how many GPUs a user may have at once; 0: all there are.

    Raises SlurmError.
    """
    rows = show(run, "qos", QOS, "format=maxtresperuser")
    limits = dict(pair.split("=") for row in rows for pair in row[0].split(",") if "=" in pair)
    has = int(limits.get(GPU, 0))
    if has == gpus:
        return []
    return [["modify", "qos", QOS, "set", f"MaxTRESPerUser={GPU}={gpus or -1}"]]


def answers(run: Run) -> bool:
    """Tell whether slurmdbd answers."""
    return run("sacctmgr", "--noheader", "show", "cluster")[0] == 0


def wait_for_answer(run: Run, sleep: Callable[[float], None] = time.sleep) -> None:
    """Wait until slurmdbd, which may have begun just now, answers. Raises SlurmError."""
    for _ in range(PATIENCE_S):
        if answers(run):
            return
        sleep(1)
    raise SlurmError(
        f"slurmdbd does not answer after {PATIENCE_S} s: see journalctl -u slurmdbd -u mariadb, and"
        " run the playbook again"
    )


def wait_for_gpus(run: Run, sleep: Callable[[float], None] = time.sleep) -> None:
    """Wait until slurmctld has registered what it counts. Raises SlurmError."""
    for _ in range(PATIENCE_S):
        if ["gres", "gpu"] in show(run, "tres", "format=type,name"):
            return
        sleep(1)
    raise SlurmError(
        f"{GPU} is not known to the accounting after {PATIENCE_S} s: slurmctld has not registered;"
        " see journalctl -u slurmctld -u slurmdbd, and run the playbook again"
    )


def main(words: list[str]) -> int:
    """Do a step, or with --check only tell what it would do; print it as JSON.

    Where a run that was cut short has left no slurmdbd that answers, all would be done.
    """
    check = "--check" in words
    step, *rest = [word for word in words if word != "--check"]
    if check and not answers(run):
        print(json.dumps({"changed": True, "commands": []}))
        return 0
    try:
        wait_for_answer(run)
        if step == "users":
            plan = plan_users(run, rest[0], rest[1:])
        else:
            wait_for_gpus(run)
            plan = plan_limits(run, int(rest[0]))
        for command in [] if check else plan:
            must(run, "sacctmgr", "--immediate", *command)
    except SlurmError as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps({"changed": bool(plan), "commands": [" ".join(each) for each in plan]}))
    return 0
