"""The command: builds two hosts in a sandbox of its own, one by us and one by hand, and compares.

First converge: playbooks/configure_host.yml on a fresh host, against a shell script over one ssh
that installs the same Debian packages and the same wheels of the same lock, and does nothing else:
no settings, no services, no checks. That is the limit. Second converge: the same playbook again.
With --gpu the hosts show a simulated GPU, and both install Debian's real driver, built by DKMS.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OURS, BARE = "bench-ours", "bench-bare"
FIRST_GOAL = 1.15
SECOND_GOAL_S = 15.0
EXPORT = re.compile(r"^export (\w+)='?([^'\n]*)'?$", re.MULTILINE)
# Where a host shows its simulated GPU, and what a lab with Debian's driver asks for: torch 2.10 is
# the newest of Python's own index that this driver runs.
SIMULATED = "/opt/simulated"
GPU_WISHES = (
    *("-e", "lab_nvidia_source=distribution"),
    *("-e", "lab_torch_version=2.10.0"),
    *("-e", f"nvidia_root={SIMULATED}"),
)
# The by-hand way to Debian's driver, around the one installation.
GPU_BEFORE = """sudo sed -i '/^Components:/s/main.*/main contrib non-free non-free-firmware/' \\
  /etc/apt/sources.list.d/debian.sources"""
GPU_AFTER = "sudo modprobe nvidia"
SCRIPT = """set -eu
export DEBIAN_FRONTEND=noninteractive
{before}
sudo apt-get update -qq
sudo -E apt-get install -y -qq --no-install-recommends {packages}
sudo python3 -m venv /opt/lab/uv
sudo /opt/lab/uv/bin/pip install --quiet --disable-pip-version-check uv=={uv}
sudo python3 -m venv --without-pip /opt/lab/venv
sudo env UV_SYSTEM_CERTS=true SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt \\
  /opt/lab/uv/bin/uv pip install --quiet --no-deps --require-hashes \\
  --python /opt/lab/venv/bin/python -r /tmp/python.lock
{after}
"""


class BenchmarkError(Exception):
    """A step that a figure needs has failed; the argument says which and what it said."""


@dataclass
class Times:
    """Seconds of each round."""

    first: list[float] = field(default_factory=list)
    bare: list[float] = field(default_factory=list)
    second: list[float] = field(default_factory=list)


def parse(words: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.converge", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="fresh hosts of each (%(default)s)")
    parser.add_argument("--slot", default="7", help="slot of the sandbox (%(default)s)")
    parser.add_argument("--tasks", action="store_true", help="print the longest tasks as well")
    parser.add_argument("--gpu", action="store_true", help="hosts with a simulated GPU")
    return parser.parse_args(words)


def run(
    command: Sequence[str], environment: Mapping[str, str], text: str = ""
) -> tuple[float, str]:
    """Run a command of a figure; its seconds and its output. Raises BenchmarkError."""
    start = time.monotonic()
    done = subprocess.run(
        command, cwd=ROOT, env=environment, input=text, text=True, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    seconds = time.monotonic() - start
    if done.returncode:
        raise BenchmarkError(f"{shlex.join(command)} failed:\n{done.stdout[-3000:]}")
    return seconds, done.stdout


def sandbox(slot: str) -> dict[str, str]:
    """Start the sandbox; the environment of the playbooks."""
    environment = {**os.environ, "GPULAB_SANDBOX_SLOT": slot, "ANSIBLE_NOCOLOR": "1"}
    _, said = run([sys.executable, "-m", "sandbox", "up"], environment)
    return environment | dict(EXPORT.findall(said))


def play(name: str, lab: str, environment: Mapping[str, str], *more: str) -> tuple[float, str]:
    """Run a playbook for a lab."""
    return run(
        ["ansible-playbook", f"playbooks/{name}.yml", "-e", f"lab_name={lab}", *more], environment
    )


def ssh(
    lab: str, command: str, environment: Mapping[str, str], text: str = ""
) -> tuple[float, str]:
    """Run a command on a lab's host."""
    config = ROOT / ".lab" / lab / "ssh_config"
    # No tunnel: another lab may have the port, of which ssh would tell among what the command says.
    options = ["-o", "LogLevel=ERROR", "-o", "ClearAllForwardings=yes"]
    return run(["ssh", "-F", str(config), *options, lab, command], environment, text)


def show_gpu(lab: str, environment: Mapping[str, str]) -> None:
    """Show a simulated GPU on a lab's host; what the host has of the driver counts as loaded."""
    script = (ROOT / "benchmarks/converge/simulated.sh").read_text()
    ssh(lab, f"sudo sh -s {SIMULATED}", environment, script)


def hide_gpu(lab: str, environment: Mapping[str, str]) -> None:
    """Take a simulated GPU off the bus, for what would compute on it."""
    ssh(lab, f"sudo rm -r {SIMULATED}/sys", environment)


def fresh(lab: str, environment: Mapping[str, str], *more: str) -> None:
    """Have a fresh host of a lab, and no lock of an earlier one."""
    play("destroy", lab, environment, "-e", f"confirm={lab}", "-e", "delete_data=true")
    shutil.rmtree(ROOT / ".lab" / lab, ignore_errors=True)
    play("create_host", lab, environment, *more)
    ssh(lab, "cloud-init status --wait >/dev/null 2>&1 || true", environment)


def manual(lab: str, environment: Mapping[str, str]) -> set[str]:
    """List the packages that somebody has asked for."""
    return set(ssh(lab, "apt-mark showmanual", environment)[1].split())


def by_hand(packages: set[str], lock: str, environment: Mapping[str, str], gpu: bool) -> float:
    """Install the same on a fresh host, by one script; its seconds."""
    defaults = (ROOT / "roles/pytorch/defaults/main.yml").read_text()
    found = re.search(r"^pytorch_uv_version: (\S+)$", defaults, re.MULTILINE)
    if not found:
        raise BenchmarkError("roles/pytorch/defaults/main.yml names no version of uv")
    ssh(BARE, "cat >/tmp/python.lock", environment, lock)
    script = SCRIPT.format(
        packages=" ".join(sorted(packages)),
        uv=found[1],
        before=GPU_BEFORE if gpu else "",
        after=GPU_AFTER if gpu else "",
    )
    return ssh(BARE, "cat >/tmp/by_hand && bash /tmp/by_hand </dev/null", environment, script)[0]


def one_round(times: Times, environment: Mapping[str, str], tasks: bool, gpu: bool) -> None:
    """Build one host by us, twice, and one by hand."""
    wishes = GPU_WISHES if gpu else ()
    for lab in (OURS, BARE):
        fresh(lab, environment, *wishes)
        if gpu:
            show_gpu(lab, environment)
    before = manual(OURS, environment)
    profiled = {**environment, "ANSIBLE_CALLBACKS_ENABLED": "ansible.posix.profile_tasks"}
    playing = profiled if tasks else environment
    said = ""
    for seconds in (times.first, times.second):
        took, said = play("configure_host", OURS, playing, *wishes)
        seconds.append(took)
        if tasks:
            print(said[said.rindex("PLAY RECAP") :])
    if not re.search(rf"^gpulab-{OURS} .* changed=0 ", said, re.MULTILINE):
        raise BenchmarkError(f"the second converge changed something:\n{said[-3000:]}")
    lock = (ROOT / ".lab" / OURS / "python.lock").read_text()
    packages = manual(OURS, environment) - before
    times.bare.append(by_hand(packages, lock, environment, gpu))


def table(times: Times) -> str:
    """Write medians and ratios."""
    first, bare, second = map(statistics.median, (times.first, times.bare, times.second))
    rows = [
        ("first converge", first, f"{first / bare:.2f} of the script (goal {FIRST_GOAL})"),
        ("bare shell script", bare, "1.00"),
        (
            "second converge",
            second,
            f"{second / SECOND_GOAL_S:.2f} of {SECOND_GOAL_S:.0f} s (goal 1)",
        ),
    ]
    shown = "\n".join(f"{name:18} {seconds:7.1f} s   {ratio}" for name, seconds, ratio in rows)
    return f"{shown}\nmedians of {len(times.first)} round(s), {os.cpu_count()} cores"


def main() -> int:
    """Measure, print; 1 where a goal was missed, 2 where there are no figures."""
    wanted = parse(sys.argv[1:])
    times = Times()
    environment = sandbox(wanted.slot)
    try:
        for _ in range(wanted.rounds):
            one_round(times, environment, wanted.tasks, wanted.gpu)
    except BenchmarkError as error:
        print(error, file=sys.stderr)
        return 2
    finally:
        run([sys.executable, "-m", "sandbox", "down"], environment)
        for lab in (OURS, BARE):
            shutil.rmtree(ROOT / ".lab" / lab, ignore_errors=True)
    print(table(times))
    ratio = statistics.median(times.first) / statistics.median(times.bare)
    return int(ratio > FIRST_GOAL or statistics.median(times.second) > SECOND_GOAL_S)


if __name__ == "__main__":
    sys.exit(main())
