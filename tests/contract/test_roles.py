"""Every role keeps the same shape, and its defaults are the ones it documents."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.contract.conftest import ROLES, ROOT, SCENARIOS

by_role = pytest.mark.parametrize("role", ROLES, ids=lambda path: path.name)


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def tasks_of(node: Any) -> Iterator[dict[str, Any]]:
    for task in node or []:
        yield task
        for block in ("block", "rescue", "always"):
            yield from tasks_of(task.get(block))


@by_role
def test_defaults_and_argument_specs_are_equal(role: Path) -> None:
    defaults = load(role / "defaults/main.yml") or {}
    options = load(role / "meta/argument_specs.yml")["argument_specs"]["main"]["options"]
    documented = {name: spec.get("default") for name, spec in options.items()}
    required = {name for name, spec in options.items() if spec.get("required")}
    assert defaults == {n: v for n, v in documented.items() if n not in required}


@by_role
def test_public_names_carry_the_role(role: Path) -> None:
    for name in load(role / "defaults/main.yml") or {}:
        assert name.startswith(f"{role.name}_"), name


@by_role
def test_private_names_are_marked(role: Path) -> None:
    """Registers are private; facts are too, but for the ones a role exports."""
    exported = {f"{role.name}_reboot_required"} | set(
        load(role / "meta/exports.yml") if (role / "meta/exports.yml").exists() else []
    )
    for path in sorted((role / "tasks").glob("*.yml")):
        for task in tasks_of(load(path)):
            names = [task["register"]] if "register" in task else []
            names += list(task.get("ansible.builtin.set_fact", {}))
            for name in set(names) - exported - {"cacheable"}:
                assert name.startswith(f"__{role.name}_"), f"{path.name}: {name}"


@by_role
def test_the_table_of_contents_is_short(role: Path) -> None:
    assert len((role / "tasks/main.yml").read_text().splitlines()) <= 60


@by_role
def test_each_role_explains_itself(role: Path) -> None:
    text = (role / "README.md").read_text()
    for name in load(role / "defaults/main.yml") or {}:
        assert f"`{name}`" in text, f"{name} is not in {role.name}/README.md"


@by_role
def test_each_role_has_a_scenario(role: Path) -> None:
    assert ROOT / "molecule" / role.name in SCENARIOS
