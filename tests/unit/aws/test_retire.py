"""A lab that nobody needs for long: its data in a snapshot, and back again."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from ansible.module_utils.lab.aws import retire, seen
from ansible.module_utils.lab.aws.names import Names
from ansible.module_utils.lab.aws.retire import Retiring
from ansible.module_utils.lab.aws.things import Snapshot
from ansible.module_utils.lab.aws.variables import Spec
from ansible.module_utils.lab.errors import LabError
from moto.ec2.models import ec2_backends

from tests.unit.aws.kit import Faulty, build, instance, look, put_away, refuse

NAMES = Names("lab", "us-east-1")
BUCKET = "gpulab-123456789012-lab"
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


def stop(aws: Faulty) -> None:
    (page,) = aws.inner.pages("ec2", "DescribeInstances", "Reservations")
    aws.inner.call("ec2", "StopInstances", InstanceIds=[page["Instances"][0]["InstanceId"]])


def test_a_running_lab_is_not_retired(aws: Faulty, spec: Spec) -> None:
    build(aws, spec)
    aws.calls.clear()
    with pytest.raises(LabError, match=r"is not stopped, .*playbooks/stop.yml -e lab_name=lab"):
        put_away(aws, NAMES, BUCKET)
    assert aws.writes() == []


def test_a_retired_lab_comes_back_with_its_data(aws: Faulty, spec: Spec) -> None:
    build(aws, spec)
    stop(aws)
    assert put_away(aws, NAMES, BUCKET) == [
        "snapshot",
        "complete",
        "terminate",
        "delete_volume",
        "delete_schedule",
    ]
    there = retire.look(aws, NAMES, BUCKET)
    (kept,) = there.snapshots
    assert not there.things.instances and not there.things.volumes
    assert there.things.key_pair and there.things.role and there.things.bucket
    assert put_away(aws, NAMES, BUCKET) == [], "a second run changes nothing"
    lines = retire.said(NAMES, there, 0.05, 0.30)
    assert lines[0].startswith(f"snapshot {kept.id}: the data (100 GB, at most $5.00 a month)")
    said = build(aws, spec)
    assert f"Create the data volume out of snapshot {kept.id} with 100 GB" in said
    _, back, _, steps = look(aws, spec)
    assert steps == []
    (made,) = aws.inner.call("ec2", "DescribeVolumes", VolumeIds=[back.data_volumes()[0].id])[
        "Volumes"
    ]
    assert (made["SnapshotId"], made["Encrypted"]) == (kept.id, True)


def test_a_volume_is_not_deleted_where_its_snapshot_failed(aws: Faulty, spec: Spec) -> None:
    build(aws, spec)
    stop(aws)
    failed = Snapshot("snap-1", 100, {"Role": "data", "Volume": "x"}, NOW, "error")
    assert retire.data_snapshots([failed]) == ()

    def lose(name: str, params: dict[str, Any]) -> None:
        if name == "CreateSnapshot":
            params["TagSpecifications"][0]["Tags"][-1]["Value"] = "vol-0"  # as if it were not there

    aws.before = lose
    with pytest.raises(LabError, match=r"The snapshot of vol-\w+ failed, so nothing is deleted"):
        put_away(aws, NAMES, BUCKET)
    assert not {"TerminateInstances", "DeleteVolume"} & set(aws.writes())


def test_a_snapshot_that_takes_for_ever_deletes_nothing(
    aws: Faulty, spec: Spec, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(aws, spec)
    stop(aws)
    whole = seen.snapshots

    def pending(*args: Any) -> Any:
        return tuple(replace(s, state="pending") for s in whole(*args))

    monkeypatch.setattr(seen, "snapshots", pending)
    monkeypatch.setattr(retire, "SNAPSHOT_MINUTES", 1)
    with pytest.raises(LabError, match=r"The snapshot of vol-\w+ complete is not so after 60 s"):
        put_away(aws, NAMES, BUCKET)
    assert not {"TerminateInstances", "DeleteVolume"} & set(aws.writes())
    monkeypatch.setattr(seen, "snapshots", whole)
    # The next run goes on waiting for that one, and takes no other.
    assert put_away(aws, NAMES, BUCKET)[0] == "complete"
    assert len(aws.named("CreateSnapshot")) == 1


@pytest.mark.parametrize("operation", ["CreateSnapshot", "TerminateInstances", "DeleteVolume"])
def test_a_run_killed_anywhere_is_mended_by_the_next(
    aws: Faulty, spec: Spec, operation: str
) -> None:
    build(aws, spec)
    stop(aws)
    aws.die_after(operation)
    with pytest.raises(KeyboardInterrupt):
        put_away(aws, NAMES, BUCKET)
    put_away(aws, NAMES, BUCKET)
    there = retire.look(aws, NAMES, BUCKET)
    assert not there.things.instances and not there.things.volumes
    assert len(there.snapshots) == 1


def test_a_snapshot_from_before_the_last_start_is_too_old(aws: Faulty, spec: Spec) -> None:
    build(aws, spec)
    stop(aws)
    found = retire.look(aws, NAMES, BUCKET)
    (data,) = [v for v in found.things.volumes if v.tags.get("Role") == "data"]
    tags = {"Role": "data", "Volume": data.id}
    old = Snapshot("snap-1", 100, tags, datetime(2020, 1, 1, tzinfo=UTC))
    new = Snapshot("snap-2", 100, tags, datetime(2099, 1, 1, tzinfo=UTC))
    assert retire.make_plan(NAMES, Retiring(found.things, (old,)))[0].do == "snapshot"
    assert retire.make_plan(NAMES, Retiring(found.things, (new, old)))[0].do == "complete"


def test_refused_snapshots_delete_nothing(aws: Faulty, spec: Spec) -> None:
    build(aws, spec)
    stop(aws)

    def deny(name: str, _params: dict[str, Any]) -> None:
        if name == "CreateSnapshot":
            raise refuse(name, "UnauthorizedOperation")

    aws.before = deny
    with pytest.raises(LabError, match="CreateSnapshot"):
        put_away(aws, NAMES, BUCKET)
    assert not {"TerminateInstances", "DeleteVolume"} & set(aws.writes())


def stopped(days: float) -> Any:
    when = (NOW - timedelta(days=days)).strftime("%Y-%m-%d %H:%M:%S")
    return instance(state="stopped", stopped_because=f"User initiated ({when} GMT)")


@pytest.mark.parametrize(("host", "days", "said"), [
    (stopped(31), 30, True), (stopped(29), 30, False), (stopped(400), 0, False),
    (instance(), 30, False), (None, 30, False), (instance(state="stopped"), 30, False),
])  # fmt: skip
def test_when_a_lab_counts_as_forgotten(host: Any, days: int, said: bool) -> None:
    lines = retire.advice(host, days, "$12.80 a month", "lab", NOW)
    assert bool(lines) is said
    for line in lines:
        assert "has been stopped for 31 days (lab_retire_days is 30)" in line
        assert "playbooks/retire.yml -e lab_name=lab" in line


def test_the_warning_is_in_the_preflight(aws: Faulty, spec: Spec) -> None:
    build(aws, spec)
    stop(aws)
    (reservation,) = ec2_backends["123456789012"]["us-east-1"].reservations.values()
    reservation.instances[0]._reason = "User initiated (2020-01-01 00:00:00 UTC)"
    reservation.instances[0].launch_time = datetime(2020, 1, 1, tzinfo=UTC)
    target, _, _, _ = look(aws, spec)
    assert any("lab_retire_days is 30" in warning for warning in target.warnings)
