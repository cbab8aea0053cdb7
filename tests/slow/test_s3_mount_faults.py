"""What happens to a mount over minutes: endpoint away, black hole, kills, a full disk, reboots.

Each test starts with a healthy mount and ends with one that healed by itself; in each, every file
that was closed and synced without an error is in the bucket, byte for byte.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial

import pytest

from tests.slow.s3_kit import BUCKET, Host, Server, lost, missing, run, wait_for

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    if why := missing("13"):
        pytest.skip(f"faults of s3_mount UNTESTED: {why}")
    server = Server()
    yield server
    server.stop()


@pytest.fixture(scope="module", params=["13", "12"], ids=["s3fs 1.95", "s3fs 1.90"])
def container(request: pytest.FixtureRequest, server: Server) -> Iterator[Host]:
    if why := missing(request.param):
        pytest.skip(f"faults of s3_mount on Debian {request.param} UNTESTED: {why}")
    host = Host.start(request.param, server)
    yield host
    host.remove()


@pytest.fixture
def host(container: Host) -> Host:
    """A host whose mount is well."""
    container.server.proxy.set("pass")
    result = container.mount()
    assert result.get("state_after") == "ok", result
    # The watch has looked for the first time, the bucket too.
    wait_for(lambda: container.note().get("state") == "ok", 15)
    return container


def test_an_endpoint_that_is_away_comes_back_to_the_same_mount(host: Host) -> None:
    daemon = host.daemon
    host.start_writer()
    time.sleep(3)
    host.server.proxy.set("refuse")
    wait_for(lambda: host.note().get("state") == "degraded", 90)
    time.sleep(5)
    host.server.proxy.set("pass")
    wait_for(host.is_well, 30)
    wait_for(lambda: host.note().get("state") == "ok", 30)
    time.sleep(3)
    written = host.stop_writer()
    assert lost(host.server, written) == []
    assert host.daemon == daemon  # which a new mount would have cost whoever had a file open


def test_a_black_hole_hangs_neither_the_watch_nor_the_module(host: Host) -> None:
    daemon = host.daemon
    host.start_writer()
    time.sleep(2)
    host.server.proxy.set("black-hole")
    host.sh("systemctl restart lab-s3-watch@s3")  # so that it asks the bucket now
    wait_for(lambda: host.note().get("state") == "degraded", 30)
    before = time.monotonic()
    said = host.mount(timeout=5)
    assert "does not answer within 5 s" in said["msg"]
    assert time.monotonic() - before < 25  # the probe's deadline, the request's, and Ansible's own
    assert age(host.note()["seen"]) < 20  # the watch is awake
    host.server.proxy.set("pass")
    wait_for(lambda: host.note().get("state") == "ok", 60)
    written = host.stop_writer()
    assert lost(host.server, written) == []
    assert host.daemon == daemon


def crowd() -> float:
    """Give the processes a core: the figures are for a host with a core to spare."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


def age(stamp: str) -> float:
    return (datetime.now(UTC) - datetime.fromisoformat(stamp)).total_seconds()


def test_kills_while_files_are_written(host: Host) -> None:
    host.start_writer()
    slowest = 0.0
    for _ in range(10):
        time.sleep(1)
        killed = host.daemon
        host.sh(f"kill -KILL {killed}")
        slowest = max(slowest, wait_for(partial(host.replaced, killed), 20))
    written = host.stop_writer()
    assert lost(host.server, written) == []
    assert slowest < 3 * crowd()  # seconds


def test_what_root_writes_in_the_gap_is_kept_beside_and_the_mount_comes_back(host: Host) -> None:
    """In a container nothing keeps root from writing there; elsewhere the folder is immutable."""
    host.start_writer(user="root")
    for _ in range(3):
        time.sleep(1)
        killed = host.daemon
        host.sh(f"kill -KILL {killed}")
        wait_for(partial(host.replaced, killed), 20)
    written = host.stop_writer()
    host.sh("systemctl restart lab-s3@s3")  # which brings to light what the last mount covered
    gone = set(lost(host.server, written))
    aside = host.sh("cd / && find . -path './s3.not-in-bucket-*' -type f -printf '%f\\n'").split()
    host.sh("rm -rf /s3.not-in-bucket-*")
    assert gone <= set(aside)


def test_hangs_while_files_are_written(host: Host) -> None:
    host.start_writer()
    for _ in range(2):
        time.sleep(2)
        hung = host.daemon
        host.sh(f"kill -STOP {hung}")
        took = wait_for(partial(host.replaced, hung), 60)
        assert took < 15 * crowd()  # seconds
    assert lost(host.server, host.stop_writer()) == []


def test_out_of_memory(host: Host) -> None:
    """The daemon is made the first that the kernel takes, as its score says the opposite."""
    daemon = host.daemon
    host.start_writer()
    time.sleep(2)
    run("docker", "update", "--memory=900m", "--memory-swap=900m", host.name)
    host.sh(f"echo 1000 >/proc/{daemon}/oom_score_adj")
    hog = "x = [b'x' * (64 << 20) for _ in range(40)]"
    host.sh(f'systemd-run --quiet --collect --unit=hog python3 -c "{hog}"')
    took = wait_for(partial(host.replaced, daemon), 30)
    run("docker", "update", "--memory=8g", "--memory-swap=8g", host.name)
    assert took < 10 * crowd()
    assert lost(host.server, host.stop_writer()) == []


SMALL = {"ensure_diskfree": 50, "parallel_count": 2, "multipart_size": 10}


@pytest.fixture
def small_cache(host: Host) -> Iterator[Host]:
    """The mount with its cache on a disk of 150 MiB, of which it wants 70 to start."""
    host.sh("mkdir -p /cache && mount -t tmpfs -o size=150m tmpfs /cache")
    result = host.mount(cache_dir="/cache", cache_size="40M", options=SMALL)
    assert result.get("state_after") == "ok", result
    yield host
    host.mount(state="absent")
    host.sh("umount --lazy /cache")


def test_a_full_cache_disk(small_cache: Host) -> None:
    host = small_cache
    host.start_writer(2_000_000)
    time.sleep(3)
    host.sh("dd if=/dev/zero of=/cache/others bs=1M 2>/dev/null || true")
    time.sleep(10)  # writes fail or wait; what is noted as written must be there all the same
    host.sh("rm /cache/others")
    done = len(host.written())
    wait_for(lambda: len(host.written()) > done + 3, 90)
    assert lost(host.server, host.stop_writer()) == []


def test_no_start_on_a_full_disk_and_a_start_when_there_is_room(small_cache: Host) -> None:
    host = small_cache
    host.sh("dd if=/dev/zero of=/cache/others bs=1M count=130 2>/dev/null || true")
    killed = host.daemon
    host.sh(f"kill -KILL {killed}")
    said = "cannot be mounted now: the disk of its cache /cache has"
    wait_for(lambda: said in host.sh("journalctl --unit=lab-s3@s3 --output=cat --no-pager"), 30)
    assert host.sh("stat --format='%U %a' /s3") == "root 500"
    refused = host.mount(cache_dir="/cache", cache_size="40M", options=SMALL)
    assert said in refused["msg"]
    assert "s3fs needs 70: remove files there" in refused["msg"]
    host.sh("rm /cache/others")
    result = host.mount(cache_dir="/cache", cache_size="40M", options=SMALL)
    assert result.get("state_after") == "ok", result


def test_a_key_that_is_rotated_in_its_file(host: Host) -> None:
    host.start_writer()
    time.sleep(2)
    host.server.proxy.set("only-NEXTKEYEXAMPLE")
    host.sh("umask 077; echo NEXTKEYEXAMPLE:next-secret > /etc/lab/s3/s3.passwd")
    # The watch asks the bucket once a minute, and a stop waits for what is still open.
    wait_for(host.is_well, 120)
    time.sleep(2)
    assert lost(host.server, host.stop_writer()) == []
    host.server.proxy.set("pass")
    assert host.mount()["changed"]  # the playbook's own key again


def test_a_reboot_in_the_middle_of_a_write(host: Host) -> None:
    host.start_writer(3_000_000)
    time.sleep(3)
    run("docker", "restart", "--time", "200", host.name, timeout=260)
    host.booted()
    wait_for(host.is_well, 60)
    assert lost(host.server, host.written()) == []
    assert host.mount()["changed"] is False


def test_a_power_cut_in_the_middle_of_a_write(host: Host) -> None:
    host.start_writer(3_000_000)
    time.sleep(3)
    run("docker", "kill", host.name)
    run("docker", "start", host.name)
    host.booted()
    wait_for(host.is_well, 60)
    assert lost(host.server, host.written()) == []


def test_a_boot_without_the_endpoint_mounts_when_it_comes(host: Host) -> None:
    host.server.proxy.set("refuse")
    run("docker", "restart", "--time", "200", host.name, timeout=260)
    host.booted()
    said = "does not take connections yet"
    wait_for(lambda: said in host.sh("journalctl --unit=lab-s3@s3 --output=cat --no-pager -b"), 60)
    assert host.sh("stat --format='%U %a' /s3") == "root 500"
    host.server.proxy.set("pass")
    wait_for(host.is_well, 60)


def test_nothing_of_the_probes_is_left_in_the_bucket(host: Host) -> None:
    listed = host.server.s3.list_objects_v2(Bucket=BUCKET, Prefix=".lab-s3-probe-")
    assert listed["KeyCount"] == 0
    assert listed["ResponseMetadata"]["HTTPStatusCode"] == 200
