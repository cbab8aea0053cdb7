"""Workers beside the host, in an AWS in memory, with faults put in their way."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.lab.aws import (
    audit,
    cluster,
    destroy,
    power,
    preflight,
    rebuild,
    remove,
    spent,
    status,
)
from ansible.module_utils.lab.aws.destroy import Wish
from ansible.module_utils.lab.aws.findings import Findings
from ansible.module_utils.lab.aws.names import Names
from ansible.module_utils.lab.aws.things import ITSELF, Instance, Seen, Subnet
from ansible.module_utils.lab.aws.variables import Spec
from ansible.module_utils.lab.aws.workers import Wanted, check, near
from ansible.module_utils.lab.errors import LabError
from moto.core.models import DEFAULT_ACCOUNT_ID as ACCOUNT
from moto.servicequotas.models import ServiceQuotasBackend

from tests.unit.aws.conftest import quota_of
from tests.unit.aws.kit import (
    IMAGES,
    PRICES,
    Faulty,
    Quick,
    build,
    instance,
    look,
    once,
    wish,
)

NAMES = Names("lab", "us-east-1")


@pytest.fixture(autouse=True)
def room(aws: Faulty, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the account room for eight hosts."""
    monkeypatch.setattr(ServiceQuotasBackend, "get_service_quota", quota_of(32.0))


@pytest.fixture
def two(tmp_path: Path) -> Spec:
    """A lab with two workers."""
    return wish(tmp_path, workers=2)


def whole(aws: Faulty, spec: Spec, number: int = 2) -> list[Instance]:
    """See that host and workers are whole, and there once; return the workers."""
    _, there, _, steps = look(aws, spec)
    assert [step.text for step in steps] == []
    (host,) = there.hosts(NAMES)
    workers = there.workers(NAMES)
    assert [one.worker for one in workers] == list(range(1, number + 1))
    for one in workers:
        assert one.state == "running"
        assert one.tags["Name"] == f"gpulab-lab-worker-{one.worker}"
        assert {k: one.tags[k] for k in ("Bucket", "LoginUser", "Image")} == {
            k: host.tags[k] for k in ("Bucket", "LoginUser", "Image")
        }
        same = [(h.zone, h.subnet_id, h.group_ids, h.profile, h.tokens) for h in (one, host)]
        assert same[0] == same[1]
    return workers


def own_rules(there: Seen) -> set[tuple[int, int]]:
    (group,) = there.groups
    return {(rule.from_port, rule.to_port) for rule in group.rules if rule.source == ITSELF}


def test_a_first_run_and_a_second(aws: Faulty, two: Spec) -> None:
    said = build(aws, two)
    assert (
        "Launch workers 1, 2 in the zone of the host: g4dn.xlarge from debian_13 with 60 GB" in said
    )
    assert len({params["ClientToken"] for params in aws.named("RunInstances")}) == 3
    whole(aws, two)
    assert own_rules(look(aws, two)[1]) == set(cluster.PORTS)
    assert list(two.state_dir.glob("client_token*")) == []
    aws.calls.clear()
    assert build(aws, two) == []
    assert aws.writes() == []


def test_without_workers_nothing_is_asked_of_them(aws: Faulty, spec: Spec) -> None:
    build(aws, spec)
    assert "ListSchedules" not in [operation for operation, _ in aws.calls]
    assert own_rules(look(aws, spec)[1]) == set()


def test_one_more_is_made_beside_those_that_are_there(aws: Faulty, two: Spec) -> None:
    build(aws, two)
    before = whole(aws, two)
    more = wish(two.state_dir.parent, workers=3)
    build(aws, more)
    assert whole(aws, more, 3)[:2] == before


def test_fewer_are_never_removed_by_a_plan(aws: Faulty, two: Spec) -> None:
    build(aws, two)
    none = wish(two.state_dir.parent)
    assert look(aws, none)[3] == []
    _, there, _, _ = look(aws, none)
    assert own_rules(there) == set(cluster.PORTS), "their jobs still run"


WRITES = ["AuthorizeSecurityGroupIngress", "RunInstances", "CreateSchedule"]


@pytest.mark.parametrize("call", range(1, 4))
def test_a_run_killed_after_a_launch_never_makes_two(aws: Faulty, two: Spec, call: int) -> None:
    left = [call]

    def die(name: str, _params: dict[str, object]) -> None:
        if name == "RunInstances":
            left[0] -= 1
            if left[0] == 0:
                raise KeyboardInterrupt

    aws.after = die
    with pytest.raises(KeyboardInterrupt):
        build(aws, two)
    build(aws, two)
    whole(aws, two)


@pytest.mark.parametrize("operation", WRITES)
def test_a_refused_call_is_named_and_mended_by_the_next_run(
    aws: Faulty, two: Spec, operation: str
) -> None:
    build(aws, wish(two.state_dir.parent))  # the host is there; what is refused is the workers'
    aws.before = once(operation, "UnauthorizedOperation")
    with pytest.raises(LabError, match=operation):
        build(aws, two)
    build(aws, two)
    whole(aws, two)


def test_no_room_for_one_leaves_the_others_and_says_what_helps(aws: Faulty, two: Spec) -> None:
    build(aws, wish(two.state_dir.parent))
    aws.before = once("RunInstances", "InsufficientInstanceCapacity")
    said = (
        r"AWS has free now in us-east-1a no g4dn\.xlarge \(InsufficientInstanceCapacity\) for"
        r" worker [12], and workers are beside the host: run the same command again later, with"
        r" another -e lab_worker_type=…, or with fewer -e lab_workers=…"
    )
    with pytest.raises(LabError, match=said):
        build(aws, two)
    assert len(look(aws, two)[1].workers(NAMES)) == 1
    build(aws, two)
    whole(aws, two)


def test_another_type_that_will_do_is_taken(aws: Faulty, two: Spec) -> None:
    build(aws, wish(two.state_dir.parent))
    more = wish(two.state_dir.parent, workers=1, instance_types=["g5.xlarge"])
    aws.before = once("RunInstances", "InsufficientInstanceCapacity")
    build(aws, more)
    assert [one.type for one in whole(aws, more, 1)] == ["g5.xlarge"]
    assert look(aws, more)[0].warnings == ()


def test_stopped_workers_are_started_after_the_host(aws: Faulty, two: Spec) -> None:
    build(aws, two)
    host, workers = power.find_all(aws, NAMES)
    assert host
    power.stop_workers(aws, workers, Quick())
    power.stop(aws, host, Quick())
    aws.calls.clear()
    said = build(aws, two)
    assert f"Start {host.id}, which is stopped" in said
    assert "Start workers 1, 2" in said
    started = [params["InstanceIds"][0] for params in aws.named("StartInstances")]
    assert started[0] == host.id
    assert set(started[1:]) == {one.id for one in workers}
    whole(aws, two)


def test_no_room_to_start_one_is_said(aws: Faulty, two: Spec) -> None:
    build(aws, two)
    _, workers = power.find_all(aws, NAMES)
    power.stop_workers(aws, workers, Quick())
    aws.before = once("StartInstances", "InsufficientInstanceCapacity")
    with pytest.raises(LabError, match=r"AWS has no room now to start worker [12] \(i-"):
        build(aws, two)
    build(aws, two)
    whole(aws, two)


def test_one_that_ends_at_once_is_named(aws: Faulty, two: Spec) -> None:
    build(aws, wish(two.state_dir.parent))

    def end(name: str, _params: dict[str, Any]) -> None:
        if name == "RunInstances":
            _, workers = power.find_all(aws, NAMES)
            aws.inner.call("ec2", "TerminateInstances", InstanceIds=[workers[0].id])

    aws.after = end
    with pytest.raises(LabError, match=r"Worker 1 \(i-\w+\) became terminated instead of running"):
        build(aws, wish(two.state_dir.parent, workers=1))
    aws.after = lambda *_: None
    build(aws, two)
    whole(aws, two)


def test_a_start_makes_none(aws: Faulty, two: Spec) -> None:
    build(aws, wish(two.state_dir.parent))
    target, there, _, steps = look(aws, two, may_create=False)
    assert {step.do for step in steps} == {"open"}
    assert "worker" not in preflight.summary(target, there)["price_text"]


def test_what_was_changed_by_hand_is_put_right(aws: Faulty, two: Spec) -> None:
    build(aws, two)
    worker = whole(aws, two)[0]
    ec2, ids = aws.inner, [worker.id]
    ec2.call("ec2", "DeleteTags", Resources=ids, Tags=[{"Key": "Bucket"}])
    ec2.call("ec2", "ModifyInstanceMetadataOptions", InstanceId=worker.id, HttpTokens="optional")
    said = build(aws, two)
    assert said == [
        f"Tag {worker.id} with Bucket",
        f"Require version 2 of the metadata service on {worker.id}",
    ]
    whole(aws, two)


def test_another_type_is_said_and_left(aws: Faulty, two: Spec) -> None:
    build(aws, two)
    target, _, _, steps = look(aws, wish(two.state_dir.parent, workers=2, worker_type="g5.xlarge"))
    assert steps == []
    first, second = target.warnings
    assert "is a g4dn.xlarge and stays so, though g5.xlarge is wanted" in first
    assert "-e lab_workers=0" in first
    assert "-e lab_workers=1" in second


def test_a_host_without_workers_opens_nothing_to_them(aws: Faulty, two: Spec) -> None:
    build(aws, two)
    away(aws, wish(two.state_dir.parent), 1, 2)
    assert own_rules(look(aws, two)[1]) == set()


CASES = [
    ({"workers": 3}, "4 x g4dn.xlarge need 16 vCPUs, but the quota L-DB2E81BA"),
    ({"workers": 3}, "or take fewer with -e lab_workers="),
    (
        {"workers": 2, "worker_type": "t4g.small"},
        "is for x86_64, but the workers' t4g.small is arm64, and host and workers are made of one"
        " image: choose another lab_worker_type",
    ),
    (
        {"workers": 2, "worker_type": "g9z.huge"},
        "us-east-1 does not know the instance type g9z.huge of the workers",
    ),
]


@pytest.mark.parametrize(("changes", "said"), CASES)
def test_what_cannot_be_is_refused_before_anything_is_made(
    aws: Faulty, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], said: str
) -> None:
    monkeypatch.setattr(ServiceQuotasBackend, "get_service_quota", quota_of(12.0))
    with pytest.raises(LabError, match=re.escape(said)):
        build(aws, wish(tmp_path, **changes))
    assert aws.writes() == []


def test_two_families_are_held_against_two_quotas(aws: Faulty, tmp_path: Path) -> None:
    build(aws, wish(tmp_path, workers=2, worker_type="t3.medium"))
    asked = {params["QuotaCode"] for params in aws.named("GetServiceQuota")}
    assert asked == {"L-DB2E81BA", "L-1216C47A"}


def test_two_workers_of_one_number_are_refused(aws: Faulty, two: Spec) -> None:
    build(aws, two)
    second = whole(aws, two)[1]
    tags = [{"Key": "Worker", "Value": "1"}]
    aws.inner.call("ec2", "CreateTags", Resources=[second.id], Tags=tags)
    with pytest.raises(LabError, match=r"more than one worker 1 \(i-"):
        build(aws, two)


def test_a_name_that_is_taken_is_refused_where_it_is_wanted(aws: Faulty, two: Spec) -> None:
    other = wish(two.state_dir.parent, name="lab-worker-2", state_dir=two.state_dir.parent / "two")
    build(aws, other)
    build(aws, wish(two.state_dir.parent, workers=1))
    with pytest.raises(LabError, match=r"\(Name gpulab-lab-worker-2\) exists, but has not"):
        build(aws, two)


def test_a_changed_image_is_not_that_of_new_workers(aws: Faulty, tmp_path: Path) -> None:
    build(aws, wish(tmp_path))
    target, _, _, steps = look(aws, wish(tmp_path, image="debian_12", workers=1))
    (launched,) = [step for step in steps if step.do == "launch_workers"]
    assert "from debian_13" in launched.text
    parameter = {"Name": IMAGES["debian_13"]["x86_64"]}
    assert parameter in aws.named("GetParameter")
    assert target.worker_image


def away(aws: Faulty, spec: Spec, *numbers: int) -> list[str]:
    """Do what a run of lab_workers does; return what its steps do."""
    steps = remove.make_plan(spec, NAMES, remove.look(aws, NAMES), frozenset(numbers))
    remove.carry_out(aws, steps, Quick())
    return [step.do for step in steps]


def test_a_worker_is_taken_away_and_the_others_stay(aws: Faulty, two: Spec) -> None:
    build(aws, two)
    first = whole(aws, two)[0]
    one = wish(two.state_dir.parent, workers=1)
    assert away(aws, one, 2) == ["drop", "terminate"]
    assert whole(aws, one, 1) == [first]
    assert away(aws, one, 2) == [], "it is gone"


def test_the_host_is_no_worker() -> None:
    with pytest.raises(LabError, match="0 is no worker's number: they begin with 1"):
        remove.check_numbers([0])


def test_another_labs_worker_is_not_touched(aws: Faulty, two: Spec) -> None:
    other = wish(two.state_dir.parent, name="two", workers=1, state_dir=two.state_dir.parent / "b")
    build(aws, other)
    build(aws, two)
    away(aws, wish(two.state_dir.parent), 1, 2)
    assert build(aws, other) == []


REMOVES = ["DeleteSchedule", "TerminateInstances", "RevokeSecurityGroupIngress"]


@pytest.mark.parametrize("operation", REMOVES)
def test_a_removal_refused_or_killed_is_mended_by_the_next(
    aws: Faulty, two: Spec, operation: str
) -> None:
    none = wish(two.state_dir.parent)
    build(aws, two)
    aws.before = once(operation, "UnauthorizedOperation")
    with pytest.raises(LabError, match=operation):
        away(aws, none, 1, 2)
    aws.die_after(operation)
    with pytest.raises(KeyboardInterrupt):
        away(aws, none, 1, 2)
    away(aws, none, 1, 2)
    build(aws, none)
    _, there, _, steps = look(aws, none)
    assert (there.workers(NAMES), own_rules(there), steps) == ([], set(), [])


def test_a_token_of_one_that_was_terminated_is_not_used_again(aws: Faulty, two: Spec) -> None:
    """The run was killed after the launch, and somebody has terminated what it launched."""
    build(aws, wish(two.state_dir.parent))
    aws.before = once("RunInstances", "IdempotentInstanceTerminated", times=2)
    build(aws, two)
    whole(aws, two)


def test_each_has_a_schedule_of_its_own_that_ends_with_the_hosts(aws: Faulty, two: Spec) -> None:
    build(aws, two)
    _, there, _, _ = look(aws, two)
    workers = {f"gpulab-lab-worker-{one.worker}-max": one.id for one in there.workers(NAMES)}
    assert {name: one.host_id for name, one in there.guard.workers.items()} == workers
    times = {one.expression for one in there.guard.workers.values()}
    assert times == {there.guard.schedules["max"].expression}


def test_without_the_guard_the_workers_lose_theirs(aws: Faulty, two: Spec) -> None:
    build(aws, two)
    said = build(aws, wish(two.state_dir.parent, workers=2, max_hours=0))
    assert "Delete schedule gpulab-lab-worker-1-max" in said
    assert look(aws, two)[1].guard.workers == {}


def test_the_whole_is_destroyed(aws: Faulty, two: Spec) -> None:
    build(aws, two)
    there = destroy.look(aws, NAMES, f"gpulab-{ACCOUNT}-lab")
    steps = destroy.make_plan(Wish("lab", delete_data=True, delete_bucket=""), NAMES, there)
    assert sum("worker 1" in step.text for step in steps) == 1
    destroy.carry_out(aws, steps, Quick())
    assert {item.kind for item in audit.look(aws, PRICES).items} == {"bucket"}


def test_all_of_them_are_listed_and_priced(aws: Faulty, two: Spec) -> None:
    build(aws, two)
    found = audit.look(aws, PRICES)
    assert {item.lab for item in found.items} == {"lab"}
    assert sum(item.kind == "worker" for item in found.items) == 2
    assert sum(item.kind == "schedule" for item in found.items) == 3
    now = datetime.now(UTC)
    rows = status.lines(status.look(aws), status.Rates(PRICES, "us-east-1", now))
    assert [row.worker for row in rows] == [0, 1, 2]
    assert [row.disks_gb for row in rows] == [160, 60, 60]
    assert rows[1].cells()[1].endswith(" (worker 1)")


def test_the_price_is_that_of_all(aws: Faulty, two: Spec) -> None:
    target, there, _, _ = look(aws, two)
    said = preflight.summary(target, there)
    assert said["price_hour"] == pytest.approx(3 * 0.531 + 280 * 0.08 / 730)
    assert "for the host and 2 workers while running" in said["price_text"]
    assert said["price_stopped_month"] == pytest.approx(280 * 0.08)
    build(aws, two)
    target, there, _, _ = look(aws, two)
    said = preflight.summary(target, there)
    assert [one["wanted"] for one in said["workers"]] == [True, True]
    assert said["price_hour"] == pytest.approx(3 * 0.531 + 280 * 0.08 / 730)


def test_what_they_have_cost_is_counted_apart() -> None:
    at = datetime(2026, 11, 22, 12, tzinfo=UTC)
    hour = timedelta(hours=1)
    tags = {"Project": "gpulab", "Lab": "lab", "Role": "worker", "Worker": "1"}
    host = instance(launched=at - 4 * hour)
    worker = instance(id="i-0b", tags=tags, launched=at - 3 * hour)
    runs = spent.update_workers(spent.update((), host, 1.0, at), [worker], {"i-0b": 2.0}, at)
    assert spent.this_month(runs, (), 0.0, at).dollars == pytest.approx(4 * 1.0 + 3 * 2.0)
    assert spent.this_month(runs, (), 0.0, at).whole
    # It was terminated by somebody else: it has run until it was last seen.
    gone = spent.update_workers(spent.update(runs, host, 1.0, at + hour), [], {}, at + hour)
    assert spent.this_month(gone, (), 0.0, at + hour).dollars == pytest.approx(5 * 1.0 + 3 * 2.0)


def test_a_host_is_not_set_aside_while_it_has_workers(aws: Faulty, two: Spec) -> None:
    build(aws, two)
    there = rebuild.look(aws, NAMES)
    assert there.workers == (1, 2)
    with pytest.raises(LabError, match=r"Workers of the lab lab are still there \(number 1, 2\)"):
        rebuild.check_workers(there, NAMES)
    away(aws, wish(two.state_dir.parent), 1, 2)
    there = rebuild.look(aws, NAMES)
    rebuild.check_workers(there, NAMES)
    rebuild.carry_out(aws, rebuild.begin(NAMES, there), Quick())
    build(aws, two)
    there = rebuild.look(aws, NAMES)
    assert there.workers == (1, 2) and there.old
    rebuild.check_workers(there, NAMES)  # it has begun: they are the new host's


@pytest.mark.parametrize(("autostop", "workers"), [(True, 2), (True, 0), (False, 2)])
def test_the_role_may_stop_workers_only_where_that_is_wanted(
    aws: Faulty, tmp_path: Path, autostop: bool, workers: int
) -> None:
    build(aws, wish(tmp_path, workers=workers, slurm_autostop=autostop))
    role = look(aws, wish(tmp_path, workers=workers, slurm_autostop=autostop))[1].role
    assert role and role.policy
    actions = {a for s in role.policy["Statement"] for a in s["Action"] if a.startswith("ec2:")}
    wanted = {"ec2:DescribeInstances", "ec2:StartInstances", "ec2:StopInstances"}
    assert actions == (wanted if autostop and workers else set())


ZONES = tuple(
    Subnet(f"subnet-{zone}", f"us-east-1{zone}", "vpc-1", default=True, public=True)
    for zone in "ab"
)


@pytest.mark.parametrize(
    ("host", "offered", "zones", "said"),
    [
        (None, None, "ab", ""),
        (None, ["us-east-1b"], "b", ""),
        (instance(), ["us-east-1a"], "a", ""),
        (instance(), ["us-east-1b"], "b", "in us-east-1b, not in us-east-1a, where the host is,"),
        (None, [], "", "in no zone, not in us-east-1a, us-east-1b, where the host can be,"),
    ],
)
def test_workers_are_where_the_host_is(
    tmp_path: Path, host: Instance | None, offered: list[str] | None, zones: str, said: str
) -> None:
    findings = Findings()
    spec = wish(tmp_path, workers=1, worker_type="g6.xlarge")
    found = near(ZONES, host, offered, spec, findings)
    assert "".join(subnet.zone[-1] for subnet in found) == zones
    assert [said in problem for problem in findings.problems] == ([True] if said else [])


def worker(**changes: Any) -> Instance:
    """Return the running worker 1 of the lab `lab`."""
    return instance(**{"id": "i-0b", "tags": NAMES.worker_tags(1), **changes})


def test_one_that_aws_has_taken_back_is_left_to_aws(tmp_path: Path) -> None:
    findings = Findings()
    gone = worker(spot=True, state="stopped", stop_code="Server.SpotInstanceShutdown")
    wanted = Wanted(wish(tmp_path, workers=1, spot=True), (gone,))
    check(wanted, NAMES, findings)
    assert wanted.idle() == []
    assert findings.warnings == [
        "AWS has taken back the Spot capacity of worker 1 (i-0b), and starts it again when there is"
        " room; nobody else can"
    ]


def test_the_last_way_into_one_is_not_shut(tmp_path: Path) -> None:
    findings = Findings()
    check(Wanted(wish(tmp_path, workers=1, access="ssm"), (worker(),)), NAMES, findings)
    assert "i-0b was launched without the agent" in findings.problems[0]
