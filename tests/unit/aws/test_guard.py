"""What stops a forgotten host from outside: renewed by each start, removed by destroy."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.lab.aws import destroy, guard, preflight
from ansible.module_utils.lab.aws.destroy import Wish
from ansible.module_utils.lab.aws.guard import Wanted, moment
from ansible.module_utils.lab.aws.names import Names
from ansible.module_utils.lab.aws.things import Budget, Schedule
from ansible.module_utils.lab.aws.variables import Spec
from ansible.module_utils.lab.errors import LabError
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.aws.kit import Faulty, Quick, build, look, once, refuse, wish

NAMES = Names("lab", "us-east-1")
ACCOUNT = "123456789012"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/gpulab-lab-us-east-1-stop"
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
MONEY = {"monthly_budget": 100, "budget_email": "me@example.org"}


def schedule(aws: Faulty, kind: str = "max") -> dict[str, Any]:
    name = NAMES.schedule(kind)
    return dict(aws.inner.call("scheduler", "GetSchedule", Name=name, GroupName="default"))


def host(aws: Faulty, spec: Spec) -> Any:
    _, there, _, _ = look(aws, spec)
    return there.hosts(NAMES)[0]


def test_each_start_has_its_end(aws: Faulty, spec: Spec) -> None:
    build(aws, spec)
    made, there = schedule(aws), host(aws, spec)
    end = moment(made["ScheduleExpression"])
    assert end and timedelta(0) <= there.launched + timedelta(hours=48) - end < timedelta(minutes=1)
    assert made["Target"]["Arn"] == "arn:aws:scheduler:::aws-sdk:ec2:stopInstances"
    assert made["Target"]["RoleArn"] == ROLE
    assert json.loads(made["Target"]["Input"]) == {"InstanceIds": [there.id]}
    assert build(aws, spec) == []


def test_a_start_renews_it(aws: Faulty, spec: Spec) -> None:
    build(aws, spec)
    aws.inner.call("ec2", "StopInstances", InstanceIds=[host(aws, spec).id])
    aws.calls.clear()
    assert "Have AWS stop the host 48 h after its start" in build(aws, spec)
    assert aws.writes() == ["StartInstances", "CreateSchedule", "UpdateSchedule"]


def test_the_role_may_stop_this_labs_host_and_nothing_else(aws: Faulty, spec: Spec) -> None:
    build(aws, spec)
    name = "gpulab-lab-us-east-1-stop"
    found = aws.inner.call("iam", "GetRolePolicy", RoleName=name, PolicyName="stop")
    (statement,) = found["PolicyDocument"]["Statement"]
    assert statement["Action"] == ["ec2:StopInstances"]
    assert statement["Resource"] == [f"arn:aws:ec2:us-east-1:{ACCOUNT}:instance/*"]
    assert statement["Condition"]["StringEquals"] == {
        "aws:ResourceTag/Project": "gpulab", "aws:ResourceTag/Lab": "lab",
    }  # fmt: skip
    trust = aws.inner.call("iam", "GetRole", RoleName=name)["Role"]["AssumeRolePolicyDocument"]
    assert trust["Statement"][0]["Principal"] == {"Service": "scheduler.amazonaws.com"}


def test_another_wish_changes_what_is_there(aws: Faulty, tmp_path: Path) -> None:
    build(aws, wish(tmp_path))
    daily = wish(tmp_path, max_hours=0, daily_stop="23:05", timezone="Europe/Berlin")
    assert build(aws, daily) == [
        "Have AWS stop the host daily at 23:05 (Europe/Berlin)",
        "Delete schedule gpulab-lab-max",
    ]
    made = schedule(aws, "daily")
    assert made["ScheduleExpression"] == "cron(5 23 * * ? *)"
    assert made["ScheduleExpressionTimezone"] == "Europe/Berlin"
    assert build(aws, daily) == []
    assert build(aws, wish(tmp_path, max_hours=0)) == ["Delete schedule gpulab-lab-daily"]


def test_a_schedule_that_was_switched_off_by_hand_is_mended(aws: Faulty, spec: Spec) -> None:
    build(aws, spec)
    made = schedule(aws)
    kept = {k: made[k] for k in ("Name", "ScheduleExpression", "FlexibleTimeWindow", "Target")}
    aws.inner.call("scheduler", "UpdateSchedule", **kept, State="DISABLED")
    assert build(aws, spec) == ["Have AWS stop the host 48 h after its start"]
    assert schedule(aws)["State"] == "ENABLED"


def test_an_overdue_host_is_stopped_soon(aws: Faulty, spec: Spec, tmp_path: Path) -> None:
    """AWS takes no moment that has passed; the second run must see that all is well."""
    build(aws, spec)
    late = datetime.now(UTC) - timedelta(hours=80)
    wanted = Wanted(spec, NAMES, ACCOUNT).schedule("max", "i-0a", late)
    soon = guard.ahead(wanted, datetime.now(UTC))
    end = moment(soon.expression)
    assert end and timedelta(0) < end - datetime.now(UTC) <= timedelta(minutes=15)
    assert guard.same_schedule(soon, wanted, datetime.now(UTC))
    assert not guard.same_schedule(soon, wanted, datetime.now(UTC) + timedelta(hours=1))


@given(st.integers(1, 8760), st.integers(-20000, 20000))
def test_a_schedule_is_what_it_is_to_be(hours: int, minutes: int) -> None:
    """Whatever was set for a start is right at once, for whatever moment it was."""
    spec = wish(Path("/nowhere"), max_hours=hours)
    launched = NOW - timedelta(minutes=minutes)
    want = Wanted(spec, NAMES, ACCOUNT).schedule("max", "i-0a", launched)
    have = guard.ahead(want, NOW)
    end = moment(have.expression)
    assert end and end > NOW
    assert guard.same_schedule(have, want, NOW)


@pytest.mark.parametrize("other", [
    {"host_id": "i-0b"}, {"role_arn": "arn:x"}, {"expression": "at(2026-11-25T00:00:00)"},
    {"timezone": "Europe/Berlin"}, {"expression": "rate(1 day)"},
])  # fmt: skip
def test_what_differs_is_seen(other: dict[str, str]) -> None:
    want = Wanted(wish(Path("/nowhere")), NAMES, ACCOUNT).schedule("max", "i-0a", NOW)
    fields = {
        "name": want.name, "expression": want.expression, "timezone": want.timezone,
        "role_arn": want.role_arn, "host_id": want.host_id,
    } | other  # fmt: skip
    assert not guard.same_schedule(Schedule(**fields), want, NOW)
    assert not guard.same_schedule(None, want, NOW)


def test_a_new_role_needs_time_to_be_known(aws: Faulty, spec: Spec) -> None:
    text = "The execution role you provide must allow AWS EventBridge Scheduler to assume the role."
    left = [3]

    def spread(name: str, _params: dict[str, Any]) -> None:
        if name == "CreateSchedule" and left[0]:
            left[0] -= 1
            raise refuse(name, "ValidationException", text)

    aws.before = spread
    build(aws, spec)
    assert schedule(aws)["State"] == "ENABLED"


def test_without_the_right_to_it_the_way_out_is_named(aws: Faulty, spec: Spec) -> None:
    aws.before = once("GetSchedule", "AccessDeniedException", times=99)
    with pytest.raises(LabError, match=r"GetSchedule.*-e lab_max_hours=0 -e lab_daily_stop="):
        build(aws, spec)
    assert aws.writes() == []


def test_who_does_without_needs_no_right_to_it(aws: Faulty, tmp_path: Path) -> None:
    def deny(name: str, _params: dict[str, Any]) -> None:
        if name in ("GetSchedule", "DescribeBudget"):
            raise refuse(name, "AccessDeniedException")

    aws.before = deny
    spec = wish(tmp_path, max_hours=0)
    build(aws, spec)
    assert build(aws, spec) == []


def test_a_foreign_schedule_is_not_touched(aws: Faulty, spec: Spec) -> None:
    aws.inner.call(
        "scheduler", "CreateSchedule", Name="gpulab-lab-max", ScheduleExpression="rate(1 day)",
        FlexibleTimeWindow={"Mode": "OFF"}, Target={"Arn": "arn:x", "RoleArn": "arn:theirs"},
    )  # fmt: skip
    with pytest.raises(
        LabError, match=r"schedule gpulab-lab-max exists, but works by another role"
    ):
        build(aws, spec)
    assert aws.writes() == []
    steps = destroy.make_plan(
        Wish("lab", True, ""), NAMES, destroy.look(aws, NAMES, "gpulab-123456789012-lab")
    )
    assert steps == []


def test_a_foreign_role_is_not_touched(aws: Faulty, spec: Spec) -> None:
    aws.inner.call(
        "iam", "CreateRole", RoleName="gpulab-lab-us-east-1-stop", AssumeRolePolicyDocument="{}"
    )
    with pytest.raises(
        LabError, match=r"role gpulab-lab-us-east-1-stop exists, but has not the tags"
    ):
        build(aws, spec)
    assert aws.writes() == []


def test_the_budget_tells_by_e_mail(aws: Faulty, tmp_path: Path) -> None:
    spec = wish(tmp_path, **MONEY)
    build(aws, spec)
    where = {"AccountId": ACCOUNT, "BudgetName": "gpulab-lab-us-east-1"}
    made = aws.inner.call("budgets", "DescribeBudget", **where)["Budget"]
    assert made["BudgetLimit"] == {"Amount": "100", "Unit": "USD"}
    assert made["CostFilters"] == {"TagKeyValue": ["user:Lab$lab"]}
    told = aws.inner.call("budgets", "DescribeNotificationsForBudget", **where)["Notifications"]
    assert sorted(n["Threshold"] for n in told) == [50, 80, 100]
    assert build(aws, spec) == []
    more = wish(tmp_path, **{**MONEY, "monthly_budget": 200})
    assert build(aws, more) == [
        "Have e-mails sent to me@example.org at 50, 80 and 100 % of $200 a month"
    ]
    assert build(aws, wish(tmp_path)) == ["Delete budget gpulab-lab-us-east-1"]
    assert build(aws, wish(tmp_path)) == []


@pytest.mark.parametrize(
    ("have", "same"),
    [
        (Budget("b", 100, "user:Lab$lab", "me@example.org"), True),
        (Budget("b", 100, "user:Lab$lab", "?"), True),
        (Budget("b", 100, "user:Lab$lab", "you@example.org"), False),
        (Budget("b", 100, "user:Lab$lab", ""), False),
        (Budget("b", 100, "", "me@example.org"), False),
        (Budget("b", 99, "user:Lab$lab", "me@example.org"), False),
        (None, False),
    ],
)
def test_which_budgets_are_equal(have: Budget | None, same: bool) -> None:
    want = Wanted(wish(Path("/nowhere"), **MONEY), NAMES, ACCOUNT).budget()
    assert guard.same_budget(have, want) is same


def test_destroy_removes_all_of_it(aws: Faulty, tmp_path: Path) -> None:
    spec = wish(tmp_path, daily_stop="23:00", **MONEY)
    build(aws, spec)
    bucket = "gpulab-123456789012-lab"
    wishes = Wish("lab", delete_data=True, delete_bucket=bucket)
    steps = destroy.make_plan(wishes, NAMES, destroy.look(aws, NAMES, bucket))
    destroy.carry_out(aws, steps, Quick())
    destroy.prove(wishes, NAMES, destroy.look(aws, NAMES, bucket))
    assert aws.inner.call("scheduler", "ListSchedules")["Schedules"] == []
    assert aws.inner.call("budgets", "DescribeBudgets", AccountId=ACCOUNT)["Budgets"] == []
    assert aws.inner.call("iam", "ListRoles")["Roles"] == []


def test_the_summary_says_when_aws_stops_it(aws: Faulty, tmp_path: Path) -> None:
    spec = wish(tmp_path, daily_stop="23:00", **MONEY)
    build(aws, spec)
    target, there, _, _ = look(aws, spec)
    latest, daily, mails = preflight.summary(target, there)["guard"]
    assert latest.startswith("AWS stops it at the latest at 20")
    assert daily == "AWS stops it daily at 23:00 (UTC)"
    assert mails.startswith("e-mails go to me@example.org at 50, 80 and 100 % of $100 a month")


def test_no_guard_is_said(aws: Faulty, tmp_path: Path) -> None:
    spec = wish(tmp_path, max_hours=0)
    build(aws, spec)
    target, there, _, _ = look(aws, spec)
    assert preflight.summary(target, there)["guard"] == [
        "nothing outside the host stops it: set lab_max_hours or lab_daily_stop in lab.yml"
    ]


@pytest.mark.parametrize(
    ("region", "name"),
    [("us-east-1", "aws"), ("cn-north-1", "aws-cn"), ("us-gov-west-1", "aws-us-gov")],
)
def test_partitions(region: str, name: str) -> None:
    assert guard.partition(region) == name
