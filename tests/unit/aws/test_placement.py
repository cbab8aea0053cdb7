"""The placement group of the workers: when there is one, who is in it, and how it goes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.lab.aws import audit, destroy, placement, remove
from ansible.module_utils.lab.aws.destroy import Wish
from ansible.module_utils.lab.aws.names import Names
from ansible.module_utils.lab.aws.things import Instance
from ansible.module_utils.lab.aws.variables import Spec
from ansible.module_utils.lab.errors import LabError
from moto.ec2.models.instance_types import INSTANCE_TYPES
from moto.servicequotas.models import ServiceQuotasBackend

from tests.unit.aws.conftest import quota_of
from tests.unit.aws.kit import PRICES, Faulty, Quick, build, look, once, wish

NAMES = Names("lab", "us-east-1")
GROUP = "gpulab-lab"


@pytest.fixture(autouse=True)
def room(aws: Faulty, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the account room for anything."""
    monkeypatch.setattr(ServiceQuotasBackend, "get_service_quota", quota_of(10_000.0))


@pytest.fixture
def grouped(tmp_path: Path) -> Spec:
    """A lab with two workers in a placement group."""
    return wish(tmp_path, workers=2, placement_group="always")


def workers(aws: Faulty, spec: Spec) -> list[Instance]:
    return look(aws, spec)[1].workers(NAMES)


def groups(aws: Faulty) -> list[str]:
    found = aws.call("ec2", "DescribePlacementGroups")["PlacementGroups"]
    return [raw["GroupName"] for raw in found]


@pytest.mark.parametrize(
    ("kind", "mode", "name"),
    [
        ("g4dn.xlarge", "auto", ""),
        ("g5.8xlarge", "auto", ""),  # 25 Gbit, although it has EFA
        ("g7.2xlarge", "auto", ""),  # bursts to 60, and has 40
        ("g4dn.8xlarge", "auto", GROUP),
        ("g6e.48xlarge", "auto", GROUP),
        ("p4d.24xlarge", "auto", GROUP),  # four cards of 100
        ("p5.48xlarge", "auto", GROUP),
        ("p5.48xlarge", "never", ""),
        ("g4dn.xlarge", "always", GROUP),
        ("t3.micro", "auto", ""),
    ],
)
def test_a_group_is_for_a_fast_network_or_whoever_asks(
    tmp_path: Path, kind: str, mode: str, name: str
) -> None:
    spec = wish(tmp_path, workers=1, worker_type=kind, placement_group=mode)
    assert placement.wanted(spec, NAMES, {kind: INSTANCE_TYPES[kind]}) == name
    none = wish(tmp_path, worker_type=kind, placement_group=mode)
    assert placement.wanted(none, NAMES, {kind: INSTANCE_TYPES[kind]}) == ""


def test_one_slower_type_that_will_do_as_well_is_in_it_too(tmp_path: Path) -> None:
    spec = wish(tmp_path, workers=1, instance_type="g6.48xlarge", instance_types="g6.12xlarge")
    kinds = {name: INSTANCE_TYPES[name] for name in spec.types}
    assert placement.wanted(spec, NAMES, kinds) == GROUP
    spec = wish(tmp_path, workers=1, instance_type="g6.48xlarge", instance_types="t3.2xlarge")
    assert placement.wanted(spec, NAMES, kinds | {"t3.2xlarge": INSTANCE_TYPES["t3.2xlarge"]}) == ""


def test_a_type_that_cannot_be_in_one_is_refused_before_anything_is_made(
    aws: Faulty, tmp_path: Path
) -> None:
    spec = wish(tmp_path, workers=1, worker_type="t3.large", placement_group="always")
    with pytest.raises(LabError) as refused:
        build(aws, spec)
    assert str(refused.value) == (
        "lab_placement_group is always, but t3.large cannot be in a cluster placement group:"
        " choose another lab_worker_type, or run again with -e lab_placement_group=never"
    )
    assert aws.writes() == []


def test_a_word_that_is_none_of_the_three_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r'lab_placement_group is "yes", but it must be one of auto'):
        wish(tmp_path, placement_group="yes")


def test_workers_are_in_it_and_the_head_is_not(aws: Faulty, grouped: Spec) -> None:
    said = build(aws, grouped)
    launch = next(text for text in said if text.startswith("Launch workers"))
    assert said.index(f"Create placement group {GROUP}") < said.index(launch)
    assert f"in the zone of the host and placement group {GROUP}: g4dn.xlarge" in launch
    assert [one.placement for one in workers(aws, grouped)] == [GROUP, GROUP]
    host = look(aws, grouped)[1].host(NAMES)
    assert host
    assert host.placement == ""
    (made,) = aws.call("ec2", "DescribePlacementGroups")["PlacementGroups"]
    assert {tag["Key"]: tag["Value"] for tag in made["Tags"]} == NAMES.tags()
    assert made["Strategy"] == "cluster"
    aws.calls.clear()
    assert build(aws, grouped) == []
    assert aws.writes() == []


def test_a_lab_without_workers_never_asks(aws: Faulty, tmp_path: Path) -> None:
    build(aws, wish(tmp_path, placement_group="always"))
    assert aws.named("DescribePlacementGroups") == []
    assert groups(aws) == []


@pytest.mark.parametrize("operation", ["CreatePlacementGroup", "RunInstances"])
def test_a_run_killed_in_between_is_mended(aws: Faulty, grouped: Spec, operation: str) -> None:
    aws.die_after(operation)
    with pytest.raises(KeyboardInterrupt):
        build(aws, grouped)
    build(aws, grouped)
    assert [one.placement for one in workers(aws, grouped)] == [GROUP, GROUP]
    assert groups(aws) == [GROUP]


def test_what_others_have_made_is_not_touched(aws: Faulty, grouped: Spec) -> None:
    aws.call("ec2", "CreatePlacementGroup", GroupName=GROUP, Strategy="cluster")
    with pytest.raises(LabError, match=f"The placement group {GROUP} exists, but has not the tags"):
        build(aws, grouped)
    steps = destroy.make_plan(Wish("lab", False, ""), NAMES, destroy.look(aws, NAMES, "x"))
    assert [step for step in steps if step.do == "delete_placement"] == []


def test_no_room_in_the_group_says_how_to_do_without(aws: Faulty, grouped: Spec) -> None:
    hooks = once("RunInstances", "InsufficientInstanceCapacity", times=99)

    def before(operation: str, params: dict[str, Any]) -> None:
        if params.get("Placement"):
            hooks(operation, params)

    aws.before = before
    with pytest.raises(LabError) as refused:
        build(aws, grouped)
    assert (
        "no g4dn.xlarge (InsufficientInstanceCapacity) for worker 1, and workers are beside the"
        " host and near each other in the placement group gpulab-lab: run the same command again"
        " later, with another -e lab_worker_type=…, or with fewer -e lab_workers=…, or apart from"
        " each other with -e lab_placement_group=never"
    ) in str(refused.value)
    never = wish(grouped.state_dir.parent, workers=2, placement_group="never")
    build(aws, never)
    assert [one.placement for one in workers(aws, never)] == ["", ""]


def test_a_running_worker_outside_stays_and_is_said(aws: Faulty, grouped: Spec) -> None:
    never = wish(grouped.state_dir.parent, workers=2, placement_group="never")
    build(aws, never)
    ids = [one.id for one in workers(aws, never)]
    target, _, _, steps = look(aws, grouped)
    assert [step.do for step in steps] == ["create_placement"]
    (said,) = [text for text in target.warnings if "placement group" in text]
    assert said == (
        f"Outside the placement group gpulab-lab run worker 1 ({ids[0]}), worker 2 ({ids[1]}), and"
        " stay so: one that is stopped (`aws ec2 stop-instances --region us-east-1 --instance-ids"
        " …`, when it runs no job) is moved by the next site.yml, one on Spot capacity is not"
    )


def test_a_stopped_worker_is_moved_in_and_out(aws: Faulty, grouped: Spec) -> None:
    never = wish(grouped.state_dir.parent, workers=2, placement_group="never")
    build(aws, never)
    first, second = (one.id for one in workers(aws, never))
    aws.call("ec2", "StopInstances", InstanceIds=[first])
    assert f"Move worker 1 ({first}) into placement group {GROUP}" in build(aws, grouped)
    assert [one.placement for one in workers(aws, grouped)] == [GROUP, ""]
    aws.call("ec2", "StopInstances", InstanceIds=[first, second])
    # As it would be without room in the group.
    aws.before = once("StartInstances", "InsufficientInstanceCapacity")
    with pytest.raises(LabError, match="apart from each other with -e lab_placement_group=never"):
        build(aws, grouped)
    aws.call("ec2", "StopInstances", InstanceIds=[first, second])
    said = build(aws, never)
    assert f"Move worker 1 ({first}) out of {GROUP}" in said
    assert [one.placement for one in workers(aws, never)] == ["", ""]


def test_start_moves_into_a_group_that_is_there_and_makes_none(aws: Faulty, grouped: Spec) -> None:
    never = wish(grouped.state_dir.parent, workers=2, placement_group="never")
    build(aws, never)
    aws.call("ec2", "StopInstances", InstanceIds=[one.id for one in workers(aws, never)])
    steps = look(aws, grouped, may_create=False)[3]
    assert [step.do for step in steps] == ["start_workers"]


def shrink(aws: Faulty, spec: Spec, *numbers: int) -> list[str]:
    steps = remove.make_plan(spec, NAMES, remove.look(aws, NAMES), frozenset(numbers))
    remove.carry_out(aws, steps, Quick())
    return [step.text for step in steps]


def test_it_goes_with_the_last_worker(aws: Faulty, grouped: Spec, tmp_path: Path) -> None:
    build(aws, grouped)
    one = wish(tmp_path, workers=1, placement_group="always")
    assert f"Delete placement group {GROUP}" not in shrink(aws, one, 2)
    assert groups(aws) == [GROUP]
    none = wish(tmp_path)
    # AWS still counts an instance that has just gone.
    aws.before = once("DeletePlacementGroup", "InvalidPlacementGroup.InUse", times=2)
    assert f"Delete placement group {GROUP}" in shrink(aws, none, 1)
    assert groups(aws) == []
    assert look(aws, none)[3] == []
    assert f"Create placement group {GROUP}" in build(aws, grouped)


def test_a_removal_killed_before_it_is_mended_by_the_next_run(
    aws: Faulty, grouped: Spec, tmp_path: Path
) -> None:
    build(aws, grouped)
    aws.die_after("TerminateInstances")
    with pytest.raises(KeyboardInterrupt):
        shrink(aws, wish(tmp_path), 1, 2)
    assert f"Delete placement group {GROUP}" in build(aws, wish(tmp_path))
    assert groups(aws) == []
    assert look(aws, wish(tmp_path))[3] == []


def test_destroy_takes_it_and_audit_lists_it(aws: Faulty, grouped: Spec) -> None:
    build(aws, grouped)
    found = audit.look(aws, PRICES)
    (item,) = (one for one in found.items if one.kind == "placement group")
    assert (item.lab, item.id, item.what, item.month) == ("lab", GROUP, "cluster", 0.0)
    steps = destroy.make_plan(Wish("lab", False, ""), NAMES, destroy.look(aws, NAMES, "x"))
    destroy.carry_out(aws, steps, Quick())
    assert groups(aws) == []
