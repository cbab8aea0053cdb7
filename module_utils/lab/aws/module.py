"""What the AWS modules share: the way from their options to a plan."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from . import plan, preflight, variables
from .session import Boto
from .things import Seen


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


def decide(params: Mapping[str, Any], wanted: variables.Spec) -> Decided:
    """Look, refuse what cannot work, and plan. Changes nothing. Raises LabError."""
    inputs = preflight.Inputs(
        spec=wanted,
        images=params["images"],
        prices=params["prices"],
        environ=os.environ,
        inventory_region=params["inventory_region"],
        may_create=params["may_create"],
    )
    aws = Boto(wanted.region)
    target, there, key = preflight.check(aws, inputs, aws.endpoints, aws.access_key)
    return Decided(aws, target, there, plan.make_plan(target, there, key))
