"""What a role adds to lab_open_ports reaches the host's firewall, with the networks of the lab."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
VARIABLES = ROOT / "inventory/group_vars/all"
FILES = ("access.yml", "cluster.yml", "firewall.yml")
ME = "198.51.100.7/32"
# As this run's preflight has it, or as the modules of AWS read it from the security group.
SEEN: dict[str, dict[str, Any]] = {
    "preflight": {"__ec2_host_preflight": {"host": {"allowed_cidrs": [ME]}}},
    "security group": {
        "__access_group": {
            "security_groups": [
                {
                    "ip_permissions": [
                        {"from_port": 22, "ip_ranges": [{"cidr_ip": ME}]},
                        {"from_port": 6817, "ip_ranges": [{"cidr_ip": "10.0.0.0/8"}]},
                        {"ip_protocol": "-1", "ip_ranges": []},
                    ]
                }
            ]
        }
    },
}


INVENTORY = """
[lab_lab]
head ec2_private_ip_address=172.31.0.10
[workers_lab]
one ec2_private_ip_address=172.31.0.11
[others]
localhost
"""


def evaluate(
    folder: Path, seen: dict[str, Any], workers: bool = False, **variables: Any
) -> dict[str, Any]:
    play = {
        "hosts": "localhost",
        "gather_facts": False,
        "vars_files": [str(VARIABLES / name) for name in FILES],
        "vars": {
            "lab_name": "lab",
            "lab_firewall_ports": [],
            "lab_access": "tunnel",
            "ansible_python_interpreter": sys.executable,
            **variables,
        },
        "tasks": [
            {"ansible.builtin.set_fact": seen},
            {
                "ansible.builtin.copy": {
                    "content": "{{ {'firewall': firewall_ports, 'group': lab_open_ports}"
                    " | to_json }}",
                    "dest": str(folder / "said.json"),
                    "mode": "0600",
                }
            },
        ],
    }
    (folder / "play.yml").write_text(yaml.safe_dump([play]))
    (folder / "ansible.cfg").touch()
    (folder / "hosts").write_text(INVENTORY if workers else "localhost\n")
    subprocess.run(
        [Path(sys.executable).with_name("ansible-playbook"), "-i", "hosts", "-c", "local",
         str(folder / "play.yml")],
        cwd=folder, check=True, capture_output=True,
        env={**os.environ, "ANSIBLE_CONFIG": "ansible.cfg", "ANSIBLE_LOCAL_TEMP": str(folder)},
    )  # fmt: skip
    said: dict[str, Any] = json.loads((folder / "said.json").read_text())
    return said


@pytest.mark.parametrize("seen", SEEN.values(), ids=SEEN)
def test_a_port_without_sources_is_for_who_may_connect(
    tmp_path: Path, seen: dict[str, Any]
) -> None:
    own = {"port": "6817-6819", "sources": ["10.0.0.0/8"]}
    said = evaluate(tmp_path, seen, lab_access="public", lab_firewall_ports=[own, {"port": 6006}])
    jupyter = {"port": 8888, "new_per_minute": 120}
    assert said["group"] == [own, {"port": 6006}, jupyter]
    assert said["firewall"] == [
        own,
        {"port": 6006, "sources": [ME]},
        {**jupyter, "sources": [ME]},
    ]


def test_by_default_nothing_is_added(tmp_path: Path) -> None:
    assert evaluate(tmp_path, {"unused": 1}) == {"firewall": [], "group": []}


def test_a_cluster_is_open_to_its_own_hosts_alone(tmp_path: Path) -> None:
    said = evaluate(tmp_path, {"unused": 1}, workers=True)
    among = ["172.31.0.10", "172.31.0.11"]
    assert said["group"] == []  # its own rule names the group itself
    assert {str(rule["port"]) for rule in said["firewall"]} >= {"6817-6818", "2049"}
    assert all(rule["sources"] == among for rule in said["firewall"])
