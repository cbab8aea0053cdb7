"""Starts and stops the server process of a sandbox."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from sandbox.errors import SandboxError
from sandbox.settings import Settings

START_WITHIN_S = 180.0  # after a crash the machines are brought back first
STOP_WITHIN_S = 30.0
HEALTH_WITHIN_S = 5.0


def server_pid(settings: Settings) -> int | None:
    """Ask the slot's server for its process id; None if none answers.

    Raises SandboxError if something else answers at the slot's port.
    """
    connection = http.client.HTTPConnection("127.0.0.1", settings.port, timeout=HEALTH_WITHIN_S)
    try:
        connection.request("GET", "/_sandbox/health")
        told = json.loads(connection.getresponse().read())
        slot, pid = told["slot"], told["pid"]
    except (ConnectionError, TimeoutError):
        return None
    except (ValueError, KeyError, TypeError, http.client.HTTPException):
        slot, pid = None, 0
    finally:
        connection.close()
    if slot != settings.slot:
        raise SandboxError(
            f"port {settings.port} of 127.0.0.1 is taken by another program: stop that, or choose"
            " another slot with GPULAB_SANDBOX_SLOT"
        )
    return int(pid)


def start(settings: Settings) -> None:
    """Start the server unless it runs, and wait until it answers. Raises SandboxError."""
    if server_pid(settings) is not None:
        return
    settings.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    log = settings.state_dir / "server.log"
    environ = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
    environ |= {"GPULAB_SANDBOX_SLOT": str(settings.slot), "PYTHONUNBUFFERED": "1"}
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "sandbox", "serve"],
            cwd=settings.root,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    deadline = time.monotonic() + START_WITHIN_S
    while server_pid(settings) is None:
        if process.poll() is not None and _other_pid(settings) is None:
            raise SandboxError(f"the sandbox did not start: {_last_line(log)} (see {log})")
        if time.monotonic() > deadline:
            raise SandboxError(f"no answer from the sandbox in {START_WITHIN_S:.0f} s: see {log}")
        time.sleep(0.1)


def stop(settings: Settings) -> None:
    """Stop the server process, if there is one; its machines stay."""
    pid = _other_pid(settings)
    if pid is None:
        return
    os.kill(pid, signal.SIGTERM)
    if not _gone_within(pid, STOP_WITHIN_S):
        os.kill(pid, signal.SIGKILL)
        _gone_within(pid, STOP_WITHIN_S)


def remove_state(settings: Settings, *, keep_key: bool) -> None:
    """Delete the slot's folder; with `keep_key` all of it but the administrator's key."""
    folder = settings.state_dir
    if not folder.exists():
        return
    for entry in folder.iterdir():
        if keep_key and entry.name == "secret_access_key":
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
    if not keep_key:
        folder.rmdir()
        with contextlib.suppress(OSError):  # another slot's folder is in it
            folder.parent.rmdir()


def _other_pid(settings: Settings) -> int | None:
    """Find the process that holds the slot's lock: it may be starting, and not answer yet."""
    lock = settings.state_dir / "server.lock"
    try:
        pid = int(lock.read_text(encoding="ascii"))
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError, ValueError):
        return None
    return pid if b"sandbox\0serve" in command else None


def _gone_within(pid: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        # A child of this process stays as a zombie until it is waited for.
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
        if not Path(f"/proc/{pid}").exists():
            return True
        time.sleep(0.05)
    return False


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"
