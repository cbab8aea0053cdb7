"""The lab as a cluster: two workers, a training that outlives one of them, fewer workers, none."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e import browser, doors
from tests.e2e.conftest import ROOT, Lab, empty_lab

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

TWO, ONE = ("-e", "lab_workers=2"), ("-e", "lab_workers=1")
EXAMPLES = "/data/notebooks/examples"
# A sixth of the pictures, so that the training is over in a minute.
FEW = """
mkdir -p /data/work/few; cd /data/datasets/fashion-mnist
for part in train/* test/*; do
  mkdir -p "/data/work/few/$part"
  ls "$part" | head -n 1000 | (cd "$part" && xargs cp -t "/data/work/few/$part")
done
"""
TRAIN = (
    f"cd /data/work && sbatch --parsable {EXAMPLES}/train_ddp.sbatch"
    f" {EXAMPLES}/train_fashion_mnist_ddp.py --data /data/work/few"
    " --epochs 2 --batch 250 --keep 10 --report 10"
)
CHECKPOINT = "/data/work/fashion-mnist-ddp/checkpoint.pt"
# What head and workers may reach of each other, and none of it anybody else: a port of each range.
AMONG = (2049, 6817, 6818, 29500, 29599, 32768, 60000, 60001, 61000)
# Ports beside those ranges, and of programs that listen on every host.
NEVER = (111, 6819, 8888, 29499, 29600, 61001)
# Refused is let through, with nobody there; what a firewall drops says nothing.
REACHED = """
import errno, socket, sys
from concurrent.futures import ThreadPoolExecutor
def tried(port):
    with socket.socket() as one:
        one.settimeout(2)
        return one.connect_ex((sys.argv[1], int(port))) in (0, errno.ECONNREFUSED)
with ThreadPoolExecutor(64) as pool:
    print(*(port for port, there in zip(sys.argv[2:], pool.map(tried, sys.argv[2:])) if there))
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Lab]:
    """A lab of its own in a sandbox of its own, two slots after that of the other tests."""
    slot = str(int(os.environ.get("GPULAB_SANDBOX_SLOT", "1")) + 2)
    with empty_lab("cl", slot) as lab:
        yield lab


def instances(lab: Lab) -> dict[str, dict[str, Any]]:
    """The lab's instances that are not terminated, by name: head, worker-1 and so on."""
    pages = lab.client("ec2").describe_instances()["Reservations"]
    found = [one for page in pages for one in page["Instances"]]
    alive = [one for one in found if one["State"]["Name"] != "terminated"]
    tags = [{tag["Key"]: tag["Value"] for tag in one["Tags"]} for one in alive]
    names = [f"worker-{its['Worker']}" if "Worker" in its else "head" for its in tags]
    return dict(zip(names, alive, strict=True))


def on(lab: Lab, host: str, command: str, timeout: float = 60) -> str:
    """Run a command on the head, or on a worker."""
    return lab.ssh(command, timeout, lab.name if host == "head" else f"{lab.name}-{host}")


def state_of(lab: Lab, job: str) -> str:
    shown = lab.ssh(f"scontrol show job --oneliner {job}")
    found = re.search(r"JobState=(\S+)", shown)
    return found[1] if found else shown


def until(lab: Lab, job: str, state: str, seconds: float) -> None:
    """Wait until a job is in a state."""
    end = time.monotonic() + seconds
    while (now := state_of(lab, job)) != state:
        output = lab.ssh("tail -n 40 /data/work/*.out 2>/dev/null || true")
        assert time.monotonic() < end, f"job {job} is {now}, not {state}:\n{output}"
        time.sleep(2)


def test_one_command_builds_the_cluster(cluster: Lab) -> None:
    run = cluster.play("site.yml", *TWO)
    cluster.times["build"] = run.seconds
    assert run.total("failed") == run.total("unreachable") == 0
    assert sorted(instances(cluster)) == ["head", "worker-1", "worker-2"]
    assert cluster.ssh("sinfo -hNo '%N %T' | sort").split() == [
        "worker-1", "idle", "worker-2", "idle",
    ]  # fmt: skip


def test_all_of_it_was_proved_on_each_host(cluster: Lab) -> None:
    for name in ("report", "report-worker-1", "report-worker-2"):
        results = json.loads((cluster.folder / f"{name}.json").read_text())["results"]
        statuses = [result["status"] for result in results]
        assert "failed" not in statuses
        assert statuses.count("ok") >= 15, results


def test_the_hosts_are_alike(cluster: Lab) -> None:
    """Users by number, Python by its packages, /data by what was written a moment ago."""
    cluster.ssh(f"date +%N > /data/work/note; test -e {EXAMPLES}")
    look = (
        "id; cat /data/work/note; find /opt/lab/venv/lib/*/site-packages -maxdepth 1"
        " -name '*.dist-info' -printf '%f\\n' | sort"
    )
    seen = {host: on(cluster, host, look) for host in instances(cluster)}
    assert len(set(seen.values())) == 1, seen
    assert len(seen["head"].splitlines()) > 20


def test_they_reach_each_other_and_nobody_else_does(cluster: Lab) -> None:
    hosts = instances(cluster)
    ask = f"python3 - {{}} {' '.join(map(str, (22, *AMONG, *NEVER)))} <<'END'\n{REACHED}END"
    for host in hosts:
        for other in set(hosts) - {host}:
            seen = on(cluster, host, ask.format(hosts[other]["PrivateIpAddress"]))
            # Not even SSH: to each host there is one way, from the user.
            assert sorted(map(int, seen.split())) == sorted(AMONG), f"{host} to {other}"
    by_stranger = set() if doors.strangers_are_kept_apart() else {22}
    ports = (22, *AMONG, *NEVER)
    for name, one in hosts.items():
        assert doors.answering(one["PublicIpAddress"], ports) == {22}, name
        assert doors.answering_a_stranger(one["PrivateIpAddress"], ports) == by_stranger, name


def test_a_training_outlives_one_of_its_workers(cluster: Lab) -> None:
    cluster.ssh(FEW)
    job = cluster.ssh(TRAIN).strip()
    cluster.ssh(f"timeout 150 sh -c 'until test -e {CHECKPOINT}; do sleep 1; done'", 160)
    assert state_of(cluster, job) == "RUNNING"
    lost = instances(cluster)["worker-2"]["InstanceId"]
    # From one moment to the next, as a host that loses its power, and off then.
    container = f"gpulab-sandbox-{os.environ['GPULAB_SANDBOX_SLOT']}-{lost}"
    subprocess.run(["docker", "kill", container], check=True, capture_output=True)
    cluster.client("ec2").stop_instances(InstanceIds=[lost], Force=True)
    until(cluster, job, "PENDING", 90)
    assert cluster.play("site.yml", *TWO).total("failed") == 0
    # Slurm holds a job off for two minutes, which is not what is tested here.
    cluster.ssh(f"sudo scontrol update JobId={job} StartTime=now")
    until(cluster, job, "COMPLETED", 150)
    said = cluster.ssh(f"cat /data/work/*-{job}.out")
    assert "attempt 2" in said, said
    assert re.search("resum", said), said


def test_again_changes_nothing_and_touches_no_job(cluster: Lab) -> None:
    job = cluster.ssh("cd /tmp; sbatch --parsable -N2 --wrap 'srun sleep 600'").strip()
    until(cluster, job, "RUNNING", 30)
    run = cluster.play("site.yml", *TWO)
    cluster.times["again"] = run.seconds
    assert run.total("changed") == 0, re.findall(r"^changed:.*", run.output, re.MULTILINE)
    assert state_of(cluster, job) == "RUNNING"
    smaller = cluster.play("playbooks/remove_workers.yml", *ONE)
    said = f"worker-2 still runs job {job} and stays"
    assert said in " ".join(smaller.output.split())
    assert state_of(cluster, job) == "RUNNING"
    assert "worker-2" in instances(cluster)
    cluster.ssh(f"scancel {job}")
    until(cluster, job, "CANCELLED", 30)


def test_a_job_is_seen_and_cancelled_on_jupyters_page_of_the_queue(cluster: Lab) -> None:
    job = cluster.ssh("cd /tmp; sbatch --parsable -J on-the-page --wrap 'sleep 600'").strip()
    until(cluster, job, "RUNNING", 30)
    browser.cancel_a_job(cluster, "on-the-page")
    until(cluster, job, "CANCELLED", 30)


def test_fewer_workers(cluster: Lab) -> None:
    """By the part of site.yml that does it."""
    run = cluster.play("playbooks/remove_workers.yml", *ONE)
    cluster.times["one worker less"] = run.seconds
    assert sorted(instances(cluster)) == ["head", "worker-1"]
    assert cluster.ssh("sinfo -hNo '%N %T'").split() == ["worker-1", "idle"]
    assert cluster.ssh("cd /tmp; srun -N1 hostname").strip()


def test_destroy_leaves_nothing(cluster: Lab) -> None:
    bucket = f"gpulab-123456789012-{cluster.name}"
    extra = ["-e", "delete_data=true", "-e", f"delete_bucket={bucket}"]
    cluster.play("playbooks/destroy.yml", "-e", f"confirm={cluster.name}", *extra)
    assert instances(cluster) == {}
    client = cluster.client("ec2")
    assert client.describe_volumes()["Volumes"] == []
    groups = client.describe_security_groups()["SecurityGroups"]
    assert [group["GroupName"] for group in groups] == ["default"]
    slot = os.environ["GPULAB_SANDBOX_SLOT"]
    ours = ["docker", "ps", "-aq", "--filter", f"name=gpulab-sandbox-{slot}-i-"]
    assert subprocess.run(ours, capture_output=True, text=True, check=True).stdout == ""
    assert not list((ROOT / ".lab" / cluster.name).glob("report*.json"))
