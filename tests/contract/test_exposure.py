"""How much each service of ours could do, were it taken over: below 4 by systemd's own count.

Computed from the unit files alone; molecule/default asks the host for the same.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml
from ansible.module_utils.lab import bake
from ansible.module_utils.lab.s3mount import units

from tests.contract.conftest import ROOT

CEILING = 39  # tenths
FILES = sorted((ROOT / "roles").glob("*/*/*.service*"))
MOUNTS_FOR_OTHERS = ("lab-s3@s3.service", "lab-s3-watch@s3.service", "lab-scratch.service")
USES_THE_GPU = ("lab-jupyter.service", "lab-before-stop.service", "lab-idle-stop.service")
NO_MOUNTS_OF_ITS_OWN = re.compile(
    "^(Private(Tmp|Devices|Mounts)|Protect(System|Home|Proc|Kernel.*|ControlGroups)|ReadWritePaths)="
)

pytestmark = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed here"
)


def rendered(path: Path) -> str:
    """Fill a unit's template with the defaults of its role; what only a host knows stays empty."""
    defaults: dict[str, Any] = yaml.safe_load((path.parents[1] / "defaults/main.yml").read_text())
    environment = jinja2.Environment(autoescape=False)  # noqa: S701 - a unit file, no HTML
    environment.filters["regex_replace"] = lambda text, old, new: re.sub(old, new, text)
    return environment.from_string(path.read_text()).render(**defaults)


def texts() -> dict[str, str]:
    """Give every service of ours by its name."""
    ours = {path.name.removesuffix(".j2"): rendered(path) for path in FILES}
    ours["lab-s3@s3.service"] = units.mount_unit_text("/s3", "/var/cache/lab-s3", 60)
    ours["lab-s3-watch@s3.service"] = units.watch_unit_text("/s3")
    ours[bake.UNIT] = bake.UNIT_TEXT
    return ours


@pytest.mark.parametrize("name", texts())
def test_every_service_stays_below_the_ceiling(name: str, tmp_path: Path) -> None:
    unit = tmp_path / name
    unit.write_text(texts()[name])
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager"]
    asked = subprocess.run(
        [*command, f"--threshold={CEILING}", str(unit)], capture_output=True, text=True, check=False
    )
    assert asked.returncode == 0, asked.stdout + asked.stderr
    assert "Overall exposure level" in asked.stdout


def test_a_service_without_settings_is_refused(tmp_path: Path) -> None:
    unit = tmp_path / "bare.service"
    unit.write_text("[Service]\nExecStart=/bin/true\n")
    command = ["systemd-analyze", "security", "--offline=true", f"--threshold={CEILING}", str(unit)]
    assert subprocess.run(command, capture_output=True, check=False).returncode != 0


@pytest.mark.parametrize("name", MOUNTS_FOR_OTHERS)
def test_what_mounts_for_others_has_no_mounts_of_its_own(name: str) -> None:
    assert not [line for line in texts()[name].splitlines() if NO_MOUNTS_OF_ITS_OWN.match(line)]


@pytest.mark.parametrize("name", USES_THE_GPU)
def test_what_needs_the_gpu_keeps_its_devices(name: str) -> None:
    shut = re.compile("^(PrivateDevices|DevicePolicy|DeviceAllow)=")
    assert not [line for line in texts()[name].splitlines() if shut.match(line)]
