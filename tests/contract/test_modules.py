"""Every module is documented as Ansible reads it, and tested by a scenario or by verify."""

from __future__ import annotations

import ast
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.contract.conftest import MODULES, ROOT

by_module = pytest.mark.parametrize("module", MODULES, ids=lambda path: path.stem)


def constant(module: Path, name: str) -> Any:
    for node in ast.parse(module.read_text()).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == name:
            return yaml.safe_load(ast.literal_eval(node.value))
    raise AssertionError(f"{module.name} has no {name}")


@by_module
def test_ansible_doc_reads_it(module: Path) -> None:
    done = subprocess.run(
        ["ansible-doc", "--type", "module", "--json", module.stem],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    doc = json.loads(done.stdout)[module.stem]
    assert doc["doc"]["short_description"]
    assert doc["examples"] and doc["return"]


@by_module
def test_check_and_diff_mode_are_declared(module: Path) -> None:
    attributes = constant(module, "DOCUMENTATION")["attributes"]
    assert {"check_mode", "diff_mode"} <= set(attributes)


@by_module
def test_documentation_and_argument_spec_name_the_same_options(module: Path) -> None:
    documentation = constant(module, "DOCUMENTATION")
    documented = set(documentation.get("options") or {})
    for fragment in documentation.get("extends_documentation_fragment", ()):
        documented |= _shared_options(fragment)
    spec = _argument_spec(ast.parse(module.read_text()))
    assert documented == spec


def _shared_options(fragment: str) -> set[str]:
    """Options that modules share, from plugins/doc_fragments/."""
    tree = ast.parse((ROOT / f"plugins/doc_fragments/{fragment}.py").read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "DOCUMENTATION":
            return set(yaml.safe_load(ast.literal_eval(node.value))["options"])
    raise AssertionError(f"{fragment} has no DOCUMENTATION")


def _argument_spec(tree: ast.Module) -> set[str]:
    """Find the keys of argument_spec=, given in the call or by a name assigned to a literal."""
    literals = {
        target.id: node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign | ast.AnnAssign)
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):  # of AnsibleModule, or of a class made of it
            continue
        for keyword in node.keywords:
            value = keyword.value
            if keyword.arg == "argument_spec" and isinstance(value, ast.Name):
                value = literals[value.id]  # type: ignore[assignment]  # None only for bare annotations
            if keyword.arg == "argument_spec" and isinstance(value, ast.Dict):
                return {ast.literal_eval(key) for key in value.keys if key}
    raise AssertionError("no literal argument_spec was found")
