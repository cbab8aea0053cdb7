"""Keeps the machines in step with what moto's EC2 says: reads its models, tells the engine."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from moto.ec2.models import ec2_backends
from moto.ec2.models.instances import StateReason
from moto.efs.models import efs_backends

from sandbox.locks import MOTO_LOCK
from sandbox.metadata import find_instance, public_key_of, user_data_of
from sandbox.model import Engine, IngressRule, Machine, MountTarget
from sandbox.settings import ACCOUNT_ID

log = logging.getLogger(__name__)

LIVE_STATES = ("running", "stopped")


@dataclass
class Stored:
    """What the engine holds besides machines; saved with the state."""

    volumes: set[str] = field(default_factory=set)
    snapshots: set[str] = field(default_factory=set)
    images: set[str] = field(default_factory=set)
    file_systems: set[str] = field(default_factory=set)


class Reconciler:
    """Brings the engine in step. Calls that change EC2 hold `lock` from moto to the engine."""

    def __init__(self, engine: Engine, stored: Stored) -> None:
        self.engine = engine
        self.stored = stored
        self.lock = threading.RLock()
        self._converged: list[Machine] | None = None
        self._served: list[MountTarget] | None = None
        # A state that was saved before there were any has no such field.
        stored.__dict__.setdefault("file_systems", set())

    def step(self) -> None:
        """Make volumes, snapshots, images and machines what moto says. Raises engine errors."""
        with self.lock:
            self._make_volumes_and_snapshots()
            self._make_images()
            self._make_file_systems()
            self._serve_file_systems()
            machines = desired_machines()
            if machines != self._converged:
                self._converged = None
                self.engine.converge(machines)
                self._converged = machines
            self._delete_leftovers()

    def follow_power_off(self) -> bool:
        """Stop or terminate the instances that switched themselves off; tell if any did."""
        if not self.engine.powered_off():
            return False
        with self.lock:
            # Asked again: a call that was under way may have stopped or started one itself.
            instances = [self._instance(i) for i in sorted(self.engine.powered_off())]
            running = [i for i in instances if i is not None and i.state == "running"]
            with MOTO_LOCK:
                for instance in running:
                    _power_off(instance)
            if running:
                self._converged = None
                self.step()
            return bool(running)

    def follow_schedules(self) -> bool:
        """Stop the instances whose schedules say so; tell if any was."""
        from sandbox import schedules  # noqa: PLC0415  it imports the patches of this one

        with self.lock:
            with MOTO_LOCK:
                stopped = schedules.stop_due(datetime.now(UTC))
            if stopped:
                self.step()
            return stopped

    def follow_interruptions(self, asked: Path) -> bool:
        """Stop the Spot instances whose time has come, start those that may; tell if any was."""
        from sandbox import interruptions  # noqa: PLC0415  as above

        with self.lock:
            with MOTO_LOCK:
                changed = interruptions.follow(asked, datetime.now(UTC))
            if changed:
                self.step()
            return changed

    def reboot(self, instance_ids: list[str]) -> None:
        """Restart machines, as RebootInstances asks."""
        with self.lock:
            for instance_id in instance_ids:
                self.engine.reboot(instance_id)

    @staticmethod
    def _instance(instance_id: str) -> Any:
        try:
            return find_instance(instance_id)
        except KeyError:
            return None

    def _make_volumes_and_snapshots(self) -> None:
        for backend in _backends():
            for snapshot in list(backend.snapshots.values()):
                if snapshot.id not in self.stored.snapshots and self._has_content(snapshot):
                    self.engine.create_snapshot(snapshot.id, snapshot.volume_id)
                    self.stored.snapshots.add(snapshot.id)
            for volume in _data_volumes(backend):
                if volume.id not in self.stored.volumes:
                    source = volume.snapshot_id or None
                    known = source if source in self.stored.snapshots else None
                    self.engine.create_volume(volume.id, volume.size, known)
                    self.stored.volumes.add(volume.id)

    def _has_content(self, snapshot: Any) -> bool:
        """Tell data volumes' snapshots from those of roots, which are kept as images alone."""
        return snapshot.from_ami is None and snapshot.volume_id in self.stored.volumes

    def _make_images(self) -> None:
        for backend in _backends():
            for ami in list(backend.amis.values()):
                if ami.instance_id and ami.docker_image is None:
                    self._make_image(backend, ami)

    def _make_image(self, backend: Any, ami: Any) -> None:
        try:
            ami.docker_image = self.engine.create_image(ami.id, ami.instance_id)
        except Exception:
            # As on AWS an image that failed cannot be launched; here it is not even listed.
            del backend.amis[ami.id]
            raise
        self.stored.images.add(ami.id)

    def _make_file_systems(self) -> None:
        for file_system_id in sorted(_file_systems() - self.stored.file_systems):
            self.engine.create_file_system(file_system_id)
            self.stored.file_systems.add(file_system_id)

    def _serve_file_systems(self) -> None:
        targets = mount_targets()
        if targets != self._served:
            self._served = None
            if targets or self.stored.file_systems:
                self.engine.serve_file_systems(targets)
            self._served = targets

    def _delete_leftovers(self) -> None:
        for file_system_id in self.stored.file_systems - _file_systems():
            self.engine.delete_file_system(file_system_id)
            self.stored.file_systems.discard(file_system_id)
        volumes: set[str] = set()
        snapshots: set[str] = set()
        images: set[str] = set()
        for backend in _backends():
            volumes.update(backend.volumes)
            snapshots.update(backend.snapshots)
            images.update(backend.amis)
        for volume_id in self.stored.volumes - volumes:
            self.engine.delete_volume(volume_id)
            self.stored.volumes.discard(volume_id)
        for snapshot_id in self.stored.snapshots - snapshots:
            self.engine.delete_snapshot(snapshot_id)
            self.stored.snapshots.discard(snapshot_id)
        in_use = {i.image_id for b in _backends() for i in _live_instances(b)}
        for image_id in self.stored.images - images - in_use:
            self.engine.delete_image(image_id)
            self.stored.images.discard(image_id)


def _backends() -> list[Any]:
    return list(ec2_backends[ACCOUNT_ID].values())


def _file_systems() -> set[str]:
    return {one for b in list(efs_backends[ACCOUNT_ID].values()) for one in b.file_systems_by_id}


def mount_targets() -> list[MountTarget]:
    """Describe the mount targets of all regions, and whom their security groups let in."""
    with MOTO_LOCK:
        instances = [instance for backend in _backends() for instance in _live_instances(backend)]
        members = _members_of_groups(instances)
        return [
            MountTarget(
                file_system_id=target.file_system_id,
                address=target.ip_address,
                ingress=_permitted(_groups_of(efs, target), members),
            )
            for efs in list(efs_backends[ACCOUNT_ID].values())
            for target in efs.mount_targets_by_id.values()
        ]


def _groups_of(efs: Any, target: Any) -> list[Any]:
    every = efs.ec2_backend.describe_security_groups()
    return [group for group in every if group.id in (target.security_groups or ())]


def _live_instances(backend: Any) -> Iterator[Any]:
    for reservation in list(backend.reservations.values()):
        for instance in reservation.instances:
            if instance.state in LIVE_STATES:
                yield instance


def _data_volumes(backend: Any) -> Iterator[Any]:
    """Leave out root volumes: a container's own file system stands for those."""
    for volume in list(backend.volumes.values()):
        attachment = volume.attachment
        if attachment is None or attachment.device != attachment.instance.root_device_name:
            yield volume


def desired_machines() -> list[Machine]:
    """Describe all instances of all regions that are not terminated, in the order of launch."""
    with MOTO_LOCK:
        instances = [instance for backend in _backends() for instance in _live_instances(backend)]
        members = _members_of_groups(instances)
        return [_machine(instance, members) for instance in instances]


def _members_of_groups(instances: list[Any]) -> dict[str, list[str]]:
    members: dict[str, list[str]] = {}
    for instance in instances:
        for group in instance.security_groups:
            members.setdefault(group.id, []).append(f"{instance.private_ip}/32")
    return members


def _machine(instance: Any, members: dict[str, list[str]]) -> Machine:
    _remember_image(instance)
    root = instance.block_device_mapping.get(instance.root_device_name)
    key = public_key_of(instance)
    return Machine(
        instance_id=instance.id,
        running=instance.state == "running",
        image=instance.docker_image,
        login_user=instance.login_user,
        hostname=instance.private_dns_name.partition(".")[0],
        private_ip=instance.private_ip,
        public_ip=instance.public_ip,
        root_gib=root.size if root else 8,
        public_keys=(key,) if key else (),
        user_data=user_data_of(instance),
        volumes={
            device: block.volume_id
            for device, block in instance.get_block_device_mapping
            if device != instance.root_device_name
        },
        ingress=_ingress(instance, members),
    )


def _remember_image(instance: Any) -> None:
    """Note the container image on the instance: its AMI may be deregistered while it lives."""
    if not hasattr(instance, "docker_image"):
        ami = instance.ec2_backend.amis[instance.image_id]
        instance.docker_image, instance.login_user = ami.docker_image, ami.login_user


def _ingress(instance: Any, members: dict[str, list[str]]) -> tuple[IngressRule, ...]:
    return _permitted(instance.security_groups, members)


def _permitted(groups: list[Any], members: dict[str, list[str]]) -> tuple[IngressRule, ...]:
    permitted: dict[tuple[str, int, int], set[str]] = {}
    for group in groups:
        for rule in group.ingress_rules:
            sources = set(members.get(rule.source_group.get("GroupId", ""), []))
            if cidr := rule.ip_range.get("CidrIp"):
                sources.add(cidr)
            ports = (rule.from_port or 0, rule.to_port or 0)
            permitted.setdefault((rule.ip_protocol, *ports), set()).update(sources)
    return tuple(
        IngressRule(protocol, first, last, tuple(sorted(sources)))
        for (protocol, first, last), sources in sorted(permitted.items())
        if sources
    )


def _power_off(instance: Any) -> None:
    """Do what EC2 does when a machine shuts itself down."""
    if instance.instance_initiated_shutdown_behavior == "terminate":
        instance.terminate()
    else:
        instance.stop()
    instance.state_reason = StateReason(
        "Client.InstanceInitiatedShutdown: Instance initiated shutdown",
        "Client.InstanceInitiatedShutdown",
    )
    log.info("%s switched itself off: %s", instance.id, instance.state)
