"""What the raw texts of the system say: pure parsers, each ending in a Signal.

A parser that meets what it does not understand raises ValueError (or KeyError
for an answer without its fields); the collector turns that into "unknown".
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from .decision import Signal, State

TCP_ESTABLISHED = "01"
SHELLS = frozenset(
    ("ash", "bash", "csh", "dash", "fish", "ksh", "mksh", "sh", "tcsh", "xonsh", "zsh")
)
PACKAGE_TOOLS = frozenset(("apt", "apt-get", "aptitude", "dpkg", "dpkg-deb"))
# ansible-playbook and ansible-pull themselves, and the modules that they have sent here.
ANSIBLE = re.compile(r"(^|/)(ansible(-[a-z]+)?$|AnsiballZ_|ansible-tmp-|async_wrapper)")
# Shares a GPU among other programs; it holds it without using it.
GPU_SHARERS = ("nvidia-cuda-mps",)
JUPYTER_SERVERS = (
    "jupyter-lab",
    "jupyter-server",
    "jupyter-noteboo",
)  # 15 characters, as the kernel keeps them
CONSOLES = ("tty", "console", "hvc", "xvc")
SHOWN = 3


@dataclass(frozen=True)
class Process:
    """One line of the process table; ``name`` is cut to 15 characters by the kernel."""

    pid: int
    parent: int
    name: str
    state: str

    @property
    def alive(self) -> bool:
        """Whether it still does, or may still do, something."""
        return self.state not in ("Z", "X", "x")

    def __str__(self) -> str:
        return f"{self.name} ({self.pid})"


def parse_stat(text: str) -> Process:
    """Read ``/proc/<pid>/stat``; the name in parentheses may hold spaces and parentheses."""
    head, _, tail = text.rpartition(")")
    pid, _, name = head.partition("(")
    fields = tail.split()
    if not name or len(fields) < 2:  # noqa: PLR2004  (the state and the parent)
        raise ValueError(f"no process in {text[:60]!r}")
    return Process(int(pid), int(fields[1]), name, fields[0])


def ssh_signal(tables: Iterable[str], ports: Sequence[int]) -> Signal:
    """Find established connections to sshd in the texts of ``/proc/net/tcp`` and ``tcp6``.

    A bare tunnel (``ssh -N``) has no terminal and no login record, but it has a connection.
    """
    count = 0
    for table in tables:
        for line in table.splitlines()[1:]:
            fields = line.split()
            local_port = int(fields[1].rpartition(":")[2], 16)
            if fields[3] == TCP_ESTABLISHED and local_port in ports:
                count += 1
    where = " or ".join(str(port) for port in ports)
    if count:
        return Signal("ssh", "active", f"{count} open to port {where}")
    return Signal("ssh", "idle", f"no connection to port {where}")


def console_signal(who: str) -> Signal:
    """Find logins at a console in the output of ``who``.

    Those over the network are seen by their connection. Their records are not
    used: tmux writes one for each pane, and a session outlives its login for
    as long as tmux runs.
    """
    rows = [line.split() for line in who.splitlines() if line.strip()]
    users = [
        f"{row[0]} at {row[1]}" for row in rows if len(row) > 1 and row[1].startswith(CONSOLES)
    ]
    if users:
        return Signal("console", "active", _some(users))
    return Signal("console", "idle", "no login at a console")


def tmux_signal(processes: Sequence[Process]) -> Signal:
    """Find panes of tmux (windows of screen) with more in them than a waiting shell.

    The process table is read rather than tmux asked: the server belongs to a
    user, and root must not take commands from it.
    """
    servers = {
        p.pid
        for p in processes
        if p.alive and (p.name.startswith("tmux: server") or p.name == "screen")
    }
    panes = [p for p in processes if p.parent in servers and p.pid not in servers and p.alive]
    jobs = [job for pane in panes for job in _jobs_of(pane, processes)]
    if jobs:
        return Signal("tmux", "active", _some(str(job) for job in jobs))
    return Signal("tmux", "idle", f"{_count(panes, 'pane')} with a job in none")


def terminals_signal(processes: Sequence[Process]) -> Signal:
    """Find terminals of Jupyter with more in them than a waiting shell."""
    servers = {p.pid for p in processes if p.alive and p.name.startswith(JUPYTER_SERVERS)}
    shells = [p for p in processes if p.parent in servers and p.alive and p.name in SHELLS]
    jobs = [job for shell in shells for job in _jobs_of(shell, processes)]
    if jobs:
        return Signal("terminals", "active", _some(str(job) for job in jobs))
    return Signal("terminals", "idle", f"{_count(shells, 'terminal')} with a job in none")


def packages_signal(processes: Sequence[Process]) -> Signal:
    """See whether a package is being installed: switched off midway, a host may not boot."""
    running = [str(p) for p in processes if p.alive and p.name in PACKAGE_TOOLS]
    if running:
        return Signal("packages", "active", _some(running))
    return Signal("packages", "idle", "no package being installed")


def jupyter_signal(
    kernels: Sequence[Mapping[str, str]], terminals: Sequence[Mapping[str, str]]
) -> Signal:
    """Find busy kernels; the mark says whether the others, or terminals, were used since.

    A kernel that no browser ever joined stays "starting", so that only "busy" counts by itself.
    """
    busy = [kernel for kernel in kernels if kernel["execution_state"] == "busy"]
    stamps = [f"kernel {k['id']} {k['last_activity']}" for k in kernels]
    stamps += [f"terminal {t['name']} {t['last_activity']}" for t in terminals]
    mark = hashlib.sha256("\n".join(sorted(stamps)).encode()).hexdigest()[:16] if stamps else ""
    counts = f"{_count(kernels, 'kernel')}, {_count(terminals, 'terminal')}"
    if busy:
        return Signal("jupyter", "active", f"{len(busy)} busy of {counts}", mark)
    return Signal("jupyter", "idle", f"{counts}, none busy", mark)


def load_signal(loadavg: str, cpus: int, per_cpu: float) -> Signal:
    """Weigh the load of the last minute against ``per_cpu`` times the number of CPUs."""
    load = float(loadavg.split(maxsplit=1)[0])
    limit = per_cpu * max(cpus, 1)
    state: State = "active" if load >= limit else "idle"
    return Signal("load", state, f"{load:.2f} where {limit:.2f} is busy")


def ansible_signal(commands: Mapping[int, Sequence[str]]) -> Signal:
    """See whether Ansible works here; ``commands`` are the argument lists by pid.

    A playbook over SSH is seen by its connection too, a task in the background only here.
    """
    running = [pid for pid, argv in commands.items() if any(ANSIBLE.search(word) for word in argv)]
    if running:
        return Signal("ansible", "active", f"{_count(running, 'process', 'es')} of it")
    return Signal("ansible", "idle", "not running")


def gpu_signal(
    utilisation: str,
    compute: str,
    busy_percent: float,
    processes: Sequence[Process] = (),
    count_jobs: bool = True,
) -> Signal:
    """From nvidia-smi: ``utilization.gpu`` one a line, and the pids of compute processes.

    A kernel of Jupyter that merely holds a model is judged by its kernel's state. Any other program
    on a GPU is a job, busy at this moment or not (it may be loading data), as in a pane of tmux.
    A GPU that gives no figure (MIG) is judged by whether a compute process is on it. That another
    process is on it than at the last look is use as well.
    """
    values = [line.strip() for line in utilisation.splitlines() if line.strip()]
    if not values:
        raise ValueError("nvidia-smi names no GPU")
    pids = [line.strip() for line in compute.splitlines() if line.strip()]
    dumb = [value for value in values if not value.replace(".", "", 1).isdigit()]
    peak = max((float(value) for value in values if value not in dumb), default=0.0)
    detail = f"{peak:.0f} % at most, {_count(pids, 'compute job')} on {_count(values, 'GPU')}"
    jobs = [pid for pid in pids if _is_job(pid, processes)] if count_jobs else []
    active = peak >= busy_percent or bool(dumb and pids) or bool(jobs)
    return Signal("gpu", "active" if active else "idle", detail, " ".join(sorted(pids)))


def _is_job(pid: str, processes: Sequence[Process]) -> bool:
    """Whether a process on a GPU is neither a kernel of Jupyter nor a mere sharer of the GPU."""
    table = {p.pid: p for p in processes}
    if not pid.isdigit() or int(pid) not in table:
        return True  # of another container, or gone by now: not known, so it counts
    at: Process | None = table[int(pid)]
    if at is not None and at.name.startswith(GPU_SHARERS):
        return False
    for _ in range(len(table)):
        if at is None:
            return True
        if at.name.startswith(JUPYTER_SERVERS):
            return False
        at = table.get(at.parent)
    return True


def _jobs_of(pane: Process, processes: Sequence[Process]) -> list[Process]:
    if pane.name not in SHELLS:
        return [pane]
    return [p for p in processes if p.parent == pane.pid and p.alive]


def _some(names: Iterable[str]) -> str:
    listed = list(names)
    more = len(listed) - SHOWN
    return ", ".join(listed[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def _count(things: Sequence[object], noun: str, plural: str = "s") -> str:
    return f"{len(things)} {noun}{'' if len(things) == 1 else plural}"
