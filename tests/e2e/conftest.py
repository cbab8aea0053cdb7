"""One lab, built through the sandbox for all tests of this folder, in slot 1 unless told."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest

from sandbox.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
KEPT = ROOT / ".cache" / "e2e"
EXPORT = re.compile(r"^export (\w+)='?([^'\n]*)'?$", re.MULTILINE)
RECAP = re.compile(
    r"^(\S+)\s+: ok=(\d+)\s+changed=(\d+)\s+unreachable=(\d+)\s+failed=(\d+)", re.MULTILINE
)


@dataclass
class Run:
    """What one ansible-playbook printed, and how its recap counts."""

    output: str
    status: int
    seconds: float

    @property
    def recap(self) -> dict[str, dict[str, int]]:
        """Host name -> its counts."""
        names = ("ok", "changed", "unreachable", "failed")
        return {
            match[1]: dict(zip(names, map(int, match.groups()[1:]), strict=True))
            for match in RECAP.finditer(self.output)
        }

    def total(self, name: str) -> int:
        """Add one count up over all hosts; a run without a recap has none to add."""
        assert self.recap, f"no recap in:\n{self.output[-3000:]}"
        return sum(counts[name] for counts in self.recap.values())


@dataclass
class Lab:
    """A lab and how a user handles it: playbooks and ssh."""

    name: str
    environment: Mapping[str, str]
    times: dict[str, float] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """The lab's state on the controller."""
        return ROOT / ".lab" / self.name

    def client(self, service: str) -> Any:
        """A boto3 client for the sandbox, without a type: the service is not a literal."""
        return boto3.client(
            service,  # type: ignore[call-overload]  # see above
            endpoint_url=self.environment["AWS_ENDPOINT_URL"],
            aws_access_key_id=self.environment["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=self.environment["AWS_SECRET_ACCESS_KEY"],
            region_name=self.environment["AWS_REGION"],
        )

    def play(self, playbook: str, *arguments: str, check: bool = True, **variables: str) -> Run:
        """Run a playbook for this lab; with `check`, fail the test where it fails.

        ``variables`` are more ones of the environment.
        """
        start = time.monotonic()
        done = subprocess.run(
            ["ansible-playbook", playbook, "-e", f"lab_name={self.name}", *arguments],
            cwd=ROOT, env={**self.environment, **variables}, text=True, check=False,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        run = Run(done.stdout, done.returncode, time.monotonic() - start)
        KEPT.mkdir(parents=True, exist_ok=True)
        with (KEPT / "playbooks.log").open("a") as log:
            log.write(f"### {playbook} {' '.join(arguments)}: {run.seconds:.0f} s\n{run.output}\n")
        assert not check or run.status == 0, run.output[-6000:]
        return run

    def ssh(self, command: str, timeout: float = 60, host: str = "") -> str:
        """Run a shell command on the host, or another of ssh_config; fail where it fails."""
        ssh = ["ssh", "-F", str(self.folder / "ssh_config"), "-o", "BatchMode=yes"]
        done = subprocess.run(
            [*ssh, host or self.name, command],
            cwd=ROOT, capture_output=True, text=True, timeout=timeout, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout


def sandbox(*arguments: str) -> str:
    """Run the sandbox's command line; return what it prints."""
    done = subprocess.run(
        [sys.executable, "-m", "sandbox", *arguments],
        cwd=ROOT, text=True, check=True, stdout=subprocess.PIPE,
    )  # fmt: skip
    return done.stdout


@contextmanager
def in_slot(slot: str) -> Iterator[None]:
    """Let commands of the sandbox go to another slot."""
    before = os.environ.get("GPULAB_SANDBOX_SLOT")
    os.environ["GPULAB_SANDBOX_SLOT"] = slot
    try:
        yield
    finally:
        os.environ.pop("GPULAB_SANDBOX_SLOT")
        if before is not None:
            os.environ["GPULAB_SANDBOX_SLOT"] = before


@contextmanager
def empty_lab(name: str, slot: str) -> Iterator[Lab]:
    """A lab's name in an empty sandbox of its own, which goes in the end."""
    with in_slot(slot):
        sandbox("down")
        environment = os.environ | dict(EXPORT.findall(sandbox("up")))
        lab = Lab(name, environment | {"ANSIBLE_FORCE_COLOR": "0"})
        subprocess.run(["rm", "-rf", str(lab.folder)], check=True)
        try:
            yield lab
        finally:
            if "GPULAB_E2E_KEEP" not in os.environ:
                sandbox("down")


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """An empty sandbox with a lab's name in it; taken down afterwards unless told to keep it."""
    os.environ.setdefault("GPULAB_SANDBOX_SLOT", "1")
    Settings.from_environment()
    sandbox("down")
    environment = os.environ | dict(EXPORT.findall(sandbox("up"))) | {"ANSIBLE_FORCE_COLOR": "0"}
    subject = Lab("e2e", environment)
    subprocess.run(["rm", "-rf", str(subject.folder)], check=True)
    yield subject
    if "GPULAB_E2E_KEEP" not in os.environ:
        sandbox("down")
