"""Takes workers of a lab away; its host never."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from ..errors import LabError
from . import destroy, efs, guard, placement, plan_efs, seen
from .apply import permission
from .clock import Clock
from .names import Names
from .seen import NOT_YET
from .session import Aws, AwsError, side_by_side, unless
from .steps import Step
from .things import ITSELF, Group, Instance, PlacementGroup, Rule, Schedule
from .variables import Spec

GONE = {"InvalidPermission.NotFound", *NOT_YET}


@dataclass(frozen=True)
class There:
    """What there is of the workers: themselves, what stops them, and the lab's groups."""

    workers: tuple[Instance, ...]
    schedules: Mapping[str, Schedule]
    groups: tuple[Group, ...]
    placement: PlacementGroup | None = None


def look(aws: Aws, names: Names) -> There:
    """Find the workers of the lab by its tags. Raises AwsError."""
    found = side_by_side(
        {
            "instances": lambda: seen.instances(aws, names.filters()),
            "schedules": lambda: _schedules(aws, names),
            "groups": lambda: seen.groups(aws, names),
            "placement": lambda: placement.look(aws, names),
        }
    )
    workers = (one for one in found["instances"] if names.owns(one.tags) and one.worker)
    placed: PlacementGroup | None = found["placement"]
    return There(
        workers=tuple(sorted(workers, key=lambda one: (one.worker, one.id))),
        schedules=found["schedules"],
        groups=tuple(group for group in found["groups"] if names.owns(group.tags)),
        placement=placed if placed and names.owns(placed.tags) else None,
    )


def _schedules(aws: Aws, names: Names) -> dict[str, Schedule]:
    """Return the workers' schedules that work by the lab's role; others are not its own."""
    try:
        found = guard.of_workers(aws, names)
    except AwsError as error:
        if error.code not in guard.CANNOT_LOOK:
            raise
        return {}
    ours = f":role/{names.stopper}"
    return {name: one for name, one in found.items() if one.role_arn.endswith(ours)}


def check_numbers(numbers: Iterable[int]) -> frozenset[int]:
    """Refuse what is no number of a worker. Raises LabError."""
    wrong = [number for number in numbers if number < 1]
    if wrong:
        raise LabError(
            f"{wrong[0]} is no worker's number: they begin with 1, and the host itself is deleted"
            " by playbooks/destroy.yml alone"
        )
    return frozenset(numbers)


def make_plan(spec: Spec, names: Names, there: There, numbers: frozenset[int]) -> list[Step]:
    """Return the steps: what would stop them, themselves, and the rules that none needs then."""
    steps = [
        Step("drop", f"Delete schedule {name}", {"name": name}, before=f"schedule {name}")
        for name in sorted(there.schedules)
        if guard.number_of(name, names) in numbers
    ]
    steps += [
        Step(
            "terminate",
            f"Terminate {one.id} (worker {one.worker}, {one.type}) with its root volume",
            {"instance": one},
            before=f"instance {names.worker(one.worker)}: {one.type}, {one.state}",
        )
        for one in there.workers
        if one.worker in numbers
    ]
    # Without workers the host is as open as that of a lab that never had any.
    kept = {plan_efs.RULE} if efs.wanted(spec) else set()
    if not spec.workers and all(one.worker in numbers for one in there.workers):
        # Before the rules, by which a run after one that was killed knows of it.
        if there.placement:
            name = there.placement.name
            text = f"Delete placement group {name}"
            steps.append(Step("ungroup", text, {"name": name}, before=f"placement group {name}"))
        steps += [
            Step(
                "close",
                f"Remove from security group {names.common}: {rule}",
                {"group": group.id, "rule": rule},
                before=f"security group {names.common}: {rule}",
            )
            for group in there.groups
            for rule in sorted(group.rules, key=str)
            if rule.source == ITSELF and rule not in kept
        ]
    return steps


def carry_out(aws: Aws, steps: Sequence[Step], clock: Clock) -> None:
    """Carry out the steps in their order. Raises LabError."""
    for step in steps:
        if step.do == "drop":
            guard.drop_schedule(aws, step.args["name"])
    doomed = [step.args["instance"] for step in steps if step.do == "terminate"]
    destroy.terminate(aws, doomed, clock)
    for step in steps:
        if step.do == "ungroup":
            destroy.let_go(partial(placement.delete, aws, step.args["name"]), clock)
        if step.do == "close":
            _close(aws, step.args["group"], step.args["rule"])


def _close(aws: Aws, group_id: str, rule: Rule) -> None:
    wanted = [permission(rule, group_id)]
    unless(
        GONE,
        lambda: aws.call(
            "ec2", "RevokeSecurityGroupIngress", GroupId=group_id, IpPermissions=wanted
        ),
    )
