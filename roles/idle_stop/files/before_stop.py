#!/usr/bin/python3 -B
"""What is done before the host stops: hooks, sync, and the bucket unmounted with its uploads.

Without an argument it runs the hooks and syncs: it is the ExecStop of lab-before-stop.service, so
that every shutdown does so, whoever asks for it. `--unmount` then stops the services that keep
buckets mounted, which waits for their uploads; the idle stop does this before it powers off (in any
other shutdown systemd does). `--again`, the unit's ExecStart, mounts again what was unmounted,
should the host have stayed on after all. What is not done by its deadline is said in the journal.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

CONFIG = Path("/etc/lab/idle_stop.json")
HOOKS = Path("/etc/lab/before-stop.d")
GRACE_SECONDS = 2
# Beside the state file: the hooks have run already, when AWS told that it takes the host back.
RAN = "hooks_ran"
MOUNTERS = ("s3fs", "rclone", "mount-s3")


def say(text: str) -> None:
    """Print a line for the journal."""
    print(text, flush=True)


def run(argv: list[str], seconds: float, what: str) -> bool:
    """Run a program until its deadline, then end it and its children; say how it went."""
    begun = time.monotonic()
    try:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            env={**os.environ, "LAB_SECONDS_LEFT": f"{seconds:.0f}"},
        )
    except OSError as error:
        say(f"{what}: did not start: {error}")
        return False
    try:
        status = process.wait(seconds)
    except subprocess.TimeoutExpired:
        end(process)
        say(f"{what}: ended after {seconds:.0f} s, its deadline")
        return False
    took = time.monotonic() - begun
    say(f"{what}: {'done' if status == 0 else f'failed with {status}'} in {took:.1f} s")
    return status == 0


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process and all that it has started, kindly first."""
    for number in (15, 9):
        try:
            os.killpg(process.pid, number)
            process.wait(GRACE_SECONDS)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


def hooks(folder: Path, until: float) -> None:
    """Run the executables of the folder by name, each with the time that is left."""
    found = sorted(path for path in folder.glob("*") if os.access(path, os.X_OK) and path.is_file())
    for path in found:
        run([str(path)], max(until - time.monotonic(), 1), f"hook {path.name}")


def units_of_mounts(proc: Path = Path("/proc")) -> list[str]:
    """Return the services that keep buckets mounted, as the kernel's control groups name them."""
    units = set()
    for entry in proc.glob("[0-9]*"):
        try:
            if (entry / "comm").read_text().strip() not in MOUNTERS:
                continue
            groups = (entry / "cgroup").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        names = [line.rpartition("/")[2] for line in groups.splitlines()]
        units |= {name for name in names if name.endswith(".service")}
    return sorted(units)


def unmount(stopped: Path, seconds: float) -> bool:
    """Stop the services of the buckets, which ends when all is uploaded, and remember them."""
    units = units_of_mounts()
    if not units:
        return True
    stopped.parent.mkdir(parents=True, exist_ok=True)
    stopped.write_text(json.dumps(units))
    done = run(["systemctl", "stop", *units], seconds, f"uploads and unmount ({', '.join(units)})")
    os.sync()
    return done


def again(stopped: Path) -> None:
    """Mount again what the last stop has unmounted."""
    if stopped.exists():
        units = json.loads(stopped.read_text())
        stopped.unlink()
        run(["systemctl", "start", "--no-block", *units], 60, f"start of {', '.join(units)}")


def main() -> int:
    """Do one of the three; 1 where the uploads did not end in time."""
    config = json.loads(CONFIG.read_text())
    stopped = Path(config["state_file"]).parent / "unmounted.json"
    half = float(config["before_stop_seconds"]) / 2
    if sys.argv[1:] == ["--again"]:
        again(stopped)
    elif sys.argv[1:] == ["--unmount"]:
        return 0 if unmount(stopped, half) else 1
    else:
        if (stopped.parent / RAN).exists():
            say("the hooks have run when AWS gave notice")
        else:
            hooks(HOOKS, time.monotonic() + half)
        os.sync()
    return 0


if __name__ == "__main__":
    sys.exit(main())
