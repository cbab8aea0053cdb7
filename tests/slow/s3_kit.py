"""A host with a real s3fs in a container, moto's S3 server, and a proxy between them that fails."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from moto.server import ThreadedMotoServer

from tests.fault_proxy import Proxy

ROOT = Path(__file__).resolve().parents[2]
BUCKET = "labdata"
WRITER_USER = "nobody"
KEY, SECRET = "LABKEYEXAMPLE", "labSecret/Example+Key"
# As molecule starts its hosts (.config/molecule/create.yml): what systemd and FUSE need.
FLAGS = (
    *("--hostname=lab", "--stop-signal=SIGRTMIN+3", "--cgroupns=host", "--env=container=docker"),
    *("--cap-add=SYS_ADMIN", "--cap-add=NET_ADMIN", "--cap-add=SYS_PTRACE", "--cap-add=SYS_BOOT"),
    *("--device=/dev/fuse:/dev/fuse:rwm", "--security-opt=seccomp=unconfined"),
    *("--security-opt=apparmor=unconfined", "--volume=/sys/fs/cgroup:/sys/fs/cgroup:rw"),
    *("--tmpfs=/run", "--tmpfs=/run/lock", "--tmpfs=/tmp:exec"),
)
# Writes files, each closed after fsync, and notes a file's digest only after that.
WRITER = """
import hashlib, os, sys, time
n = 0
while True:
    data = os.urandom(int(sys.argv[1]))
    path = f"/s3/written-{os.getpid()}-{n}"
    n += 1
    try:
        with open(path, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        time.sleep(0.2)
        continue
    with open("/var/tmp/written", "a") as notes:
        notes.write(f"{os.path.basename(path)} {hashlib.sha256(data).hexdigest()}\\n")
        notes.flush()
        os.fsync(notes.fileno())
    time.sleep(0.02)
"""


def missing(version: str) -> str:
    """Say why no container can be started here; empty if one can."""
    if os.geteuid() != 0 or not Path("/dev/fuse").exists():
        return "root and /dev/fuse are needed"
    image = ["docker", "image", "inspect", f"gpulab/debian:{version}"]
    try:
        found = subprocess.run(image, capture_output=True, check=False)
    except FileNotFoundError:
        return "Docker is not installed"
    return f"no image (python -m sandbox image {version})" if found.returncode else ""


def run(*command: str, timeout: float = 120) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout.strip()


def free_port(address: str) -> int:
    with socket.create_server((address, 0)) as server:
        return int(server.getsockname()[1])


class Server:
    """moto's S3 behind the proxy, where containers reach it."""

    def __init__(self) -> None:
        form = "{{(index .IPAM.Config 0).Gateway}}"
        self.address = run("docker", "network", "inspect", "bridge", "--format", form)
        self.moto = ThreadedMotoServer(ip_address=self.address, port=0, verbose=False)
        self.moto.start()
        inner = self.moto.get_host_and_port()[1]
        self.port = free_port(self.address)
        self.proxy = Proxy(self.address, self.port, inner)
        self.proxy.set("pass")
        self.s3: Any = boto3.client(
            "s3",
            endpoint_url=f"http://{self.address}:{inner}",
            region_name="us-east-1",
            aws_access_key_id=KEY,
            aws_secret_access_key=SECRET,
            config=Config(s3={"addressing_style": "path"}, proxies={}),
        )
        self.s3.create_bucket(Bucket=BUCKET)

    @property
    def url(self) -> str:
        return f"http://{self.address}:{self.port}"

    def digest(self, name: str) -> str:
        body = self.s3.get_object(Bucket=BUCKET, Key=name)["Body"].read()
        return hashlib.sha256(body).hexdigest()

    def stop(self) -> None:
        self.proxy.set("refuse")
        self.moto.stop()


@dataclass
class Host:
    """One container with systemd and s3fs."""

    name: str
    server: Server

    @classmethod
    def start(cls, version: str, server: Server) -> Host:
        name = f"gpulab-slow-s3-{version}-{uuid.uuid4().hex[:8]}"
        image = f"gpulab/debian:{version}"
        run("docker", "run", "--detach", "--name", name, *FLAGS, image, "/lib/systemd/systemd")
        host = cls(name, server)
        host.booted()
        host.sh("apt-get update -qq && apt-get install -qq --yes s3fs >/dev/null 2>&1", 300)
        return host

    def booted(self) -> None:
        states = ("running", "degraded")
        command = ["docker", "exec", self.name, "systemctl", "is-system-running", "--wait"]
        for _ in range(60):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.stdout.strip() in states:
                return
            time.sleep(1)
        raise AssertionError(f"{self.name} does not boot: {done.stdout}{done.stderr}")

    def sh(self, script: str, timeout: float = 120) -> str:
        return run("docker", "exec", self.name, "bash", "-ec", script, timeout=timeout)

    def module(self, name: str = "s3_mount", **arguments: Any) -> dict[str, Any]:
        """Run a module on it by Ansible; gives its result, failed or not."""
        ansible = Path(sys.executable).with_name("ansible")
        command = [str(ansible), "all", "-i", f"{self.name},", "-c", "community.docker.docker"]
        command += ["-e", "ansible_python_interpreter=/usr/bin/python3", "-m", name]
        environment = os.environ | {
            "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json",
            "ANSIBLE_LOAD_CALLBACK_PLUGINS": "1",
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        }
        done = subprocess.run(
            [*command, "-a", json.dumps(arguments)],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=400,
            check=False,
        )
        told = json.loads(done.stdout[done.stdout.index("{") :])
        result: dict[str, Any] = told["plays"][0]["tasks"][0]["hosts"][self.name]
        return result

    def mount(self, **more: Any) -> dict[str, Any]:
        given = {
            "bucket": BUCKET,
            "path": "/s3",
            "endpoint": self.server.url,
            "access_key": KEY,
            "secret_key": SECRET,
            "owner": WRITER_USER,
        }
        return self.module(**given | more)

    @property
    def daemon(self) -> int:
        return int(self.sh("systemctl show --property=MainPID --value lab-s3@s3"))

    def replaced(self, killed: int) -> bool:
        """Tell whether another daemon serves the mount, and the bucket answers."""
        return self.daemon not in (0, killed) and self.is_well()

    def note(self) -> dict[str, str]:
        """Read what the watch saw last."""
        text = self.sh("cat /run/lab-s3/s3.json 2>/dev/null || echo '{}'")
        note: dict[str, str] = json.loads(text)
        return note

    def probe(self) -> str:
        """Ask the mount and the bucket; gives its state."""
        script = "from s3mount.probe import probe; print(probe('/s3', 3.0).state)"
        return self.sh(f'PYTHONPATH=/usr/local/lib/lab python3 -c "{script}"')

    def is_well(self) -> bool:
        return self.probe() == "ok"

    def start_writer(self, size: int = 20_000, user: str = WRITER_USER) -> None:
        """Write files for ever, as a service: a shutdown ends it as it ends a user's job."""
        self.sh("rm -f /var/tmp/written")
        quoted = WRITER.replace("'", "'\\''")
        self.sh(
            f"systemd-run --quiet --collect --unit=writer --uid={user} python3 -c '{quoted}' {size}"
        )

    def stop_writer(self) -> dict[str, str]:
        """End it; gives the digest of each file that was closed and synced."""
        self.sh("systemctl kill --signal=KILL writer || true; systemctl stop writer || true")
        return self.written()

    def written(self) -> dict[str, str]:
        lines = self.sh("cat /var/tmp/written").splitlines()
        return {line.split()[0]: line.split()[1] for line in lines}

    def remove(self) -> None:
        run("docker", "rm", "--force", "--volumes", self.name)


def lost(server: Server, written: dict[str, str]) -> list[str]:
    """Name the files that are not in the bucket as they were written."""
    assert written, "the writer wrote nothing"
    gone = []
    for name, digest in written.items():
        try:
            found = server.digest(name)
        except server.s3.exceptions.NoSuchKey:
            found = ""
        if found != digest:
            gone.append(name)
    return gone


def wait_for(what: Callable[[], bool], seconds: float) -> float:
    """Ask again and again; gives the seconds it took, fails if it never came true."""
    started = time.monotonic()
    while not what():
        assert time.monotonic() - started < seconds, f"not within {seconds} s"
        time.sleep(0.2)
    return time.monotonic() - started
