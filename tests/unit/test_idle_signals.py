"""What the raw texts of the system are taken to mean."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roles.idle_stop.files.lab_idle import signals, traffic
from roles.idle_stop.files.lab_idle.signals import Process, parse_stat

HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid\n"


def tcp(*rows: tuple[str, str]) -> str:
    """A table of /proc/net/tcp with these local addresses and states."""
    return HEAD + "".join(
        f"   {n}: {local} 0101A8C0:D431 {state} 00000000:00000000 00:00000000 00000000 0 0 1 1\n"
        for n, (local, state) in enumerate(rows)
    )


V6_SSH = "0000000000000000FFFF00000101A8C0:0016"
SSH = {
    "none": ([tcp()], "idle"),
    "listening only": ([tcp(("00000000:0016", "0A"))], "idle"),
    "established": ([tcp(("00000000:0016", "0A"), ("0101A8C0:0016", "01"))], "active"),
    "another port": ([tcp(("0101A8C0:22B8", "01"))], "idle"),
    "from here to another host's port 22": ([tcp(("0101A8C0:C350", "01"))], "idle"),
    "closing": ([tcp(("0101A8C0:0016", "06"))], "idle"),
    "over IPv6": ([tcp(), tcp((V6_SSH, "01"))], "active"),
}


@pytest.mark.parametrize(("tables", "state"), SSH.values(), ids=SSH.keys())
def test_ssh(tables: list[str], state: str) -> None:
    assert signals.ssh_signal(tables, [22]).state == state


def test_ssh_at_its_own_port() -> None:
    signal = signals.ssh_signal([tcp(("0101A8C0:08AE", "01"))], [22, 2222])
    assert (signal.state, signal.detail) == ("active", "1 open to port 22 or 2222")


CONSOLE = {
    "nobody": ("", "idle"),
    "serial console": ("admin    ttyS0        2026-11-22 00:13\n", "active"),
    "over ssh, seen by its connection": ("admin pts/0 2026-11-22 00:13 (10.0.0.1)\n", "idle"),
    "tmux's own record": ("admin pts/1 2026-11-22 00:13 (tmux(77).%0)\n", "idle"),
}


@pytest.mark.parametrize(("who", "state"), CONSOLE.values(), ids=CONSOLE.keys())
def test_console(who: str, state: str) -> None:
    assert signals.console_signal(who).state == state


def table(*rows: tuple[int, int, str] | tuple[int, int, str, str]) -> list[Process]:
    return [Process(row[0], row[1], row[2], row[3] if len(row) > 3 else "S") for row in rows]


SERVER = (10, 1, "tmux: server")
TMUX = {
    "no tmux": (table((1, 0, "systemd"), (5, 1, "python3")), "idle"),
    "a waiting shell": (table(SERVER, (11, 10, "bash")), "idle"),
    "a job in the shell": (table(SERVER, (11, 10, "bash"), (12, 11, "python3")), "active"),
    "a stopped job": (table(SERVER, (11, 10, "zsh"), (12, 11, "vim", "T")), "active"),
    "a job that ended": (table(SERVER, (11, 10, "bash"), (12, 11, "python3", "Z")), "idle"),
    "the pane is the job": (table(SERVER, (11, 10, "python3")), "active"),
    "a pane that ended": (table(SERVER, (11, 10, "python3", "Z")), "idle"),
    "a job elsewhere": (table(SERVER, (11, 10, "bash"), (12, 1, "python3")), "idle"),
    "the second of two servers": (
        table(
            SERVER, (11, 10, "bash"), (20, 1, "tmux: server"), (21, 20, "fish"), (22, 21, "make")
        ),
        "active",
    ),
    "screen, a waiting shell": (table((30, 1, "screen"), (31, 30, "bash")), "idle"),
    "screen, a job": (table((30, 1, "screen"), (31, 30, "bash"), (32, 31, "rsync")), "active"),
    "screen, its client": (table((29, 2, "screen"), (30, 29, "screen"), (31, 30, "sh")), "idle"),
}


@pytest.mark.parametrize(("processes", "state"), TMUX.values(), ids=TMUX.keys())
def test_tmux(processes: list[Process], state: str) -> None:
    assert signals.tmux_signal(processes).state == state


def test_tmux_names_the_jobs() -> None:
    rows = [(n, 11, "python3") for n in range(12, 17)]
    signal = signals.tmux_signal(table(SERVER, (11, 10, "bash"), *rows))
    assert signal.detail == "python3 (12), python3 (13), python3 (14) and 2 more"


LAB = (50, 1, "jupyter-lab")
TERMINALS = {
    "no server": (table((51, 1, "bash"), (52, 51, "python3")), "idle"),
    "a kernel is no terminal": (table(LAB, (51, 50, "python3")), "idle"),
    "a waiting shell": (table(LAB, (51, 50, "bash")), "idle"),
    "a job": (table(LAB, (51, 50, "bash"), (52, 51, "python3")), "active"),
}


@pytest.mark.parametrize(("processes", "state"), TERMINALS.values(), ids=TERMINALS.keys())
def test_terminals(processes: list[Process], state: str) -> None:
    assert signals.terminals_signal(processes).state == state


@pytest.mark.parametrize(
    ("name", "state"),
    [("dpkg", "active"), ("apt-get", "active"), ("unattended-upgr", "idle"), ("bash", "idle")],
)
def test_packages(name: str, state: str) -> None:
    assert signals.packages_signal(table((7, 1, name))).state == state


def kernel(state: str, when: str = "2026-11-22T10:00:00Z", name: str = "k1") -> dict[str, str]:
    return {"id": name, "execution_state": state, "last_activity": when}


def test_only_a_busy_kernel_is_active() -> None:
    states = {
        s: signals.jupyter_signal([kernel(s)], []).state for s in ("busy", "idle", "starting")
    }
    assert states == {"busy": "active", "idle": "idle", "starting": "idle"}


def test_jupyter_counts() -> None:
    signal = signals.jupyter_signal([kernel("busy"), kernel("idle", name="k2")], [])
    assert signal.detail == "1 busy of 2 kernels, 0 terminals"


def test_the_mark_follows_use_and_nothing_else() -> None:
    first, second = kernel("idle"), kernel("starting", name="k2")
    terminal = {"name": "1", "last_activity": "2026-11-22T10:00:00Z"}
    mark = signals.jupyter_signal([first, second], [terminal]).mark
    assert signals.jupyter_signal([second, first], [terminal]).mark == mark
    assert signals.jupyter_signal([], []).mark == ""
    used = kernel("idle", when="2026-11-22T10:00:01Z")
    typed = {**terminal, "last_activity": "2026-11-22T10:00:01Z"}
    others = [([used, second], [terminal]), ([first, second], [typed]), ([first], [terminal])]
    marks = {signals.jupyter_signal(k, t).mark for k, t in others}
    assert len(marks | {mark}) == 4


def test_jupyter_without_its_fields_is_not_understood() -> None:
    with pytest.raises(KeyError):
        signals.jupyter_signal([{"id": "k1"}], [])


@pytest.mark.parametrize(
    ("text", "cpus", "state"),
    [
        ("0.79 1.0 1.0 1/99 5\n", 4, "idle"),
        ("0.80 0 0 1/99 5\n", 4, "active"),
        ("0.30 9 9 1/9 5", 1, "active"),
    ],
)
def test_load(text: str, cpus: int, state: str) -> None:
    assert signals.load_signal(text, cpus, 0.2).state == state


ON_GPU = table(
    (1, 0, "systemd"),
    (50, 1, "jupyter-lab"),
    (4711, 50, "python3"),
    (4712, 4711, "python3"),
    (4720, 1, "python3"),
    (4730, 1, "nvidia-cuda-mps"),
)
GPU = {
    "idle": ("0\n", "", "idle"),
    "a kernel's model waits in memory": ("0\n3\n", "4711\n", "idle"),
    "a worker of that kernel": ("0\n", "4712\n", "idle"),
    "a job that loads data": ("0\n", "4720\n", "active"),
    "what only shares the GPU": ("0\n", "4730\n", "idle"),
    "a process that the table does not have": ("0\n", "9999\n", "active"),
    "no pid": ("0\n", "[N/A]\n", "active"),
    "one of two is busy": ("0\n5\n", "4711\n", "active"),
    "no figure, a job": ("[N/A]\n", "4711\n", "active"),
    "no figure, no job": ("[N/A]\n", "", "idle"),
}


@pytest.mark.parametrize(("utilisation", "compute", "state"), GPU.values(), ids=GPU.keys())
def test_gpu(utilisation: str, compute: str, state: str) -> None:
    assert signals.gpu_signal(utilisation, compute, 5, ON_GPU).state == state


def test_jobs_at_rest_count_only_where_they_are_to() -> None:
    assert signals.gpu_signal("0", "4720", 5, ON_GPU, count_jobs=False).state == "idle"


def test_another_process_on_the_gpu_is_use() -> None:
    marks = {signals.gpu_signal("0", pids, 5, ON_GPU).mark for pids in ("", "4711", "4711\n4712")}
    assert len(marks) == 3


ANSIBLE = {
    "a playbook here": (["/usr/bin/python3", "/usr/bin/ansible-playbook", "site.yml"], "active"),
    "a task in the background": (
        ["python3", "/root/.ansible/tmp/ansible-tmp-17.2/async_wrapper.py", "j1", "60"], "active",
    ),
    "a module": (["/usr/bin/python3", "/tmp/AnsiballZ_apt.py"], "active"),
    "a notebook about it": (["python3", "train.py", "--name", "ansible.ipynb"], "idle"),
    "anything": (["python3", "-m", "http.server"], "idle"),
}  # fmt: skip


@pytest.mark.parametrize(("argv", "state"), ANSIBLE.values(), ids=ANSIBLE.keys())
def test_ansible(argv: list[str], state: str) -> None:
    assert signals.ansible_signal({7: argv}).state == state


DISKSTATS = """\
   7       0 loop0 9 9 9999 9 9 9 9999 9 0 9 9
 259       0 nvme0n1 10 0 100 5 20 0 300 5 0 9 9
 259       1 nvme0n1p1 10 0 100 5 20 0 300 5 0 9 9
 253       0 dm-0 10 0 100 5 20 0 300 5 0 9 9
   8       0 sda 1 0 8 1 1 0 8 1 0 1 1
   8       1 sda1 1 0 8 1 1 0 8 1 0 1 1
 202       1 xvda1 1 0 4 1 1 0 4 1 0 1 1
"""


def test_disks_are_counted_once() -> None:
    signal = traffic.disk_signal(DISKSTATS, 1000)
    assert (signal.count, signal.busy_rate, signal.state) == ((400 + 16 + 8) * 512, 1000, "idle")


def test_the_network_without_itself() -> None:
    counters = " 1 0 0 0 0 0 0"
    text = f"Inter-|\n face |\n    lo: 7{counters} 7{counters}\n ens5: 100{counters} 20{counters}\n"
    assert traffic.network_signal(text, 1).count == 120


def test_what_is_no_counter_is_not_understood() -> None:
    with pytest.raises(IndexError):
        traffic.network_signal("a\nb\n ens5: 1 2\n", 1)


def test_where_the_buckets_are() -> None:
    text = (
        "s3fs /my\\040data fuse.s3fs rw 0 0\ntmpfs /run tmpfs rw 0 0\ns3fs /s3 fuse.s3fs rw 0 0\n"
    )
    assert traffic.mounts_of_s3(text) == ["/my data", "/s3"]
    assert traffic.under("/s3/a", ["/s3"])
    assert not traffic.under("/s3x/a", ["/s3"])


UPLOADS = {
    "nothing": (0, {}, "idle"),
    "read only": (1, {"/s3/a": False}, "idle"),
    "being written": (1, {"/s3/a": True}, "active"),
    "closed, not uploaded yet": (1, {}, "active"),
    "one read, one on its way": (2, {"/s3/a": False}, "active"),
    "open for writing, not yet at s3fs": (0, {"/s3/a": True}, "active"),
}


@pytest.mark.parametrize(("held", "opened", "state"), UPLOADS.values(), ids=UPLOADS.keys())
def test_uploads(held: int, opened: dict[str, bool], state: str) -> None:
    assert traffic.uploads_signal(held, opened).state == state


def test_nvidia_smi_that_says_nothing_is_not_understood() -> None:
    with pytest.raises(ValueError, match=r"^nvidia-smi names no GPU$"):
        signals.gpu_signal("\n", "", 5)


@given(
    st.integers(1, 2**22),
    st.integers(0, 2**22),
    st.text(min_size=1, max_size=15),
    st.sampled_from("RSDZTI"),
)
def test_any_name_of_a_process_is_read(pid: int, parent: int, name: str, state: str) -> None:
    text = f"{pid} ({name}) {state} {parent} 1 1 0 -1 4194560 0 0\n"
    assert parse_stat(text) == Process(pid, parent, name, state)


@pytest.mark.parametrize("text", ["", "12", "12 (bash)", "12 (bash) S"])
def test_a_torn_process_is_not_understood(text: str) -> None:
    with pytest.raises(ValueError, match="no process in"):
        parse_stat(text)
