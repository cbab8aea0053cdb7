"""A sandbox of the tests' own: slot 1 unless GPULAB_SANDBOX_SLOT says otherwise."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from sandbox.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
EXPORT = re.compile(r"^export (\w+)='?([^'\n]*)'?$", re.MULTILINE)
SSH_OPTIONS = (
    "-oBatchMode=yes",
    "-oStrictHostKeyChecking=no",
    "-oUserKnownHostsFile=/dev/null",
    "-oLogLevel=ERROR",
    "-oConnectTimeout=10",
)


@dataclass(frozen=True)
class Account:
    """A sandbox, its command line and its API."""

    settings: Settings
    key_file: Path

    @property
    def environment(self) -> Mapping[str, str]:
        return {
            **{k: v for k, v in os.environ.items() if not k.startswith("AWS_")},
            "GPULAB_SANDBOX_SLOT": str(self.settings.slot),
        }

    def command(self, *words: str) -> str:
        """Run `python -m sandbox …`; gives what it printed, fails with what it said."""
        done = subprocess.run(
            [sys.executable, "-m", "sandbox", *words],
            cwd=ROOT,
            env=self.environment,
            check=False,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    @cached_property
    def exports(self) -> dict[str, str]:
        return dict(EXPORT.findall(self.command("env")))

    def client(self, service: str, **more: Any) -> Any:
        exports = self.exports
        given = {
            "endpoint_url": exports["AWS_ENDPOINT_URL"],
            "region_name": exports["AWS_REGION"],
            "aws_access_key_id": exports["AWS_ACCESS_KEY_ID"],
            "aws_secret_access_key": exports["AWS_SECRET_ACCESS_KEY"],
            "config": Config(
                retries={"total_max_attempts": 1},
                read_timeout=180,
                s3={"addressing_style": "path"},
            ),
        }
        return boto3.client(service, **given | more)  # type: ignore[call-overload]

    @cached_property
    def ec2(self) -> Any:
        return self.client("ec2")

    @cached_property
    def image_id(self) -> str:
        name = "/aws/service/debian/release/13/latest/amd64"
        return str(self.client("ssm").get_parameter(Name=name)["Parameter"]["Value"])

    def group(self, *permissions: dict[str, Any]) -> str:
        """Make a security group; without permissions given, port 22 from this machine."""
        name = f"test-{uuid.uuid4().hex}"
        group_id = str(self.ec2.create_security_group(GroupName=name, Description="t")["GroupId"])
        opened = permissions or (tcp(22),)
        self.ec2.authorize_security_group_ingress(GroupId=group_id, IpPermissions=list(opened))
        return group_id

    def run(self, count: int = 1, **arguments: Any) -> list[Machine]:
        """Launch instances of Debian 13 with the tests' key, reachable by SSH."""
        given = {
            "ImageId": self.image_id,
            "InstanceType": "t3.small",
            "KeyName": "tests",
            "MinCount": count,
            "MaxCount": count,
        }
        if "SecurityGroupIds" not in arguments:
            given["SecurityGroupIds"] = [self.group()]
        launched = self.ec2.run_instances(**given | arguments)["Instances"]
        return [Machine(self, instance["InstanceId"]) for instance in launched]

    def server_pid(self) -> int:
        return int((self.settings.state_dir / "server.lock").read_text())


@dataclass(frozen=True)
class Machine:
    """One instance: what EC2 says of it, and a shell on it."""

    account: Account
    instance_id: str

    def describe(self) -> dict[str, Any]:
        told = self.account.ec2.describe_instances(InstanceIds=[self.instance_id])
        instance: dict[str, Any] = told["Reservations"][0]["Instances"][0]
        return instance

    @property
    def state(self) -> str:
        return str(self.describe()["State"]["Name"])

    @property
    def public_ip(self) -> str:
        return str(self.describe()["PublicIpAddress"])

    def ssh(self, script: str, address: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run a script on it as its login user."""
        target = f"admin@{address or self.public_ip}"
        return subprocess.run(
            ["ssh", *SSH_OPTIONS, "-i", str(self.account.key_file), target, "bash -s"],
            input=script,
            check=False,
            capture_output=True,
            text=True,
            timeout=180,
        )

    def output(self, script: str) -> str:
        """Run a script that must succeed; gives what it printed."""
        done = self.ssh(script)
        assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
        return done.stdout.strip()

    def terminate(self) -> None:
        self.account.ec2.terminate_instances(InstanceIds=[self.instance_id])


def tcp(port: int, source: str = "127.0.0.1/32") -> dict[str, Any]:
    """One permission of a security group."""
    ranges = [{"CidrIp": source}]
    return {"IpProtocol": "tcp", "FromPort": port, "ToPort": port, "IpRanges": ranges}


def wait_for(what: Callable[[], bool], seconds: float = 30) -> bool:
    """Ask again and again; False if it did not come true in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if what():
            return True
        time.sleep(0.2)
    return False


def is_open(address: str, port: int) -> bool:
    """Tell whether something answers there, not merely accepts and hangs up."""
    try:
        with socket.create_connection((address, port), timeout=5) as connection:
            connection.settimeout(5)
            connection.sendall(b"x\n")
            return connection.recv(1) != b""
    except OSError:
        return False


def leftovers(settings: Settings) -> list[str]:
    """Find what a slot left on the machine: containers, networks, loop devices, mounts."""
    label = settings.label
    commands: Sequence[Sequence[str]] = (
        ("docker", "ps", "-aq", "--filter", f"name={label}-"),
        ("docker", "network", "ls", "-q", "--filter", f"name={label}"),
    )
    found = [
        line
        for command in commands
        for line in subprocess.run(command, check=True, capture_output=True, text=True)
        .stdout.strip()
        .splitlines()
    ]
    devices = subprocess.run(["losetup", "-J"], check=True, capture_output=True, text=True).stdout
    if devices.strip():
        folder = str(settings.state_dir)
        found += [
            device["name"]
            for device in json.loads(devices)["loopdevices"]
            if (device["back-file"] or "").startswith(folder)
        ]
    mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8")
    found += [line for line in mounts.splitlines() if str(settings.state_dir) in line]
    return found


@pytest.fixture(scope="session")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    slot = int(os.environ.get("GPULAB_SANDBOX_SLOT", "1"))
    key_file = tmp_path_factory.mktemp("key") / "id_ed25519"
    subprocess.run(["ssh-keygen", "-qt", "ed25519", "-N", "", "-f", str(key_file)], check=True)
    account = Account(Settings(slot=slot), key_file)
    account.command("reset")
    public = key_file.with_suffix(".pub").read_bytes()
    account.ec2.import_key_pair(KeyName="tests", PublicKeyMaterial=public)
    yield account
    account.command("down")
    assert leftovers(account.settings) == []


@pytest.fixture(scope="module")
def machine(account: Account) -> Iterator[Machine]:
    """One instance for the tests of a module."""
    machine = account.run()[0]
    yield machine
    if machine.state != "terminated":
        machine.terminate()
