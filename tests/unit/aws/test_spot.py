"""Hosts on Spot capacity: what is planned, refused, said. Their life is in the sandbox's tests."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.lab.aws import destroy, preflight, quota, rebuild, spot, status
from ansible.module_utils.lab.aws.findings import Findings
from ansible.module_utils.lab.aws.names import Names
from ansible.module_utils.lab.aws.rebuild import Pair
from ansible.module_utils.lab.aws.session import AwsError
from ansible.module_utils.lab.aws.variables import Spec

from tests.unit.aws.kit import PRICES, Faulty, Quick, build, instance, look, volume, wish

NAMES = Names("lab", "us-east-1")
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


def on_spot(**more: Any) -> Any:
    return instance(spot=True, spot_request="sir-1", **more)


def interrupted() -> Any:
    return on_spot(state="stopped", stop_code=spot.INTERRUPTED)


def test_the_request_is_persistent_tagged_and_stops(aws: Faulty, tmp_path: Path) -> None:
    build(aws, wish(tmp_path, spot=True))
    (asked,) = aws.named("RunInstances")
    assert asked["InstanceMarketOptions"] == {
        "MarketType": "spot",
        "SpotOptions": {"SpotInstanceType": "persistent", "InstanceInterruptionBehavior": "stop"},
    }
    kinds = [tags["ResourceType"] for tags in asked["TagSpecifications"]]
    assert "spot-instances-request" in kinds
    assert "DisableApiTermination" not in str(aws.named("ModifyInstanceAttribute"))


def test_on_demand_asks_for_no_market(aws: Faulty, spec: Spec) -> None:
    build(aws, spec)
    (asked,) = aws.named("RunInstances")
    assert "InstanceMarketOptions" not in asked
    assert "spot-instances-request" not in str(asked["TagSpecifications"])


def test_its_price_is_a_limit(aws: Faulty, spec: Spec, tmp_path: Path) -> None:
    target, there, _, _ = look(aws, wish(tmp_path, spot=True))
    assert preflight.summary(target, there)["price_text"].startswith("at most $0.5")
    target, there, _, _ = look(aws, spec)
    assert preflight.summary(target, there)["price_text"].startswith("$0.5")


@pytest.mark.parametrize(
    ("kind", "code", "spot_code"),
    [
        ("g4dn.xlarge", "L-DB2E81BA", "L-3819A6DF"),
        ("p3.2xlarge", "L-417A185B", "L-7212CCBC"),
        ("t3.small", "L-1216C47A", "L-34B43A08"),
        ("x1.large", "", ""),
    ],
)
def test_it_counts_for_a_quota_of_its_own(kind: str, code: str, spot_code: str) -> None:
    assert (quota.quota_code(kind), quota.quota_code(kind, spot=True)) == (code, spot_code)


@pytest.mark.parametrize(
    ("host", "said"),
    [
        (instance(), ["lab_spot is true, but the host i-0a is on demand and stays so"]),
        (on_spot(), []),
        (on_spot(type="g5.xlarge"), ["i-0a is a g5.xlarge on Spot capacity, which cannot become"]),
    ],
    ids=["on demand", "as wanted", "of another type"],
)
def test_what_it_keeps_is_said(tmp_path: Path, host: Any, said: list[str]) -> None:
    findings = Findings()
    spot.drift(host, wish(tmp_path, spot=True), findings)
    assert len(findings.warnings) == len(said)
    assert all(part in text for part, text in zip(said, findings.warnings, strict=True))
    assert all("playbooks/rebuild.yml" in text for text in findings.warnings)


def test_one_that_aws_has_stopped_is_told_from_one_that_was_stopped() -> None:
    assert spot.interrupted(interrupted())
    for other in (on_spot(state="stopped"), on_spot(), instance(state="stopped")):
        assert not spot.interrupted(other)


def test_status_says_that_it_will_cost_again() -> None:
    rates = status.Rates(PRICES, "us-east-1", NOW)
    (row,) = status.lines(status.Found((interrupted(),)), rates)
    assert "AWS, which starts it again when there is room" in row.advice[0]
    assert "playbooks/destroy.yml -e lab_name=lab" in row.advice[0]
    (row,) = status.lines(status.Found((on_spot(state="stopped"),)), rates)
    assert row.advice == ()


def test_a_rebuild_of_an_interrupted_host_gives_it_up() -> None:
    steps = rebuild.begin(NAMES, Pair(interrupted(), None, volume(attached_to="i-0a")))
    assert [step.do for step in steps] == ["detach", "cancel"]
    assert "AWS deletes it with its system disk" in steps[-1].text


class Calls:
    """An AWS that notes its calls, and refuses one kind."""

    region = "us-east-1"

    def __init__(self, code: str = "") -> None:
        self.code, self.made = code, list[str]()

    def call(self, service: str, operation: str, **params: Any) -> dict[str, Any]:
        del service, params
        self.made.append(operation)
        if operation == "CancelSpotInstanceRequests" and self.code:
            raise AwsError(self.code, self.code)
        return {"Reservations": []}

    def pages(self, service: str, operation: str, key: str, **params: Any) -> list[Any]:
        del service, operation, key, params
        return []


def test_its_request_is_cancelled_before_it_is_terminated() -> None:
    aws = Calls()
    destroy.terminate(aws, [on_spot(), instance(id="i-0b")], Quick())
    assert aws.made[:3] == [
        "CancelSpotInstanceRequests",
        "ModifyInstanceAttribute",  # of the other one: a Spot host has no protection
        "TerminateInstances",
    ]


def test_where_it_cannot_be_cancelled_nothing_is_terminated() -> None:
    aws = Calls("UnauthorizedOperation")
    with pytest.raises(AwsError):
        destroy.terminate(aws, [on_spot()], Quick())
    assert aws.made == ["CancelSpotInstanceRequests"]


def test_a_request_that_is_gone_is_no_hindrance() -> None:
    aws = Calls("InvalidSpotInstanceRequestID.NotFound")
    destroy.terminate(aws, [on_spot()], Quick())
    assert "TerminateInstances" in aws.made


def test_a_request_without_a_host_is_cancelled_too() -> None:
    there = destroy.Things(
        (), (), (), None, None, None, None, (), (), (), requests=("sir-1", "sir-2")
    )
    steps = destroy.make_plan(destroy.Wish("lab", False, ""), NAMES, there)
    aws = Calls()
    destroy.carry_out(aws, steps, Quick())
    assert aws.made == ["CancelSpotInstanceRequests"] * 2
