"""The names and tags of everything that a lab has in AWS."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

PROJECT = "gpulab"
DATA_DEVICE = "/dev/sdf"
POLICY = "bucket"
WORKER = "worker"  # the tag Role of a worker


@dataclass(frozen=True)
class Names:
    """The names of one lab; the role's carries the region because IAM knows no regions."""

    lab: str
    region: str

    @property
    def common(self) -> str:
        """Name of the instance, the key pair, the security group and the data volume."""
        return f"{PROJECT}-{self.lab}"

    @property
    def old(self) -> str:
        """Name of a host that a rebuild has set aside."""
        return f"{self.common}-old"

    @property
    def role(self) -> str:
        """Name of the role and of its instance profile."""
        return f"{PROJECT}-{self.lab}-{self.region}"

    @property
    def stopper(self) -> str:
        """Name of the role by which EventBridge Scheduler stops the host."""
        return f"{self.role}-stop"

    def worker(self, number: int) -> str:
        """Name of a worker; numbers begin with 1."""
        return f"{self.workers}{number}"

    @property
    def workers(self) -> str:
        """What the names of all workers begin with."""
        return f"{self.common}-worker-"

    def schedule(self, kind: str, number: int = 0) -> str:
        """Name of a schedule, `max` or `daily`, of the host or of a worker."""
        return f"{self.worker(number) if number else self.common}-{kind}"

    def bucket(self, account: str) -> str:
        """Name of the bucket, where the user has named none: unique over all of AWS."""
        return f"{PROJECT}-{account}-{self.lab}"

    def tags(self, **more: str) -> dict[str, str]:
        """Return the tags by which everything is found again."""
        return {"Project": PROJECT, "Lab": self.lab, "Name": self.common, **more}

    def worker_tags(self, number: int, **more: str) -> dict[str, str]:
        """Return the tags of a worker."""
        return {**self.tags(Role=WORKER, Worker=str(number), **more), "Name": self.worker(number)}

    def filters(self) -> list[dict[str, Any]]:
        """EC2's filters for this lab's own things."""
        return [
            {"Name": "tag:Project", "Values": [PROJECT]},
            {"Name": "tag:Lab", "Values": [self.lab]},
        ]

    def owns(self, tags: Mapping[str, str]) -> bool:
        """Whether the bearer of these tags was made by this lab."""
        return tags.get("Project") == PROJECT and tags.get("Lab") == self.lab


def read_tags(pairs: Iterable[Mapping[str, str]] | None) -> dict[str, str]:
    """Turn AWS's list of pairs into a dictionary."""
    return {pair["Key"]: pair["Value"] for pair in pairs or ()}


def write_tags(tags: Mapping[str, str]) -> list[dict[str, str]]:
    """Turn a dictionary into AWS's list of pairs."""
    return [{"Key": key, "Value": tags[key]} for key in sorted(tags)]
