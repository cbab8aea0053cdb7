"""A worker that sleeps when it is idle and is woken by a job, by real calls of the head's own role.

In slot 5, some seven minutes: one worker, with Slurm alone and none of the rest of the lab.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator

import pytest

from tests.e2e.conftest import Lab, Run, empty_lab
from tests.e2e.test_cluster import instances

pytestmark = pytest.mark.timeout(1800)

SLOT = os.environ.get("GPULAB_AUTOSTOP_SLOT", "5")
WISHES = ("-e", "lab_workers=1", "-e", "lab_slurm_autostop=true", "-e", "slurm_autostop_minutes=1")


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """A head and a worker in a sandbox of their own."""
    if os.geteuid() != 0 or shutil.which("docker") is None:
        pytest.skip("needs root and Docker: autostop UNTESTED")
    with empty_lab("sleeper", SLOT) as subject:
        subject.play("playbooks/create_host.yml", *WISHES)
        cluster(subject)
        yield subject


def cluster(lab: Lab) -> Run:
    return lab.play("tests/slow/slurm_alone.yml", *WISHES)


def power(lab: Lab) -> str:
    """The state of the worker's instance."""
    found = instances(lab).get("worker-1")
    return str(found["State"]["Name"]) if found else "none"


def until_asleep(lab: Lab) -> None:
    """Wait a minute and some until Slurm has stopped the worker and knows it."""
    end = time.monotonic() + 240
    while (seen := (power(lab), lab.ssh("sinfo -hNo %T").strip())) != ("stopped", "idle~"):
        assert time.monotonic() < end, seen
        time.sleep(5)


def journal(lab: Lab) -> list[str]:
    return lab.ssh("sudo journalctl -t slurm-power -o cat --no-pager").splitlines()


def test_an_idle_worker_is_stopped_and_the_head_is_not(lab: Lab) -> None:
    assert cluster(lab).total("changed") == 0
    until_asleep(lab)
    assert instances(lab)["head"]["State"]["Name"] == "running"
    stopped = instances(lab)["worker-1"]["InstanceId"]
    assert journal(lab)[-1] == f"worker-1 had no jobs and is stopped ({stopped})"


def test_a_job_wakes_it_and_runs(lab: Lab) -> None:
    begun = time.monotonic()
    assert lab.ssh("cd /tmp && srun -n1 hostname", 240).startswith("ip-")
    lab.times["wake"] = time.monotonic() - begun
    assert power(lab) == "running"
    assert lab.ssh("sinfo -hNo %T").split() == ["idle"]
    assert "is woken for a job" in journal(lab)[-1]


def test_the_role_may_not_stop_the_head(lab: Lab) -> None:
    """What a job may do with the role's credentials: put its neighbours to sleep, not the head."""
    head = instances(lab)["head"]["InstanceId"]
    code = (
        "import boto3, json; told = json.load(open('/etc/lab/slurm.json'))['power'];"
        " boto3.client('ec2', region_name=told['region'], endpoint_url=told['endpoint'])"
        f".stop_instances(InstanceIds=['{head}'])"
    )
    refused = lab.ssh(f'python3 -c "{code}" 2>&1 || true')
    assert "UnauthorizedOperation" in refused or "AccessDenied" in refused, refused


def test_one_that_cannot_be_woken_is_down_with_the_reason_and_a_run_mends_it(lab: Lab) -> None:
    until_asleep(lab)
    lab.client("ec2").terminate_instances(InstanceIds=[instances(lab)["worker-1"]["InstanceId"]])
    job = lab.ssh("cd /tmp && sbatch --parsable --wrap true").strip()
    end = time.monotonic() + 60
    reason = "not woken: lab sleeper has no instance gpulab-sleeper-worker-1"
    while reason not in lab.ssh("sinfo -hNo '%T %E'"):
        assert time.monotonic() < end, lab.ssh("sinfo -hNo '%T %E'")
        time.sleep(1)
    assert lab.ssh(f"squeue -hj {job} -o %T").strip() == "PENDING"
    lab.play("playbooks/create_host.yml", *WISHES)
    cluster(lab)
    lab.ssh(f"sudo scontrol update JobId={job} StartTime=now")
    assert lab.ssh("cd /tmp && srun -n1 hostname", 240).startswith("ip-")
    shown = lab.ssh(f"scontrol show job --oneliner {job}")
    assert "JobState=COMPLETED" in shown
