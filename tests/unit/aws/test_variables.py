"""A bad variable is named with its value, its rule and the command that mends it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.lab.aws.variables import Opening
from ansible.module_utils.lab.errors import LabError

from tests.unit.aws.kit import wish


def message(**changes: Any) -> str:
    with pytest.raises(LabError) as caught:
        wish(Path("/nowhere"), **changes)
    return str(caught.value)


def test_the_whole_sentence() -> None:
    assert message(root_gb="fifty") == (
        'lab_root_gb is "fifty", but it must be a whole number from 8 to 16384: correct it in'
        " inventory/group_vars/all/lab.yml or run again with -e lab_root_gb=60"
    )


VALUES: dict[str, list[Any]] = {
    "name": [
        "", "Lab", "9lab", "a_b", "lab-", "a;rm", "ä", "x" * 32, "a b", "a\n", None, 7, [],
    ],
    "root_gb": ["", "7", 16385, -1, 8.5, True, "1e3", None, "٣٠", " "],
    "data_gb": [0, "0x10", [100], "100 GB"],
    "region": ["", "useast1", "us-east-1a", "us-east-1;"],
    "instance_type": ["", "g4dn", "G4dn.xlarge", "g4dn.xlarge ", "$(id)"],
    "image": ["", "debian", "ami-", "ami-XYZ", 13],
    "image_user": ["Root", "a b", "-x"],
    "bucket": ["ab", "My-Bucket", "a..b", "192.168.0.1", "-abc", "a" * 64],
    "bucket_prefix": ["/a", "a/", "a//b", "a b", "*", None, 7],
    "allowed_cidrs": [
        ["1.2.3.4"], ["1.2.3.4/33"], ["10.0.0.1/8"], ["::/0"], ["x/8"], {"a": 1}, [7], None,
    ],
    "access": ["", "open", "Public", None, True],
    "open_ports": [
        [0], [70000], "80,x", ["9-8"], [{"port": 80, "protocol": "icmp"}], [{"protocol": "tcp"}],
        [{"port": 80, "sources": ["example.org"]}], [{"port": 80, "sources": ["10.0.0.1/8"]}], 80,
    ],
    "zone": ["a", "us-east-1", "us-west-2a"],
    "subnet_id": ["subnet", "vpc-0123456789abcdef0"],
    "instance_types": [["g5"], "g5.xlarge,x", 7, [None]],
    "max_hours": [-1, 9999, "two", None],
    "daily_stop": ["24:00", "7:00", "23:60", "23", 23, None],
    "timezone": ["Berlin", "../etc/passwd", "", "Europe/Nowhere", None],
    "monthly_budget": [-5, "$100", 0.5],
    "budget_email": ["me", "a@b, c@d", "a b@c"],
    "retire_days": [-1, "never"],
    "cost_explorer": ["maybe", None, 2],
    "workers": [-1, 65, "two", 1.5, True, None],
    "worker_type": ["g4dn", "g4dn.xlarge ", None, 4],
    "slurm_autostop": ["maybe", None, 2],
}  # fmt: skip
BAD = [(name, value) for name, values in VALUES.items() for value in values]


@pytest.mark.parametrize(("name", "value"), BAD)
def test_bad_values_are_named(name: str, value: Any) -> None:
    variable = "ec2_host_open_ports" if name == "open_ports" else f"lab_{name}"
    text = message(**{name: value})
    assert text.startswith(f'{variable} is "')
    assert "must" in text
    assert f"-e {variable}=" in text
    assert "\n" not in text


def test_all_bad_ones_at_once() -> None:
    lines = message(root_gb=1, image="win95", name="ÄÖ").splitlines()
    assert [line.split()[0] for line in lines] == ["lab_name", "lab_image", "lab_root_gb"]


def test_an_overlong_value_is_cut() -> None:
    assert len(message(name="x" * 300)) < 300


@pytest.mark.parametrize("network", ["0.0.0.0/0", "128.0.0.0/1"])
def test_jupyter_is_not_shown_to_the_whole_internet(network: str) -> None:
    assert message(access="public", allowed_cidrs=["203.0.113.0/24", network]) == (
        f"lab_allowed_cidrs is {network}, which shows Jupyter's login to the whole internet: with"
        " lab_access public name your own networks in inventory/group_vars/all/lab.yml, or run"
        " again with -e lab_allowed_cidrs=203.0.113.7/32"
    )


def test_ports_are_read_in_every_form(tmp_path: Path) -> None:
    given = [8080, "6817-6819", {"port": 53, "protocol": "udp", "sources": ["2001:db8::/32"]}]
    assert wish(tmp_path, open_ports=given).open_ports == (
        Opening("tcp", 8080, 8080),
        Opening("tcp", 6817, 6819),
        Opening("udp", 53, 53, ("2001:db8::/32",)),
    )


def test_a_budget_that_nobody_is_told_of_is_refused() -> None:
    assert message(monthly_budget=50) == (
        "lab_monthly_budget is 50, but nobody is to be told: set lab_budget_email in"
        " inventory/group_vars/all/lab.yml or run again with -e lab_budget_email=me@example.org"
    )


def test_what_dash_e_gives_is_taken(tmp_path: Path) -> None:
    """-e makes text of everything."""
    spec = wish(tmp_path, root_gb="80", allowed_cidrs="203.0.113.0/24,198.51.100.7/32")
    assert spec.root_gb == 80
    assert spec.allowed_cidrs == ("198.51.100.7/32", "203.0.113.0/24")


@pytest.mark.parametrize("name", ["a", "lab", "a-b", "x" * 31, "a1"])
def test_good_names(tmp_path: Path, name: str) -> None:
    assert wish(tmp_path, name=name).name == name
