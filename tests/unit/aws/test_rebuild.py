"""A host is replaced and its data volume kept; whatever dies on the way, the next run goes on."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible.module_utils.lab.aws import audit, destroy, rebuild
from ansible.module_utils.lab.aws.names import Names
from ansible.module_utils.lab.aws.rebuild import Pair
from ansible.module_utils.lab.aws.variables import Spec
from ansible.module_utils.lab.errors import LabError

from tests.unit.aws.kit import PRICES, Faulty, Quick, build, instance, look, volume, wish

NAMES = Names("lab", "us-east-1")
BUCKET = "gpulab-123456789012-lab"
CALLS = ("StopInstances", "DetachVolume", "CreateTags", "RunInstances", "AttachVolume")


def do(aws: Faulty, state: str) -> list[str]:
    """Do what a run of the module does; return what its steps do."""
    steps = rebuild.PLANS[state](NAMES, rebuild.look(aws, NAMES))
    rebuild.carry_out(aws, steps, Quick())
    return [step.do for step in steps]


def forward(aws: Faulty, spec: Spec) -> None:
    """Do what rebuild.yml does on the side of AWS."""
    do(aws, "begun")
    build(aws, spec)
    do(aws, "finished")


def ids(aws: Faulty) -> tuple[str, str, str]:
    """Give the ids of host, old host and data volume."""
    pair = rebuild.look(aws, NAMES)
    host, old, data = (thing.id if thing else "" for thing in (pair.host, pair.old, pair.data))
    return host, old, data


def test_the_host_is_another_and_the_data_volume_is_not(aws: Faulty, spec: Spec) -> None:
    build(aws, spec)
    first, _, data = ids(aws)
    assert do(aws, "begun") == ["stop", "detach", "name"]
    assert ids(aws) == ("", first, data)
    assert do(aws, "begun") == [], "it has begun"
    build(aws, spec)
    second, old, _ = ids(aws)
    assert (old, second != first) == (first, True)
    assert do(aws, "finished") == ["terminate"]
    assert ids(aws) == (second, "", data)
    assert do(aws, "finished") == []
    assert build(aws, spec) == []


def test_a_stopped_host_is_not_stopped_again(aws: Faulty, spec: Spec) -> None:
    build(aws, spec)
    aws.inner.call("ec2", "StopInstances", InstanceIds=[ids(aws)[0]])
    assert do(aws, "begun") == ["detach", "name"]


def test_the_old_host_comes_back(aws: Faulty, spec: Spec) -> None:
    build(aws, spec)
    first, _, data = ids(aws)
    do(aws, "begun")
    build(aws, spec)
    assert do(aws, "back") == ["stop", "detach", "terminate", "name"]
    said = build(aws, spec)
    assert f"Start {first}, which is stopped" in said
    assert ids(aws) == (first, "", data)
    assert build(aws, spec) == []


def test_it_comes_back_where_no_new_one_was_made(aws: Faulty, spec: Spec) -> None:
    build(aws, spec)
    first, _, data = ids(aws)
    do(aws, "begun")
    assert do(aws, "back") == ["name"]
    build(aws, spec)
    assert ids(aws) == (first, "", data)


@pytest.mark.parametrize("operation", CALLS)
def test_killed_anywhere_it_goes_on(aws: Faulty, spec: Spec, operation: str) -> None:
    build(aws, spec)
    _, _, data = ids(aws)
    aws.die_after(operation)
    with pytest.raises(KeyboardInterrupt):
        forward(aws, spec)
    forward(aws, spec)
    host, old, same = ids(aws)
    assert host and (old, same) == ("", data)
    assert len([i for i in everything(aws) if i != host]) == 0
    assert build(aws, spec) == []


@pytest.mark.parametrize("operation", CALLS)
def test_killed_anywhere_it_goes_back_or_has_never_left(
    aws: Faulty, spec: Spec, operation: str
) -> None:
    build(aws, spec)
    first, _, data = ids(aws)
    aws.die_after(operation)
    with pytest.raises(KeyboardInterrupt):
        forward(aws, spec)
    if ids(aws)[1]:
        do(aws, "back")
    build(aws, spec)
    assert ids(aws) == (first, "", data)
    assert everything(aws) == [first]


@pytest.mark.parametrize("operation", ["StopInstances", "DetachVolume", "TerminateInstances"])
def test_the_way_back_killed_anywhere_goes_on(aws: Faulty, spec: Spec, operation: str) -> None:
    build(aws, spec)
    first, _, data = ids(aws)
    do(aws, "begun")
    build(aws, spec)
    aws.die_after(operation)
    with pytest.raises(KeyboardInterrupt):
        do(aws, "back")
    do(aws, "back")
    build(aws, spec)
    assert ids(aws) == (first, "", data)
    assert everything(aws) == [first]


def everything(aws: Faulty) -> list[str]:
    pages = aws.inner.pages("ec2", "DescribeInstances", "Reservations")
    found = [i for page in pages for i in page["Instances"]]
    return [i["InstanceId"] for i in found if i["State"]["Name"] != "terminated"]


def test_what_cannot_be_launched_is_refused_while_the_old_host_runs(
    aws: Faulty, spec: Spec, tmp_path: Path
) -> None:
    build(aws, spec)
    aws.calls.clear()
    gone = wish(tmp_path, image="ami-0123456789abcdef0")
    with pytest.raises(LabError, match="There is no image ami-0123456789abcdef0"):
        look(aws, gone, replacing=True)
    assert aws.writes() == []


def test_the_plan_for_the_new_host_is_that_of_an_empty_place(aws: Faulty, spec: Spec) -> None:
    build(aws, spec)
    _, _, _, steps = look(aws, spec, replacing=True)
    assert [step.do for step in steps] == ["launch", "protect", "set_schedule", "attach_volume"]


def test_the_old_host_stays_while_the_new_one_is_not_whole() -> None:
    old = instance(id="i-0b", state="stopped")
    for host, at in ((None, ""), (instance(state="stopped"), "i-0a"), (instance(), "")):
        with pytest.raises(LabError, match=r"The old host i-0b is kept, .*rebuild.yml"):
            rebuild.finish(NAMES, Pair(host, old, volume(attached_to=at)))


def test_nothing_to_rebuild_and_nothing_to_go_back_to() -> None:
    with pytest.raises(LabError, match=r"no host of the lab lab .* to rebuild: .*site.yml"):
        rebuild.begin(NAMES, Pair(None, None, volume()))
    with pytest.raises(LabError, match=r"has no data volume, .*site.yml"):
        rebuild.begin(NAMES, Pair(instance(), None, None))
    with pytest.raises(LabError, match=r"no old host to go back to: .*status.yml"):
        rebuild.back(NAMES, Pair(instance(), None, volume()))


def test_two_hosts_of_a_name_are_not_chosen_from(aws: Faulty, spec: Spec) -> None:
    build(aws, spec)
    do(aws, "begun")
    build(aws, spec)
    host, old, _ = ids(aws)
    tags = [{"Key": "Name", "Value": NAMES.common}]
    aws.inner.call("ec2", "CreateTags", Resources=[old], Tags=tags)
    with pytest.raises(LabError, match=f"more than one host named gpulab-lab .*{host}"):
        rebuild.look(aws, NAMES)


def test_every_run_says_that_a_rebuild_is_not_finished(aws: Faulty, spec: Spec) -> None:
    build(aws, spec)
    first, _, _ = ids(aws)
    do(aws, "begun")
    said = [text for text in look(aws, spec)[0].warnings if first in text]
    assert len(said) == 1
    for part in ("$4.80 a month", "rebuild.yml -e lab_name=lab`", "rebuild_back=true"):
        assert part in said[0]
    build(aws, spec)
    assert [text for text in look(aws, spec)[0].warnings if first in text] == said


def test_destroy_and_audit_know_the_old_host(aws: Faulty, spec: Spec) -> None:
    build(aws, spec)
    first, _, _ = ids(aws)
    do(aws, "begun")
    build(aws, spec)
    listed = [item.id for item in audit.look(aws, PRICES).items if item.kind == "host"]
    assert first in listed
    there = destroy.look(aws, NAMES, BUCKET)
    steps = destroy.make_plan(destroy.Wish("lab", False, ""), NAMES, there)
    destroy.carry_out(aws, steps, Quick())
    assert everything(aws) == []
