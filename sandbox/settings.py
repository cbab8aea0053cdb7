"""Where one sandbox lives: its ports, its addresses and its folder, all derived from its slot."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass
from pathlib import Path

SLOTS = range(10)
ACCOUNT_ID = "123456789012"  # moto's account, which no real customer has
REGION = "us-east-1"


@dataclass(frozen=True)
class Settings:
    """The places of the sandbox in one slot; several slots can run side by side."""

    slot: int = 0
    root: Path = Path(__file__).resolve().parents[1]

    def __post_init__(self) -> None:
        if self.slot not in SLOTS:
            raise ValueError(
                f"sandbox slot {self.slot}: it must be from {SLOTS[0]} to {SLOTS[-1]};"
                " set GPULAB_SANDBOX_SLOT"
            )

    @classmethod
    def from_environment(cls) -> Settings:
        """Take the slot from GPULAB_SANDBOX_SLOT (0 when unset). Raises ValueError."""
        text = os.environ.get("GPULAB_SANDBOX_SLOT", "0")
        if not text.isdigit():
            raise ValueError(f"GPULAB_SANDBOX_SLOT={text}: it must be a whole number from 0 to 9")
        return cls(slot=int(text))

    @property
    def state_dir(self) -> Path:
        """The folder that holds state, log, process id and volumes."""
        return self.root / ".sandbox" / str(self.slot)

    @property
    def port(self) -> int:
        """The TCP port of the AWS endpoint on loopback."""
        return 5600 + self.slot

    @property
    def endpoint_url(self) -> str:
        """What AWS_ENDPOINT_URL is, outside and inside the instances."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def public_network(self) -> ipaddress.IPv4Network:
        """Where public addresses are taken from: loopback addresses of this machine."""
        return ipaddress.IPv4Network(f"127.{77 + self.slot}.0.0/16")

    @property
    def vpc_network(self) -> ipaddress.IPv4Network:
        """The default VPC, which is the containers' real network too."""
        return ipaddress.IPv4Network(f"172.{31 - self.slot}.0.0/16")

    @property
    def label(self) -> str:
        """The name prefix and label value of everything made in Docker for this slot."""
        return f"gpulab-sandbox-{self.slot}"
