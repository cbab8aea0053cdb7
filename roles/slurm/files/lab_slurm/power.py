"""Workers that are stopped when idle and woken by jobs: Slurm's SuspendProgram and ResumeProgram.

Slurm names workers, EC2 has instances: worker-3 of the lab `mine` is the instance that carries
Project=gpulab, Lab=mine, Role=worker and Name=gpulab-mine-worker-3. No other is ever touched.
What happened is in the journal of the head, a sentence each: `journalctl -t slurm-power`.
"""

from __future__ import annotations

import json
import syslog
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .back import NOT_WOKEN
from .commands import must, run

SETTINGS = Path("/etc/lab/slurm.json")
PROJECT = "gpulab"
# The head gives a worker up after ResumeTimeout (slurm.conf); the program ends before.
WAKE_S = 540
BETWEEN_S = 5
GONE = ("shutting-down", "terminated")
UP = ("pending", "running")
# AWS has no machine free, or is still busy with this one: what cannot be done now may be later.
LATER = (
    "InsufficientInstanceCapacity",
    "InsufficientHostCapacity",
    "IncorrectInstanceState",
    "IncorrectSpotRequestState",
    "RequestLimitExceeded",
    "Unavailable",
    "InternalError",
)

Ec2 = Any  # boto3's client of EC2, which carries no types
Say = Callable[[str], None]
Sleep = Callable[[float], None]
# Puts a worker down, for a reason.
Down = Callable[[str, str], None]


@dataclass(frozen=True)
class Settings:
    """What the role has written about the lab; an empty endpoint is AWS itself."""

    lab: str
    region: str
    endpoint: str


@dataclass(frozen=True)
class Instance:
    """A worker's instance as EC2 shows it."""

    id: str
    state: str


def read_settings(path: Path = SETTINGS) -> Settings:
    """Read the settings. Raises OSError, ValueError and KeyError."""
    told = json.loads(path.read_text())["power"]
    return Settings(told["lab"], told["region"], told["endpoint"])


def connect(settings: Settings) -> Ec2:
    """Make a client with the credentials of the head's role."""
    import boto3  # noqa: PLC0415 - the distribution's, on the head alone
    from botocore.config import Config  # noqa: PLC0415

    patience = Config(
        retries={"mode": "standard", "max_attempts": 6}, connect_timeout=5, read_timeout=30
    )
    return boto3.client(
        "ec2",
        region_name=settings.region,
        endpoint_url=settings.endpoint or None,  # by hand: older versions read no environment
        config=patience,
    )


class Workers:
    """The instances of one lab's workers, found by their names in Slurm."""

    def __init__(self, ec2: Ec2, lab: str) -> None:
        self.ec2, self.lab = ec2, lab

    def find(self, names: Iterable[str]) -> dict[str, Instance]:
        """Return the instances there are, by name. Raises botocore's errors."""
        wanted = {f"{PROJECT}-{self.lab}-{name}": name for name in names}
        tags = {"Project": [PROJECT], "Lab": [self.lab], "Role": ["worker"], "Name": [*wanted]}
        filters: Any = [{"Name": f"tag:{key}", "Values": values} for key, values in tags.items()]
        found = {}
        pages = self.ec2.get_paginator("describe_instances").paginate(Filters=filters)
        for instance in (i for page in pages for r in page["Reservations"] for i in r["Instances"]):
            state = instance["State"]["Name"]
            if state not in GONE:
                tag = next(tag["Value"] for tag in instance["Tags"] if tag["Key"] == "Name")
                found[wanted[tag]] = Instance(instance["InstanceId"], state)
        return found


def suspend(names: list[str], workers: Workers, say: Say) -> int:
    """Stop workers. Return how many could not be; raises botocore's errors."""
    failed = 0
    found = workers.find(names)
    for name in names:
        instance = found.get(name)
        try:
            if not instance:
                raise LookupError(missing(name, workers))
            if instance.state in UP:
                workers.ec2.stop_instances(InstanceIds=[instance.id])
                say(f"{name} had no jobs and is stopped ({instance.id})")
        except Exception as error:
            say(f"{name} could not be stopped, and goes on costing: {error}")
            failed += 1
    return failed


def wake(names: list[str], workers: Workers, down: Down, say: Say, sleep: Sleep) -> int:
    """Start workers, for as long as Slurm waits for them. Return how many could not be.

    What AWS cannot do now (no machine free, not stopped yet) is tried again every five seconds.
    A worker that cannot be started is put down with the reason, so that its jobs are queued again
    at once and not when Slurm's patience ends.
    """
    left, why = [*names], dict.fromkeys(names, "")
    failed = []
    for _ in range(int(WAKE_S / BETWEEN_S)):
        for name, error in _start(left, workers, say).items():
            why[name] = str(error) if error else ""
            if error is None:
                left.remove(name)
            elif is_final(error):
                left.remove(name)
                failed.append(name)
        if not left:
            break
        sleep(BETWEEN_S)
    for name in failed + left:
        say(f"{name} could not be woken, and its jobs are queued again: {why[name]}")
        down(name, why[name])
    return len(failed + left)


def _start(names: list[str], workers: Workers, say: Say) -> dict[str, Exception | None]:
    """Try once. Return what went wrong by name, None where nothing did."""
    try:
        found = workers.find(names)
    except Exception as error:
        return dict.fromkeys(names, error)
    done: dict[str, Exception | None] = {}
    for name in names:
        done[name] = None
        instance = found.get(name)
        try:
            if not instance:
                raise LookupError(missing(name, workers))
            if instance.state not in UP:
                workers.ec2.start_instances(InstanceIds=[instance.id])
                say(f"{name} is woken for a job ({instance.id})")
        except Exception as error:
            done[name] = error
    return done


def missing(name: str, workers: Workers) -> str:
    """Say that a worker has no instance."""
    return (
        f"lab {workers.lab} has no instance {PROJECT}-{workers.lab}-{name}; run site.yml to make"
        " it, or with fewer lab_workers to forget it"
    )


def code(error: Exception) -> str:
    """Return AWS's word for what went wrong; empty where AWS did not answer in words."""
    answer: Any = getattr(error, "response", {})
    return str(answer.get("Error", {}).get("Code", ""))


def is_final(error: Exception) -> bool:
    """Tell whether it is no use to try again; what does not answer may answer later."""
    return isinstance(error, LookupError) or code(error) not in ("", *LATER)


def put_down(name: str, why: str) -> None:
    """Tell Slurm that a worker is down, and why. Where Slurm does not answer it notices itself."""
    run("scontrol", "update", f"NodeName={name}", "State=DOWN", f"Reason={NOT_WOKEN}{why[:200]}")


def main(action: str, words: list[str]) -> int:
    """Stop or wake the workers that Slurm names, such as `worker-[1-3,5]`."""
    syslog.openlog("slurm-power")
    names: list[str] = []
    try:
        settings = read_settings()
        names = must(run, "scontrol", "show", "hostnames", words[0]).split()
        workers = Workers(connect(settings), settings.lab)
        if action == "suspend":
            return min(suspend(names, workers, syslog.syslog), 1)
        return min(wake(names, workers, put_down, syslog.syslog, time.sleep), 1)
    except Exception as error:
        syslog.syslog(f"{' '.join(names or words)}: {action} failed: {error}")
        return 1
