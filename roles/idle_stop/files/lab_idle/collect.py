"""Looks at the host: the thin, impure part between the system and the parsers.

Whatever fails, fails to "unknown", with the reason; only what is certainly
not there (no GPU, no server listening) counts as absent or idle.
"""

from __future__ import annotations

import json
import os
import ssl
import stat
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from . import cluster, signals, traffic, wishes
from .decision import Sample, Signal

PROC = Path("/proc")
PCI = Path("/sys/bus/pci/devices")
NVIDIA = "0x10de"
COMMAND_SECONDS = 15
JUPYTER_SECONDS = 5
STANDARD_STREAMS = 2


def sample(config: dict[str, Any]) -> Sample:
    """Take one sample of this host; ``config`` is /etc/lab/idle_stop.json."""
    at, boot = time.clock_gettime(time.CLOCK_BOOTTIME), boot_identity()
    seen = [_guarded(name, look) for name, look in _sources(config)]
    kept_until = 0.0
    try:
        wanted = wishes.read(Path(config["wishes_dir"]), boot)
        kept_until = min(wanted.kept_until, at + wishes.LONGEST_SECONDS)
        if wanted.off:
            seen.append(Signal("switch", "active", f"lab idle off by {wanted.by}"))
    except Exception as error:  # a user's file: whatever is wrong with it, it cannot be obeyed
        seen.append(Signal("switch", "unknown", f"{type(error).__name__}: {error}"))
    return Sample(boot, at, tuple(seen), kept_until)


def boot_identity() -> str:
    """Name this boot; in a container each start of it has another name."""
    started = (PROC / "1/stat").read_text().rpartition(")")[2].split()[19]
    return (PROC / "sys/kernel/random/boot_id").read_text().strip() + ":" + started


def _sources(config: dict[str, Any]) -> Iterator[tuple[str, Callable[[], Signal]]]:
    yield "ssh", lambda: signals.ssh_signal(_tcp_tables(), config["ssh_ports"])
    yield "console", lambda: signals.console_signal(_output(["who"]))
    yield "tmux", lambda: signals.tmux_signal(processes())
    yield (
        "jupyter",
        lambda: jupyter(
            config["jupyter_url"],
            Path(config["jupyter_token_file"]),
            config["jupyter_certificate"],
        ),
    )
    yield "terminals", lambda: signals.terminals_signal(processes())
    yield "packages", lambda: signals.packages_signal(processes())
    yield "ansible", lambda: signals.ansible_signal(commands())
    yield "cluster", lambda: cluster.look(_output, lambda: list(commands(cluster.STEP).values()))
    yield "uploads", uploads
    yield (
        "load",
        lambda: signals.load_signal(
            (PROC / "loadavg").read_text(), os.cpu_count() or 1, config["load_per_cpu"]
        ),
    )
    yield (
        "disk",
        lambda: traffic.disk_signal((PROC / "diskstats").read_text(), config["disk_rate"]),
    )
    yield (
        "network",
        lambda: traffic.network_signal((PROC / "net/dev").read_text(), config["network_rate"]),
    )
    yield "gpu", lambda: gpu(config["gpu_percent"], config["gpu_jobs"])


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


def commands(*names: str) -> dict[int, list[str]]:
    """Read the argument lists by name; of what may be Ansible, and any Python, if none is given."""
    found = {}
    for process in processes():
        if process.alive and process.name.startswith(names or ("ansible", "python")):
            try:
                raw = (PROC / str(process.pid) / "cmdline").read_bytes()
            except (FileNotFoundError, ProcessLookupError):
                continue
            found[process.pid] = raw.decode(errors="replace").split("\0")
    return found


def uploads() -> Signal:
    """Files that s3fs still has to bring to the bucket; "absent" where none is mounted."""
    # Of process 1, for this service has mounts of its own.
    mounts = traffic.mounts_of_s3((PROC / "1/mounts").read_text())
    if not mounts:
        return Signal("uploads", "absent", "no bucket is mounted")
    # rclone and mount-s3 keep other files open too; of theirs, those open for writing are known.
    daemons = [p.pid for p in processes() if p.alive and p.name == "s3fs"]
    held = sum(len(_own_files(pid)) for pid in daemons)
    return traffic.uploads_signal(held, _opened_under(mounts))


def _own_files(pid: int) -> list[Path]:
    """Regular files that s3fs has open, its standard streams left out."""
    found = []
    for link in _descriptors(pid):
        try:
            if int(link.name) > STANDARD_STREAMS and stat.S_ISREG(link.stat().st_mode):
                found.append(link)
        except FileNotFoundError:
            continue
    return found


def _opened_under(mounts: list[str]) -> dict[str, bool]:
    """Files open under these mounts, and whether for writing; nothing there is touched."""
    found: dict[str, bool] = {}
    for process in processes():
        for link in _descriptors(process.pid):
            try:
                path = str(link.readlink())
                if not traffic.under(path, mounts):
                    continue
                info = (PROC / str(process.pid) / "fdinfo" / link.name).read_text()
            except (FileNotFoundError, ProcessLookupError):
                continue
            flags = next(row.split()[1] for row in info.splitlines() if row.startswith("flags:"))
            if int(flags, 8) & os.O_DIRECTORY:
                continue
            writing = (int(flags, 8) & os.O_ACCMODE) != os.O_RDONLY
            found[path] = found.get(path, False) or writing
    return found


def _descriptors(pid: int) -> list[Path]:
    try:
        return list((PROC / str(pid) / "fd").iterdir())
    except (FileNotFoundError, ProcessLookupError):
        return []  # it has ended


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


def gpu(busy_percent: float, count_jobs: bool = True, pci: Path = PCI) -> Signal:
    """NVIDIA's GPUs, or "absent" where the PCI bus holds none or no driver is installed."""
    if not any(_vendor(device) == NVIDIA for device in pci.glob("*")):
        return Signal("gpu", "absent", "no NVIDIA GPU")
    query = ["nvidia-smi", "--format=csv,noheader,nounits"]
    try:
        utilisation = _output([*query, "--query-gpu=utilization.gpu"])
    except FileNotFoundError:
        return Signal("gpu", "absent", "no nvidia-smi, so no driver")
    compute = _output([*query, "--query-compute-apps=pid"])
    return signals.gpu_signal(utilisation, compute, busy_percent, processes(), count_jobs)


def _vendor(device: Path) -> str:
    try:
        return (device / "vendor").read_text().strip()
    except OSError:
        return ""


def jupyter(url: str, token_file: Path, certificate: str = "") -> Signal:
    """Kernels and terminals of the Jupyter server, asked so that asking is no activity.

    ``certificate`` is the file of the one to trust, where the URL is one of TLS.
    """
    token = token_file.read_text().strip() if token_file.exists() else ""
    try:
        kernels = _ask(url, "/api/kernels", token, certificate)
        terminals = _ask(url, "/api/terminals", token, certificate)
    except urllib.error.HTTPError as error:
        raise ValueError(f"{url} answers {error.code} to the token of {token_file}") from error
    except urllib.error.URLError as error:
        if isinstance(error.reason, ConnectionRefusedError):
            return Signal("jupyter", "absent", f"nothing listens at {url}")
        raise
    return signals.jupyter_signal(kernels, terminals)


def _ask(url: str, path: str, token: str, certificate: str) -> list[dict[str, str]]:
    request = urllib.request.Request(  # noqa: S310  (the URL is the role's own setting)
        f"{url}{path}?no_track_activity=1", headers={"Authorization": f"token {token}"}
    )
    # No proxy of the environment may stand between this host and itself.
    handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({})]
    if certificate:
        context = ssl.create_default_context(cafile=certificate)
        handlers.append(urllib.request.HTTPSHandler(context=context))
    opener = urllib.request.build_opener(*handlers)
    with opener.open(request, timeout=JUPYTER_SECONDS) as answer:
        listed = json.loads(answer.read())
    if not isinstance(listed, list):
        raise ValueError(f"{path} answered {type(listed).__name__}, not a list")
    return listed
