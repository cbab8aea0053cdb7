"""Playbooks that are killed after a task, interrupted, or run twice at once."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from tests.e2e.conftest import ROOT, Lab

CALLBACK = {
    "ANSIBLE_CALLBACK_PLUGINS": str(ROOT / "tests/e2e/callback"),
    "ANSIBLE_CALLBACKS_ENABLED": "kill_after",
}


def start(
    lab: Lab, playbook: str, log: Path, more: Mapping[str, str], *arguments: str
) -> subprocess.Popen[bytes]:
    """Start a playbook as the leader of its own group, as a terminal does."""
    with log.open("wb") as out:
        return subprocess.Popen(
            ["ansible-playbook", playbook, "-e", f"lab_name={lab.name}", *arguments],
            cwd=ROOT, env={**lab.environment, **more}, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
        )  # fmt: skip


def kill_after(lab: Lab, playbook: str, number: int, folder: Path, *arguments: str) -> bool:
    """Kill a playbook after so many tasks; False where it had ended before."""
    environment = {**CALLBACK, "KILL_AFTER": str(number)}
    run = start(lab, playbook, folder / "log", environment, *arguments)
    status = run.wait(1200)
    assert status in (0, -signal.SIGKILL), (folder / "log").read_text()[-3000:]
    return status != 0


def mended(lab: Lab, playbook: str) -> None:
    """See that the next run ends well, and the one after it has nothing to do."""
    lab.play(playbook)
    again = lab.play(playbook)
    assert again.total("changed") == 0, again.output[-3000:]


def interrupt_at(lab: Lab, playbook: str, said: str, folder: Path) -> str:
    """Press Ctrl-C once a run has said something; return what it has said in all."""
    log = folder / "log"
    run = start(lab, playbook, log, {})
    while run.poll() is None and said not in log.read_text():
        with suppress(subprocess.TimeoutExpired):
            run.wait(0.1)
    assert run.poll() is None, f"it ended before it said {said!r}:\n{log.read_text()[-3000:]}"
    os.killpg(run.pid, signal.SIGINT)
    assert run.wait(60) != 0
    return log.read_text()
