"""Workers beside the host, in an AWS in memory, with faults put in their way."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible.module_utils.lab.aws import cluster
from ansible.module_utils.lab.aws.names import Names
from ansible.module_utils.lab.aws.things import ITSELF, Instance, Seen
from ansible.module_utils.lab.aws.variables import Spec
from moto.servicequotas.models import ServiceQuotasBackend

from tests.unit.aws.conftest import quota_of
from tests.unit.aws.kit import Faulty, build, look, wish

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


WRITES = [
    "ImportKeyPair",
    "AuthorizeSecurityGroupIngress",
    "PutRolePolicy",
    "RunInstances",
    "CreateSchedule",
    "AttachVolume",
]


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
