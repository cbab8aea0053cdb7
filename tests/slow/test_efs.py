"""A lab whose /data is a file system of EFS, from an empty account to the last trace of it.

In slot 6 (GPULAB_EFS_SLOT), some twelve minutes: a head and a worker, with all that they have.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.conftest import Lab, empty_lab
from tests.e2e.test_cluster import instances, on

pytestmark = pytest.mark.timeout(2400)

SLOT = os.environ.get("GPULAB_EFS_SLOT", "6")
WISHES = ("-e", "lab_shared=efs", "-e", "lab_workers=1")
BOTH = ("head", "worker-1")


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """An empty sandbox of its own, and a lab's name in it."""
    if os.geteuid() != 0 or shutil.which("docker") is None:
        pytest.skip("needs root and Docker: EFS UNTESTED")
    with empty_lab("kefs", SLOT) as subject:
        yield subject


def system_and_target(lab: Lab) -> tuple[dict[str, Any], dict[str, Any]]:
    """The lab's file system and its mount target, the only ones there are."""
    client = lab.client("efs")
    (system,) = client.describe_file_systems()["FileSystems"]
    (target,) = client.describe_mount_targets(FileSystemId=system["FileSystemId"])["MountTargets"]
    return system, target


def mounted(lab: Lab, host: str) -> tuple[str, str]:
    """What a host's /data is: the mount unit's source, and the device as the kernel knows it."""
    unit = on(lab, host, "grep ^What= /etc/systemd/system/data.mount").strip()
    return unit, on(lab, host, "systemctl is-active data.mount && stat --format=%d /data").strip()


def test_head_and_worker_have_one_data_by_efs(lab: Lab) -> None:
    run = lab.play("site.yml", *WISHES)
    assert run.total("failed") == 0
    system, target = system_and_target(lab)
    assert system["Encrypted"] and system["ThroughputMode"] == "elastic"
    seen = [mounted(lab, host) for host in BOTH]
    assert seen[0] == seen[1]
    assert seen[0][0] == f"What={target['IpAddress']}:/"
    disks = {d["DeviceName"] for one in instances(lab).values() for d in one["BlockDeviceMappings"]}
    assert "/dev/sdf" not in disks
    lab.ssh("echo 'by the head' > /data/work/file")
    assert on(lab, "worker-1", "cat /data/work/file") == "by the head\n"
    on(lab, "worker-1", "echo 'by the worker' >> /data/work/file")
    assert lab.ssh("cat /data/work/file").splitlines() == ["by the head", "by the worker"]
    assert lab.ssh("test -d /data/datasets/fashion-mnist/train && echo there").strip() == "there"


def test_again_nothing_changes(lab: Lab) -> None:
    assert lab.play("site.yml", *WISHES).total("changed") == 0


def test_the_hosts_prove_it(lab: Lab) -> None:
    lab.play("playbooks/verify_host.yml", *WISHES)
    for name in ("report.json", "report-worker-1.json"):
        told = json.loads((lab.folder / name).read_text())
        rows = {one["check"]: one for one in told["results"]}
        assert rows["the cluster's folder is mounted"]["status"] == "ok", rows
        assert rows["the user writes to the cluster's folder"]["status"] == "ok", rows


def test_a_job_writes_where_the_head_reads(lab: Lab) -> None:
    lab.ssh("cd /data/work && sbatch --wait -o by-job --wrap hostname", 120)
    assert lab.ssh("cat /data/work/by-job").strip() != lab.ssh("hostname").strip()


def test_the_other_word_is_refused_in_one_sentence(lab: Lab) -> None:
    run = lab.play("playbooks/create_host.yml", "-e", "lab_workers=1", check=False)
    assert run.status != 0
    assert "neither turns into the other: set lab_shared to efs" in " ".join(run.output.split())
    assert run.total("changed") == 0


def test_a_host_that_nobody_let_in_is_not_answered(lab: Lab) -> None:
    """The mount target has the lab's group, which is open to its members alone."""
    _, target = system_and_target(lab)
    ask = (
        "import socket,sys; s=socket.create_connection((sys.argv[1],2049),5); s.settimeout(5);"
        " s.sendall(b'MOUNT /\\n'); print(s.recv(9).decode()[:2] or 'closed')"
    )
    command = ["python3", "-c", ask, target["IpAddress"]]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert "OK" not in done.stdout
    assert lab.ssh(f'python3 -c "{ask}" {target["IpAddress"]}').strip() == "OK"


def test_a_stop_and_a_start_bring_it_back_without_the_word(lab: Lab) -> None:
    """start.yml needs the word; what is on the hosts does not."""
    lab.play("playbooks/stop.yml")
    lab.play("playbooks/start.yml", *WISHES)
    for host in BOTH:
        assert on(lab, host, "timeout 60 sh -c 'until mountpoint -q /data; do sleep 1; done'") == ""
        assert "by the worker" in on(lab, host, "cat /data/work/file")
    assert lab.play("playbooks/configure_host.yml", *WISHES[2:]).total("changed") == 0


def test_the_mount_target_is_made_anew_and_found(lab: Lab) -> None:
    _, target = system_and_target(lab)
    lab.client("efs").delete_mount_target(MountTargetId=target["MountTargetId"])
    # Somebody else has its address by then.
    lab.client("ec2").create_network_interface(
        SubnetId=target["SubnetId"], PrivateIpAddress=target["IpAddress"]
    )
    lab.play("site.yml", *WISHES)
    _, other = system_and_target(lab)
    assert other["IpAddress"] != target["IpAddress"]
    for host in BOTH:
        assert f"{other['IpAddress']}:/" in on(lab, host, "cat /etc/systemd/system/data.mount")
        assert "by the head" in on(lab, host, "cat /data/work/file")
    assert lab.play("site.yml", *WISHES).total("changed") == 0


def test_destroy_keeps_the_data_and_then_takes_it(lab: Lab) -> None:
    run = lab.play("playbooks/destroy.yml", "-e", "confirm=kefs")
    (system,) = lab.client("efs").describe_file_systems()["FileSystems"]
    assert system["NumberOfMountTargets"] == 0
    assert f"file system {system['FileSystemId']}" in run.output
    lab.play("playbooks/create_host.yml", "-e", "lab_shared=efs")
    (again,) = lab.client("efs").describe_file_systems()["FileSystems"]
    assert again["FileSystemId"] == system["FileSystemId"]
    lab.play("playbooks/destroy.yml", "-e", "confirm=kefs", "-e", "delete_data=true",
             "-e", "delete_bucket=gpulab-123456789012-kefs")  # fmt: skip
    assert lab.client("efs").describe_file_systems()["FileSystems"] == []
    assert instances(lab) == {}
