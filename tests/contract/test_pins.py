"""Whatever the project depends on is pinned, once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from ansible_collections.amazon import aws

from tests.contract.conftest import ROOT

COLLECTIONS = Path(next(iter(aws.__path__))).parents[1]
REQUIREMENTS = sorted(ROOT.glob("requirements*.txt"))


def lines(path: Path) -> list[str]:
    return [
        line for line in path.read_text().splitlines() if line.strip() and not line.startswith("#")
    ]


@pytest.mark.parametrize("path", REQUIREMENTS, ids=lambda path: path.name)
def test_every_requirement_is_exact(path: Path) -> None:
    for line in lines(path):
        assert "==" in line, line


def test_no_requirement_stands_twice() -> None:
    names = [line.split("==")[0].split("[")[0] for path in REQUIREMENTS for line in lines(path)]
    assert sorted(names) == sorted(set(names))


@pytest.mark.parametrize(
    "wanted",
    yaml.safe_load((ROOT / "requirements.yml").read_text())["collections"],
    ids=lambda wanted: str(wanted["name"]),
)
def test_the_ansible_package_brings_the_collections_named(wanted: dict[str, str]) -> None:
    namespace, name = wanted["name"].split(".")
    manifest = json.loads((COLLECTIONS / namespace / name / "MANIFEST.json").read_text())
    assert manifest["collection_info"]["version"] == wanted["version"]


def test_all_roles_install_one_uv() -> None:
    """A role stands alone, so each has the version; in a lab they share one folder."""
    versions = {
        value
        for path in (ROOT / "roles").glob("*/defaults/main.yml")
        for name, value in (yaml.safe_load(path.read_text()) or {}).items()
        if name.endswith("_uv_version")
    }
    assert len(versions) == 1
