"""A lab whose /data is a file system of EFS, in an AWS in memory, with faults put in its way."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.lab.aws import (
    apply,
    audit,
    destroy,
    efs,
    preflight,
    rebuild,
    remove,
    retire,
    status,
)
from ansible.module_utils.lab.aws.destroy import Wish
from ansible.module_utils.lab.aws.names import Names
from ansible.module_utils.lab.aws.steps import Step
from ansible.module_utils.lab.aws.things import FileSystem, Instance, MountTarget
from ansible.module_utils.lab.aws.variables import Spec
from ansible.module_utils.lab.aws.work import Work
from ansible.module_utils.lab.errors import LabError
from moto.core.models import DEFAULT_ACCOUNT_ID as ACCOUNT
from moto.efs.models import efs_backends
from moto.servicequotas.models import ServiceQuotasBackend

from tests.unit.aws.conftest import quota_of
from tests.unit.aws.kit import PRICES, Faulty, Quick, build, look, once, put_away, wish

NAMES = Names("lab", "us-east-1")
BUCKET = f"gpulab-{ACCOUNT}-lab"
NOW = datetime(2026, 11, 22, tzinfo=UTC)
WRITES = ["CreateFileSystem", "CreateMountTarget", "CreateTags"]


@pytest.fixture(autouse=True)
def room(aws: Faulty, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the account room for a few hosts."""
    monkeypatch.setattr(ServiceQuotasBackend, "get_service_quota", quota_of(32.0))


@pytest.fixture
def on_efs(tmp_path: Path) -> Spec:
    """A lab with a worker and its /data on EFS."""
    return wish(tmp_path, shared="efs", workers=1)


def whole(aws: Faulty, spec: Spec) -> tuple[FileSystem, list[Instance]]:
    """See that there is one file system with one mount target, which all hosts are told."""
    _, there, _, steps = look(aws, spec)
    assert [step.text for step in steps] == []
    assert there.data() is None
    (host,) = there.hosts(NAMES)
    (group,) = there.groups
    hosts = [host, *there.workers(NAMES)]
    assert there.file_system
    (target,) = there.file_system.targets
    assert (target.zone, target.group_ids, target.state) == (host.zone, (group.id,), "available")
    assert {one.tags.get("DataAddress") for one in hosts} == {target.address}
    assert efs_of()[0].encrypted
    assert efs_of()[0].throughput_mode == "elastic"
    assert len(efs_of()) == 1
    return there.file_system, hosts


def efs_of() -> list[Any]:
    return list(efs_backends[ACCOUNT]["us-east-1"].file_systems_by_id.values())


def rules(aws: Faulty, spec: Spec) -> set[int]:
    (group,) = look(aws, spec)[1].groups
    return {rule.from_port for rule in group.rules if rule.source.startswith("the group")}


def take_away(aws: Faulty, delete_data: bool = False) -> list[str]:
    """Do what destroy.yml does."""
    things = destroy.look(aws, NAMES, BUCKET)
    wished = Wish("lab", delete_data, "")
    steps = destroy.make_plan(wished, NAMES, things)
    destroy.carry_out(aws, steps, Quick())
    destroy.prove(wished, NAMES, destroy.look(aws, NAMES, BUCKET))
    return [step.do for step in steps]


def test_a_first_run_and_a_second(aws: Faulty, on_efs: Spec) -> None:
    said = build(aws, on_efs)
    assert "Create the file system gpulab-lab for /data" in said
    assert not any("data volume" in text for text in said)
    system, hosts = whole(aws, on_efs)
    assert len(hosts) == 2
    assert system.tags["Role"] == "data" and system.tags["Lab"] == "lab"
    aws.calls.clear()
    assert build(aws, on_efs) == []
    assert aws.writes() == []


def test_without_workers_port_2049_is_open_among_the_hosts_and_no_other(
    aws: Faulty, tmp_path: Path
) -> None:
    alone = wish(tmp_path, shared="efs")
    build(aws, alone)
    assert rules(aws, alone) == {2049}
    more = wish(tmp_path, shared="efs", workers=1)
    build(aws, more)
    assert len(rules(aws, more)) > 1
    there = remove.look(aws, NAMES)
    remove.carry_out(aws, remove.make_plan(alone, NAMES, there, frozenset({1})), Quick())
    assert rules(aws, alone) == {2049}
    whole(aws, alone)


def test_nfs_asks_for_nothing_of_efs_and_makes_nothing(aws: Faulty, spec: Spec) -> None:
    build(aws, spec)
    asked = {call for call, _ in aws.calls if "FileSystem" in call or "MountTarget" in call}
    assert asked == {"DescribeFileSystems"}
    assert rules(aws, spec) == set()


def test_who_may_not_ask_for_file_systems_has_none(aws: Faulty, tmp_path: Path) -> None:
    aws.before = once("DescribeFileSystems", "AccessDeniedException", times=2)
    build(aws, wish(tmp_path))
    aws.before = once("DescribeFileSystems", "AccessDeniedException", times=2)
    with pytest.raises(LabError, match=r"may not call .*DescribeFileSystems"):
        look(aws, wish(tmp_path / "b", shared="efs", name="other"))


@pytest.mark.parametrize("write", WRITES)
def test_a_refused_call_is_mended_by_the_next_run(aws: Faulty, on_efs: Spec, write: str) -> None:
    aws.before = once(write, "AccessDeniedException")
    with pytest.raises(LabError, match=write):
        build(aws, on_efs)
    aws.before = lambda *_: None
    build(aws, on_efs)
    whole(aws, on_efs)


@pytest.mark.parametrize("write", WRITES)
def test_a_run_killed_after_a_call_is_mended_by_the_next(
    aws: Faulty, on_efs: Spec, write: str
) -> None:
    aws.die_after(write)
    with pytest.raises(KeyboardInterrupt):
        build(aws, on_efs)
    aws.after = lambda *_: None
    build(aws, on_efs)
    whole(aws, on_efs)


def test_a_reply_that_was_lost_never_makes_two(aws: Faulty, on_efs: Spec) -> None:
    """The file system is there, and the answer to what there is does not tell of it yet."""
    build(aws, on_efs)
    target, there, _, _ = look(aws, on_efs)
    late = Work(aws, target, replace(there, file_system=None), clock=Quick())
    apply.carry_out(late, [Step("create_file_system", "")])
    assert len(efs_of()) == 1


def test_a_mount_target_that_never_comes_ends_the_wait(aws: Faulty, on_efs: Spec) -> None:
    def slow(operation: str, _params: dict[str, Any]) -> None:
        if operation == "CreateMountTarget":
            for system in efs_of():
                for one in system.iter_mount_targets():
                    one.life_cycle_state = "creating"

    aws.after = slow
    with pytest.raises(LabError, match="in us-east-1a ready is not so after 300 s"):
        build(aws, on_efs)
    for one in efs_of()[0].iter_mount_targets():
        one.life_cycle_state = "available"
    build(aws, on_efs)
    whole(aws, on_efs)


def test_a_mount_target_that_somebody_deleted_is_made_anew(aws: Faulty, on_efs: Spec) -> None:
    build(aws, on_efs)
    (was,) = whole(aws, on_efs)[0].targets
    aws.call("efs", "DeleteMountTarget", MountTargetId=was.id)
    said = build(aws, on_efs)
    assert "Let the zone of the host reach the file system gpulab-lab" in said
    assert whole(aws, on_efs)[0].targets[0].id != was.id


def test_one_with_another_group_or_in_another_zone_is_replaced(aws: Faulty, on_efs: Spec) -> None:
    build(aws, on_efs)
    system, hosts = whole(aws, on_efs)
    other = aws.call("ec2", "CreateSecurityGroup", GroupName="x", Description="x",
                     VpcId=hosts[0].vpc_id)["GroupId"]  # fmt: skip
    aws.call("efs", "ModifyMountTargetSecurityGroups", MountTargetId=system.targets[0].id,
             SecurityGroups=[other])  # fmt: skip
    build(aws, on_efs)
    whole(aws, on_efs)
    subnets = look(aws, on_efs)[1].subnets
    away = next(s for s in subnets if s.zone != hosts[0].zone and s.vpc_id == hosts[0].vpc_id)
    aws.call("efs", "CreateMountTarget", FileSystemId=system.id, SubnetId=away.id)
    # It does no harm, and costs nothing.
    assert look(aws, on_efs)[3] == []
    good = next(t for t in efs.targets(aws, system.id) if t.zone == hosts[0].zone)
    aws.call("efs", "DeleteMountTarget", MountTargetId=good.id)
    _, _, _, steps = look(aws, on_efs)
    assert [step.do for step in steps][:1] == ["make_mount_target"]
    assert away.zone in steps[0].before
    build(aws, on_efs)
    whole(aws, on_efs)


def test_one_that_failed_counts_for_nothing() -> None:
    target = MountTarget("fsmt-1", "172.31.0.9", "us-east-1a", "available", ("sg-1",))
    assert efs.target_at((target,), "us-east-1a", "sg-1") is target
    assert efs.target_at((replace(target, group_ids=()),), "us-east-1a", "sg-1")
    assert efs.target_at((replace(target, state="error"),), "us-east-1a", "sg-1") is None
    assert efs.target_at((target,), "us-east-1b", "sg-1") is None


def test_a_lab_with_a_data_volume_refuses_efs(aws: Faulty, tmp_path: Path) -> None:
    build(aws, wish(tmp_path))
    aws.calls.clear()
    with pytest.raises(LabError, match=r"lab_shared is efs, but the lab lab has its /data on the"
                       r" data volume vol-.*set lab_shared to nfs in .*-e lab_name=lab-efs -e"
                       r" lab_shared=efs and copy /data by rsync"):  # fmt: skip
        look(aws, wish(tmp_path, shared="efs"))
    assert aws.writes() == []
    take_away(aws)
    with pytest.raises(LabError, match="on the data volume vol-"):
        look(aws, wish(tmp_path, shared="efs"))


def test_a_retired_lab_with_its_data_in_a_snapshot_refuses_efs(aws: Faulty, tmp_path: Path) -> None:
    build(aws, wish(tmp_path))
    retire_it(aws)
    with pytest.raises(LabError, match="on the snapshot snap-"):
        look(aws, wish(tmp_path, shared="efs"))


def test_a_lab_on_efs_refuses_nfs_also_without_a_host(aws: Faulty, tmp_path: Path) -> None:
    build(aws, wish(tmp_path, shared="efs"))
    sentence = (
        r"lab_shared is nfs, but the lab lab has its /data on the file system fs-\w+ of EFS.*set"
        r" lab_shared to efs in .*-e lab_name=lab-nfs"
    )
    with pytest.raises(LabError, match=sentence):
        look(aws, wish(tmp_path))
    take_away(aws)
    with pytest.raises(LabError, match=sentence):
        look(aws, wish(tmp_path))


def test_somebody_elses_file_system_is_not_touched(aws: Faulty, tmp_path: Path) -> None:
    aws.call("efs", "CreateFileSystem", CreationToken="gpulab-lab")
    with pytest.raises(LabError, match=r"fs-\w+ of EFS has the creation token gpulab-lab, but not"):
        look(aws, wish(tmp_path, shared="efs"))
    assert "delete_file_system" not in take_away(aws, delete_data=True)
    assert len(efs_of()) == 1


def test_destroy_keeps_the_data_and_the_next_run_takes_it_up(aws: Faulty, on_efs: Spec) -> None:
    build(aws, on_efs)
    before = whole(aws, on_efs)[0].id
    kept = destroy.kept(Wish("lab", False, ""), NAMES, destroy.look(aws, NAMES, BUCKET), on_efs)
    assert any(f"file system {before} (0.0 GB): the next site.yml" in line for line in kept)
    assert "delete_mount_target" in take_away(aws)
    assert look(aws, on_efs)[1].groups == ()
    build(aws, on_efs)
    assert whole(aws, on_efs)[0].id == before


def test_destroy_with_the_data_leaves_nothing(aws: Faulty, on_efs: Spec) -> None:
    build(aws, on_efs)
    done = take_away(aws, delete_data=True)
    assert done.index("delete_mount_target") < done.index("delete_file_system")
    assert efs_of() == []
    assert take_away(aws, delete_data=True) == []


@pytest.mark.parametrize("write", ["DeleteMountTarget", "DeleteFileSystem"])
def test_destroy_cut_off_is_finished_by_the_next(aws: Faulty, on_efs: Spec, write: str) -> None:
    build(aws, on_efs)
    aws.die_after(write)
    with pytest.raises(KeyboardInterrupt):
        take_away(aws, delete_data=True)
    aws.after = lambda *_: None
    take_away(aws, delete_data=True)
    assert efs_of() == []


def test_what_is_still_in_use_is_tried_again(aws: Faulty, on_efs: Spec) -> None:
    build(aws, on_efs)
    aws.before = once("DeleteFileSystem", "FileSystemInUse", times=3)
    take_away(aws, delete_data=True)
    assert efs_of() == []


def retire_it(aws: Faulty) -> list[str]:
    ids = [i["InstanceId"] for page in aws.pages("ec2", "DescribeInstances", "Reservations")
           for i in page["Instances"]]  # fmt: skip
    aws.call("ec2", "StopInstances", InstanceIds=ids)
    return put_away(aws, NAMES, BUCKET)


def test_retire_leaves_the_file_system_and_says_what_it_costs(aws: Faulty, on_efs: Spec) -> None:
    build(aws, on_efs)
    before = whole(aws, on_efs)[0].id
    efs_of()[0]._size_value = 50 * efs.GIB
    assert set(retire_it(aws)) == {"terminate", "delete_schedule"}
    said = retire.said(NAMES, retire.look(aws, NAMES, BUCKET), 0.05, 0.30)
    assert f"file system {before} (50.0 GB, $15.00 a month): /data as it is" in said[0]
    build(aws, on_efs)
    assert whole(aws, on_efs)[0].id == before


def test_rebuild_keeps_it(aws: Faulty, tmp_path: Path) -> None:
    alone = wish(tmp_path, shared="efs")
    build(aws, alone)
    before, (old,) = whole(aws, alone)
    for wanted in ("begun", "finished"):
        rebuild.carry_out(aws, rebuild.PLANS[wanted](NAMES, rebuild.look(aws, NAMES)), Quick())
        if wanted == "begun":
            build(aws, alone)
    after, (new,) = whole(aws, alone)
    assert after.id == before.id and new.id != old.id


def test_it_is_in_every_sum(aws: Faulty, on_efs: Spec) -> None:
    build(aws, on_efs)
    efs_of()[0]._size_value = 100 * efs.GIB
    target, there, _, _ = look(aws, on_efs)
    told = preflight.summary(target, there)
    assert "file system $30.00" in told["price_text"]
    assert told["file_system"] == there.file_system.id if there.file_system else False
    assert target.held.disk_gb == 60, "there is no data volume to be paid for"
    found = status.look(aws)
    rates = status.Rates(PRICES, "us-east-1", NOW)
    rows = status.lines(found, rates)
    assert sum(row.stopped_month for row in rows) == pytest.approx(2 * 60 * 0.08 + 30)
    assert any("100.0 GB, $30.00 a month" in text for row in rows for text in row.advice)
    (item,) = [i for i in audit.look(aws, PRICES).items if i.kind == "file system"]
    assert (item.lab, item.what) == ("lab", "EFS, 100.0 GB")
    assert item.month == pytest.approx(30.0)


def test_what_is_left_alone_is_told_as_well(aws: Faulty, tmp_path: Path) -> None:
    build(aws, wish(tmp_path, shared="efs"))
    efs_of()[0]._size_value = 10 * efs.GIB
    take_away(aws)
    (row,) = status.lines(status.look(aws), status.Rates(PRICES, "us-east-1", NOW))
    assert (row.lab, row.host, row.stopped_month) == ("lab", "", 3.0)
    aws.call("efs", "CreateFileSystem", CreationToken="mine")
    items = [i for i in audit.look(aws, PRICES).items if i.kind == "file system"]
    assert [(i.lab, i.what) for i in items] == [
        ("lab", "EFS, 10.0 GB, no mount target"),
        ("(no tag)", "EFS, 0.0 GB, no mount target"),
    ]


def test_a_month_is_counted_from_its_first_day_or_from_the_birth() -> None:
    system = FileSystem("fs-1", "available", {}, 73 * efs.GIB, NOW - timedelta(hours=10))
    assert efs.spent(system, 0.30, NOW) == pytest.approx(73 * 0.30 * 10 / 730)
    assert efs.spent(replace(system, created=NOW - timedelta(days=90)), 0.30, NOW) == pytest.approx(
        73 * 0.30 * 21 * 24 / 730
    )
    assert efs.spent(None, 0.30, NOW) == 0.0


def test_another_word_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LabError, match='lab_shared is "smb", but it must be one of nfs, efs'):
        wish(tmp_path, shared="smb")
