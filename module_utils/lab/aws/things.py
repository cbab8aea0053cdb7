"""The lab's things in AWS as plain data."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from .names import WORKER, Names

# The source of a rule that lets the members of a security group reach one another.
ITSELF = "the group itself"


@dataclass(frozen=True)
class Instance:
    """One instance that is not terminated."""

    id: str
    state: str
    type: str
    zone: str
    tags: Mapping[str, str]
    launched: datetime
    image_id: str = ""
    public_ip: str = ""
    private_ip: str = ""
    vpc_id: str = ""
    group_ids: tuple[str, ...] = ()
    profile: str = ""
    tokens: str = ""
    hop_limit: int = 0
    root_volume: str = ""
    spot: bool = False
    spot_request: str = ""
    stopped_because: str = ""
    stop_code: str = ""
    architecture: str = ""
    subnet_id: str = ""
    placement: str = ""

    @property
    def worker(self) -> int:
        """The number of a worker, 0 for any other instance."""
        number = self.tags.get("Worker", "") if self.tags.get("Role") == WORKER else ""
        return int(number) if re.fullmatch(r"[1-9][0-9]{0,3}", number, re.ASCII) else 0


@dataclass(frozen=True)
class Volume:
    """One EBS volume; size in GiB."""

    id: str
    size: int
    zone: str
    state: str
    tags: Mapping[str, str]
    kind: str = "gp3"
    attached_to: str = ""
    attachment: str = ""
    created: datetime | None = None


@dataclass(frozen=True)
class Snapshot:
    """One snapshot; size in GiB is that of its volume, of which only what was written is billed."""

    id: str
    size: int
    tags: Mapping[str, str]
    created: datetime | None = None
    state: str = "completed"
    volume_id: str = ""
    owner: str = ""


@dataclass(frozen=True)
class Rule:
    """One permission of a security group for inbound traffic, from one source."""

    protocol: str
    from_port: int
    to_port: int
    source: str

    def __str__(self) -> str:
        """Say it as a person would."""
        ports = str(self.from_port)
        if self.to_port != self.from_port:
            ports += f"-{self.to_port}"
        what = "all traffic" if self.protocol == "-1" else f"{self.protocol} {ports}"
        return f"{what} from {self.source}"


@dataclass(frozen=True)
class Group:
    """One security group with its inbound rules."""

    id: str
    vpc_id: str
    tags: Mapping[str, str]
    rules: frozenset[Rule]


@dataclass(frozen=True)
class KeyPair:
    """One key pair; the public key as type and base64, without a comment."""

    id: str
    public_key: str
    tags: Mapping[str, str]


@dataclass(frozen=True)
class Bucket:
    """One bucket that these credentials can reach (`ours` false: whose it is is unknown)."""

    name: str
    reachable: bool
    region: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    encrypted: bool = False
    blocked: bool = False
    policy: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Role:
    """The role of the host with its one policy, and who may take it."""

    name: str
    tags: Mapping[str, str]
    policy: Mapping[str, Any] | None
    trust: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Profile:
    """The instance profile and the roles in it."""

    name: str
    tags: Mapping[str, str]
    roles: tuple[str, ...]


@dataclass(frozen=True)
class Schedule:
    """One schedule that stops a host: when, in which time zone, by which role."""

    name: str
    expression: str
    timezone: str
    role_arn: str
    host_id: str


@dataclass(frozen=True)
class Budget:
    """One budget: US dollars a month, of what bears a tag, and who is told."""

    name: str
    dollars: float
    tag: str
    email: str


@dataclass(frozen=True)
class Guard:
    """What stops the hosts from outside; `denied` says of what service nothing could be learnt.

    `schedules` are the host's by their kind, `workers` those of workers by their name.
    """

    schedules: Mapping[str, Schedule] = field(default_factory=dict)
    workers: Mapping[str, Schedule] = field(default_factory=dict)
    role: Role | None = None
    budget: Budget | None = None
    denied: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Subnet:
    """One subnet."""

    id: str
    zone: str
    vpc_id: str
    default: bool
    public: bool


@dataclass(frozen=True)
class MountTarget:
    """The address of a file system of EFS in one zone; no groups: not known yet."""

    id: str
    address: str
    zone: str
    state: str
    group_ids: tuple[str, ...] = ()


@dataclass(frozen=True)
class FileSystem:
    """One file system of EFS; size in bytes, as AWS measured it some hours ago."""

    id: str
    state: str
    tags: Mapping[str, str]
    size: int = 0
    created: datetime | None = None
    targets: tuple[MountTarget, ...] = ()


@dataclass(frozen=True)
class PlacementGroup:
    """One placement group, which bears its name."""

    name: str
    tags: Mapping[str, str]


@dataclass(frozen=True)
class Seen:
    """The region as one look has found it."""

    instances: tuple[Instance, ...]
    volumes: tuple[Volume, ...]
    groups: tuple[Group, ...]
    key_pair: KeyPair | None
    subnets: tuple[Subnet, ...]
    role: Role | None
    profile: Profile | None
    bucket: Bucket | None
    protected: bool = False
    on_shutdown: str = ""
    snapshots: tuple[Snapshot, ...] = ()
    addresses: tuple[str, ...] = ()
    guard: Guard = field(default_factory=Guard)
    file_system: FileSystem | None = None
    placement: PlacementGroup | None = None

    def host(self, names: Names) -> Instance | None:
        """Return the lab's host (the first, should there be two: the preflight refuses that)."""
        mine = self.hosts(names)
        return mine[0] if mine else None

    def hosts(self, names: Names) -> list[Instance]:
        """All instances of the lab that bear the host's name."""
        return [i for i in self.instances if names.owns(i.tags) and _named(i, names)]

    def old(self, names: Names) -> Instance | None:
        """Return the host that a rebuild has set aside."""
        named = (i for i in self.instances if i.tags.get("Name") == names.old)
        return next((i for i in named if names.owns(i.tags)), None)

    def workers(self, names: Names) -> list[Instance]:
        """Return the lab's workers by their numbers, those above `lab_workers` too."""
        mine = (i for i in self.instances if names.owns(i.tags) and i.worker)
        return sorted(mine, key=lambda i: (i.worker, i.launched, i.id))

    def strangers(self, names: Names, workers: int = 0) -> list[Instance]:
        """Instances that bear the name of the host or a worker but were not made by this lab."""
        mine = {names.common, *(names.worker(number) for number in range(1, workers + 1))}
        others = (i for i in self.instances if not names.owns(i.tags))
        return [i for i in others if i.tags.get("Name") in mine]

    def data(self) -> Volume | None:
        """Return the data volume (the first, as above)."""
        found = self.data_volumes()
        return found[0] if found else None

    def data_volumes(self) -> list[Volume]:
        """All data volumes of the lab."""
        return [volume for volume in self.volumes if volume.tags.get("Role") == "data"]

    def data_snapshot(self) -> Snapshot | None:
        """Return the newest whole snapshot of a data volume: what a retired lab comes back from."""
        found = [
            s
            for s in self.snapshots
            if s.tags.get("Role") == "data" and s.state == "completed" and s.created
        ]
        return max(found, key=lambda s: str(s.created), default=None)

    def group(self, vpc_id: str) -> Group | None:
        """Return the security group of the host's name in a VPC."""
        return next((group for group in self.groups if group.vpc_id == vpc_id), None)


def _named(instance: Instance, names: Names) -> bool:
    return instance.tags.get("Name") == names.common
