"""Idle workers are stopped and woken by jobs: roles/slurm/files/lab_slurm/power.py."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from roles.slurm.files.lab_slurm import power
from roles.slurm.files.lab_slurm.power import Ec2, Settings, Workers

AMI = "ami-12c6146b"  # one of those that moto knows


@pytest.fixture
def ec2(monkeypatch: pytest.MonkeyPatch) -> Iterator[Ec2]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with mock_aws():
        yield boto3.client("ec2", region_name="us-east-1")


def launch(ec2: Ec2, name: str, **other: str) -> str:
    tags = {"Project": "gpulab", "Lab": "mine", "Role": "worker", "Name": name} | other
    made = ec2.run_instances(
        ImageId=AMI, MinCount=1, MaxCount=1,
        TagSpecifications=[
            {
                "ResourceType": "instance",
                "Tags": [{"Key": key, "Value": value} for key, value in tags.items()],
            }
        ],
    )  # fmt: skip
    return str(made["Instances"][0]["InstanceId"])


def states(ec2: Ec2) -> dict[str, str]:
    found = [i for r in ec2.describe_instances()["Reservations"] for i in r["Instances"]]
    return {i["InstanceId"]: i["State"]["Name"] for i in found}


class Slurm:
    """What is told to the journal and to Slurm, and how long was waited."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.down: dict[str, str] = {}
        self.slept = 0.0

    def put_down(self, name: str, why: str) -> None:
        self.down[name] = why

    def sleep(self, seconds: float) -> None:
        self.slept += seconds

    def wake(self, names: list[str], workers: Workers) -> int:
        return power.wake(names, workers, self.put_down, self.said.append, self.sleep)


class Refusing:
    """EC2 that refuses some calls: the n-th and all before it are answered by an error code."""

    def __init__(self, ec2: Ec2, times: int, word: str) -> None:
        self.ec2, self.times, self.word = ec2, times, word

    def __getattr__(self, name: str) -> Any:
        if name == "start_instances" and self.times > 0:
            self.times -= 1
            raise ClientError(
                {"Error": {"Code": self.word, "Message": "no room"}}, "StartInstances"
            )
        return getattr(self.ec2, name)


def test_only_the_workers_that_are_named_of_this_lab_are_stopped(ec2: Ec2) -> None:
    mine = launch(ec2, "gpulab-mine-worker-1")
    others = [
        launch(ec2, "gpulab-mine-worker-2"),
        launch(ec2, "gpulab-mine-worker-1", Lab="other"),
        launch(ec2, "gpulab-mine-worker-1", Project="else"),
        launch(ec2, "gpulab-mine-worker-1", Role="head"),
    ]
    slurm = Slurm()
    assert power.suspend(["worker-1"], Workers(ec2, "mine"), slurm.said.append) == 0
    assert slurm.said == [f"worker-1 had no jobs and is stopped ({mine})"]
    assert states(ec2) == {mine: "stopped"} | dict.fromkeys(others, "running")


def test_stopped_workers_are_woken_each_by_itself(ec2: Ec2) -> None:
    ids = [launch(ec2, f"gpulab-mine-worker-{number}") for number in (1, 2)]
    ec2.stop_instances(InstanceIds=ids)
    slurm = Slurm()
    assert slurm.wake(["worker-1", "worker-2"], Workers(ec2, "mine")) == 0
    assert states(ec2) == dict.fromkeys(ids, "running")
    assert (slurm.down, slurm.slept) == ({}, 0)


def test_without_room_it_is_tried_again(ec2: Ec2) -> None:
    made = launch(ec2, "gpulab-mine-worker-1")
    ec2.stop_instances(InstanceIds=[made])
    refusing: Any = Refusing(ec2, 3, "InsufficientInstanceCapacity")
    slurm = Slurm()
    assert slurm.wake(["worker-1"], Workers(refusing, "mine")) == 0
    assert slurm.slept == 3 * power.BETWEEN_S
    assert states(ec2) == {made: "running"}


def test_for_ever_without_room_it_is_down_with_the_reason(ec2: Ec2) -> None:
    ec2.stop_instances(InstanceIds=[launch(ec2, "gpulab-mine-worker-1")])
    refusing: Any = Refusing(ec2, 10**6, "InsufficientInstanceCapacity")
    slurm = Slurm()
    assert slurm.wake(["worker-1"], Workers(refusing, "mine")) == 1
    assert slurm.slept == power.WAKE_S
    assert "InsufficientInstanceCapacity" in slurm.down["worker-1"]
    assert len(slurm.said) == 1


def test_what_may_not_be_started_is_down_at_once_and_holds_up_no_other(ec2: Ec2) -> None:
    ids = [launch(ec2, f"gpulab-mine-worker-{number}") for number in (1, 2)]
    ec2.stop_instances(InstanceIds=ids)
    refusing: Any = Refusing(ec2, 1, "UnauthorizedOperation")
    slurm = Slurm()
    assert slurm.wake(["worker-1", "worker-2"], Workers(refusing, "mine")) == 1
    assert slurm.slept == 0
    assert list(slurm.down) == ["worker-1"]
    assert states(ec2) == {ids[0]: "stopped", ids[1]: "running"}


def test_a_worker_without_an_instance_is_told(ec2: Ec2) -> None:
    gone = launch(ec2, "gpulab-mine-worker-1")
    ec2.terminate_instances(InstanceIds=[gone])
    workers, slurm = Workers(ec2, "mine"), Slurm()
    assert slurm.wake(["worker-1"], workers) == 1
    assert slurm.down["worker-1"].startswith("lab mine has no instance gpulab-mine-worker-1;")
    assert power.suspend(["worker-1"], workers, slurm.said.append) == 1
    assert slurm.said[-1].startswith("worker-1 could not be stopped, and goes on costing: lab mine")


def test_the_program_tells_the_journal_of_whatever_went_wrong(
    ec2: Ec2, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    said: list[str] = []
    monkeypatch.setattr("syslog.syslog", said.append)
    monkeypatch.setattr(power, "must", lambda *_: "worker-1\n")
    path = tmp_path / "slurm.json"
    monkeypatch.setattr(power, "read_settings", lambda: Settings(**json.loads(path.read_text())))
    assert power.main("suspend", ["worker-1"]) == 1
    path.write_text(json.dumps({"lab": "mine", "region": "us-east-1", "endpoint": ""}))
    made = launch(ec2, "gpulab-mine-worker-1")
    assert power.main("suspend", ["worker-1"]) == 0
    assert said[0].startswith("worker-1: suspend failed: ")
    assert said[1:] == [f"worker-1 had no jobs and is stopped ({made})"]
    assert power.main("wake", ["worker-1"]) == 0
    assert states(ec2) == {made: "running"}


def test_settings_are_read_as_the_role_writes_them(tmp_path: Path) -> None:
    path = tmp_path / "slurm.json"
    told = {"lab": "mine", "region": "eu-west-1", "endpoint": "http://127.0.0.1:5605"}
    path.write_text(json.dumps({"role": "head", "power": told}))
    settings = power.read_settings(path)
    assert settings == Settings("mine", "eu-west-1", "http://127.0.0.1:5605")
    client = power.connect(settings)
    assert client.meta.endpoint_url == "http://127.0.0.1:5605"
