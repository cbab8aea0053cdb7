"""The workers' placement group: near to each other in their zone, where their network gains by it.

Inside a cluster placement group one flow between two hosts carries 10 Gbit/s, outside of it 5
(EC2's user guide, "Amazon EC2 instance network bandwidth"), and the way is shorter. The few flows
that NCCL opens fill a link of less than `FAST_GBIT` either way, while AWS has room for a group less
often: so `auto` makes one for faster types only. How fast a type is, DescribeInstanceTypes says:
the sum of its cards' base rates, not what it may burst to for a while. The head is never in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .clock import MINUTE, Clock
from .findings import Findings
from .names import Names, read_tags, write_tags
from .session import Aws, unless
from .steps import Step
from .things import ITSELF, Instance, PlacementGroup, Seen
from .variables import Spec

CLUSTER = "cluster"
FAST_GBIT = 50
EXISTS = {"InvalidPlacementGroup.Duplicate"}
Kinds = Mapping[str, Mapping[str, Any] | None]


def look(aws: Aws, names: Names) -> PlacementGroup | None:
    """Return the placement group of the lab's name, whoever made it. Raises AwsError."""
    by_name = [{"Name": "group-name", "Values": [names.common]}]
    found = aws.call("ec2", "DescribePlacementGroups", Filters=by_name)["PlacementGroups"]
    alive = (raw for raw in found if raw["State"] not in ("deleting", "deleted"))
    groups = (PlacementGroup(raw["GroupName"], read_tags(raw.get("Tags"))) for raw in alive)
    return next(groups, None)


def look_if_used(aws: Aws, spec: Spec, names: Names, there: Seen) -> PlacementGroup | None:
    """Look where there are to be workers, or a rule among themselves tells that there were some."""
    rules = (rule for group in there.groups for rule in group.rules)
    if not spec.workers and not any(rule.source == ITSELF for rule in rules):
        return None
    return look(aws, names)


def check(spec: Spec, kinds: Kinds, findings: Findings) -> None:
    """Refuse a group that a type of the workers cannot be in; `kinds` is what AWS says of types."""
    if spec.workers and spec.placement_group == "always":
        findings.problems += [
            f"lab_placement_group is always, but {name} cannot be in a cluster placement group:"
            " choose another lab_worker_type, or run again with -e lab_placement_group=never"
            for name in spec.worker_types
            if (kind := kinds.get(name)) and not _can(kind)
        ]


def wanted(spec: Spec, names: Names, kinds: Kinds) -> str:
    """Return the name of the group that the workers are to be in; empty for none."""
    types = [kind for name in spec.worker_types if (kind := kinds.get(name))]
    if not spec.workers or spec.placement_group == "never" or not types:
        return ""
    gains = all(_can(kind) for kind in types) and _gbit(types[0]) >= FAST_GBIT
    return names.common if spec.placement_group == "always" or gains else ""


def _can(kind: Mapping[str, Any]) -> bool:
    return CLUSTER in kind.get("PlacementGroupInfo", {}).get("SupportedStrategies", ())


def _gbit(kind: Mapping[str, Any]) -> float:
    cards = kind.get("NetworkInfo", {}).get("NetworkCards", ())
    return sum(float(card.get("BaselineBandwidthInGbps", 0)) for card in cards)


def outside(group: str, workers: Sequence[Instance], names: Names, findings: Findings) -> None:
    """Say which running workers are not in the wanted group: only a stopped one can be moved."""
    out = [one for one in workers if group and one.placement != group and not _movable(one)]
    if out:
        findings.warnings.append(
            f"Outside the placement group {group} run"
            f" {', '.join(f'worker {one.worker} ({one.id})' for one in out)}, and stay so: one that"
            f" is stopped (`aws ec2 stop-instances --region {names.region} --instance-ids …`, when"
            " it runs no job) is moved by the next site.yml, one on Spot capacity is not"
        )


def _movable(one: Instance) -> bool:
    """Whether a worker is stopped, or about to be, and may be moved in or out of the group."""
    return one.state in ("stopping", "stopped") and not one.spot


def steps(group: str, there: Seen, names: Names, idle: Sequence[Instance]) -> Iterator[Step]:
    """Make the group, and move stopped workers into it, or out of it where none is wanted."""
    if group and there.placement is None:
        yield Step(
            "create_placement",
            f"Create placement group {group}",
            after=f"placement group {group}: cluster",
        )
    for one in idle:
        # In a group that is not the lab's own it was put by hand.
        if _movable(one) and one.placement in {"", names.common} - {group}:
            where = f"into placement group {group}" if group else f"out of {one.placement}"
            yield Step(
                "place_worker",
                f"Move worker {one.worker} ({one.id}) {where}",
                {"worker": one, "group": group},
                before=f"instance {names.worker(one.worker)}: placement group"
                f" {one.placement or 'none'}",
                after=f"instance {names.worker(one.worker)}: placement group {group or 'none'}",
            )


def left_over(spec: Spec, names: Names, there: Seen) -> Iterator[Step]:
    """Delete the group that a removal of the last worker has left, which was killed then."""
    if not spec.workers and there.placement and not there.workers(names):
        name = there.placement.name
        yield Step(
            "drop_placement",
            f"Delete placement group {name}",
            {"name": name},
            before=f"placement group {name}",
        )


def create(aws: Aws, names: Names, clock: Clock) -> None:
    """Make the group, and wait until instances can be launched into it. Raises LabError."""
    tags = [{"ResourceType": "placement-group", "Tags": write_tags(names.tags())}]
    unless(
        EXISTS,
        lambda: aws.call(
            "ec2",
            "CreatePlacementGroup",
            GroupName=names.common,
            Strategy=CLUSTER,
            TagSpecifications=tags,
        ),
    )
    by_name = [
        {"Name": "group-name", "Values": [names.common]},
        {"Name": "state", "Values": ["available"]},
    ]
    clock.until(
        lambda: bool(
            aws.call("ec2", "DescribePlacementGroups", Filters=by_name)["PlacementGroups"]
        ),
        MINUTE,
        f"Placement group {names.common} available",
    )


def move(aws: Aws, worker: Instance, group: str) -> None:
    """Put a stopped worker into a group, or, by an empty name, out of its own."""
    aws.call("ec2", "ModifyInstancePlacement", InstanceId=worker.id, GroupName=group)


def delete(aws: Aws, name: str) -> None:
    """Delete the group, which AWS refuses for some seconds after its last instance has gone."""
    aws.call("ec2", "DeletePlacementGroup", GroupName=name)
