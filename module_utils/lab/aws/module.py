"""What the AWS modules share: the way from their options to a plan."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from . import environment, plan, preflight, spent, variables
from .names import Names
from .session import Boto
from .things import Instance, Seen


@dataclass(frozen=True)
class Decided:
    """What one look has found and what is to be done about it."""

    aws: Boto
    target: preflight.Target
    there: Seen
    steps: list[plan.Step]

    def answer(self) -> dict[str, Any]:
        """Return what both modules tell the playbook."""
        return {
            "host": preflight.summary(self.target, self.there),
            "steps": [step.text for step in self.steps],
            "lab_warnings": list(self.target.warnings),
        }


def spec(params: Mapping[str, Any]) -> variables.Spec:
    """Check the variables. Raises LabError."""
    return variables.check(params["lab"], params["images"])


def decide(params: Mapping[str, Any], wanted: variables.Spec, replacing: bool = False) -> Decided:
    """Look, refuse what cannot work, and plan. Changes nothing. Raises LabError.

    `replacing` plans as if the host were gone.
    """
    inputs = preflight.Inputs(
        spec=wanted,
        images=params["images"],
        prices=params["prices"],
        environ=os.environ,
        inventory_region=params["inventory_region"],
        may_create=params.get("may_create", True),
        replacing=replacing,
    )
    aws = Boto(wanted.region)
    target, there, key = preflight.check(aws, inputs, aws.endpoints, aws.access_key)
    return Decided(aws, target, there, plan.make_plan(target, there, key))


def reach(spec: variables.Spec, names: Names) -> tuple[Boto, str]:
    """Return a way to AWS and the lab's bucket, for what takes something away. Raises LabError."""
    aws = Boto(spec.region)
    environment.check(aws.endpoints, aws.access_key, os.environ)
    return aws, names.bucket(str(aws.call("sts", "GetCallerIdentity")["Account"]))


def note_end(state_dir: Path, instances: Iterable[Instance]) -> None:
    """Write down that these hosts cost nothing from now on."""
    gone = [instance.id for instance in instances]
    spent.save(state_dir, spent.close(spent.read(state_dir), gone, datetime.now(UTC)))
