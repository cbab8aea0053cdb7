"""From an EC2 call to what the engine is told, and over a restart of the process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.unit.sandbox.control_plane import PUBLIC_KEY

ROOT = Path(__file__).resolve().parents[3]


def told(part: str, folder: Path) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.unit.sandbox.control_plane", part, str(folder)],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("state")


@pytest.fixture(scope="module")
def first(folder: Path) -> dict[str, Any]:
    return told("first", folder)


@pytest.fixture(scope="module")
def again(folder: Path, first: dict[str, Any]) -> dict[str, Any]:
    assert first
    return told("again", folder)


def test_machine_is_as_asked(first: dict[str, Any]) -> None:
    (machine,) = first["machines"]
    private = machine["private_ip"]
    assert private.startswith("172.31.")
    assert machine["public_ip"].startswith("127.77.")
    assert machine["hostname"] == f"ip-{private.replace('.', '-')}"
    assert machine["image"] == "gpulab/debian:13"
    assert machine["login_user"] == "admin"
    assert machine["running"] is True
    assert machine["root_gib"] == 30
    assert machine["public_keys"] == [PUBLIC_KEY]
    assert machine["user_data"] == "#!/bin/sh\necho hi\n"
    assert list(machine["volumes"]) == ["/dev/sdf"]


def test_group_as_source_is_its_members(first: dict[str, Any]) -> None:
    (machine,) = first["machines"]
    assert machine["ingress"] == [
        {
            "protocol": "tcp",
            "from_port": 22,
            "to_port": 22,
            "sources": ["10.0.0.0/8", "127.0.0.1/32"],
        },
        {
            "protocol": "tcp",
            "from_port": 7077,
            "to_port": 7077,
            "sources": [f"{machine['private_ip']}/32"],
        },
    ]


def test_engine_is_called_when_something_changes_and_in_order(first: dict[str, Any]) -> None:
    (volume,) = first["machines"][0]["volumes"].values()
    instance_id = first["instance_id"]
    assert first["calls"] == [
        ["converge"],  # the first change of EC2: nothing is running
        ["create_volume", volume, "5", "None"],
        ["converge", instance_id],
        ["reboot", instance_id],
    ]


def test_metadata_tree(first: dict[str, Any]) -> None:
    tree, (machine,) = first["tree"], first["machines"]
    assert first["options"] == {"tokens_required": True, "enabled": True}
    assert tree["meta-data/instance-id"] == first["instance_id"]
    assert tree["meta-data/public-ipv4"] == machine["public_ip"]
    assert tree["meta-data/public-keys"] == "0=key"
    assert tree["meta-data/public-keys/0/openssh-key"] == PUBLIC_KEY
    assert tree["meta-data/security-groups"] == "lab"
    assert tree["user-data"] == "#!/bin/sh\necho hi\n"
    credentials = json.loads(tree["meta-data/iam/security-credentials/role"])
    assert credentials["Code"] == "Success"
    assert credentials["AccessKeyId"].startswith("ASIA")
    document = json.loads(tree["dynamic/instance-identity/document"])
    assert document["instanceId"] == first["instance_id"]


def test_restart_changes_nothing(first: dict[str, Any], again: dict[str, Any]) -> None:
    restarted = again["restarted"]
    for what in ("machines", "tree", "options", "described"):
        assert restarted[what] == first[what]
    # The volume is there already; the machines are hooked up again.
    assert restarted["calls"] == [["converge", first["instance_id"]]]


def test_an_address_after_a_restart_is_nobodys(
    first: dict[str, Any], again: dict[str, Any]
) -> None:
    """Neither that of another instance nor one of the three that a network keeps to itself."""
    address = again["baked"]["machine"]["private_ip"]
    assert address != first["machines"][0]["private_ip"]
    assert int(address.rpartition(".")[2]) > 3


def test_image_is_launched_though_deregistered(again: dict[str, Any]) -> None:
    machine = again["baked"]["machine"]
    assert machine["image"] == f"gpulab/baked:{again['baked']['image']}"
    assert (machine["login_user"], machine["root_gib"]) == ("admin", 30)


def test_power_off_is_followed(again: dict[str, Any]) -> None:
    assert again["off"] == [False, False]


def test_a_file_system_is_served_where_its_mount_target_is(again: dict[str, Any]) -> None:
    told = again["efs"]
    made, address = told["id"], told["address"]
    rule = {"protocol": "tcp", "from_port": 2049, "to_port": 2049,
            "sources": [f"{told['member']}/32"]}  # fmt: skip
    assert told["served"] == {"file_system_id": made, "address": address, "ingress": [rule]}
    assert [call for call in told["calls"] if call[0] != "converge"] == [
        ["create_file_system", made],
        ["serve_file_systems", address],
        ["serve_file_systems"],
        ["delete_file_system", made],
    ]


def test_what_is_deleted_goes_and_not_before_its_user(again: dict[str, Any]) -> None:
    calls = [call for call in again["calls"] if call[0] != "converge"]
    assert calls == [
        ["create_snapshot", again["snapshot"], again["volume"]],
        ["create_image", again["baked"]["image"], again["instance_id"]],
        ["delete_image", again["baked"]["image"]],
        ["delete_snapshot", again["snapshot"]],
        ["delete_volume", again["volume"]],
    ]
    names = [call[0] for call in again["calls"]]
    last_converge = max(n for n, name in enumerate(names) if name == "converge")
    assert last_converge < names.index("delete_image")
