"""Asks the mount under each fault: the right state, never later than the deadline and 0.3 s."""

import http.client
import os
import signal
import subprocess
import sys
import time

sys.path.insert(0, "/usr/local/lib/lab")

from s3mount.probe import probe  # type: ignore[import-not-found]  # on the host

DEADLINE = 2.0
# What s3fs makes of a fault; the first of these may still be answered before the deadline.
FAULTS = {
    "pass": "ok",
    "only-NOBODY": "degraded",
    "fail-403-AccessDenied": "degraded",
    "fail-503-SlowDown": "degraded",
    "refuse": "degraded",
    "black-hole": "degraded",
}


def put_on(fault: str) -> None:
    """Tell the proxy."""
    control = http.client.HTTPConnection("127.0.0.1", 8335, timeout=5)
    control.request("PUT", f"/{fault}")
    control.getresponse().read()
    control.close()


def expect(name: str, state: str) -> None:
    """Probe once."""
    before = time.monotonic()
    health = probe("/s3", DEADLINE)
    took = time.monotonic() - before
    print(f"{name}: {health.state} {health.detail} after {took:.2f} s")
    if str(health.state) != state or took > DEADLINE + 0.3:
        sys.exit(f"expected {state} within {DEADLINE + 0.3} s")


def main() -> None:
    """Go through the faults of the network, then those of the daemon."""
    for fault, state in FAULTS.items():
        put_on(fault)
        expect(fault, state)
    put_on("pass")
    shown = ["systemctl", "show", "--property=MainPID", "--value", "lab-s3@s3"]
    daemon = int(subprocess.run(shown, check=True, capture_output=True, text=True).stdout)
    os.kill(daemon, signal.SIGSTOP)
    expect("stopped daemon", "hung")
    os.kill(daemon, signal.SIGCONT)


if __name__ == "__main__":
    main()
