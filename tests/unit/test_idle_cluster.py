"""Jobs of the cluster keep the head on, and the workers that they need."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from roles.idle_stop.files.lab_idle import cluster, collect

STEPS = [["slurmstepd: [17.batch]"], ["slurmstepd: [17.0]"]]


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    settings = tmp_path / "slurm.json"
    monkeypatch.setattr(cluster, "SETTINGS", settings)
    return settings


def is_a(host: Path, role: str) -> None:
    host.write_text(json.dumps({"role": role, "name": "worker-1", "user": "admin"}))


def never(argv: list[str]) -> str:
    raise AssertionError(f"{argv} was run")


def none() -> list[list[str]]:
    return []


def test_a_host_without_slurm_is_in_no_cluster(host: Path) -> None:
    signal = cluster.look(never, none)
    assert (signal.state, signal.detail) == ("absent", "no Slurm here")


QUEUES = {
    "empty": ("", "idle", "no job queued or running"),
    "running": ("RUNNING\nRUNNING\n", "active", "jobs of the cluster: 2 running"),
    "queued": ("PENDING\n", "active", "jobs of the cluster: 1 pending"),
    "both": ("RUNNING\nPENDING\n", "active", "jobs of the cluster: 1 pending, 1 running"),
    "ending": ("COMPLETING\n", "active", "jobs of the cluster: 1 completing"),
}


@pytest.mark.parametrize(("queue", "state", "detail"), QUEUES.values(), ids=QUEUES.keys())
def test_the_head_stays_on_for_every_job(host: Path, queue: str, state: str, detail: str) -> None:
    is_a(host, "head")
    signal = cluster.look(lambda _: queue, none)
    assert (signal.name, signal.state, signal.detail) == ("cluster", state, detail)


def test_a_head_that_cannot_ask_does_not_know(host: Path) -> None:
    is_a(host, "head")

    def late(argv: list[str]) -> str:
        raise subprocess.TimeoutExpired(argv, 15)

    with pytest.raises(subprocess.TimeoutExpired):
        cluster.look(late, none)
    with pytest.raises(ValueError, match="squeue says 'Unable to contact', which is no state"):
        cluster.look(lambda _: "Unable to contact\n", none)


def test_what_is_not_known_of_the_queue_keeps_the_head_on(
    host: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through the collector, where the program itself is missing."""
    is_a(host, "head")
    monkeypatch.setattr(cluster, "QUEUE", ["/no/such/squeue"])
    looks = dict(collect._sources({"gpu_percent": 5, "gpu_jobs": True}))
    assert collect._guarded("cluster", looks["cluster"]).state == "unknown"


def test_a_worker_stays_on_for_a_job_that_runs_there(host: Path) -> None:
    is_a(host, "worker")
    signal = cluster.look(never, lambda: STEPS)
    assert (signal.state, signal.detail) == ("active", "2 steps of jobs run here")


def test_the_process_that_holds_the_place_is_no_job(host: Path) -> None:
    is_a(host, "worker")
    signal = cluster.look(lambda _: "", lambda: [["/usr/sbin/slurmstepd", "infinity"]])
    assert (signal.state, signal.detail) == ("idle", "no job here, and none waits")


def test_a_worker_stays_on_for_a_job_that_waits(host: Path) -> None:
    is_a(host, "worker")
    signal = cluster.look(lambda argv: "PENDING\n" * ("--states=PENDING" in argv), none)
    assert (signal.state, signal.detail) == ("active", "1 jobs wait for workers")


def test_a_worker_whose_head_is_off_does_not_wait_for_it(host: Path) -> None:
    is_a(host, "worker")

    def off(_: list[str]) -> str:
        raise ValueError("squeue ended with 1: Unable to contact slurm controller")

    signal = cluster.look(off, none)
    assert signal.state == "idle"
    assert "Unable to contact slurm controller" in signal.detail
