"""Carries out what stops the host from outside: role, schedules, budget."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ..errors import LabError
from . import guard
from .clock import MINUTE
from .names import write_tags
from .session import AwsError, unless

if TYPE_CHECKING:
    from .plan import Step
    from .work import Work

EXISTS = {"EntityAlreadyExists", "EntityAlreadyExistsException"}


def _wanted(work: Work) -> guard.Wanted:
    return guard.Wanted(work.target.spec, work.target.names, work.target.account)


def _create_stopper(work: Work, _step: Step) -> None:
    names = work.target.names
    unless(
        EXISTS,
        lambda: work.aws.call(
            "iam",
            "CreateRole",
            RoleName=names.stopper,
            AssumeRolePolicyDocument=json.dumps(_wanted(work).trust()),
            Description=f"GPU lab {names.lab}: lets AWS stop its host and nothing else",
            Tags=write_tags(names.tags()),
        ),
    )


def _allow_stop(work: Work, _step: Step) -> None:
    work.aws.call(
        "iam",
        "PutRolePolicy",
        RoleName=work.target.names.stopper,
        PolicyName=guard.POLICY,
        PolicyDocument=json.dumps(_wanted(work).policy()),
    )


def _set_schedule(work: Work, step: Step) -> None:
    """Set a schedule for the host as it runs now."""
    _set(work, step.args["kind"], work.host_id(), 0)


def _set_worker_schedules(work: Work, step: Step) -> None:
    """Set the schedules of workers, which end with the host."""
    for number in step.args["numbers"]:
        _set(work, step.args["kind"], work.workers[number].id, number)


def _set(work: Work, kind: str, instance_id: str, number: int) -> None:
    """Set one; a new role needs some seconds to be known."""
    if work.host is None:
        raise LabError("The host is not there: run the same command again")
    want = _wanted(work).schedule(kind, instance_id, work.host.launched, number)
    end = work.clock.now() + 2 * MINUTE
    while True:
        try:
            guard.set_schedule(work.aws, guard.ahead(want, datetime.now(UTC)))
            return
        except AwsError as error:
            spreading = error.code == "ValidationException" and "role" in str(error)
            if not spreading or work.clock.now() >= end:
                raise
        work.clock.sleep(3)


def _drop_schedule(work: Work, step: Step) -> None:
    guard.drop_schedule(work.aws, step.args["name"])


def _set_budget(work: Work, _step: Step) -> None:
    want = _wanted(work).budget()
    if want:
        guard.set_budget(work.aws, work.target.account, want)


def _drop_budget(work: Work, _step: Step) -> None:
    guard.drop_budget(work.aws, work.target.account, work.target.names.role)


STEPS: Mapping[str, Callable[[Work, Step], None]] = {
    "create_stopper": _create_stopper,
    "allow_stop": _allow_stop,
    "set_schedule": _set_schedule,
    "set_worker_schedules": _set_worker_schedules,
    "drop_schedule": _drop_schedule,
    "set_budget": _set_budget,
    "drop_budget": _drop_budget,
}
