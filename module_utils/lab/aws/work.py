"""A build on its way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import LabError
from . import keys
from .clock import Clock
from .names import write_tags
from .preflight import Target
from .session import Aws
from .things import Instance, Seen


@dataclass
class Work:
    """A build on its way: what is wanted, what was there, and what has been made since."""

    aws: Aws
    target: Target
    there: Seen
    clock: Clock = field(default_factory=Clock)
    run: keys.Run = keys.run
    group_id: str = ""
    host: Instance | None = None
    volume_id: str = ""
    data_address: str = ""
    workers: dict[int, Instance] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        group = self.there.group(self.target.vpc_id)
        data = self.there.data()
        self.group_id = group.id if group else ""
        self.host = self.there.host(self.target.names)
        self.volume_id = data.id if data else ""
        self.workers = {one.worker: one for one in self.there.workers(self.target.names)}

    def ec2(self, operation: str, **params: Any) -> Mapping[str, Any]:
        """Call EC2."""
        return self.aws.call("ec2", operation, **params)

    def host_id(self) -> str:
        """Return the id of the host, which is there by now."""
        if self.host is None:
            raise LabError("The host is not there: run the same command again")
        return self.host.id

    def tags_for(self, kind: str, **more: str) -> list[dict[str, Any]]:
        """TagSpecifications for one resource."""
        tags = write_tags(self.target.names.tags(**more))
        return [{"ResourceType": kind, "Tags": tags}]
