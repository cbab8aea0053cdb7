"""One look at the host each time the timer fires, or the last decision explained."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from . import collect, notice, report, store, wishes
from .decision import Settings, step

CONFIG = Path("/etc/lab/idle_stop.json")
ACT_SECONDS = 60
BEFORE_STOP = ("/usr/local/lib/lab/before_stop.py",)
# Priorities as journald reads them from the start of a line.
NOTICE, ERROR = "<5>", "<3>"


def main(argv: list[str] | None = None) -> int:
    """Run one look (no argument), or print the last decision (``--explain``)."""
    parser = argparse.ArgumentParser(prog="idle_stop.py", description=__doc__)
    parser.add_argument(
        "--explain",
        action="store_true",
        help="print the last decision with its figures, change nothing",
    )
    parser.add_argument(
        "--config", type=Path, default=CONFIG, help="the settings (default: %(default)s)"
    )
    options = parser.parse_args(argv)
    config = json.loads(options.config.read_text())
    return explain(config) if options.explain else look(config)


def explain(config: dict[str, Any]) -> int:
    """Print the last decision; 1 where there has been none since the boot."""
    record = store.load(Path(config["state_file"]))
    if record is None:
        print("No decision yet since the boot. See: systemctl status lab-idle-stop.timer")
        return 1
    print(report.page(record, time.clock_gettime(time.CLOCK_BOOTTIME)))
    return 0


def look(config: dict[str, Any]) -> int:
    """Take a sample, decide, keep both, and act; the exit status of what was run to act."""
    path = Path(config["state_file"])
    settings = Settings(config["limit_seconds"], config["period_seconds"], config["warn_seconds"])
    _open_wishes(config)
    last = store.load(path)
    sample = collect.sample(config)
    memory, decision = step(last.memory if last else None, sample, settings)
    store.save(path, store.Record(memory, sample, decision, settings))
    notice.show(path.parent, Path(config["notice_dir"]), decision, settings)
    if last is None or _worth_a_line(last, decision.action, decision.reasons):
        _log(NOTICE, report.line(decision, settings.limit))
    if decision.action == "warn":
        # Nobody may be there to read it; the stop does not hang on it.
        _run(["wall", report.warning(decision)])
    if decision.action == "stop":
        return leave(config)
    stay(config)
    return 0


def _open_wishes(config: dict[str, Any]) -> None:
    try:
        wishes.prepare(Path(config["wishes_dir"]), config["user"])
    except (LookupError, OSError) as error:  # without it only root can keep the host on
        _log(ERROR, f"{config['wishes_dir']} cannot be given to {config['user']}: {error}")


def leave(config: dict[str, Any]) -> int:
    """Let the hooks run and the uploads end, each within its part of the deadline; power off.

    The hooks are the ExecStop of a unit, so that every shutdown has them; here the unit is stopped
    first, while everything else still runs.
    """
    unit, half = config["before_stop_unit"], config["before_stop_seconds"] / 2
    if unit:
        _leaving(config).touch()
        _run(["systemctl", "stop", unit], half + ACT_SECONDS)
        _run([*BEFORE_STOP, "--unmount"], half + ACT_SECONDS)
    status = _run(config["poweroff_command"])
    if status:
        stay(config)
    return status


def stay(config: dict[str, Any]) -> None:
    """Still here after a stop: the bucket is mounted again, and the next stop has its hooks."""
    if _leaving(config).exists():
        _run(["systemctl", "start", config["before_stop_unit"]])
        _leaving(config).unlink()


def _leaving(config: dict[str, Any]) -> Path:
    """Name the mark of a stop on its way, which the boot takes away."""
    return Path(config["state_file"]).with_name("leaving")


def _worth_a_line(last: store.Record, action: str, reasons: tuple[str, ...]) -> bool:
    """Only what is new: a line a minute would bury it."""
    kinds = {reason.partition(":")[0] for reason in reasons}
    before = {reason.partition(":")[0] for reason in last.decision.reasons}
    return action in ("warn", "stop") or (action, kinds) != (last.decision.action, before)


def _run(argv: list[str], seconds: float = ACT_SECONDS) -> int:
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=seconds, check=False)
    except (OSError, subprocess.SubprocessError) as error:
        _log(ERROR, f"{argv[0]} did not run: {error}")
        return 1
    if done.returncode:
        _log(ERROR, f"{' '.join(argv)} ended with {done.returncode}: {done.stderr.strip()}")
    return done.returncode


def _log(priority: str, text: str) -> None:
    print(f"{priority}{text}", file=sys.stderr, flush=True)
