"""The process is killed anywhere; the next one mends what it left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from .engine_kit import Bench, answers, bench, docker

pytestmark = pytest.mark.sandbox
ROOT = Path(__file__).resolve().parents[2]
VOLUME = f"vol-{7:017x}"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with bench(tmp_path_factory.mktemp("killed")) as made:
        yield made


def doomed(lab: Bench, calls: str) -> subprocess.Popen[str]:
    """Start a process with an engine of its own on the same slot."""
    program = f"""
import sys
from pathlib import Path
from sandbox.engine import DockerEngine
from sandbox.model import *
from sandbox.settings import Settings
settings = Settings(slot={lab.settings.slot}, root=Path({str(lab.settings.root)!r}))
engine = DockerEngine(settings, lambda _: Metadata(MetadataOptions(True), {{}}))
one = {lab.machine(1, volumes={"/dev/sdf": VOLUME})!r}
print("ready", flush=True)
{calls}
"""
    return subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("after_s", [0.05, 0.15, 0.3, 0.5, 0.8, 1.3])
def test_killed_while_it_starts_a_machine(lab: Bench, after_s: float) -> None:
    lab.machines.clear()
    lab.converge()
    process = doomed(lab, f"engine.create_volume({VOLUME!r}, 1, None)\nengine.converge([one])")
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    time.sleep(after_s)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    lab.new_engine()
    lab.engine.create_volume(VOLUME, 1, None)
    one = lab.machine(1, volumes={"/dev/sdf": VOLUME})
    lab.converge(one)
    assert answers(one.public_ip, 22)
    told = lab.output(one, "systemctl is-system-running --wait; sudo blockdev --getsize64 /dev/sdf")
    assert told.split() == ["running", str(1 << 30)]


def test_killed_while_it_stops_a_machine(lab: Bench) -> None:
    one = lab.machine(1, volumes={"/dev/sdf": VOLUME})
    lab.engine.create_volume(VOLUME, 1, None)
    lab.converge(one)
    lab.engine.close()
    stop = "import dataclasses\nengine.converge([dataclasses.replace(one, running=False)])"
    process = doomed(lab, stop)
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(0.3)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    lab.new_engine()
    lab.converge(lab.machine(1, running=False))
    assert docker("inspect", "-f", "{{.State.Running}}", lab.name(one)) == "false"
    lab.converge(one)
    assert answers(one.public_ip, 22)


def test_killed_with_machines_running(lab: Bench) -> None:
    one = lab.machine(1, volumes={"/dev/sdf": VOLUME})
    lab.converge(one)
    lab.engine.close()
    process = doomed(lab, "engine.converge([one])\nprint('up', flush=True)\ninput()")
    assert process.stdout is not None
    assert [process.stdout.readline(), process.stdout.readline()] == ["ready\n", "up\n"]
    boot = lab.output(one, "cat /proc/sys/kernel/random/boot_id")
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not answers(one.public_ip, 22)
    lab.new_engine()
    lab.converge()
    assert lab.output(one, "cat /proc/sys/kernel/random/boot_id") == boot
    get = "curl -s -o /dev/null -w '%{http_code}' http://169.254.169.254/latest/meta-data/"
    assert lab.output(one, get) == "401"


def test_destroy_by_a_process_that_knows_nothing(lab: Bench) -> None:
    lab.converge(lab.machine(1, volumes={"/dev/sdf": VOLUME}))
    lab.engine.create_image("ami-1", lab.machine(1).instance_id)
    lab.new_engine()
    lab.engine.destroy()
    assert lab.leftovers() == []
