"""Carries out the schedules of EventBridge Scheduler that stop instances, as AWS would.

moto keeps schedules and never acts on them. Here `at(…)` and a daily `cron(minute hour * * ? *)`
with the target ec2:StopInstances are carried out, by the role that the schedule names: one that
does not trust the Scheduler, or may not stop the instance, stops nothing. The others are kept.
"""

from __future__ import annotations

import json
import logging
import re
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from moto.iam.access_control import IAMPolicy, PermissionResult
from moto.iam.models import iam_backends
from moto.scheduler.models import scheduler_backends

from sandbox.metadata import find_instance
from sandbox.patches.authorization import with_instance_tags
from sandbox.settings import ACCOUNT_ID

log = logging.getLogger(__name__)

STOP = "arn:aws:scheduler:::aws-sdk:ec2:stopInstances"
AT = re.compile(r"at\((\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)\)")
DAILY = re.compile(r"cron\((\d{1,2}) (\d{1,2}) \* \* \? \*\)")


def latest(expression: str, timezone: str, now: datetime) -> datetime | None:
    """Return the last moment up to `now` at which a schedule was due, None where there is none."""
    zone = ZoneInfo(timezone or "UTC")
    if once := AT.fullmatch(expression):
        due = datetime.fromisoformat(once[1]).replace(tzinfo=zone)
        return due if due <= now else None
    if daily := DAILY.fullmatch(expression):
        here = now.astimezone(zone)
        due = here.replace(hour=int(daily[2]), minute=int(daily[1]), second=0, microsecond=0)
        return due if due <= here else due - timedelta(days=1)
    return None


def stop_due(now: datetime) -> bool:
    """Stop what is due, once each; tell if anything was stopped."""
    stopped = False
    for region, backend in list(scheduler_backends[ACCOUNT_ID].items()):
        for group in list(backend.schedule_groups.values()):
            for schedule in list(group.schedules.values()):
                if _is_due(schedule, now):
                    stopped = _stop(schedule, region) or stopped
    return stopped


def _is_due(schedule: Any, now: datetime) -> bool:
    if schedule.state != "ENABLED" or schedule.target.get("Arn") != STOP:
        return False
    due = latest(schedule.schedule_expression, schedule.schedule_expression_timezone, now)
    # The moment it was changed counts as its beginning: what was due before is not made up for.
    begun = datetime.fromtimestamp(schedule.last_modified_date, UTC)
    last = getattr(schedule, "acted_for", begun)
    if due is None or due <= max(last, begun):
        return False
    schedule.acted_for = due
    return True


def _stop(schedule: Any, region: str) -> bool:
    stopped = False
    for instance_id in json.loads(schedule.target.get("Input") or "{}").get("InstanceIds", ()):
        try:
            instance = find_instance(instance_id)
        except KeyError:
            log.warning("%s is to stop %s, which is not there", schedule.name, instance_id)
            continue
        if instance.state != "running":
            continue
        if not may_stop(schedule.target.get("RoleArn", ""), instance, region):
            log.warning("The role of %s may not stop %s", schedule.name, instance_id)
            continue
        instance.stop()
        stopped = True
        log.info("%s stopped %s", schedule.name, instance_id)
    return stopped


def may_stop(role_arn: str, instance: Any, region: str) -> bool:
    """Whether a role is there, trusts the Scheduler and may stop the instance."""
    roles = iam_backends[ACCOUNT_ID]["aws"].roles.values()
    role = next((role for role in roles if role.arn == role_arn), None)
    if role is None or "scheduler.amazonaws.com" not in json.dumps(
        role.assume_role_policy_document
    ):
        return False
    arn = f"arn:aws:ec2:{region}:{ACCOUNT_ID}:instance/{instance.id}"
    with with_instance_tags(instance.ec2_backend.tags.get(instance.id, {})):
        results = [
            IAMPolicy(policy).is_action_permitted("ec2:StopInstances", arn)
            for policy in role.policies.values()
        ]
    return PermissionResult.DENIED not in results and PermissionResult.PERMITTED in results
