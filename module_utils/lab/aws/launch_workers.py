"""Launches and starts workers, side by side, and waits until all of them run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from ..errors import LabError
from . import destroy, placement
from .clock import MINUTE
from .launch import NO_CAPACITY, request_for, run_instance, token_file, try_next
from .seen import several
from .session import AwsError, side_by_side
from .steps import Step
from .things import Instance
from .work import Work

FEWER = (
    "run the same command again later, with another -e lab_worker_type=…, or with fewer"
    " -e lab_workers=…"
)
APART = "lab_placement_group=never"


def launch(work: Work, step: Step) -> None:
    """Launch the workers that are missing, each by a request and a token of its own.

    All are asked for before an error is raised; what was launched, the next run goes on with.
    """
    tags: Mapping[int, Mapping[str, str]] = step.args["tags"]
    ids = _each(tags, lambda number: _launch(work, number, tags[number]))
    _until_running(work, ids)
    for number in ids:
        token_file(work.target.spec.state_dir, number).unlink(missing_ok=True)


def _each(numbers: Iterable[int], job: Callable[[int], Any]) -> dict[int, Any]:
    found = side_by_side({str(number): partial(job, number) for number in numbers})
    return {int(number): one for number, one in found.items()}


def _launch(work: Work, number: int, tags: Mapping[str, str]) -> str:
    """Ask for one worker beside the host; return its id. Raises LabError."""
    host = work.host
    if host is None:
        raise LabError("The host is not there: run the same command again")
    full = []
    for kind in work.target.spec.worker_types:
        try:
            request = request_for(work, tags, kind, host.subnet_id, work.target.worker_image)
            return run_instance(work, {**request, **_near(work.target.placement)}, number)
        except AwsError as error:
            if error.code not in try_next(work, kind):
                raise
            full.append(f"{kind} ({error.code})")
    raise LabError(
        f"AWS has free now in {host.zone} no {', no '.join(full)} for worker {number}, and workers"
        f" are beside the host{_in(work.target.placement)}: {_fewer(work.target.placement)}"
    )


def _near(group: str) -> dict[str, Any]:
    return {"Placement": {"GroupName": group}} if group else {}


def _in(group: str) -> str:
    return f" and near each other in the placement group {group}" if group else ""


def _fewer(group: str) -> str:
    """Say what to type where there is no room; in a group there is less of it."""
    return f"{FEWER}, or apart from each other with -e {APART}" if group else FEWER


def create_placement(work: Work, _step: Step) -> None:
    """Make the placement group. Raises LabError."""
    placement.create(work.aws, work.target.names, work.clock)


def drop_placement(work: Work, step: Step) -> None:
    """Delete the placement group, which nothing is in any more."""
    destroy.let_go(partial(placement.delete, work.aws, step.args["name"]), work.clock)


def place(work: Work, step: Step) -> None:
    """Move a worker that has stopped into the placement group, or out of it. Raises LabError."""
    worker: Instance = step.args["worker"]
    if worker.state == "stopping":
        _until(work, {worker.worker: worker.id}, "stopped", 10 * MINUTE)
    placement.move(work.aws, worker, step.args["group"])


def start(work: Work, step: Step) -> None:
    """Start the workers that are stopped, and wait for those on their way. Raises LabError."""
    idle: list[Instance] = step.args["workers"]
    ids = {one.worker: one.id for one in idle}
    stopping = {one.worker: one.id for one in idle if one.state == "stopping"}
    if stopping:
        _until(work, stopping, "stopped", 10 * MINUTE)
    stopped = [one for one in idle if one.state != "pending"]
    _each([one.worker for one in stopped], lambda number: _start(work, number, ids[number]))
    _until_running(work, ids)


def _start(work: Work, number: int, instance_id: str) -> None:
    try:
        work.ec2("StartInstances", InstanceIds=[instance_id])
    except AwsError as error:
        if error.code not in NO_CAPACITY:
            raise
        raise LabError(
            f"AWS has no room now to start worker {number} ({instance_id}; {error.code})"
            f"{_in(work.target.placement)}: {_fewer(work.target.placement)}"
        ) from error


def _until_running(work: Work, ids: Mapping[int, str]) -> None:
    _until(work, ids, "running", 5 * MINUTE)


def _until(work: Work, ids: Mapping[int, str], state: str, seconds: float) -> None:
    """Wait until all have a state, those that are to run with an address. Raises LabError."""

    def there() -> bool:
        found = several(work.aws, list(ids.values()))
        for number, instance_id in ids.items():
            one = found.get(instance_id)
            if one is None:
                continue
            if one.state in ("shutting-down", "terminated") or (
                state == "running" and one.state in ("stopping", "stopped")
            ):
                raise LabError(
                    f"Worker {number} ({one.id}) became {one.state} instead of {state}"
                    f" ({one.stopped_because or one.stop_code or 'no reason given'}): run it again"
                )
            work.workers[number] = one
        now = [found.get(instance_id) for instance_id in ids.values()]
        return all(one and one.state == state and (one.public_ip or state != "running")
                   for one in now)  # fmt: skip

    numbers = ", ".join(map(str, sorted(ids)))
    work.clock.until(there, seconds, f"Workers {numbers} {state}")
