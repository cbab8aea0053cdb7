"""The second line against a forgotten host: AWS itself stops it, should its own timer be dead.

Two schedules of EventBridge Scheduler stop the host, one `lab_max_hours` after each start, one
daily at `lab_daily_stop`; a role lets the Scheduler do that to this host and nothing else. A budget
of AWS Budgets sends e-mails. All of them cost nothing. Schedules and budgets bear no tags that a
filter knows: they are known by their names, and a schedule is ours only if it works by our role.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from .names import Names
from .seen import look_at_role
from .session import DENIED, Aws, AwsError, side_by_side, unless
from .things import Budget, Guard, Schedule
from .variables import Spec

STOP = "arn:aws:scheduler:::aws-sdk:ec2:stopInstances"
POLICY = "stop"
KINDS = ("max", "daily")
THRESHOLDS = (50, 80, 100)  # percent of the budget
NOT_THERE = {"ResourceNotFoundException", "NotFoundException"}
# In a partition without the service, or without the right to it, there is nothing of ours either.
CANNOT_LOOK = {*DENIED, "InvalidAction", "EndpointConnectionError", "UnknownEndpoint"}
# The Scheduler refuses moments that have passed; a host that is overdue gets this long.
GRACE = timedelta(minutes=15)
ISO = "%Y-%m-%dT%H:%M:%S"


@dataclass(frozen=True)
class Wanted:
    """What the guard is to be, for a host that was started at `launched`."""

    spec: Spec
    names: Names
    account: str

    @property
    def role_arn(self) -> str:
        """The role by which the Scheduler stops the host."""
        return f"arn:{partition(self.spec.region)}:iam::{self.account}:role/{self.names.stopper}"

    def kinds(self) -> tuple[str, ...]:
        """Which schedules there are to be."""
        on = {"max": self.spec.max_hours > 0, "daily": bool(self.spec.daily_stop)}
        return tuple(kind for kind in KINDS if on[kind])

    def schedule(self, kind: str, host_id: str, launched: datetime, number: int = 0) -> Schedule:
        """Return one schedule as it is to be, of the host or of the worker of this number.

        All of them count from the start of the host: workers end with it.
        """
        if kind == "max":
            end = launched.astimezone(UTC) + timedelta(hours=self.spec.max_hours)
            expression, zone = f"at({end.replace(second=0).strftime(ISO)})", "UTC"
        else:
            hour, minute = self.spec.daily_stop.split(":")
            expression = f"cron({int(minute)} {int(hour)} * * ? *)"
            zone = self.spec.timezone
        return Schedule(self.names.schedule(kind, number), expression, zone, self.role_arn, host_id)

    def budget(self) -> Budget | None:
        """Return the budget as it is to be, None where none is wanted."""
        if not self.spec.monthly_budget:
            return None
        tag = f"user:Lab${self.names.lab}"
        return Budget(self.names.role, float(self.spec.monthly_budget), tag, self.spec.budget_email)

    def policy(self) -> dict[str, Any]:
        """Return what the Scheduler may do: stop the host of this lab, nothing else."""
        arn = f"arn:{partition(self.spec.region)}:ec2:{self.spec.region}:{self.account}:instance/*"
        tags = {"aws:ResourceTag/Project": "gpulab", "aws:ResourceTag/Lab": self.names.lab}
        return {
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Effect": "Allow",
                    "Action": ["ec2:StopInstances"],
                    "Resource": [arn],
                    "Condition": {"StringEquals": tags},
                }
            ],
        }

    def trust(self) -> dict[str, Any]:
        """Return who may take the role: the Scheduler, for this account."""
        return {
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Effect": "Allow",
                    "Principal": {"Service": "scheduler.amazonaws.com"},
                    "Action": "sts:AssumeRole",
                    "Condition": {"StringEquals": {"aws:SourceAccount": self.account}},
                }
            ],
        }


def partition(region: str) -> str:
    """Name the partition of a region, as it stands in ARNs."""
    if region.startswith("cn-"):
        return "aws-cn"
    return "aws-us-gov" if region.startswith("us-gov-") else "aws"


def look(aws: Aws, names: Names, account: str, workers: bool = False) -> Guard:
    """Look at schedules, role and budget. What may not be looked at is not there, and why is kept.

    Those of workers only where it is asked for. Raises AwsError.
    """
    denied: dict[str, str] = {}

    def tolerant(service: str, ask: Any) -> Any:
        try:
            return ask()
        except AwsError as error:
            if error.code not in CANNOT_LOOK:
                raise
            denied[service] = str(error)
            return None

    found = side_by_side(
        {
            **{
                kind: partial(tolerant, "scheduler", partial(_schedule, aws, names.schedule(kind)))
                for kind in KINDS
            },
            "workers": lambda: (
                tolerant("scheduler", lambda: of_workers(aws, names)) if workers else {}
            ),
            "role": lambda: look_at_role(aws, names.stopper, POLICY),
            "budget": lambda: tolerant("budgets", lambda: _budget(aws, names, account)),
        }
    )
    schedules = {kind: found[kind] for kind in KINDS if found[kind]}
    return Guard(schedules, found["workers"] or {}, found["role"], found["budget"], denied)


def of_workers(aws: Aws, names: Names) -> dict[str, Schedule]:
    """Return the schedules of all workers by name, of those that are gone too. Raises AwsError."""
    listed = aws.pages("scheduler", "ListSchedules", "Schedules", NamePrefix=names.workers)
    ours = [raw["Name"] for raw in listed if number_of(raw["Name"], names)]
    found = side_by_side({name: partial(_schedule, aws, name) for name in ours})
    return {name: schedule for name, schedule in found.items() if schedule}


def number_of(name: str, names: Names) -> int:
    """Return the number of the worker whose schedule has this name, 0 for another's."""
    number, _, kind = name.removeprefix(names.workers).partition("-")
    ours = name.startswith(names.workers) and kind in KINDS and number.isdecimal()
    return int(number) if ours else 0


def _schedule(aws: Aws, name: str) -> Schedule | None:
    raw = unless(
        NOT_THERE, lambda: aws.call("scheduler", "GetSchedule", Name=name, GroupName="default")
    )
    return read_schedule(raw) if raw else None


def read_schedule(raw: Mapping[str, Any]) -> Schedule:
    """Take what matters from GetSchedule's answer."""
    target = raw["Target"]
    try:
        (host,) = json.loads(target.get("Input") or "{}").get("InstanceIds", ())
    except ValueError:
        host = ""
    state = raw.get("State") or "ENABLED"
    ours = target["Arn"] == STOP and state == "ENABLED"
    return Schedule(
        name=raw["Name"],
        expression=raw["ScheduleExpression"] if ours else f"{state} {target['Arn']}",
        timezone=raw.get("ScheduleExpressionTimezone") or "UTC",
        role_arn=target.get("RoleArn", ""),
        host_id=str(host),
    )


def _budget(aws: Aws, names: Names, account: str) -> Budget | None:
    where = {"AccountId": account, "BudgetName": names.role}
    found = unless(NOT_THERE, lambda: aws.call("budgets", "DescribeBudget", **where))
    if not found:
        return None
    raw = found["Budget"]
    told = aws.call("budgets", "DescribeNotificationsForBudget", **where).get("Notifications", ())
    notes = {int(n["Threshold"]): n for n in told}
    email = ""
    if set(notes) == set(THRESHOLDS):
        try:
            people = aws.call(
                "budgets",
                "DescribeSubscribersForNotification",
                **where,
                Notification=_notification(THRESHOLDS[0]),
            )["Subscribers"]
            email = ",".join(sorted(person["Address"] for person in people))
        except AwsError as error:
            if error.code not in {"InvalidAction", *NOT_THERE}:
                raise
            email = "?" if error.code == "InvalidAction" else ""
    tag = "".join(raw.get("CostFilters", {}).get("TagKeyValue", ()))
    return Budget(names.role, float(raw["BudgetLimit"]["Amount"]), tag, email)


def _notification(threshold: int) -> dict[str, Any]:
    return {
        "NotificationType": "ACTUAL",
        "ComparisonOperator": "GREATER_THAN",
        "Threshold": float(threshold),
        "ThresholdType": "PERCENTAGE",
    }


def same_budget(have: Budget | None, want: Budget | None) -> bool:
    """Whether they are equal, as far as AWS tells (`?`: it did not tell the address)."""
    if have is None or want is None:
        return have is want
    parts = (have.dollars, have.tag) == (want.dollars, want.tag)
    return parts and have.email in (want.email, "?")


def same_schedule(have: Schedule | None, want: Schedule, now: datetime) -> bool:
    """Whether a schedule is as it is to be.

    Where the wanted moment has passed, one that lies ahead will do.
    """
    if have is None:
        return False
    if (have.role_arn, have.host_id) != (want.role_arn, want.host_id):
        return False
    if (have.expression, have.timezone) == (want.expression, want.timezone):
        return True
    due, set_for = moment(want.expression), moment(have.expression)
    return bool(due and set_for and have.timezone == "UTC" and due <= now < set_for <= now + GRACE)


def moment(expression: str) -> datetime | None:
    """Read the moment out of an `at(…)` expression, in UTC; None where it is another."""
    if not (expression.startswith("at(") and expression.endswith(")")):
        return None
    try:
        return datetime.strptime(expression[3:-1], ISO).replace(tzinfo=UTC)
    except ValueError:
        return None


def ahead(want: Schedule, now: datetime) -> Schedule:
    """Put a moment that has passed a little ahead, so that AWS takes it."""
    due = moment(want.expression)
    if due is None or due > now:
        return want
    soon = (now + GRACE).replace(second=0, microsecond=0)
    return Schedule(want.name, f"at({soon.strftime(ISO)})", "UTC", want.role_arn, want.host_id)


def set_schedule(aws: Aws, want: Schedule) -> None:
    """Make or change a schedule. Raises AwsError."""
    request = {
        "Name": want.name,
        "GroupName": "default",
        "ScheduleExpression": want.expression,
        "ScheduleExpressionTimezone": want.timezone,
        "FlexibleTimeWindow": {"Mode": "OFF"},
        "State": "ENABLED",
        "Description": "GPU lab: stops the host should it have been forgotten",
        "Target": {
            "Arn": STOP,
            "RoleArn": want.role_arn,
            "Input": json.dumps({"InstanceIds": [want.host_id]}),
        },
    }
    try:
        aws.call("scheduler", "CreateSchedule", **request)
    except AwsError as error:
        if error.code != "ConflictException":
            raise
        aws.call("scheduler", "UpdateSchedule", **request)


def drop_schedule(aws: Aws, name: str) -> None:
    """Delete a schedule. Raises AwsError."""
    unless(
        NOT_THERE, lambda: aws.call("scheduler", "DeleteSchedule", Name=name, GroupName="default")
    )


def set_budget(aws: Aws, account: str, want: Budget) -> None:
    """Make the budget anew: AWS changes its parts by as many calls. Raises AwsError."""
    drop_budget(aws, account, want.name)
    people = [{"SubscriptionType": "EMAIL", "Address": want.email}]
    aws.call(
        "budgets",
        "CreateBudget",
        AccountId=account,
        Budget={
            "BudgetName": want.name,
            "BudgetLimit": {"Amount": f"{want.dollars:g}", "Unit": "USD"},
            "CostFilters": {"TagKeyValue": [want.tag]},
            "TimeUnit": "MONTHLY",
            "BudgetType": "COST",
        },
        NotificationsWithSubscribers=[
            {"Notification": _notification(threshold), "Subscribers": people}
            for threshold in THRESHOLDS
        ],
    )


def drop_budget(aws: Aws, account: str, name: str) -> None:
    """Delete a budget. Raises AwsError."""
    unless(
        NOT_THERE, lambda: aws.call("budgets", "DeleteBudget", AccountId=account, BudgetName=name)
    )


def says(wanted: Wanted, guard: Guard) -> Iterator[str]:
    """Say in sentences what AWS itself will do."""
    spec = wanted.spec
    last = guard.schedules.get("max")
    when = moment(last.expression) if last else None
    if when:
        yield (
            f"AWS stops it at the latest at {when:%Y-%m-%d %H:%M} UTC (lab_max_hours"
            f" {spec.max_hours} after its start); for longer work run playbooks/start.yml again"
            " with a greater -e lab_max_hours=…"
        )
    if "daily" in guard.schedules:
        yield f"AWS stops it daily at {spec.daily_stop} ({spec.timezone})"
    if guard.budget:
        yield (
            f"e-mails go to {spec.budget_email} at 50, 80 and 100 % of ${guard.budget.dollars:g} a"
            " month, where the tag Lab is activated as a cost allocation tag"
        )
    if not guard.schedules:
        yield ("nothing outside the host stops it: set lab_max_hours or lab_daily_stop in lab.yml")
