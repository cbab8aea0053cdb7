"""Images of a lab's host: made of the stopped host alone, taken by the next, listed, pruned."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from functools import partialmethod
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.lab.aws import audit, bake, destroy, power, status
from ansible.module_utils.lab.aws.bake import Bake
from ansible.module_utils.lab.aws.names import Names, read_tags
from ansible.module_utils.lab.aws.variables import Spec
from ansible.module_utils.lab.errors import LabError
from moto.ec2.models import amis, ec2_backends

from sandbox.patches import images
from tests.unit.aws.kit import PRICES, Faulty, Quick, build, look, once, wish

NAMES = Names("lab", "us-east-1")
NOW = datetime(2026, 11, 22, 10, 30, tzinfo=UTC)
ONE = Bake("ami-1", "one", "debian_13", "admin", "available", "2026-11-01T00:00:00.000Z",
           "x86_64", "/dev/xvda", 60, ("snap-1",))  # fmt: skip


@pytest.fixture(autouse=True)
def images_as_on_aws(aws: Faulty, monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the sandbox's CreateImage: moto's takes no tags, and says of every root 15 GiB."""
    create = amis.AmiBackend.create_image
    for name, value in (("docker_image", None), ("login_user", "admin"), ("root_gib", 8)):
        monkeypatch.setattr(amis.Ami, name, value, raising=False)
    mappings = property(images._block_device_mappings)
    monkeypatch.setattr(amis.Ami, "block_device_mappings", mappings)
    monkeypatch.setattr(amis.AmiBackend, "create_image", partialmethod(_create, create))


def _create(backend: Any, original: Any, *args: Any, **kwargs: Any) -> Any:
    return images._create(original, backend, *args, **kwargs)


def make(aws: Faulty, at: datetime = NOW) -> str:
    """Do what a run of the module does; return the image's id."""
    steps = bake.make_plan(NAMES, power.find(aws, NAMES), at)
    return bake.carry_out(aws, NAMES, steps, Quick())


def test_an_image_is_made_of_the_stopped_host_without_its_data(aws: Faulty, spec: Spec) -> None:
    build(aws, spec)
    image = make(aws)
    order = [name for name in aws.writes() if name in ("StopInstances", "CreateImage")]
    assert order == ["StopInstances", "CreateImage"]
    (asked,) = aws.named("CreateImage")
    assert asked["BlockDeviceMappings"] == [{"DeviceName": "/dev/sdf", "NoDevice": ""}]
    (made,) = bake.look(aws, NAMES)
    assert (made.id, made.of, made.user, made.size) == (image, "debian_13", "admin", 60)
    assert made.name == "gpulab-lab-20261122T103000Z"
    snapshots = aws.inner.call("ec2", "DescribeSnapshots", SnapshotIds=list(made.snapshots))
    (tags,) = [read_tags(raw.get("Tags")) for raw in snapshots["Snapshots"]]
    assert (tags["Lab"], tags["Role"]) == ("lab", "bake")


def test_a_new_host_is_made_from_it_unless_told_otherwise(
    aws: Faulty, spec: Spec, tmp_path: Path
) -> None:
    build(aws, spec)
    image = make(aws)
    _, _, _, steps = look(aws, spec, replacing=True)
    said = next(step.text for step in steps if step.do == "launch")
    assert f"from debian_13 (baked: {image} of " in said
    plain = wish(tmp_path, use_bake=False)
    _, _, _, steps = look(aws, plain, replacing=True)
    assert "from debian_13 with 60 GB" in next(s.text for s in steps if s.do == "launch")


def test_a_host_made_from_it_is_one_of_its_image(aws: Faulty, spec: Spec) -> None:
    build(aws, spec)
    image = make(aws)
    host = power.find(aws, NAMES)
    assert host
    destroy.terminate(aws, [host], Quick())
    build(aws, spec)
    made = power.find(aws, NAMES)
    assert made
    assert (made.image_id, made.tags["Image"], made.tags["LoginUser"]) == (
        image,
        "debian_13",
        "admin",
    )
    target, _, _, steps = look(aws, spec)
    assert steps == []
    assert not [text for text in target.warnings if "lab_image" in text]


@pytest.mark.parametrize(
    "other",
    [
        {"of": "debian_12"},
        {"state": "pending"},
        {"architecture": "arm64"},
        {"size": 61},
        {"size": 0},
    ],
    ids=str,
)
def test_what_does_not_fit_is_not_taken(other: dict[str, Any]) -> None:
    assert bake.fitting([ONE], "debian_13", "x86_64", 60) == ONE
    assert bake.fitting([replace(ONE, **other)], "debian_13", "x86_64", 60) is None


def test_the_newest_is_taken() -> None:
    new = replace(ONE, id="ami-2", created="2026-11-02T00:00:00.000Z")
    bakes = bake.newest_first([ONE, new])
    assert bake.fitting(bakes, "debian_13", "x86_64", 60) == new


def test_those_of_other_labs_and_other_images_are_left_alone(aws: Faulty, spec: Spec) -> None:
    build(aws, spec)
    host = power.find(aws, NAMES)
    assert host
    tags = [{"ResourceType": "image", "Tags": [{"Key": "Project", "Value": "gpulab"}]}]
    aws.inner.call("ec2", "CreateImage", InstanceId=host.id, Name="own", TagSpecifications=tags)
    assert bake.look(aws, NAMES) == ()
    assert bake.prune_plan(bake.look(aws, NAMES), 0) == []


def test_a_lab_without_a_host_makes_none(aws: Faulty) -> None:
    with pytest.raises(LabError, match=r"no host of the lab lab .*site.yml"):
        make(aws)


def test_a_refusal_names_the_action(aws: Faulty, spec: Spec) -> None:
    build(aws, spec)
    aws.before = once("CreateImage", "UnauthorizedOperation")
    with pytest.raises(LabError, match="ec2:CreateImage"):
        make(aws)
    assert bake.look(aws, NAMES) == ()


@pytest.mark.parametrize(("state", "said"), [("failed", "could not make"), ("pending", "3300 s")])
def test_an_image_that_never_is_there_ends(aws: Faulty, spec: Spec, state: str, said: str) -> None:
    build(aws, spec)

    def never(name: str, _params: dict[str, Any]) -> None:
        if name == "CreateImage":
            for ami in ec2_backends["123456789012"]["us-east-1"].amis.values():
                ami.state = state if str(ami.name).startswith("gpulab-") else ami.state

    aws.after = never
    with pytest.raises(LabError, match=said):
        make(aws)


def test_old_ones_are_pruned_with_their_snapshots(aws: Faulty, spec: Spec) -> None:
    build(aws, spec)
    first = make(aws)
    second = make(aws, NOW.replace(hour=11))
    bakes = bake.look(aws, NAMES)
    lost = next(b for b in bakes if b.id == first).snapshots
    lines = bake.said(bakes, 0.05, "lab")
    assert [line.split()[1] for line in lines[:2]] == [second, first]
    assert "at most $3.00 a month" in lines[0]
    assert "All but the newest cost at most $3.00 a month: " in lines[2]
    assert "playbooks/bake.yml -e lab_name=lab -e bake_prune=true`" in lines[2]
    bake.prune(aws, bake.prune_plan(bakes, 1))
    assert [b.id for b in bake.look(aws, NAMES)] == [second]
    held = aws.inner.call("ec2", "DescribeSnapshots", OwnerIds=["self"])["Snapshots"]
    assert not {raw["SnapshotId"] for raw in held} & set(lost)
    assert bake.prune_plan(bake.look(aws, NAMES), 1) == []
    bake.prune(aws, bake.prune_plan(bake.look(aws, NAMES), 0))
    assert bake.look(aws, NAMES) == ()
    assert bake.said((), 0.05, "lab") == ["There is no image of this lab."]


def test_one_that_is_being_made_is_not_pruned() -> None:
    pending = replace(ONE, id="ami-2", state="pending", created="2026-11-02T00:00:00.000Z")
    assert bake.prune_plan([pending, ONE], 1) == []
    gone = replace(ONE, id="ami-3", state="failed")
    assert [step.args["bake"].id for step in bake.prune_plan([gone, pending, ONE], 1)] == ["ami-3"]


@pytest.mark.parametrize("operation", ["DeregisterImage", "DeleteSnapshot"])
def test_pruning_that_is_killed_is_no_harm(aws: Faulty, spec: Spec, operation: str) -> None:
    build(aws, spec)
    make(aws)
    steps = bake.prune_plan(bake.look(aws, NAMES), 0)
    aws.die_after(operation)
    with pytest.raises(KeyboardInterrupt):
        bake.prune(aws, steps)
    bake.prune(aws, steps)
    assert bake.look(aws, NAMES) == ()


def test_status_and_audit_list_them_with_their_cost(aws: Faulty, spec: Spec) -> None:
    build(aws, spec)
    first = make(aws)
    second = make(aws, NOW.replace(hour=11))
    items = {item.id: item for item in audit.look(aws, PRICES).items}
    assert "a newer one is there" in items[first].what
    assert "baked 20" in items[second].what and "newer" not in items[second].what
    snapshots = [item for item in items.values() if item.kind == "snapshot"]
    assert [item.month for item in snapshots] == [pytest.approx(3.0)] * 2
    rates = status.Rates(PRICES, "us-east-1", NOW)
    (row,) = status.lines(status.look(aws), rates)
    assert any(second in text for text in row.advice)
    assert any("bake_prune=true" in text for text in row.advice)
    assert row.stopped_month == pytest.approx(12.8 + 6.0)


def test_destroy_names_an_image_and_not_its_snapshot(aws: Faulty, spec: Spec) -> None:
    build(aws, spec)
    image = make(aws)
    there = destroy.look(aws, NAMES, "gpulab-123456789012-lab")
    assert (there.images, there.snapshots) == ((image,), ())
    lines = "\n".join(destroy.kept(destroy.Wish("lab", True, ""), NAMES, there, spec))
    assert f"image {image}: the next site.yml starts from the newest" in lines
