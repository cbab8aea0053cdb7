"""A bake that dies after it has cleaned the host: what it put aside comes back by itself.

The module runs as the playbook runs it, only that its timer goes off after seconds and not after a
quarter of an hour; nothing else brings anything back here, for the host is never rebooted.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.slow.container_kit import ROOT, booted, docker, ended, playing

SECONDS = 20
INSTANCE = "i-0123456789abcdef0"
PLAY = f"""
- hosts: all
  gather_facts: false
  tasks:
    - name: Clean the host
      lab_bake_host:
        instance: {INSTANCE}
        aside: [/etc/my-service/token]
"""
# A little lab: what people have, secrets, state, and a unit of ours that runs.
FURNISH = f"""
set -e
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends rsync procps >/dev/null
useradd --create-home --shell /bin/bash anna
mkdir -p /data/.lab/ssh_host_keys /etc/lab /etc/my-service /var/lib/lab /usr/local/lib/lab
mkdir /home/anna/.ssh
echo {INSTANCE} >/data/.lab/ssh_host_keys/instance
ssh-keygen -q -t ed25519 -N '' -f /home/anna/.ssh/id_ed25519
chown -R anna:anna /home/anna
ln /home/anna/.ssh/id_ed25519.pub /home/anna/linked.pub
head -c 3000000 /dev/urandom >/root/model.bin
echo 'token of somebody' >/etc/my-service/token
install -m 600 /dev/null /etc/lab/cookie_secret
head -c 40 /dev/urandom | base64 >/etc/lab/cookie_secret
echo 'a day of ours' >/var/lib/lab/usage
echo 'what happened' >/var/log/lab-test.log
cat >/etc/systemd/system/lab-test.service <<EOF
[Service]
ExecStart=/usr/bin/sleep infinity
[Install]
WantedBy=multi-user.target
EOF
systemctl daemon-reload
systemctl enable --now --quiet lab-test.service
"""
# By path: type, mode, owner, and what is in it; of the log only what this test has written.
INVENTORY = """
paths='/home /root /etc/lab /etc/my-service /var/lib/lab /var/log/lab-test.log'
paths="$paths $(echo /etc/ssh/ssh_host_* /etc/systemd/system/*.wants/lab-test.service)"
find $paths -path /root/.ansible -prune -o -printf '%p %y %m %u %g %n %l\\n' | sort
find $paths -path /root/.ansible -prune -o -type f -exec sha256sum {} + | sort
"""
AWAY = ("/home/anna/.ssh/id_ed25519", "/root/model.bin", "/etc/lab/cookie_secret",
        "/etc/my-service/token", "/var/lib/lab/usage", "/var/log/lab-test.log",
        "/etc/systemd/system/multi-user.target.wants/lab-test.service")  # fmt: skip


def run(container: str, command: str) -> str:
    return docker("exec", container, "bash", "-c", command)


def there(container: str, path: str) -> bool:
    asked = ["docker", "exec", container, "test", "-e", path, "-o", "-L", path]
    return not subprocess.run(asked, check=False).returncode


def wait_until(container: str, command: str, seconds: float) -> None:
    """Wait until a command on the host ends well."""
    end = time.monotonic() + seconds
    while subprocess.run(
        ["docker", "exec", container, "bash", "-c", command], check=False
    ).returncode:
        assert time.monotonic() < end, f"{command}: not within {seconds} s"
        time.sleep(0.2)


@pytest.fixture
def host() -> Iterator[str]:
    """A furnished host whose /data is a filesystem of its own."""
    with booted("13", "--tmpfs", "/data") as name:
        run(name, FURNISH)
        yield name


@pytest.fixture
def hurried(tmp_path: Path) -> dict[str, str]:
    """Ansible's environment for a bake whose timer goes off after SECONDS."""
    copy = tmp_path / "module_utils"
    shutil.copytree(ROOT / "module_utils", copy)
    source = copy / "lab/bake.py"
    text, count = re.subn(
        r"^UNDO_SECONDS = 900$", f"UNDO_SECONDS = {SECONDS}", source.read_text(), flags=re.MULTILINE
    )
    assert count == 1
    source.write_text(text)
    return {"ANSIBLE_MODULE_UTILS": str(copy)}


def comes_back(host: str, before: str) -> None:
    """See that all is there again, by the timer, and nothing is left of the bake."""
    wait_until(host, "test ! -e /data/.lab/bake", SECONDS + 60)
    assert run(host, INVENTORY) == before
    wait_until(host, "systemctl is-active --quiet lab-test.service", 10)
    assert "lab-bake-undo" not in run(host, "systemctl list-units --all 'lab-bake-undo*'")


@pytest.mark.timeout(900)
def test_a_bake_whose_controller_has_died(
    host: str, hurried: dict[str, str], tmp_path: Path
) -> None:
    before = run(host, INVENTORY)
    ended(playing(host, tmp_path, PLAY, {}, hurried))
    assert [path for path in AWAY if there(host, path)] == []
    assert not there(host, "/etc/ssh/ssh_host_ed25519_key")
    comes_back(host, before)


@pytest.mark.timeout(900)
def test_a_bake_that_is_killed_while_it_cleans(
    host: str, hurried: dict[str, str], tmp_path: Path
) -> None:
    before = run(host, INVENTORY)
    bake = playing(host, tmp_path, PLAY, {}, hurried)
    wait_until(host, "systemctl is-active --quiet lab-bake-undo.timer", 120)
    run(host, "pkill -KILL python3")
    said, _ = bake.communicate()
    assert bake.returncode != 0, said
    comes_back(host, before)
