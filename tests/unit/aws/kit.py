"""What the tests of the AWS side share: wishes, an AWS in memory, and faults put in its way."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from ansible.module_utils.lab.aws import apply, keys, plan, preflight, retire, variables
from ansible.module_utils.lab.aws.clock import Clock
from ansible.module_utils.lab.aws.names import Names
from ansible.module_utils.lab.aws.session import AwsError, Boto, explain
from ansible.module_utils.lab.aws.things import Instance, Seen, Volume
from ansible.module_utils.lab.aws.work import Work

from sandbox.locks import MOTO_LOCK

ROOT = Path(__file__).resolve().parents[3]
VARS = ROOT / "roles/ec2_host/vars/main"
IMAGES: dict[str, Any] = yaml.safe_load((VARS / "lab.yml").read_text())["__ec2_host_images"]
PRICES: dict[str, Any] = yaml.safe_load((VARS / "prices.yml").read_text())["__ec2_host_prices"]
HERE = {"GPULAB_CALLER_CIDR": "198.51.100.7/32"}
ENDPOINTS = dict.fromkeys(("ec2", "s3"), "http://127.0.0.1:5600")
KEY = "AKIAGPULABSANDBOX000"
WISH: dict[str, Any] = {
    "name": "lab",
    "region": "us-east-1",
    "instance_type": "g4dn.xlarge",
    "image": "debian_13",
    "image_user": "",
    "root_gb": 60,
    "data_gb": 100,
    "bucket": "",
    "bucket_prefix": "",
    "allowed_cidrs": [],
    "access": "tunnel",
    "open_ports": [],
    "zone": "",
    "subnet_id": "",
    "instance_types": [],
    "max_hours": 48,
    "daily_stop": "",
    "timezone": "UTC",
    "monthly_budget": 0,
    "budget_email": "",
    "retire_days": 30,
    "cost_explorer": False,
    "use_bake": True,
    "spot": False,
    "workers": 0,
    "worker_type": "",
    "placement_group": "auto",
    "slurm_autostop": False,
    "shared": "nfs",
}


def wish(folder: Path, **changes: Any) -> variables.Spec:
    """Return the defaults with some changes, checked."""
    return variables.check({**WISH, "state_dir": folder / "lab", **changes}, IMAGES)


def instance(**changes: Any) -> Instance:
    """Return a running host of the lab `lab`."""
    tags = {"Project": "gpulab", "Lab": "lab", "Name": "gpulab-lab"}
    fields: dict[str, Any] = {
        "id": "i-0a",
        "state": "running",
        "type": "g4dn.xlarge",
        "zone": "us-east-1a",
        "tags": tags,
        "launched": datetime(2026, 11, 1, tzinfo=UTC),
        "vpc_id": "vpc-1",
        **changes,
    }
    return Instance(**fields)


def volume(**changes: Any) -> Volume:
    """Return a free data volume of the lab `lab`."""
    fields: dict[str, Any] = {
        "id": "vol-0a",
        "size": 100,
        "zone": "us-east-1a",
        "state": "available",
        "tags": {"Project": "gpulab", "Lab": "lab", "Role": "data"},
        **changes,
    }
    return Volume(**fields)


class Quick(Clock):
    """A clock on which waiting takes no time."""

    def __init__(self) -> None:
        self.time = 0.0
        super().__init__(now=lambda: self.time, sleep=self._pass)

    def _pass(self, seconds: float) -> None:
        self.time += seconds


@functools.cache
def boto() -> Boto:
    """Make the clients once for all tests, which takes half a second."""
    return Boto("us-east-1")


def no_money(service: str, operation: str, _params: dict[str, Any]) -> Mapping[str, Any]:
    """Answer as the sandbox does to what moto lacks."""
    raise AwsError("InvalidAction", f"AWS refused {service}:{operation}: InvalidAction: no")


class Faulty:
    """The AWS in memory, with a hook before each call and one after it; counts the calls.

    The code under test asks side by side, which moto's models do not bear.
    """

    def __init__(self) -> None:
        self.inner = boto()
        self.region = self.inner.region
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.before: Callable[[str, dict[str, Any]], None] = lambda *_: None
        self.after: Callable[[str, dict[str, Any]], None] = lambda *_: None
        self.told: Callable[[str, str, dict[str, Any]], Mapping[str, Any]] = no_money

    def call(self, service: str, operation: str, **params: Any) -> Mapping[str, Any]:
        if service in ("pricing", "ce"):  # moto has no price list, and nobody else is to be asked
            return self.told(service, operation, params)
        self.before(operation, params)
        self.calls.append((operation, params))
        with MOTO_LOCK:
            try:
                answer: Mapping[str, Any] = self.inner.call(service, operation, **params)
            except NotImplementedError:  # as the sandbox answers to what moto lacks
                raise refuse(operation, "InvalidAction") from None
        self.after(operation, params)
        return answer

    def pages(self, service: str, operation: str, key: str, **params: Any) -> list[Any]:
        self.before(operation, params)
        self.calls.append((operation, params))
        with MOTO_LOCK:
            found: list[Any] = self.inner.pages(service, operation, key, **params)
        return found

    def die_after(self, operation: str) -> None:
        """Let the run be killed once, right after the next call of this operation."""
        left = [1]

        def die(name: str, _params: dict[str, Any]) -> None:
            if name == operation and left[0]:
                left[0] -= 1
                raise KeyboardInterrupt

        self.after = die

    def writes(self) -> list[str]:
        """Return the calls that change something."""
        reads = ("Describe", "Get", "List", "Head")
        return [operation for operation, _ in self.calls if not operation.startswith(reads)]

    def named(self, operation: str) -> list[dict[str, Any]]:
        """Return the parameters of each call of one operation."""
        return [params for name, params in self.calls if name == operation]


def refuse(operation: str, code: str, message: str = "no") -> AwsError:
    """Return the error with which AWS refuses a call."""
    return AwsError(code, explain(code, message, "ec2", operation))


def once(operation: str, code: str, times: int = 1) -> Callable[[str, dict[str, Any]], None]:
    """Refuse the first calls of one operation."""
    left = [times]

    def hook(name: str, _params: dict[str, Any]) -> None:
        if name == operation and left[0]:
            left[0] -= 1
            raise refuse(operation, code)

    return hook


def look(
    aws: Faulty, spec: variables.Spec, **inputs: Any
) -> tuple[preflight.Target, Seen, keys.LocalKey, list[plan.Step]]:
    """Do the preflight and make the plan."""
    given = preflight.Inputs(
        **{
            "spec": spec,
            "images": IMAGES,
            "prices": PRICES,
            "environ": HERE,
            "inventory_region": spec.region,
            **inputs,
        }
    )
    target, there, key = preflight.check(aws, given, ENDPOINTS, KEY)
    return target, there, key, plan.make_plan(target, there, key)


def build(aws: Faulty, spec: variables.Spec) -> list[str]:
    """Do what a run of the module does; return the texts of its steps."""
    target, there, _, steps = look(aws, spec)
    work = Work(aws, target, there, clock=Quick())
    apply.carry_out(work, steps)
    return work.said


def put_away(aws: Faulty, names: Names, bucket: str) -> list[str]:
    """Do what a run of lab_retire does; return what its steps do."""
    there = retire.look(aws, names, bucket)
    steps = retire.make_plan(names, there)
    retire.carry_out(aws, names, there, steps, Quick())
    return [step.do for step in steps]
