"""What may happen to a cluster of two workers, one fault after the other; site.yml mends each.

In slot 4, half an hour. A full disk and clocks that differ are in molecule/slurm, as containers
have one clock and one disk; a worker that is lost for good is in tests/e2e/test_cluster.py.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator

import pytest

from tests.e2e.conftest import Lab, empty_lab
from tests.e2e.test_cluster import CHECKPOINT, FEW, TRAIN, TWO, instances, on, state_of, until

pytestmark = pytest.mark.timeout(3600)

SLOT = os.environ.get("GPULAB_FAULTS_SLOT", "4")


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """A cluster in a sandbox of its own."""
    if os.geteuid() != 0 or shutil.which("docker") is None:
        pytest.skip("needs root and Docker: faults of a cluster UNTESTED")
    with empty_lab("faults", SLOT) as subject:
        subject.play("site.yml", *TWO)
        yield subject


@pytest.fixture(autouse=True)
def mended(lab: Lab) -> Iterator[None]:
    """After each fault one run mends all, and the next has nothing to do."""
    yield
    lab.play("site.yml", *TWO)
    again = lab.play("site.yml", *TWO)
    assert again.total("changed") == 0, re.findall(r"^changed:.*", again.output, re.MULTILINE)
    assert lab.ssh("sinfo -hNo '%T' | sort -u").split() == ["idle"]


def begin(lab: Lab) -> str:
    """Start a training on both workers, and wait for its first checkpoint; give the job."""
    lab.ssh(f"rm -rf {CHECKPOINT.rpartition('/')[0]}; {FEW}")
    job = lab.ssh(TRAIN).strip()
    lab.ssh(f"timeout 150 sh -c 'until test -e {CHECKPOINT}; do sleep 1; done'", 160)
    assert state_of(lab, job) == "RUNNING"
    return job


def test_a_rank_is_killed(lab: Lab) -> None:
    """torchrun starts all of them again, from the checkpoint; Slurm sees nothing of it."""
    job = begin(lab)
    on(lab, "worker-2", "pkill -KILL -f 'python[0-9.]* -u [^ ]*[t]rain_fashion_mnist_ddp'")
    until(lab, job, "COMPLETED", 300)
    shown = lab.ssh(f"scontrol show job --oneliner {job}")
    assert "Restarts=0" in shown
    assert re.search("resum", lab.ssh(f"cat /data/work/*-{job}.out"))


def test_a_worker_reboots_faster_than_it_would_be_missed(lab: Lab) -> None:
    """The job is lost with it, which Slurm must notice, and begins again by itself."""
    job = begin(lab)
    lab.client("ec2").reboot_instances(InstanceIds=[instances(lab)["worker-2"]["InstanceId"]])
    until(lab, job, "PENDING", 90)
    lab.ssh(f"sudo scontrol update JobId={job} StartTime=now")
    until(lab, job, "COMPLETED", 300)
    assert "Restarts=1" in lab.ssh(f"scontrol show job --oneliner {job}")


def test_the_head_is_away_for_a_minute(lab: Lab) -> None:
    """What runs goes on, and what it writes is there."""
    job = lab.ssh(
        "cd /data/work; sbatch --parsable -N1 --wrap 'sleep 90; date >>/data/work/went-on'"
    ).strip()
    until(lab, job, "RUNNING", 30)
    head = instances(lab)["head"]["InstanceId"]
    lab.client("ec2").stop_instances(InstanceIds=[head], Force=True)
    subprocess.run(["sleep", "60"], check=True)
    lab.play("playbooks/start.yml", *TWO)
    until(lab, job, "COMPLETED", 150)
    assert "Restarts=0" in lab.ssh(f"scontrol show job --oneliner {job}")
    assert len(lab.ssh("cat /data/work/went-on").splitlines()) == 1


def test_a_key_of_munge_is_lost(lab: Lab) -> None:
    on(lab, "worker-1", "head -c 128 /dev/urandom | sudo tee /etc/munge/munge.key >/dev/null")
    on(lab, "worker-1", "sudo systemctl restart munge; sudo systemctl restart --no-block slurmd")
    lab.play("site.yml", *TWO)
    assert len(lab.ssh("cd /tmp; timeout 60 srun -N2 hostname", 70).splitlines()) == 2


def test_a_worker_is_terminated_by_somebody(lab: Lab) -> None:
    """The next run makes another one, which Slurm knows by the same name."""
    lost = [instances(lab)["worker-2"]["InstanceId"]]
    lab.client("ec2").terminate_instances(InstanceIds=lost)
    lab.client("ec2").get_waiter("instance_terminated").wait(
        InstanceIds=lost, WaiterConfig={"Delay": 1}
    )
    assert sorted(instances(lab)) == ["head", "worker-1"]
    lab.play("site.yml", *TWO)
    assert len(lab.ssh("cd /tmp; timeout 60 srun -N2 hostname", 70).splitlines()) == 2


def test_the_folder_is_let_go_of(lab: Lab) -> None:
    """As by hand; the next run mounts it again, and workers take jobs."""
    on(lab, "worker-1", "sudo systemctl stop data.mount; ! mountpoint -q /data")
    lab.play("site.yml", *TWO)
    on(lab, "worker-1", "mountpoint -q /data")


def test_head_and_workers_are_made_anew(lab: Lab) -> None:
    """While a job is there, nothing is begun; then all are others, and /data is the same."""
    job = lab.ssh("cd /data/work; sbatch --parsable -N1 --wrap 'sleep 600'").strip()
    before = {name: one["InstanceId"] for name, one in instances(lab).items()}
    confirmed = (*TWO, "-e", f"confirm={lab.name}")
    refused = lab.play("playbooks/rebuild.yml", *confirmed, check=False)
    assert f"Jobs are queued or run in the lab {lab.name} ({job})" in refused.output
    assert {name: one["InstanceId"] for name, one in instances(lab).items()} == before

    lab.ssh(f"scancel {job}; date >/data/work/kept")
    until(lab, job, "CANCELLED", 30)
    lab.play("playbooks/rebuild.yml", *confirmed)
    after = {name: one["InstanceId"] for name, one in instances(lab).items()}
    assert sorted(after) == sorted(before)
    assert not {*after.values()} & {*before.values()}
    assert lab.ssh("cd /data/work; timeout 60 srun -N2 cat kept", 70).splitlines() != []


def test_a_lab_of_one_host_again_and_then_a_cluster(lab: Lab) -> None:
    """Its queue was switched off and is there again; workers of the same names are others."""
    before = {name: one["InstanceId"] for name, one in instances(lab).items()}
    lab.play("site.yml", "-e", "lab_workers=0")
    assert {name: one["InstanceId"] for name, one in instances(lab).items()} == {
        "head": before["head"]
    }
    assert lab.ssh("systemctl is-active slurmctld || true").strip() == "inactive"
    lab.play("site.yml", *TWO)
    after = {name: one["InstanceId"] for name, one in instances(lab).items()}
    assert after["head"] == before["head"]
    assert len({*after.values()} - {*before.values()}) == 2
    assert len(lab.ssh("cd /tmp; timeout 60 srun -N2 hostname", 70).splitlines()) == 2
