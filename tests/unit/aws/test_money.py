"""Prices from AWS's list or the table, and what a month has cost: tables of cases."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.lab.aws import preflight, prices, spent
from ansible.module_utils.lab.aws.names import Names
from ansible.module_utils.lab.aws.prices import Held, price
from ansible.module_utils.lab.aws.spent import Run
from ansible.module_utils.lab.aws.variables import Spec
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.aws.kit import PRICES, Faulty, build, instance, look, volume, wish

NAMES = Names("lab", "us-east-1")
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def product(dollars: str, unit: str) -> str:
    """One line of AWS's price list."""
    dimension = {"unit": unit, "pricePerUnit": {"USD": dollars}}
    term = {"priceDimensions": {"a.b.c": dimension}}
    return json.dumps({"product": {}, "terms": {"OnDemand": {"a.b": term}}})


def price_list(_service: str, operation: str, params: dict[str, Any]) -> Mapping[str, Any]:
    """Answer as AWS does: a T4 host for 0.60 dollars, gp3 for 0.09, nothing else."""
    assert operation == "GetProducts"
    fields = {item["Field"]: item["Value"] for item in params["Filters"]}
    assert fields["regionCode"] == "eu-west-1"
    if fields.get("instanceType") == "g4dn.xlarge":
        return {"PriceList": [product("0.0000000000", "Hrs"), product("0.6000000000", "Hrs")]}
    if fields.get("volumeApiName") == "gp3":
        return {"PriceList": [product("0.0900000000", "GB-Mo")]}
    return {"PriceList": []}


def test_aws_own_prices_are_used_where_they_can_be_had(aws: Faulty) -> None:
    aws.told = price_list
    table = prices.current(aws, PRICES, "eu-west-1", ["g4dn.xlarge"])
    cost = price(table, "eu-west-1", "g4dn.xlarge", 100)
    assert cost.host_hour == pytest.approx(0.605)
    assert cost.stopped_month == pytest.approx(9.0)
    assert cost.note == (
        "on-demand Linux, eu-west-1, by AWS's price list of today, without the bucket"
    )
    # What was not asked for is not priced by another region.
    assert price(table, "eu-west-1", "g5.xlarge", 100).hour is None


def test_a_type_without_a_price_of_today_leaves_the_table(aws: Faulty) -> None:
    aws.told = price_list
    table = prices.current(aws, PRICES, "eu-west-1", ["m9z.huge"])
    note = price(table, "eu-west-1", "m9z.huge", 1).note
    assert "AWS's price list: has no price of m9z.huge; eu-west-1 may differ" in note


def test_no_price_list_is_said(aws: Faulty) -> None:
    table = prices.current(aws, PRICES, "us-east-1", ["g4dn.xlarge"])
    cost = price(table, "us-east-1", "g4dn.xlarge", 100)
    assert cost.hour == pytest.approx(0.531 + 8 / 730)
    assert cost.note.endswith(
        "as of 2026-02-09, without the bucket; AWS's price list: InvalidAction"
    )


@pytest.mark.parametrize(
    "answer", [{"PriceList": ["{half"]}, {"PriceList": ["{}"]}, {"PriceList": [7]}]
)
def test_a_price_list_that_is_not_understood(aws: Faulty, answer: dict[str, Any]) -> None:
    aws.told = lambda *_: answer
    table = prices.current(aws, PRICES, "us-east-1", ["g4dn.xlarge"])
    assert table["why_not_asked"].startswith("not understood (")
    assert table["instance_hour"] == PRICES["instance_hour"]


def test_what_is_held_is_paid_for_while_stopped() -> None:
    cost = price(PRICES, "us-east-1", "g4dn.xlarge", Held(100, snapshot_gb=40, addresses=1))
    assert cost.stopped == (
        "$13.65 a month (disks $8.00, snapshots (at most) $2.00, addresses $3.65)"
    )


@pytest.mark.parametrize(("reason", "when"), [
    ("User initiated (2026-11-22 10:15:00 GMT)", datetime(2026, 11, 22, 10, 15, tzinfo=UTC)),
    ("User initiated (2026-11-22 10:15:00 UTC)", datetime(2026, 11, 22, 10, 15, tzinfo=UTC)),
    ("User initiated shutdown", None), ("", None), ("(2026-99-22 10:15:00)", None),
])  # fmt: skip
def test_when_it_stopped(reason: str, when: datetime | None) -> None:
    assert spent.stopped_at(reason) == when


def run(start: float, end: float | None, **more: Any) -> Run:
    """A run from so many hours ago to so many."""
    fields: dict[str, Any] = {"instance": "i-0a", "type": "g4dn.xlarge", "hour": 0.5}
    ended = None if end is None else NOW - end * HOUR
    return Run(
        **{**fields, "start": NOW - start * HOUR, "seen": ended or NOW, "end": ended, **more}
    )


MONTHS = {
    "nothing": ([], 0, True),
    "one that ended": ([run(10, 8)], 2, True),
    "one that goes on": ([run(10, None)], 10, True),
    "two": ([run(30, 20), run(10, None)], 20, True),
    "over the turn of the month": ([run(1000, 500)], 21.5 * 24 - 500, True),
    "all before this month": ([run(2000, 1900)], 0, True),
    "an end that nobody saw": ([run(30, None, seen=NOW - 25 * HOUR), run(10, 9)], 6, False),
    "an end of long ago that nobody saw": (
        [run(2000, None, seen=NOW - 1900 * HOUR), run(10, 9)], 1, True,
    ),
    "a type without a price": ([run(10, 8, hour=None)], 2, False),
}  # fmt: skip


@pytest.mark.parametrize(("runs", "hours", "whole"), MONTHS.values(), ids=MONTHS.keys())
def test_a_month(runs: list[Run], hours: float, whole: bool) -> None:
    found = spent.this_month(runs, [volume(created=NOW - 2000 * HOUR)] if runs else [], 0.0, NOW)
    first = min((r.start for r in runs), default=NOW)
    known = first <= NOW.replace(day=1, hour=0)
    assert found.hours == pytest.approx(hours)
    assert found.whole is (whole and (known or not runs))


def test_disks_cost_from_their_first_day_on() -> None:
    disks = [volume(created=NOW - 10 * HOUR), volume(created=NOW - 5000 * HOUR)]
    month_so_far = 21.5 * 24
    found = spent.this_month([], disks, 0.08, NOW)
    assert found.dollars == pytest.approx(100 * 0.08 * (10 + month_so_far) / 730)


def test_a_sum_with_gaps_is_a_lower_bound() -> None:
    found = spent.this_month([run(10, 8)], [volume(created=NOW - 40 * HOUR)], 0.0, NOW)
    assert found.text == "at least $1.00 this month (2.0 h running; by starts and stops)"


@given(st.lists(st.tuples(st.floats(0, 3000), st.floats(0, 3000)), max_size=6))
def test_no_month_has_more_hours_than_ran(pairs: list[tuple[float, float]]) -> None:
    runs = [run(max(pair), min(pair)) for pair in pairs]
    found = spent.this_month(runs, [], 0.08, NOW)
    assert 0 <= found.hours <= sum(max(p) - min(p) for p in pairs) + 1e-6
    assert found.dollars == pytest.approx(found.hours * 0.5)


def test_runs_are_kept_from_look_to_look(tmp_path: Path) -> None:
    first = instance(launched=NOW - 9 * HOUR)
    runs = spent.update((), first, 0.5, NOW - 8 * HOUR)
    stopped = "User initiated (2026-11-22 06:00:00 GMT)"
    runs = spent.update(runs, instance(launched=NOW - 9 * HOUR, state="stopped",
                                       stopped_because=stopped), 0.5, NOW - HOUR)  # fmt: skip
    runs = spent.update(runs, instance(launched=NOW - HOUR), 0.6, NOW)
    spent.save(tmp_path, runs)
    assert spent.read(tmp_path) == runs
    assert (tmp_path / spent.FILE).stat().st_mode & 0o777 == 0o600
    assert [(r.hour, r.end) for r in runs] == [(0.5, NOW - 6 * HOUR), (0.6, None)]
    ended = spent.close(runs, ["i-0a"], NOW)
    assert [r.end for r in ended] == [NOW - 6 * HOUR, NOW]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"runs": [{}]}', '{"runs": [{"start": 7}]}'])
def test_what_cannot_be_read_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / spent.FILE).write_text(text)
    assert spent.read(tmp_path) == ()


def test_nothing_is_kept_of_a_lab_that_is_not_here(tmp_path: Path) -> None:
    spent.save(tmp_path / "none", ())
    assert not (tmp_path / "none").exists()


def test_the_summary_has_all_of_it(aws: Faulty, spec: Spec) -> None:
    build(aws, spec)
    target, there, _, _ = look(aws, spec)
    said = preflight.summary(target, there)
    assert (
        "$0.549 an hour while running, $12.80 a month (disks $12.80) while stopped"
        in (said["price_text"])
    )
    assert "this month (0.0 h running; by starts and stops)" in said["spent_text"]


def cost_explorer(amounts: list[str]) -> Any:
    def answer(service: str, operation: str, params: dict[str, Any]) -> Mapping[str, Any]:
        assert (service, operation) == ("ce", "GetCostAndUsage")
        assert params["TimePeriod"] == {"Start": "2026-11-01", "End": "2026-11-23"}
        assert params["Filter"] == {"Tags": {"Key": "Lab", "Values": ["lab"]}}
        return {"ResultsByTime": [{"Total": {"UnblendedCost": {"Amount": a}}} for a in amounts]}

    return answer


@pytest.mark.parametrize(("amounts", "said"), [
    (["12.3456"], "AWS's bill says $12.35, up to a day late"),
    ([], "AWS's bill tells nothing of the tag Lab (activate it as a cost allocation tag)"),
    (["many"], "AWS's bill tells nothing of the tag Lab (activate it as a cost allocation tag)"),
])  # fmt: skip
def test_the_bill(aws: Faulty, amounts: list[str], said: str) -> None:
    aws.told = cost_explorer(amounts)
    assert spent.bill(aws, "lab", NOW) == said


def test_a_bill_that_may_not_be_seen(aws: Faulty, tmp_path: Path) -> None:
    assert spent.bill(aws, "lab", NOW) == "AWS's bill cannot be told (InvalidAction)"
    spec = wish(tmp_path, cost_explorer=True)
    build(aws, spec)
    target, there, _, _ = look(aws, spec)
    assert preflight.summary(target, there)["spent_text"].endswith("told (InvalidAction)")
