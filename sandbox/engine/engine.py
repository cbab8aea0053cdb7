"""Keeps the machines of one slot as the control plane says they should be."""

from __future__ import annotations

import logging
import os
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from sandbox.engine import boot, netns
from sandbox.engine.containers import Containers, State
from sandbox.engine.file_systems import FileSystems
from sandbox.engine.firewall import Firewall, Segment
from sandbox.engine.forwarder import Forwarder, Target
from sandbox.engine.relay import Loop
from sandbox.engine.services import Services
from sandbox.engine.volumes import Volumes
from sandbox.errors import SandboxError
from sandbox.model import Machine, MetadataSource, MountTarget
from sandbox.settings import Settings

SSH_PORT = 22
READY_TIMEOUT_S = 120.0
PROBE_TIMEOUT_S = 1.0
PROBE_INTERVAL_S = 0.05
PARALLEL = 8
RETRY_AFTER_S = 30.0  # for a machine that fails to start by itself; converge tries at once
SETTLE_TIMEOUT_S = 10.0
MARK = 0x67700000  # on the forwarder's sockets; the slot is added

T = TypeVar("T")
log = logging.getLogger(__name__)


class DockerEngine:
    """Runs the machines of one slot as containers (see sandbox.model.Engine)."""

    def __init__(self, settings: Settings, metadata: MetadataSource) -> None:
        self._settings = settings
        self._source = metadata
        self._lock = threading.RLock()
        self._containers = Containers(settings)
        self._volumes = Volumes(settings.state_dir)
        self._file_systems = FileSystems(self._volumes, self._containers.bridge)
        self._machines_dir = settings.state_dir / "machines"
        self._mark = MARK + settings.slot
        self._firewall = Firewall(
            Segment(
                table=f"gpulab_sandbox_{settings.slot}",
                bridge=self._containers.bridge,
                network=settings.vpc_network,
                gateway=self._containers.gateway,
                mark=self._mark,
            )
        )
        self._loop: Loop | None = None
        self._loop_lock = threading.Lock()
        self._forwarder: Forwarder | None = None
        self._wanted: dict[str, Machine] = {}
        self._services: dict[str, Services] = {}
        self._retry_at: dict[str, float] = {}  # when to start a machine that failed to, again

    @property
    def isolates(self) -> bool:
        """Whether security groups apply between the machines on this host."""
        return self._firewall.isolates

    def converge(self, machines: Sequence[Machine]) -> None:
        """See sandbox.model.Engine. Raises SandboxError, after all machines were tried."""
        if os.geteuid() != 0:
            raise SandboxError(
                "the sandbox enters network namespaces, which root alone may: run it as root"
            )
        with self._lock:
            self._wanted = {machine.instance_id: machine for machine in machines}
            self._retry_at.clear()
            if machines:
                self._containers.ensure_network()
            there = self._containers.list()
            _each(self._remove, there.keys() - self._wanted.keys())
            self._apply_firewall()
            try:
                _each(self._step, machines)
            finally:
                self._open_ports()
                self._sweep()

    def powered_off(self) -> set[str]:
        """See sandbox.model.Engine; restarts the machines that rebooted or crashed as well."""
        with self._lock:
            there = self._containers.list()
            wanted = {one.instance_id: one for one in self._wanted.values() if one.running}
            idle = {
                instance_id: state
                for instance_id in wanted.keys() & there.keys()
                if not there[instance_id] and (state := self._containers.state(instance_id))
            }
            off = {one for one, state in idle.items() if self._switched_itself_off(one, state)}
            lost = {one for one in there if there[one] and self._is_unserved(one)}
            for instance_id in idle:
                self._let_go(instance_id)
            broken = (idle.keys() - off) | (lost & wanted.keys())
            now = time.monotonic()
            mended = [wanted[one] for one in sorted(broken) if self._retry_at.get(one, 0) <= now]
            try:
                _each(self._heal, mended)
            finally:
                if mended or off:
                    self._open_ports()
                elif self._forwarder:
                    self._forwarder.refresh()
            return off

    def reboot(self, instance_id: str) -> None:
        """See sandbox.model.Engine. Raises SandboxError."""
        with self._lock:
            machine = self._wanted.get(instance_id)
            state = self._containers.state(instance_id)
            if machine is None or state is None or not state.running:
                raise SandboxError(f"{instance_id} does not run, so it cannot be rebooted")
            self._stop(instance_id)
            self._start(machine)
            self._open_ports()

    def create_volume(self, volume_id: str, gib: int, snapshot_id: str | None) -> None:
        """See sandbox.model.Engine."""
        self._volumes.create(volume_id, gib, snapshot_id)

    def delete_volume(self, volume_id: str) -> None:
        """See sandbox.model.Engine."""
        self._volumes.delete(volume_id)

    def create_snapshot(self, snapshot_id: str, volume_id: str) -> None:
        """See sandbox.model.Engine."""
        with self._lock:
            for instance_id in list(self._services):
                for one in self._attached(instance_id):
                    if one.volume_id == volume_id:
                        self._run_script(instance_id, "flush", one)
            self._volumes.create_snapshot(snapshot_id, volume_id)

    def delete_snapshot(self, snapshot_id: str) -> None:
        """See sandbox.model.Engine."""
        self._volumes.delete_snapshot(snapshot_id)

    def create_file_system(self, file_system_id: str) -> None:
        """See sandbox.model.Engine."""
        self._file_systems.create(file_system_id)

    def delete_file_system(self, file_system_id: str) -> None:
        """See sandbox.model.Engine."""
        self._file_systems.delete(file_system_id)

    def serve_file_systems(self, targets: Sequence[MountTarget]) -> None:
        """See sandbox.model.Engine. Raises SandboxError."""
        with self._lock:
            if targets:
                self._containers.ensure_network()
            self._file_systems.serve(targets)

    def create_image(self, image_id: str, instance_id: str) -> str:
        """See sandbox.model.Engine."""
        with self._lock:
            machine = self._wanted.get(instance_id)
            user = machine.login_user if machine else ""
            return self._containers.commit(instance_id, image_id, user)

    def delete_image(self, image_id: str) -> None:
        """See sandbox.model.Engine."""
        with self._lock:
            self._containers.remove_image(image_id)

    def console_output(self, instance_id: str) -> str:
        """See sandbox.model.Engine."""
        return self._containers.console(instance_id)

    def close(self) -> None:
        """See sandbox.model.Engine."""
        with self._lock:
            for instance_id in list(self._services):
                self._services.pop(instance_id).close()
            self._file_systems.close()
            if self._forwarder:
                self._forwarder.close()
            if self._loop:
                self._loop.close()
            self._forwarder = self._loop = None
            self._containers.close()

    def destroy(self) -> None:
        """See sandbox.model.Engine."""
        with self._lock:
            self._wanted = {}
            _each(self._remove, self._containers.list())
            self._file_systems.close()
            self._containers.remove_network()
            self._containers.remove_images(nameless_only=False)
            self._firewall.remove()
            self._volumes.destroy()
            shutil.rmtree(self._machines_dir, ignore_errors=True)
            self.close()

    # One machine

    def _step(self, machine: Machine) -> None:
        """Bring one machine in step."""
        state = self._settled(machine.instance_id)
        if not machine.running:
            if state is not None and state.running:
                self._stop(machine.instance_id)
            self._acknowledge(machine.instance_id)
        elif state is not None and state.running:
            self._mend(machine, state)
        elif state is None:
            folder = self._folder(machine.instance_id)
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)  # Docker wants to see it
            self._containers.create(machine, folder)
            self._start(machine)
        elif not self._switched_itself_off(machine.instance_id, state):
            self._start(machine)

    def _start(self, machine: Machine) -> None:
        instance_id = machine.instance_id
        folder = self._folder(instance_id)
        self._let_go(instance_id)
        boot.prepare(folder, machine, self._wanted_attachments(machine))
        self._containers.start(instance_id)
        self._note(instance_id).unlink(missing_ok=True)
        state = self._containers.state(instance_id)
        if state is not None and state.running:
            self._serve(instance_id, state)
            self._await_ssh(machine, state)

    def _mend(self, machine: Machine, state: State) -> None:
        """Give a running machine what it lacks: services, volumes attached since its start."""
        instance_id = machine.instance_id
        if self._is_unserved(instance_id):
            self._serve(instance_id, state)
            self._await_ssh(machine, state)
        self._sync_volumes(machine)

    def _heal(self, machine: Machine) -> None:
        """Start a machine again that rebooted or crashed."""
        state = self._settled(machine.instance_id)
        try:
            if state is not None and state.running:
                self._mend(machine, state)
            elif state is not None and not self._switched_itself_off(machine.instance_id, state):
                log.info("%s starts again (exit code %d)", state.name, state.exit_code)
                self._start(machine)
        except SandboxError:
            self._retry_at[machine.instance_id] = time.monotonic() + RETRY_AFTER_S
            raise

    def _settled(self, instance_id: str) -> State | None:
        """Look at a container; while its end is not known to Docker yet, wait for that."""
        deadline = time.monotonic() + SETTLE_TIMEOUT_S
        while True:
            state = self._containers.state(instance_id)
            dying = state is not None and state.running and netns.network_of(state.pid) is None
            if not dying or time.monotonic() > deadline:
                return state
            time.sleep(PROBE_INTERVAL_S)

    def _stop(self, instance_id: str) -> None:
        self._containers.stop(instance_id)
        self._let_go(instance_id)

    def _remove(self, instance_id: str) -> None:
        self._let_go(instance_id)
        self._containers.remove(instance_id)
        shutil.rmtree(self._folder(instance_id), ignore_errors=True)

    def _await_ssh(self, machine: Machine, state: State) -> None:
        """Wait until sshd answers and logins are allowed, or the machine has gone again."""
        deadline = time.monotonic() + READY_TIMEOUT_S
        closed = Path(f"/proc/{state.pid}/root/run/nologin")  # pam_nologin: still booting
        while time.monotonic() < deadline:
            if self._banner(machine.private_ip) and not os.path.lexists(closed):
                return
            now = self._containers.state(machine.instance_id)
            if now is None or not now.running:
                return  # its own user data may have switched it off; the next look tells
            time.sleep(PROBE_INTERVAL_S)
        raise SandboxError(
            f"{state.name} does not answer on port {SSH_PORT} of {machine.private_ip} after"
            f" {READY_TIMEOUT_S:.0f} s; the last lines of its console:\n"
            f"{self._containers.last_lines(machine.instance_id)}"
        )

    def _banner(self, address: str) -> bool:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, self._mark)
            probe.settimeout(PROBE_TIMEOUT_S)
            try:
                probe.connect((address, SSH_PORT))
                return probe.recv(4) == b"SSH-"
            except OSError:
                return False

    # What a machine switched off by itself looks like

    def _switched_itself_off(self, instance_id: str, state: State) -> bool:
        """Tell whether a machine powered itself off and the control plane does not know yet."""
        return not self._note(instance_id).exists() and self._containers.powered_off(
            instance_id, state
        )

    def _acknowledge(self, instance_id: str) -> None:
        """Note that the control plane knows the machine as stopped; to run again is its wish."""
        self._folder(instance_id).mkdir(parents=True, exist_ok=True, mode=0o700)
        self._note(instance_id).touch()

    def _note(self, instance_id: str) -> Path:
        return self._folder(instance_id) / "stopped"

    def _folder(self, instance_id: str) -> Path:
        return self._machines_dir / instance_id

    # Services and ports

    def _serve(self, instance_id: str, state: State) -> None:
        self._let_go(instance_id)
        self._services[instance_id] = Services(
            self._relays, instance_id, state.pid, self._settings.port, self._source
        )

    def _is_unserved(self, instance_id: str) -> bool:
        services = self._services.get(instance_id)
        return services is None or not services.alive

    def _let_go(self, instance_id: str) -> None:
        """Close what a machine that is down was given."""
        services = self._services.pop(instance_id, None)
        if services is None:
            return
        services.close()
        if self._forwarder and (machine := self._wanted.get(instance_id)):
            self._forwarder.cut(machine.public_ip)

    @property
    def _relays(self) -> Loop:
        with self._loop_lock:  # asked for by the threads of _each, while self._lock is held
            if self._loop is None:
                self._loop = Loop()
            return self._loop

    def _open_ports(self) -> None:
        """Bring the public ports in step with what runs now."""
        targets: dict[str, Target] = {}
        for instance_id in self._services:
            machine = self._wanted.get(instance_id)
            state = self._containers.state(instance_id)
            if machine and machine.public_ip and state and state.running:
                targets[machine.public_ip] = Target(
                    state.pid, machine.private_ip, tuple(machine.ingress)
                )
        if self._forwarder is None:
            self._forwarder = Forwarder(self._relays, self._mark)
        self._forwarder.sync(targets)
        self._apply_firewall()

    def _apply_firewall(self) -> None:
        moved = self._forwarder.moved() if self._forwarder else {}
        self._firewall.apply(self._wanted.values(), moved)

    # Volumes

    def _wanted_attachments(self, machine: Machine) -> list[boot.Attachment]:
        return [
            boot.Attachment(device, volume_id, self._volumes.attach(volume_id))
            for device, volume_id in sorted(machine.volumes.items())
        ]

    def _attached(self, instance_id: str) -> list[boot.Attachment]:
        return boot.read_attachments(self._folder(instance_id))

    def _sync_volumes(self, machine: Machine) -> None:
        """Attach and detach volumes of a running machine."""
        folder = self._folder(machine.instance_id)
        before = self._attached(machine.instance_id)
        wanted = dict(machine.volumes)
        if wanted == {one.device: one.volume_id for one in before}:
            return
        for one in before:
            if wanted.get(one.device) != one.volume_id:
                self._run_script(machine.instance_id, "detach", one)
        after = self._wanted_attachments(machine)
        for one in after:
            self._run_script(machine.instance_id, "attach", one)
        boot.write_attachments(folder, after)

    def _run_script(self, instance_id: str, name: str, attachment: boot.Attachment) -> None:
        script = (self._folder(instance_id) / name).read_text()
        self._containers.run(instance_id, ["/bin/sh", "-c", script, name, *attachment.arguments])

    def _sweep(self) -> None:
        """Free what no machine uses any more: loop devices, folders, images without a name."""
        attached = {
            one.volume_id for instance_id in self._services for one in self._attached(instance_id)
        }
        self._volumes.release_all_but(attached | self._file_systems.served)
        self._containers.remove_images(nameless_only=True)
        if self._machines_dir.is_dir():
            for folder in self._machines_dir.iterdir():
                if folder.name not in self._wanted:
                    shutil.rmtree(folder, ignore_errors=True)


def _each(work: Callable[[T], None], items: Iterable[T]) -> None:
    """Do `work` for all items side by side. Raises the first SandboxError once all are done."""
    todo = list(items)
    if not todo:
        return
    with ThreadPoolExecutor(max_workers=min(PARALLEL, len(todo))) as pool:
        errors = [done.exception() for done in [pool.submit(work, item) for item in todo]]
    found = [error for error in errors if error is not None]
    for error in found[1:]:
        log.error("%s", error)
    if found:
        raise found[0]
