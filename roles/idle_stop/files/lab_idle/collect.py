"""Looks at the host: the thin, impure part between the system and the parsers.

Whatever fails, fails to "unknown", with the reason; only what is certainly
not there (no GPU, no server listening) counts as absent or idle.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from . import signals
from .decision import Sample, Signal

PROC = Path("/proc")
PCI = Path("/sys/bus/pci/devices")
NVIDIA = "0x10de"
COMMAND_SECONDS = 15
JUPYTER_SECONDS = 5


def sample(config: dict[str, Any]) -> Sample:
    """Take one sample of this host; ``config`` is /etc/lab/idle_stop.json."""
    at = time.clock_gettime(time.CLOCK_BOOTTIME)
    return Sample(
        boot_identity(), at, tuple(_guarded(name, look) for name, look in _sources(config))
    )


def boot_identity() -> str:
    """Name this boot; in a container each start of it has another name."""
    started = (PROC / "1/stat").read_text().rpartition(")")[2].split()[19]
    return (PROC / "sys/kernel/random/boot_id").read_text().strip() + ":" + started


def _sources(config: dict[str, Any]) -> Iterator[tuple[str, Callable[[], Signal]]]:
    yield "ssh", lambda: signals.ssh_signal(_tcp_tables(), config["ssh_ports"])
    yield "console", lambda: signals.console_signal(_output(["who"]))
    yield "tmux", lambda: signals.tmux_signal(processes())
    yield "jupyter", lambda: jupyter(config["jupyter_url"], Path(config["jupyter_token_file"]))
    yield "terminals", lambda: signals.terminals_signal(processes())
    yield "packages", lambda: signals.packages_signal(processes())
    yield (
        "load",
        lambda: signals.load_signal(
            (PROC / "loadavg").read_text(), os.cpu_count() or 1, config["load_per_cpu"]
        ),
    )
    yield "gpu", lambda: gpu(config["gpu_percent"])


def _guarded(name: str, look: Callable[[], Signal]) -> Signal:
    try:
        return look()
    except Exception as error:  # whatever goes wrong in one source, it is that one that is unknown
        return Signal(name, "unknown", f"{type(error).__name__}: {error}")


def _tcp_tables() -> list[str]:
    tables = [(PROC / "net/tcp").read_text()]
    v6 = PROC / "net/tcp6"
    if v6.exists():  # a kernel without IPv6 has no such file
        tables.append(v6.read_text())
    return tables


def processes() -> list[signals.Process]:
    """Read the process table; what ends meanwhile is left out."""
    found = []
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            try:
                text = (entry / "stat").read_text(errors="replace")
            except (FileNotFoundError, ProcessLookupError):
                continue
            found.append(signals.parse_stat(text))
    return found


def _output(argv: list[str]) -> str:
    done = subprocess.run(
        argv,
        capture_output=True,
        text=True,
        timeout=COMMAND_SECONDS,
        check=False,
        env={**os.environ, "LC_ALL": "C"},
    )
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise ValueError(
            f"{argv[0]} ended with {done.returncode}: {said[0] if said else 'no word'}"
        )
    return done.stdout


def gpu(busy_percent: float, pci: Path = PCI) -> Signal:
    """NVIDIA's GPUs, or "absent" where the PCI bus holds none or no driver is installed."""
    if not any(_vendor(device) == NVIDIA for device in pci.glob("*")):
        return Signal("gpu", "absent", "no NVIDIA GPU")
    query = ["nvidia-smi", "--format=csv,noheader,nounits"]
    try:
        utilisation = _output([*query, "--query-gpu=utilization.gpu"])
    except FileNotFoundError:
        return Signal("gpu", "absent", "no nvidia-smi, so no driver")
    return signals.gpu_signal(
        utilisation, _output([*query, "--query-compute-apps=pid"]), busy_percent
    )


def _vendor(device: Path) -> str:
    try:
        return (device / "vendor").read_text().strip()
    except OSError:
        return ""


def jupyter(url: str, token_file: Path) -> Signal:
    """Kernels and terminals of the Jupyter server, asked so that asking is no activity."""
    token = token_file.read_text().strip() if token_file.exists() else ""
    try:
        kernels = _ask(url, "/api/kernels", token)
        terminals = _ask(url, "/api/terminals", token)
    except urllib.error.HTTPError as error:
        raise ValueError(f"{url} answers {error.code} to the token of {token_file}") from error
    except urllib.error.URLError as error:
        if isinstance(error.reason, ConnectionRefusedError):
            return Signal("jupyter", "absent", f"nothing listens at {url}")
        raise
    return signals.jupyter_signal(kernels, terminals)


def _ask(url: str, path: str, token: str) -> list[dict[str, str]]:
    request = urllib.request.Request(  # noqa: S310  (the URL is the role's own setting)
        f"{url}{path}?no_track_activity=1", headers={"Authorization": f"token {token}"}
    )
    # No proxy of the environment may stand between this host and itself.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=JUPYTER_SECONDS) as answer:
        listed = json.loads(answer.read())
    if not isinstance(listed, list):
        raise ValueError(f"{path} answered {type(listed).__name__}, not a list")
    return listed
