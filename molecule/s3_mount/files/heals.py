"""Ends the daemon by a signal and waits until the mount answers again, for so many seconds."""

import os
import signal
import subprocess
import sys
import time

sys.path.insert(0, "/usr/local/lib/lab")

from s3mount.probe import State, probe  # type: ignore[import-not-found]  # on the host


def daemon() -> int:
    """Give the process that serves the mount, 0 where none does."""
    shown = ["systemctl", "show", "--property=MainPID", "--value", "lab-s3@s3"]
    return int(subprocess.run(shown, check=True, capture_output=True, text=True).stdout)


def main(name: str, seconds: float) -> None:
    """Kill, wait, tell."""
    killed, before = daemon(), time.monotonic()
    os.kill(killed, signal.Signals[f"SIG{name}"])
    while daemon() in (0, killed) or probe("/s3", 1.0).state is not State.OK:
        if time.monotonic() - before > 4 * seconds:
            break
        time.sleep(0.05)
    took = time.monotonic() - before
    # The figure is for a host with a core to spare; these tests share theirs.
    waiting = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
    print(f"healed after {took:.2f} s, {waiting:.1f} processes a core")
    if took > seconds * waiting:
        sys.exit(f"a daemon that got SIG{name} was to be replaced within {seconds} s")


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
