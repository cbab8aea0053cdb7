"""An engine of the tests' own, without the control plane: slot 9 unless GPULAB_ENGINE_SLOT says.

(The other tests here keep a whole sandbox in slot 1 meanwhile.)
"""

from __future__ import annotations

import dataclasses
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sandbox.engine import DockerEngine
from sandbox.model import IngressRule, Machine, Metadata, MetadataOptions, MetadataTree
from sandbox.settings import Settings

EVERYONE = "0.0.0.0/0"
SSH = IngressRule("tcp", 22, 22, ("127.0.0.1/32",))
BY_ID = "/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_"
SSH_OPTIONS = (
    "-oBatchMode=yes",
    "-oStrictHostKeyChecking=no",
    "-oUserKnownHostsFile=/dev/null",
    "-oLogLevel=ERROR",
    "-oConnectTimeout=10",
)


class Bench:
    """An engine with the machines that the tests have put on it."""

    def __init__(self, folder: Path) -> None:
        slot = int(os.environ.get("GPULAB_ENGINE_SLOT", "9"))
        self.settings = Settings(slot=slot, root=folder)
        self.key_file = folder / "id_ed25519"
        command = ["ssh-keygen", "-qt", "ed25519", "-N", "", "-f", str(self.key_file)]
        subprocess.run(command, check=True)
        self.public_key = self.key_file.with_suffix(".pub").read_text().strip()
        self.options = MetadataOptions(tokens_required=True)
        self.tree: MetadataTree = {"meta-data/instance-id": "set by the test"}
        self.machines: dict[str, Machine] = {}
        self.engine = DockerEngine(self.settings, self.metadata)

    def metadata(self, instance_id: str) -> Metadata:
        return Metadata(self.options, {**self.tree, "meta-data/instance-id": instance_id})

    def machine(self, number: int, **changes: Any) -> Machine:
        """Describe machine `number` (1 to 254), Debian 13 with SSH open to this machine."""
        private = str(self.settings.vpc_network[256 + number])
        return dataclasses.replace(
            Machine(
                instance_id=f"i-{number:017x}",
                running=True,
                image="gpulab/debian:13",
                login_user="admin",
                hostname=f"ip-{private.replace('.', '-')}.ec2.internal",
                private_ip=private,
                public_ip=str(self.settings.public_network[256 + number]),
                root_gib=8,
                public_keys=(self.public_key,),
                ingress=(SSH,),
            ),
            **changes,
        )

    def converge(self, *changed: Machine) -> None:
        """Bring the engine in step with these machines and the others as they were."""
        self.machines |= {machine.instance_id: machine for machine in changed}
        self.engine.converge(list(self.machines.values()))

    def remove(self, *machines: Machine) -> None:
        for machine in machines:
            self.machines.pop(machine.instance_id, None)
        self.converge()

    def new_engine(self) -> None:
        """Go on as a process that was started anew would."""
        self.engine.close()
        self.engine = DockerEngine(self.settings, self.metadata)

    def ssh(self, machine: Machine, script: str) -> subprocess.CompletedProcess[str]:
        target = f"{machine.login_user}@{machine.public_ip}"
        return subprocess.run(
            ["ssh", *SSH_OPTIONS, "-i", str(self.key_file), target, "bash -s"],
            input=script,
            check=False,
            capture_output=True,
            text=True,
            timeout=120,
        )

    def output(self, machine: Machine, script: str) -> str:
        """Run a script that must succeed on a machine; gives what it printed."""
        done = self.ssh(machine, script)
        assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
        return done.stdout.strip()

    def name(self, machine: Machine) -> str:
        return f"{self.settings.label}-{machine.instance_id}"

    def leftovers(self) -> list[str]:
        """Find what the slot left on this machine."""
        label, slot = self.settings.label, self.settings.slot
        found = lines("docker", "ps", "-aq", "--filter", f"name={label}-")
        found += lines("docker", "network", "ls", "-q", "--filter", f"name={label}$")
        found += lines("docker", "images", "-q", "--filter", f"label=gpulab.sandbox.image={label}")
        found += [one for one in lines("nft", "list", "tables") if f"gpulab_sandbox_{slot}" in one]
        folder = str(self.settings.state_dir.resolve())
        found += [one for one in lines("losetup", "-nO", "NAME,BACK-FILE") if folder in one]
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
        found += [one for one in mounts if folder in one]
        return found + [str(path) for path in self.settings.state_dir.glob("*")]


@contextmanager
def bench(folder: Path) -> Iterator[Bench]:
    """Give a bench; afterwards nothing of it may be left."""
    made = Bench(folder)
    made.engine.destroy()  # of a run that was killed
    try:
        yield made
    finally:
        made.engine.destroy()
    assert made.leftovers() == []


def lines(*command: str) -> list[str]:
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return done.stdout.splitlines()


def docker(*arguments: str) -> str:
    return "\n".join(lines("docker", *arguments))


def wait_for(what: Callable[[], bool], seconds: float = 30) -> bool:
    """Ask again and again; False if it did not come true in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if what():
            return True
        time.sleep(0.2)
    return False


def answers(address: str | None, port: int, source: str = "") -> bool:
    """Tell whether something there says a word first, as sshd does."""
    assert address is not None
    try:
        with socket.create_connection(
            (address, port), timeout=5, source_address=(source, 0)
        ) as connection:
            return connection.recv(1) != b""
    except OSError:
        return False
