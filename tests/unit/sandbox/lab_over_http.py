"""A lab's life by real HTTP against the sandbox with a fake engine; prints what came of it.

Run as a program, `python -m tests.unit.sandbox.lab_over_http FOLDER`, for the sandbox patches moto
in its process for good.
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import tests.conftest  # noqa: F401  (it puts module_utils in its place)

# isort: split
from ansible.module_utils.lab.aws import apply, audit, destroy, plan, preflight, retire
from ansible.module_utils.lab.aws.clock import Clock
from ansible.module_utils.lab.aws.destroy import Wish
from ansible.module_utils.lab.aws.names import Names
from ansible.module_utils.lab.aws.session import Boto
from ansible.module_utils.lab.aws.work import Work

from sandbox import schedules
from tests.unit.aws.kit import HERE, IMAGES, PRICES, wish
from tests.unit.sandbox.served import Served, sandbox

NAMES = Names("lab", "us-east-1")
BUCKET = "gpulab-123456789012-lab"


def build(aws: Boto, folder: Path) -> tuple[list[str], dict[str, Any]]:
    """Do what a run of the module does."""
    spec = wish(folder, monthly_budget=50, budget_email="me@example.org", daily_stop="23:00")
    inputs = preflight.Inputs(spec, IMAGES, PRICES, HERE, "us-east-1")
    target, there, key = preflight.check(aws, inputs, aws.endpoints, aws.access_key)
    work = Work(aws, target, there)
    apply.carry_out(work, plan.make_plan(target, there, key))
    return work.said, preflight.summary(target, preflight.look_again(aws, target))


def stopped_by_schedule(served: Served, aws: Boto) -> list[str]:
    """Let the time come at which AWS stops the host; the states of all instances."""
    assert served.running
    with served.running.reconciler.lock:
        schedules.stop_due(datetime.now(UTC) + timedelta(hours=49))
    pages = aws.pages("ec2", "DescribeInstances", "Reservations")
    return [i["State"]["Name"] for page in pages for i in page["Instances"]]


def main(folder: Path) -> dict[str, Any]:
    """Build, be stopped, retire, come back, destroy."""
    with sandbox(folder / "sandbox") as served:
        served.become(served.key.access_key_id, served.key.secret_access_key)
        aws = Boto("us-east-1")
        told: dict[str, Any] = {}
        told["steps"], told["summary"] = build(aws, folder)
        told["again"] = build(aws, folder)[0]
        told["states"] = stopped_by_schedule(served, aws)
        there = retire.look(aws, NAMES, BUCKET)
        retire.carry_out(aws, NAMES, there, retire.make_plan(NAMES, there), Clock())
        told["retired"] = sorted({item.kind for item in audit.look(aws, PRICES).items})
        told["back"] = build(aws, folder)[0]
        wishes = Wish("lab", delete_data=True, delete_bucket=BUCKET)
        things = destroy.look(aws, NAMES, BUCKET)
        destroy.carry_out(aws, destroy.make_plan(wishes, NAMES, things), Clock())
        told["left"] = [item.kind for item in audit.look(aws, PRICES).items]
        return told


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1])), default=str))
