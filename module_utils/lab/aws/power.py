"""Switches the host and its workers off."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from .clock import MINUTE, Clock
from .names import Names
from .seen import fresh, instances
from .session import Aws, AwsError, side_by_side
from .things import Instance


def find(aws: Aws, names: Names) -> Instance | None:
    """Return the host of the lab unless it is terminated."""
    return find_all(aws, names)[0]


def find_all(aws: Aws, names: Names) -> tuple[Instance | None, list[Instance]]:
    """Return the host of the lab and its workers, without what is terminated."""
    found = instances(aws, names.filters())
    host = next((i for i in found if i.tags.get("Name") == names.common), None)
    return host, sorted((i for i in found if i.worker), key=lambda i: i.worker)


def stop_workers(aws: Aws, workers: Sequence[Instance], clock: Clock) -> list[Instance]:
    """Stop workers, side by side, and wait until they have stopped. Raises LabError."""
    jobs = {one.id: partial(stop, aws, one, clock) for one in workers if one.state != "stopped"}
    return list(side_by_side(jobs).values())


def stop(aws: Aws, host: Instance, clock: Clock) -> Instance:
    """Stop the host, whatever it is about to do, and wait until it has stopped.

    Raises LabError after ten minutes, or where AWS refuses.
    """
    _wait(aws, host, clock, lambda state: state != "pending", "started, so that it can be stopped")
    try:
        aws.call("ec2", "StopInstances", InstanceIds=[host.id])
    except AwsError as error:
        # It may just have switched itself off; then there is nothing left to do but wait.
        if error.code != "IncorrectInstanceState":
            raise
    return _wait(aws, host, clock, lambda state: state in ("stopped", "terminated"), "stopped")


def _wait(
    aws: Aws, host: Instance, clock: Clock, done: Callable[[str], bool], what: str
) -> Instance:
    last = host

    def look() -> bool:
        nonlocal last
        last = fresh(aws, host.id) or last
        return done(last.state)

    clock.until(look, 10 * MINUTE, f"Instance {host.id} {what}")
    return last
