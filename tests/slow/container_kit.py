"""A bare Debian with systemd, in a container of its own, and Ansible on it."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def docker(*arguments: str) -> str:
    """Run docker; what it printed."""
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@contextmanager
def booted(release: str, *options: str) -> Iterator[str]:
    """Run a bare Debian; skips where there is no Docker or no image of it."""
    asked = ["docker", "image", "inspect", f"gpulab/debian:{release}"]
    if subprocess.run(asked, capture_output=True, check=False).returncode:
        pytest.skip(f"no image gpulab/debian:{release} (python -m sandbox image {release})")
    name = f"gpulab-slow-{release}-{os.getpid()}"
    docker(
        "run", "--detach", "--rm", "--name", name, "--cap-add", "SYS_ADMIN",
        "--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined",
        "--cgroupns", "host", "--volume", "/sys/fs/cgroup:/sys/fs/cgroup:rw",
        "--tmpfs", "/run", "--tmpfs", "/run/lock", "--env", "container=docker", *options,
        f"gpulab/debian:{release}", "/lib/systemd/systemd",
    )  # fmt: skip
    try:
        _wait_for_systemd(name)
        yield name
    finally:
        subprocess.run(["docker", "rm", "--force", name], capture_output=True, check=False)


def _wait_for_systemd(name: str) -> None:
    """Before the bus is up systemctl cannot wait; a container's boot may end degraded."""
    command = ["docker", "exec", name, "systemctl", "is-system-running", "--wait"]
    for _ in range(60):
        said = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
        if said in ("running", "degraded"):
            return
        time.sleep(1)
    raise AssertionError(f"{name} has not booted within a minute: {said}")


def playing(
    container: str,
    folder: Path,
    play: str,
    variables: Mapping[str, object],
    more: Mapping[str, str] | None = None,
) -> subprocess.Popen[str]:
    """Start a play on a container; `more` is further environment of Ansible."""
    (folder / "play.yml").write_text(play)
    (folder / "vars.json").write_text(json.dumps(variables))
    return subprocess.Popen(
        ["ansible-playbook", "--inventory", f"{container},", "--connection",
         "community.docker.docker", "--extra-vars", f"@{folder}/vars.json",
         "--extra-vars", "ansible_python_interpreter=/usr/bin/python3", str(folder / "play.yml")],
        cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), **(more or {})},
    )  # fmt: skip


def ended(run: subprocess.Popen[str]) -> str:
    """Wait for a play that must end well; what Ansible said."""
    said, _ = run.communicate()
    assert run.returncode == 0, said[-6000:]
    return said
