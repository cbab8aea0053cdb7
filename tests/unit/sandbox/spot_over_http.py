"""The life of a host on Spot capacity, by real HTTP against the sandbox; prints what came of it.

Run as a program, `python -m tests.unit.sandbox.spot_over_http FOLDER`, for the sandbox patches moto
in its process for good.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import tests.conftest  # noqa: F401  (it puts module_utils in its place)

# isort: split
from ansible.module_utils.lab.aws import apply, destroy, plan, power, preflight, rebuild, spot
from ansible.module_utils.lab.aws.clock import Clock
from ansible.module_utils.lab.aws.names import Names
from ansible.module_utils.lab.aws.session import Boto
from ansible.module_utils.lab.aws.things import Instance
from ansible.module_utils.lab.aws.variables import Spec
from ansible.module_utils.lab.aws.work import Work
from ansible.module_utils.lab.errors import LabError

from sandbox import interruptions
from tests.unit.aws.kit import HERE, IMAGES, PRICES, wish
from tests.unit.sandbox.served import Served, sandbox

NAMES = Names("lab", "us-east-1")
BUCKET = "gpulab-123456789012-lab"


def build(aws: Boto, spec: Spec) -> tuple[list[str], list[str]]:
    """Do what a run of the module does; the steps and the warnings."""
    inputs = preflight.Inputs(spec, IMAGES, PRICES, HERE, "us-east-1")
    target, there, key = preflight.check(aws, inputs, aws.endpoints, aws.access_key)
    work = Work(aws, target, there)
    apply.carry_out(work, plan.make_plan(target, there, key))
    return work.said, list(target.warnings)


def host_of(aws: Boto) -> Instance:
    """Return the host, which is there."""
    host = power.find(aws, NAMES)
    assert host
    return host


def requests(aws: Boto) -> list[tuple[str, str, str, str]]:
    """Tell type, behaviour, state and status of each request, and that it is the lab's."""
    found = aws.pages("ec2", "DescribeSpotInstanceRequests", "SpotInstanceRequests")
    return [
        (r["Type"], r["InstanceInterruptionBehavior"], r["State"], r["Status"]["Code"])
        for r in found
        if {"Key": "Lab", "Value": "lab"} in r.get("Tags", [])
    ]


def refused(work: Callable[[], object]) -> str:
    """Return the error of something that must fail."""
    try:
        work()
    except LabError as error:
        return str(error)
    return "it was not refused"


def interrupt(served: Served, aws: Boto, folder: Path) -> dict[str, Any]:
    """Give notice, let the time come, and try to start the host."""
    assert served.running and served.engine
    settings = served.running.application.settings
    host, place = host_of(aws), interruptions.folder(settings)
    follow = served.running.reconciler.follow_interruptions
    before = served.engine.metadata(host.id).tree
    due = datetime.now(UTC) + timedelta(seconds=120)
    interruptions.ask(settings, host.id, due.isoformat())
    told: dict[str, Any] = {"early": follow(place), "state early": host_of(aws).state}
    notice = str(served.engine.metadata(host.id).tree["meta-data/spot/instance-action"])
    told["notice"] = json.loads(notice) | {"due": due.isoformat()}
    told["none before"] = "meta-data/spot/instance-action" not in before
    interruptions.ask(settings, host.id, datetime.now(UTC).isoformat())
    told["in time"] = follow(place)
    told["interrupted"] = spot.interrupted(host_of(aws))
    told["request"] = requests(aws)
    told["start"] = refused(lambda: build(aws, wish(folder, spot=True)))
    interruptions.ask(settings, host.id, interruptions.RESUME)
    told["resumed"] = (follow(place), host_of(aws).state, requests(aws)[0][2])
    told["gone after"] = (
        "meta-data/spot/instance-action" not in served.engine.metadata(host.id).tree
    )
    return told


def give_up(served: Served, aws: Boto, spec: Spec) -> tuple[list[str], bool, list[str]]:
    """Let a host be interrupted, and go on without it; the steps, whether it is gone, the build."""
    assert served.running
    rebuild.carry_out(aws, rebuild.finish(NAMES, rebuild.look(aws, NAMES)), Clock())
    place = interruptions.folder(served.running.application.settings)
    interruptions.ask(
        served.running.application.settings, host_of(aws).id, datetime.now(UTC).isoformat()
    )
    served.running.reconciler.follow_interruptions(place)
    steps = rebuild.begin(NAMES, rebuild.look(aws, NAMES))
    rebuild.carry_out(aws, steps, Clock())
    gone = rebuild.look(aws, NAMES).host is None and rebuild.look(aws, NAMES).old is None
    said = build(aws, spec)[0]
    rebuild.carry_out(aws, rebuild.begin(NAMES, rebuild.look(aws, NAMES)), Clock())
    return [step.do for step in steps], gone, said


def main(folder: Path) -> dict[str, Any]:
    """Build, be interrupted, stop, start, be replaced, destroy."""
    with sandbox(folder / "sandbox") as served:
        served.become(served.key.access_key_id, served.key.secret_access_key)
        aws = Boto("us-east-1")
        spec = wish(folder, spot=True)
        told: dict[str, Any] = {"built": build(aws, spec)[0], "made": requests(aws)}
        told["again"] = build(aws, spec)
        told["interruption"] = interrupt(served, aws, folder)
        told["mended"] = build(aws, spec)
        power.stop(aws, host_of(aws), Clock())
        told["stopped"] = requests(aws)
        told["started"] = build(aws, spec)[0]
        told["other type"] = build(aws, wish(folder, spot=True, instance_type="g4dn.2xlarge"))
        told["on demand"] = build(aws, wish(folder))
        rebuild.carry_out(aws, rebuild.begin(NAMES, rebuild.look(aws, NAMES)), Clock())
        told["replaced"] = build(aws, wish(folder))[0]
        rebuild.carry_out(aws, rebuild.finish(NAMES, rebuild.look(aws, NAMES)), Clock())
        told["after the rebuild"] = requests(aws)
        told["on demand again"] = build(aws, wish(folder))
        rebuild.carry_out(aws, rebuild.begin(NAMES, rebuild.look(aws, NAMES)), Clock())
        build(aws, spec)
        told["given up"] = give_up(served, aws, wish(folder))
        build(aws, spec)
        things = destroy.look(aws, NAMES, BUCKET)
        steps = destroy.make_plan(destroy.Wish("lab", True, ""), NAMES, things)
        told["destroyed"] = [step.do for step in steps]
        destroy.carry_out(aws, steps, Clock())
        told["at last"] = requests(aws)
        told["left"] = destroy.make_plan(
            destroy.Wish("lab", True, ""), NAMES, destroy.look(aws, NAMES, BUCKET)
        )
    return told


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1])), default=str))
