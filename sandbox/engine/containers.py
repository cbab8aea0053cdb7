"""The containers of one slot: systemd as PID 1, found again by label."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import docker.errors
import requests
from docker.types import IPAMConfig, IPAMPool, LogConfig, Mount

from sandbox.engine import boot
from sandbox.errors import SandboxError
from sandbox.model import Machine
from sandbox.settings import Settings

SLOT_LABEL = "gpulab.sandbox"
INSTANCE_LABEL = "gpulab.sandbox.instance"
IMAGE_LABEL = "gpulab.sandbox.image"
USER_LABEL = "gpulab.sandbox.user"
API_TIMEOUT_S = 300
POOL_SIZE = 32
STOP_TIMEOUT_S = 20
REBOOTED = 129  # 128 + SIGHUP: what PID 1 of a container dies of at reboot(RESTART)
SWITCHED_OFF = 130  # 128 + SIGINT: at reboot(POWER_OFF) and reboot(HALT)
HALTED = "Halting system."  # the stop signal halts; `poweroff` and `shutdown` power off
LAST_LINES = 15
LOOKS = 10
LOOK_EVERY_S = 0.2
LOG_BYTES = "2m"
LOOP_DEVICES = "b 7:* rwm"
# SYS_NICE: Slurm binds jobs to processors.
CAPABILITIES = ("SYS_ADMIN", "NET_ADMIN", "SYS_PTRACE", "SYS_BOOT", "MKNOD", "SYS_NICE")
ANSI = re.compile(r"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[P^_].*?\x1b\\|.)")


@dataclass(frozen=True)
class State:
    """A container as Docker sees it now."""

    name: str
    running: bool
    pid: int
    exit_code: int
    started_at: str
    never_started: bool


class Containers:
    """Docker's side of the machines of one slot."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._connection: docker.DockerClient | None = None
        self._facts: Mapping[str, Any] = {}

    @property
    def bridge(self) -> str:
        """The name of the network's interface on this machine (15 characters at most)."""
        return f"gpulab{self._settings.slot}"

    @property
    def gateway(self) -> str:
        """The address of this machine itself in the network."""
        return str(self._settings.vpc_network[1])

    def list(self) -> dict[str, bool]:
        """Give the instance ids of all containers of the slot, and whether each runs."""
        with explained("listing the containers"):
            rows = self._client.api.containers(all=True, filters={"label": self._slot_label})
        return {
            row["Labels"][INSTANCE_LABEL]: row["State"] == "running"
            for row in rows
            if INSTANCE_LABEL in row["Labels"]
        }

    def state(self, instance_id: str) -> State | None:
        """Give the state of a container, None when there is none."""
        name = self.name(instance_id)
        try:
            with explained(f"looking at {name}"):
                attributes = self._client.api.inspect_container(name)
        except MissingError:
            return None
        state = attributes["State"]
        return State(
            name=name,
            running=bool(state["Running"]),
            pid=int(state["Pid"]),
            exit_code=int(state["ExitCode"]),
            started_at=str(state["StartedAt"]),
            never_started=state["Status"] == "created",
        )

    def name(self, instance_id: str) -> str:
        """Give the name of a machine's container."""
        return f"{self._settings.label}-{instance_id}"

    def create(self, machine: Machine, folder: Path) -> None:
        """Make the container of a machine; it is not started. Raises SandboxError."""
        try:
            self._create(machine, folder)
        except MissingError:  # the image
            raise
        except SandboxError:
            if not _comes_true(lambda: self.state(machine.instance_id) is not None):
                raise

    def _create(self, machine: Machine, folder: Path) -> None:
        short, _, domain = machine.hostname.partition(".")
        network = self._settings.label
        version_two = str(self._info.get("CgroupVersion", "1")) == "2"
        mounts = [Mount(boot.GUEST_FOLDER, str(folder), type="bind", read_only=True)]
        if not version_two:
            mounts.append(Mount("/sys/fs/cgroup", "/sys/fs/cgroup", type="bind"))
        address = self._client.api.create_endpoint_config(ipv4_address=machine.private_ip)
        with explained(f"making container {self.name(machine.instance_id)} of {machine.image}"):
            self._client.containers.create(
                machine.image,
                ["/bin/sh", f"{boot.GUEST_FOLDER}/init"],
                name=self.name(machine.instance_id),
                labels={
                    SLOT_LABEL: self._settings.label,
                    INSTANCE_LABEL: machine.instance_id,
                    USER_LABEL: machine.login_user,
                },
                hostname=short,
                domainname=domain or None,
                environment={"container": "docker"},
                entrypoint=[],
                tty=True,  # systemd's console, which console_output reads
                network=network,
                networking_config={network: address},
                stop_signal="SIGRTMIN+3",
                cap_add=list(CAPABILITIES),
                devices=["/dev/fuse:/dev/fuse:rwm"],
                device_cgroup_rules=[LOOP_DEVICES],
                security_opt=["seccomp=unconfined", "apparmor=unconfined"],
                cgroupns="private" if version_two else "host",
                mounts=mounts,
                tmpfs={"/run": "", "/tmp": "exec"},  # noqa: S108 - the machine's own
                shm_size=int(self._info.get("MemTotal", 0)) // 2 or None,
                log_config=LogConfig(
                    type="json-file", config={"max-size": LOG_BYTES, "max-file": "1"}
                ),
            )

    def start(self, instance_id: str) -> None:
        """Start a container. Raises SandboxError."""
        with explained(f"starting {self.name(instance_id)}"):
            self._client.api.start(self.name(instance_id))

    def stop(self, instance_id: str) -> None:
        """Shut a container down; after STOP_TIMEOUT_S seconds it is killed."""
        with explained(f"stopping {self.name(instance_id)}"):
            self._client.api.stop(self.name(instance_id), timeout=STOP_TIMEOUT_S)

    def remove(self, instance_id: str) -> None:
        """Remove a container, running or not; nothing happens when it is gone."""
        try:
            with explained(f"removing {self.name(instance_id)}"):
                self._client.api.remove_container(self.name(instance_id), v=True, force=True)
        except MissingError:
            return

    def run(self, instance_id: str, command: Sequence[str]) -> None:
        """Run a command in a running container. Raises SandboxError when it fails."""
        with explained(f"running {command[0]} in {self.name(instance_id)}"):
            started = self._client.api.exec_create(self.name(instance_id), list(command))
            output = self._client.api.exec_start(started["Id"])
            status = self._client.api.exec_inspect(started["Id"])["ExitCode"]
        if status:
            raise SandboxError(
                f"{self.name(instance_id)}: {' '.join(command)} ended with {status}:"
                f" {output.decode(errors='replace').strip()}"
            )

    def console(self, instance_id: str, state: State | None = None) -> str:
        """Give what a container has printed since its last start, without terminal codes."""
        state = state or self.state(instance_id)
        if state is None or state.never_started:
            return ""
        with explained(f"reading the console of {state.name}"):
            raw = self._client.api.logs(state.name, stdout=True, stderr=True)
        text = ANSI.sub("", raw.decode(errors="replace")).replace("\r", "")
        return text.rpartition(boot.BANNER)[2]

    def last_lines(self, instance_id: str) -> str:
        """Give the last lines of the console, for an error's text."""
        return "\n".join(self.console(instance_id).rstrip().splitlines()[-LAST_LINES:])

    def powered_off(self, instance_id: str, state: State) -> bool:
        """Tell whether a stopped container switched itself off (nobody stopped it)."""
        if state.running or state.exit_code != SWITCHED_OFF:
            return False
        return HALTED not in self.console(instance_id, state)

    def ensure_network(self) -> None:
        """Make the slot's network if it is not there. Raises SandboxError."""
        subnet = str(self._settings.vpc_network)
        name = self._settings.label
        if self._has_network():
            return
        pool = IPAMPool(subnet=subnet, gateway=self.gateway)
        try:
            with explained(f"making the network {name} of {subnet}"):
                self._client.networks.create(
                    name,
                    driver="bridge",
                    ipam=IPAMConfig(pool_configs=[pool]),
                    options={"com.docker.network.bridge.name": self.bridge},
                    labels={SLOT_LABEL: name},
                )
        except SandboxError:
            if not _comes_true(self._has_network):
                raise

    def _has_network(self) -> bool:
        with explained("looking for the network"):
            found = self._client.networks.list(names=[self._settings.label])
        return any(network.name == self._settings.label for network in found)

    def remove_network(self) -> None:
        """Remove the slot's network."""
        with explained(f"removing the network {self._settings.label}"):
            for network in self._client.networks.list(filters={"label": self._slot_label}):
                network.remove()

    def commit(self, instance_id: str, image_id: str, login_user: str) -> str:
        """Keep a container's disk as an image; returns its reference."""
        repository = f"{self._settings.label}/image"
        changes = f"LABEL {IMAGE_LABEL}={self._settings.label} {USER_LABEL}={login_user}"
        with explained(f"making image {image_id} of {self.name(instance_id)}"):
            self._client.api.commit(
                self.name(instance_id), repository, image_id, pause=True, changes=changes
            )
        return f"{repository}:{image_id}"

    def remove_image(self, image_id: str) -> None:
        """Remove an image made by commit; one in use loses its name first, the rest later."""
        try:
            with explained(f"deleting image {image_id}"):
                self._client.api.remove_image(
                    f"{self._settings.label}/image:{image_id}", force=True
                )
        except MissingError:
            return

    def remove_images(self, *, nameless_only: bool) -> None:
        """Remove the slot's images, or those whose name is gone and that nothing uses."""
        filters: dict[str, Any] = {"label": f"{IMAGE_LABEL}={self._settings.label}"}
        if nameless_only:
            filters["dangling"] = True
        with explained("deleting images"):
            for image in self._client.api.images(filters=filters):
                try:
                    self._client.api.remove_image(image["Id"], force=not nameless_only)
                except docker.errors.NotFound:
                    continue
                except docker.errors.APIError as error:
                    if error.status_code != requests.codes.conflict:  # a machine still uses it
                        raise

    def close(self) -> None:
        """Let go of the connection to Docker."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    @property
    def _slot_label(self) -> str:
        return f"{SLOT_LABEL}={self._settings.label}"

    @property
    def _client(self) -> docker.DockerClient:
        if self._connection is None:
            with explained("connecting to Docker"):
                self._connection = docker.from_env(timeout=API_TIMEOUT_S, max_pool_size=POOL_SIZE)
        return self._connection

    @property
    def _info(self) -> Mapping[str, Any]:
        if not self._facts:
            with explained("asking Docker about this machine"):
                self._facts = self._client.info()
        return self._facts


def _comes_true(there: Callable[[], bool]) -> bool:
    """Wait a little: Docker may still be at what a process that was killed asked for."""
    for _ in range(LOOKS):
        if there():
            return True
        time.sleep(LOOK_EVERY_S)
    return False


class MissingError(SandboxError):
    """Docker does not know the thing asked about."""


@contextmanager
def explained(doing: str) -> Iterator[None]:
    """Turn Docker's errors into SandboxError, which says what was being done."""
    try:
        yield
    except docker.errors.ImageNotFound as error:
        raise MissingError(
            f"{doing} failed: the image is not there; make it: python -m sandbox image 13 12"
            f" ({error.explanation})"
        ) from error
    except docker.errors.NotFound as error:
        raise MissingError(f"{doing} failed: {error.explanation}") from error
    except docker.errors.APIError as error:
        raise SandboxError(f"{doing} failed: {error.explanation or error}") from error
    except (docker.errors.DockerException, requests.RequestException) as error:
        raise SandboxError(
            f"{doing} failed: Docker does not answer ({error}); start it: systemctl start docker"
        ) from error
