"""Every playbook says what it does, what it costs and what it leaves."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.contract.conftest import PLAYBOOKS, ROOT

by_playbook = pytest.mark.parametrize("playbook", PLAYBOOKS, ids=lambda path: path.name)


@by_playbook
def test_the_header_says_what_it_costs_and_leaves(playbook: Path) -> None:
    lines = playbook.read_text().splitlines()
    header = [line for line in lines[: lines.index("")] if line.startswith("#")]
    assert any(line.startswith("# Costs: ") for line in header)
    assert any(line.startswith("# Leaves: ") for line in header)


@by_playbook
def test_nothing_is_hidden(playbook: Path) -> None:
    assert "ignore_errors" not in playbook.read_text()


def test_the_way_through_the_house() -> None:
    steps = [play["ansible.builtin.import_playbook"] for play in site()[:5]]
    assert steps == [
        "playbooks/create_host.yml",
        "playbooks/remove_workers.yml",
        "playbooks/configure_host.yml",
        "playbooks/configure_workers.yml",
        "playbooks/verify_host.yml",
    ]


def site() -> list[dict[str, str]]:
    plays: list[dict[str, str]] = yaml.safe_load((ROOT / "site.yml").read_text())
    return plays


def test_no_playbook_or_role_knows_the_sandbox() -> None:
    """Only the environment differs between AWS and the sandbox (docs/development.md)."""
    for path in [*PLAYBOOKS, *(ROOT / "roles").rglob("*.yml")]:
        for line in path.read_text().splitlines():
            code = line.split("#")[0]
            assert "sandbox" not in code or "when" not in code, f"{path}: {line}"


def test_what_is_begun_early_is_joined_before_a_reboot() -> None:
    """A reboot would end a job in the midst of an installation: the wheels' or the driver's."""
    plays = yaml.safe_load((ROOT / "playbooks/configure_host.yml").read_text())
    [first] = [play for play in plays if "post_tasks" in play]
    role = "ansible.builtin.import_role"
    roles = [task.get(role) or task["ansible.builtin.include_role"] for task in first["tasks"]]
    steps = [(one["name"], one.get("tasks_from", "main")) for one in roles]
    assert steps == [
        ("base", "preflight"),
        ("jupyter", "preflight"),
        ("pytorch", "begin"),
        ("base", "packages"),  # of all roles: the driver's transaction keeps all others out
        ("nvidia", "begin"),
        ("base", "build"),
        ("shared", "main"),  # with lab_shared: efs
        ("base", "on_shared"),
        ("s3", "main"),
        ("datasets", "main"),
        ("tmux", "main"),
        ("firewall", "main"),
        ("nvidia", "main"),  # joins its own
    ]
    [ending] = first["post_tasks"]
    wait, reboot = ending["block"]
    assert wait[role] == {"name": "pytorch", "tasks_from": "wait"}
    assert "ansible.builtin.reboot" in reboot
