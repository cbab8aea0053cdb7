#!/usr/bin/python3
"""Prove that the idle timer is armed and that its last decision can be read and is recent."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from typing import Any

CONFIG = Path("/etc/lab/idle_stop.json")
TIMER = "lab-idle-stop.timer"
# A timer armed a moment ago has not looked yet.
PATIENCE_SECONDS = 20


def say(check: str, status: str, detail: str) -> None:
    """Print one result as the lab's checks do."""
    print(json.dumps({"check": check, "status": status, "detail": detail}), flush=True)


def state_of(unit: str) -> tuple[str, str]:
    """Ask systemd whether a unit is running and comes back at boot."""
    answers = [
        subprocess.run(["systemctl", verb, unit], capture_output=True, text=True, check=False)
        for verb in ("is-active", "is-enabled")
    ]
    return answers[0].stdout.strip(), answers[1].stdout.strip()


def recent(path: Path, oldest: float) -> dict[str, Any] | None:
    """Wait for a record of a look that is at most ``oldest`` seconds old."""
    until = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            record: dict[str, Any] = json.loads(path.read_text())
            if time.clock_gettime(time.CLOCK_BOOTTIME) - record["sample"]["at"] <= oldest:
                return record
        except (OSError, ValueError, KeyError):
            pass  # not there yet, or from before the last boot: looked at again below
        if time.monotonic() >= until:
            return None
        time.sleep(1)


def main() -> None:
    """Print the four results, or that the idle stop is switched off."""
    config = json.loads(CONFIG.read_text())
    if not config["limit_seconds"]:
        say("idle timer is armed", "skipped", "idle_stop_minutes is 0")
        return
    active, enabled = state_of(TIMER)
    armed = (active, enabled) == ("active", "enabled")
    minutes = config["limit_seconds"] / 60
    detail = f"{active}, {enabled}, stops after {minutes:g} idle minutes"
    say("idle timer is armed", "ok" if armed else "failed", detail)
    guard = state_of(config["before_stop_unit"])
    status = "ok" if guard == ("active", "enabled") else "failed"
    say("hooks run before a stop", status, f"{config['before_stop_unit']}: {', '.join(guard)}")
    if config["spot"]:
        watch = state_of("lab-spot-notice.service")
        status = "ok" if watch == ("active", "enabled") else "failed"
        say("AWS's notice is watched for", status, f"lab-spot-notice.service: {', '.join(watch)}")
    record = recent(Path(config["state_file"]), 3 * config["period_seconds"])
    if record is None:
        say("idle decision is recent", "failed", "see: journalctl -u lab-idle-stop.service")
        return
    decision = record["decision"]
    reasons = "; ".join(decision["reasons"]) or "nothing is active"
    say("idle decision is recent", "ok", f"{decision['action']}: {reasons}")
    blind = [s["name"] for s in record["sample"]["signals"] if s["state"] == "unknown"]
    say(
        "idle stop sees every signal",
        "failed" if blind else "ok",
        f"unknown, so it would never stop: {', '.join(blind)}" if blind else "none is unknown",
    )


if __name__ == "__main__":
    main()
