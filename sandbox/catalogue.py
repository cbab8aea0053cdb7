"""The public machine images that the sandbox knows, with the names AWS gives them (amis.json)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path


@dataclass(frozen=True)
class PublicImage:
    """One public AMI. Without `docker_image` it can be looked up but not launched here."""

    ami_id: str
    name: str
    description: str
    owner_id: str
    architecture: str
    root_device_name: str
    root_gib: int
    creation_date: str
    docker_image: str | None
    login_user: str
    ssm_names: tuple[str, ...]
    owner_alias: str | None = None


@cache
def public_images() -> tuple[PublicImage, ...]:
    """Read amis.json, which lies beside this file."""
    entries = json.loads(Path(__file__).with_name("amis.json").read_text(encoding="utf-8"))
    return tuple(
        PublicImage(**entry | {"ssm_names": tuple(entry["ssm_names"])}) for entry in entries
    )
