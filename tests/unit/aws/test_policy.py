"""The user's policy is for what is called, no more and no less."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.lab.aws import policy
from ansible.module_utils.lab.aws.session import LATER, SERVICES, explain
from botocore.session import get_session

from tests.unit.aws.kit import ROOT

CODE = [*(ROOT / "module_utils/lab/aws").glob("*.py"), *(ROOT / "library").glob("lab_*.py")]
INVENTORY = "ec2:DescribeInstances"  # all that the plugin of inventory/lab.aws_ec2.yml calls


def services_of() -> dict[str, list[str]]:
    """Give for each operation of AWS the services of ours that have it."""
    session, found = get_session(), dict[str, list[str]]()
    for service in (*SERVICES, *LATER):
        for operation in session.get_service_model(service).operation_names:
            found.setdefault(operation, []).append(service)
    return found


def named(path: Path) -> Iterator[str]:
    """Give each word of a source that is an operation of AWS."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


@pytest.fixture(scope="module")
def called() -> dict[str, set[str]]:
    """Operations of AWS that our code names -> the files that do."""
    known, found = services_of(), dict[str, set[str]]()
    for path in CODE:
        if path.name == "policy.py":
            continue
        for word in named(path):
            for service in known.get(word, ()):
                found.setdefault(f"{service}:{word}", set()).add(path.name)
    # EFS has an old operation of this name beside EC2's, which is the one that is called.
    del found["efs:CreateTags"]
    return found


def statements(account: str = "*") -> list[dict[str, Any]]:
    """Return the statements of both policies."""
    place = policy.Place(account)
    both = policy.document(place), policy.document_of_efs(place)
    return [statement for document in both for statement in document["Statement"]]


def test_every_call_has_its_line_in_the_policy(called: dict[str, set[str]]) -> None:
    missing = {call: files for call, files in called.items() if call not in policy.operations()}
    assert missing == {}, "add them to a group of module_utils/lab/aws/policy.py"


def test_the_policy_has_no_line_for_what_nobody_calls(called: dict[str, set[str]]) -> None:
    assert INVENTORY in policy.operations()
    assert policy.operations() - set(called) == set()


def test_what_iam_calls_otherwise_is_called_at_all() -> None:
    assert set(policy.OTHERWISE) | set(policy.BESIDE) <= policy.operations()


def test_every_action_of_a_call_is_allowed() -> None:
    allowed = {a for one in statements() for a in one["Action"]}
    wanted = {a for call in policy.operations() for a in policy.actions_of(call)}
    assert allowed == wanted


def test_what_makes_or_changes_is_scoped() -> None:
    """`*` is for what looks, and for prices."""
    every = statements("111122223333")
    wide = [s for s in every if s["Resource"] == ["*"]]
    for action in (a for s in wide for a in s["Action"]):
        assert re.match(r"\w+:(Describe|Get|List)", action), action
    for statement in every:
        if "Condition" not in statement and statement not in wide:
            for resource in statement["Resource"]:
                mine = any(own in resource for own in ("gpulab-", ":budget/", "spot.amazonaws.com"))
                assert mine or statement["Sid"].startswith(("Of", "ImageNames")), resource
    assert not any("*" in action for s in every for action in s["Action"])


def test_names_are_unique_as_aws_wants_them() -> None:
    for document in (policy.document(policy.Place()), policy.document_of_efs(policy.Place())):
        names = [s["Sid"] for s in document["Statement"]]
        assert len(set(names)) == len(names)
        assert all(re.fullmatch(r"[A-Za-z0-9]+", name) for name in names)


@pytest.mark.parametrize("call", sorted(policy.operations() - {"sts:GetCallerIdentity"}))
def test_a_refusal_names_the_action_to_allow(call: str) -> None:
    service, _, operation = call.partition(":")
    said = explain("AccessDenied", "no", service, operation)
    for action in policy.actions_of(call)[:1]:
        assert action in said
    assert "make policy" in said


def run(*words: str) -> str:
    done = subprocess.run(
        [sys.executable, "scripts/policy.py", *words], cwd=ROOT, check=True, capture_output=True,
        text=True,
    )  # fmt: skip
    return done.stdout


def test_make_policy_prints_it() -> None:
    assert json.loads(run()) == policy.document(policy.Place())
    assert "ssm:StartSession" not in run()
    assert "ssm:StartSession" in run("--sessions")
    assert json.loads(run("--efs")) == policy.document_of_efs(policy.Place())
    own = ["--account", "111122223333", "--bucket", "my-data", "--region", "us-gov-west-1"]
    short = run(*own, "--short")
    assert len(short.splitlines()) == 1
    assert "arn:aws-us-gov:s3:::my-data" in short
    assert "arn:aws-us-gov:iam::111122223333:role/gpulab-*" in short
