"""The two minutes before AWS takes Spot capacity back: who is told, and in which time.

The metadata service is asked every two seconds. On a notice, programs in tmux that have a handler
for SIGUSR1 get that signal (the custom of Slurm and Lightning: "save a checkpoint now"), then the
hooks run, then disks are synced and buckets unmounted, all of it 90 seconds after the notice at the
latest. AWS stops the host itself; a host that stays on after all mounts its buckets again.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

from .signals import SHELLS, Process, parse_stat

ADDRESS = "http://169.254.169.254"
NOTICE = "latest/meta-data/spot/instance-action"
TIMEOUT_SECONDS = 2.0
PERIOD_SECONDS = 2.0
# After the notice: hooks have ended, buckets are unmounted. AWS stops the host after 120.
HOOKS_SECONDS = 60.0
FLUSHED_SECONDS = 90.0
# A host that is still there so long after the moment that was told stays.
PATIENCE_SECONDS = 120.0
NOT_FOUND = 404
NOT_SIGNALLED = (*SHELLS, "tmux: server", "tmux: client", "tmux", "screen")


@dataclass(frozen=True)
class Notice:
    """What AWS is about to do, and when."""

    action: str
    at: datetime


def ask(address: str = ADDRESS) -> Notice | None:
    """Return the notice, None where there is none. Raises OSError and ValueError."""
    token = _fetch(
        "PUT", f"{address}/latest/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": "60"}
    )
    try:
        text = _fetch("GET", f"{address}/{NOTICE}", {"X-aws-ec2-metadata-token": token})
    except HTTPError as error:
        if error.code == NOT_FOUND:
            return None
        raise
    told = json.loads(text)
    return Notice(told["action"], datetime.fromisoformat(told["time"].replace("Z", "+00:00")))


def _fetch(method: str, url: str, headers: dict[str, str]) -> str:
    request = Request(url, method=method, headers=headers)  # noqa: S310 - http by its nature
    # A proxy in the environment cannot reach the service.
    with build_opener(ProxyHandler({})).open(request, timeout=TIMEOUT_SECONDS) as answer:
        return str(answer.read().decode())


def processes(proc: Path = Path("/proc")) -> list[Process]:
    """Return the process table."""
    found = []
    for entry in proc.glob("[0-9]*"):
        try:
            found.append(parse_stat((entry / "stat").read_text()))
        except (OSError, ValueError):
            continue  # it has just ended
    return found


def trainings(table: Sequence[Process], handles: Callable[[int], bool]) -> list[Process]:
    """Return what runs in tmux or screen and has a handler for SIGUSR1.

    The signal would end any other program.
    """
    below = {p.pid for p in table if p.name.startswith("tmux: server") or p.name == "screen"}
    grown = True
    while grown:
        more = {p.pid for p in table if p.parent in below} - below
        below |= more
        grown = bool(more)
    return [
        p for p in table if p.pid in below and p.alive and p.name not in NOT_SIGNALLED
        and handles(p.pid)
    ]  # fmt: skip


def handles_usr1(pid: int, proc: Path = Path("/proc")) -> bool:
    """Tell whether a process catches SIGUSR1, by the mask that the kernel shows."""
    try:
        lines = (proc / str(pid) / "status").read_text().splitlines()
    except OSError:
        return False
    mask = next((line.split()[1] for line in lines if line.startswith("SigCgt:")), "0")
    return bool(int(mask, 16) >> (signal.SIGUSR1 - 1) & 1)


@dataclass(frozen=True)
class Steps:
    """What is done at a notice; the tests put others in their place.

    `hooks` takes the moment (monotonic) by which they have to be done, `unmount` the seconds that
    are left for it.
    """

    warn: Callable[[str], None]
    signalled: Callable[[], Iterable[Process]]
    hooks: Callable[[float], None]
    unmount: Callable[[float], bool]
    again: Callable[[], None]
    ran: Path
    say: Callable[[str], None]


def prepare(notice: Notice, steps: Steps, begun: float) -> None:
    """Do all that has to be done before AWS stops the host."""
    moment = notice.at.astimezone(UTC)
    steps.say(f"AWS takes the Spot capacity back: {notice.action} at {moment:%H:%M:%S} UTC")
    for process in steps.signalled():
        try:
            os.kill(process.pid, signal.SIGUSR1)
            steps.say(f"SIGUSR1 to {process}, to save its state")
        except ProcessLookupError:
            continue
    steps.warn(
        f"AWS takes this Spot host back and stops it at {moment:%H:%M:%S} UTC. /data stays; the"
        " host starts again when there is room."
    )
    # The shutdown would run them once more, without the time for it.
    steps.ran.parent.mkdir(parents=True, exist_ok=True)
    steps.ran.touch()
    steps.hooks(begun + HOOKS_SECONDS)
    os.sync()
    done = steps.unmount(max(begun + FLUSHED_SECONDS - time.monotonic(), 1.0))
    took = time.monotonic() - begun
    steps.say(f"{'all is' if done else 'NOT all is'} written after {took:.1f} s")


def over(notice: Notice, steps: Steps) -> None:
    """Go back to work where AWS has not stopped the host after all."""
    steps.say(f"the host is still on after {notice.action} was due: its buckets are mounted again")
    steps.ran.unlink(missing_ok=True)
    steps.again()


def watch(
    steps: Steps,
    asked: Callable[[], Notice | None] = ask,
    sleep: Callable[[float], None] = time.sleep,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> None:
    """Ask for ever; act once on each notice."""
    handled = datetime.min.replace(tzinfo=UTC)
    pending, silent = None, False
    while True:
        notice = None
        try:
            notice = asked()
            silent = False
        except (OSError, ValueError, KeyError, TypeError) as error:
            if not silent:
                steps.say(f"the metadata service tells nothing: {error}")
            silent = True
        if notice and notice.at > handled:
            handled, pending = notice.at, notice
            prepare(notice, steps, time.monotonic())
        elif pending and (now() - pending.at).total_seconds() > PATIENCE_SECONDS:
            over(pending, steps)
            pending = None
        sleep(PERIOD_SECONDS)
