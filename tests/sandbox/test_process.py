"""The process: started, killed, started again, taken down; what it refuses."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid

import pytest

from tests.sandbox.conftest import ROOT, Account, wait_for

pytestmark = pytest.mark.sandbox


def refusal(account: Account, **variables: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "sandbox", "up"],
        cwd=ROOT,
        env={**account.environment, **variables},
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    return done.stderr


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE"),
        ("AWS_PROFILE", "work"),
        ("AWS_SESSION_TOKEN", "t"),
    ],
)
def test_real_credentials_are_refused(account: Account, name: str, value: str) -> None:
    said = refusal(account, **{name: value})
    assert said.startswith(f"sandbox: {name}")
    assert "does not start beside real credentials" in said
    assert f"unset {name}" in said


def test_slot_out_of_range_is_refused(account: Account) -> None:
    assert "GPULAB_SANDBOX_SLOT" in refusal(account, GPULAB_SANDBOX_SLOT="10")


def test_listens_on_loopback_alone(account: Account) -> None:
    shown = subprocess.run(
        ["ss", "-Hltn", f"sport = :{account.settings.port}"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    assert shown[3] == f"127.0.0.1:{account.settings.port}"


def test_up_again_changes_nothing(account: Account) -> None:
    pid = account.server_pid()
    account.command("up")
    assert account.server_pid() == pid


def test_status_shows_the_instances(account: Account) -> None:
    machine = account.run()[0]
    assert machine.instance_id in account.command("status")
    machine.terminate()


def test_killed_process_comes_back_with_everything(account: Account) -> None:
    machine, s3 = account.run(), account.client("s3")
    running, name = machine[0], f"kept-{uuid.uuid4().hex}"
    s3.create_bucket(Bucket=name)
    s3.put_object(Bucket=name, Key="k", Body=b"content")
    before, boot_id = running.describe(), running.output("cat /proc/sys/kernel/random/boot_id")
    # Writes to S3 are on disk a moment later, EC2's changes at once.
    account.client("iam").create_user(UserName=name)
    pid = account.server_pid()
    os.kill(pid, signal.SIGKILL)
    assert wait_for(lambda: not os.path.exists(f"/proc/{pid}"), 10)  # noqa: PTH110
    account.command("up")
    assert running.describe() == before
    assert running.output("cat /proc/sys/kernel/random/boot_id") == boot_id
    assert s3.get_object(Bucket=name, Key="k")["Body"].read() == b"content"
    assert account.client("iam").get_user(UserName=name)["User"]["UserName"] == name
    # Still followed: a power-off from inside is noticed.
    running.ssh("sudo systemctl poweroff")
    assert wait_for(lambda: running.state == "stopped", 60)
    running.terminate()
