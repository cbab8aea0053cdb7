"""Takes Spot capacity back and gives it again, as `python -m sandbox interrupt` and `resume` ask.

The commands leave a file for each instance in the slot's folder, which the server reads each
second: the moment of the stop, which the metadata service tells from then on, or `resume`.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from pathlib import Path

from sandbox.errors import SandboxError
from sandbox.metadata import find_instance
from sandbox.patches import spot
from sandbox.settings import Settings

log = logging.getLogger(__name__)

RESUME = "resume"


def folder(settings: Settings) -> Path:
    """Where the commands leave their files."""
    return settings.state_dir / "interruptions"


def ask(settings: Settings, instance_id: str, what: str) -> None:
    """Leave a file for the server: a moment as ISO text, or RESUME. Raises SandboxError."""
    if not instance_id.startswith("i-") or "/" in instance_id:
        raise SandboxError(f"{instance_id} is no instance: give an id such as i-0123456789abcdef0")
    place = folder(settings)
    place.mkdir(mode=0o700, exist_ok=True)
    scratch = place / f".{instance_id}"
    scratch.write_text(what)
    scratch.replace(place / instance_id)


def follow(place: Path, now: datetime) -> bool:
    """Do what is due; tell if an instance was stopped or started."""
    changed = False
    for path in sorted(place.glob("i-*")) if place.is_dir() else ():
        text = path.read_text().strip()
        if _act(path.name, text, now) is not None:
            path.unlink(missing_ok=True)
            changed = True
        elif text == RESUME or not _is_spot(path.name):
            path.unlink(missing_ok=True)
    return changed


def _act(instance_id: str, text: str, now: datetime) -> str | None:
    """Stop or start one instance if it is time; returns its new state, None if it was not."""
    try:
        instance = find_instance(instance_id)
    except KeyError:
        return None
    request = spot.request_of(instance)
    if request is None:
        return None
    if text == RESUME:
        if instance.state != "stopped" or request.state != "open":
            return None
        spot.resume(instance)
    elif instance.state != "running":
        return None
    else:
        instance.interruption = datetime.fromisoformat(text).astimezone(UTC)
        if now < instance.interruption:
            return None
        spot.interrupt(instance)
    log.info("%s: the Spot capacity changes, it is %s", instance_id, instance.state)
    return str(instance.state)


def _is_spot(instance_id: str) -> bool:
    try:
        instance = find_instance(instance_id)
    except KeyError:
        return False
    return spot.request_of(instance) is not None and instance.state == "running"
