"""An image of the host without its secrets, a new host from it, and everything as it was."""

from __future__ import annotations

import io
import re
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from typing import Any

from tests.e2e.conftest import Lab, sandbox

# What a user has; the lab's own folders on the volume and the cache of the bucket are left out.
TREE = (
    "cd /data; sudo find . -xdev \\( -path ./.lab -o -path ./.s3cache -o -path ./lost+found \\)"
    " -prune -o -type f -print0 | sudo xargs -0 sha256sum | sort -k2"
)
SPOT = ("-e", "lab_spot=true")
SECONDS_TO_HOOKS, SECONDS_TO_FLUSHED = 10, 90
TRAINING = """\
import pathlib, signal, time
note = pathlib.Path("/data/work/signalled")
signal.signal(signal.SIGUSR1, lambda *_: note.write_text(str(time.time())))
while True:
    time.sleep(1)
"""
HOOK = """\
#!/bin/sh
date +%s.%N >/data/work/hooked
"""
KEY = "cat /etc/ssh/ssh_host_ed25519_key.pub"
# Places of the image in which a secret could be. The number of the machine is none: journald, which
# goes on until the host is off, names its folder by it.
PLACES = ("/etc", "/home", "/root", "/var/lib", "/var/log", "/usr/local", "/opt/lab/uv")
SECRETS = (
    "/etc/lab/jupyter/cookie_secret",
    "/etc/lab/jupyter_watcher_token",
    "/etc/ssh/ssh_host_ed25519_key",
    "~/.ssh/authorized_keys",
)


def bake_and_rebuild(lab: Lab, ec2: Any) -> None:
    """Make an image, look through it, make the host anew from it, and compare."""
    lab.ssh(
        "mkdir -p ~/project && echo 'a secret of mine' >~/project/notes && ls >/data/work/listing"
    )
    lab.ssh("echo 'export TOKEN=of-the-history' >~/.bash_history")
    files, key = lab.ssh(TREE, timeout=120), lab.ssh(KEY)
    secrets = [max(lab.ssh(f"sudo cat {path}").splitlines(), key=len) for path in SECRETS]
    lab.play("playbooks/bake.yml")
    (image,) = ec2.describe_images(Owners=["self"])["Images"]
    look_through(image["ImageId"], [*secrets, "a secret of mine", "of-the-history"])
    assert lab.ssh(TREE, timeout=120) == files, "the host is as it was"
    assert lab.ssh("cat ~/project/notes").strip() == "a secret of mine"

    lab.play("playbooks/manifest.yml")
    old = the_host(lab, ec2)
    fail_and_go_back(lab, ec2, files)
    run = lab.play("playbooks/rebuild.yml", "-e", f"confirm={lab.name}", *SPOT)
    lab.times["rebuild from an image"] = run.seconds
    new = the_host(lab, ec2)
    assert f"(baked: {image['ImageId']} of " in run.output
    assert new["ImageId"] == image["ImageId"] and new["InstanceId"] != old["InstanceId"]
    assert new["Placement"] == old["Placement"]
    assert new["InstanceLifecycle"] == "spot"
    assert lab.ssh(TREE, timeout=120) == files
    assert lab.ssh(KEY) == key, "nobody is asked about another host key"
    assert lab.ssh("cat ~/project/notes").strip() == "a secret of mine"
    differs = lab.play(
        "playbooks/manifest.yml", "-e", f"compare=.lab/{lab.name}/manifest.json", check=False
    )
    assert re.search(r"1 things differ", differs.output) and "image: ami-" in differs.output
    assert lab.play("site.yml", *SPOT).total("changed") == 0


def fail_and_go_back(lab: Lab, ec2: Any, files: str) -> None:
    """A build that fails leaves the old host, to which one command goes back."""
    old, wanted = the_host(lab, ec2)["InstanceId"], ["-e", f"confirm={lab.name}"]
    broken = ["-e", '{"lab_packages": ["no-such-package"]}']
    failed = lab.play("playbooks/rebuild.yml", *wanted, *broken, check=False)
    assert failed.status != 0 and "no-such-package" in failed.output
    assert "rebuild_back=true" in failed.output
    lab.play("playbooks/rebuild.yml", *wanted, "-e", "rebuild_back=true")
    assert the_host(lab, ec2)["InstanceId"] == old, "the new one is gone"
    assert lab.ssh(TREE, timeout=120) == files


def take_the_capacity_back(lab: Lab, ec2: Any) -> None:
    """Interrupt the host: what runs is told in time, nothing is lost, and site.yml mends."""
    host = the_host(lab, ec2)["InstanceId"]
    for path, text in (("/data/work/train.py", TRAINING), ("/tmp/hook", HOOK)):
        lab.ssh(f"cat >{path} <<'END'\n{text}END")
    lab.ssh("sudo install -m 0755 /tmp/hook /etc/lab/before-stop.d/10-note")
    lab.ssh("tmux new-session -d -s training python3 /data/work/train.py; sleep 2")
    lab.ssh("echo written-late >/s3/late")
    noticed = time.time()
    sandbox("interrupt", host, "30")
    until(lambda: the_host(lab, ec2)["State"]["Name"] == "stopped", 90)
    sandbox("resume", host)
    until(lambda: the_host(lab, ec2)["State"]["Name"] == "running", 90)
    lab.play("site.yml", *SPOT)
    for name in ("signalled", "hooked"):
        late = float(lab.ssh(f"cat /data/work/{name}")) - noticed
        assert 0 < late <= SECONDS_TO_HOOKS, f"{name} {late:.1f} s after the notice"
    said = lab.ssh("sudo journalctl -t lab-spot-notice -o cat --no-pager")
    written = re.search(r"^all is written after ([0-9.]+) s$", said, re.MULTILINE)
    assert written and float(written[1]) <= SECONDS_TO_FLUSHED, said
    assert "have run when AWS gave notice" in lab.ssh("sudo journalctl -t lab-before-stop -o cat")
    assert lab.ssh("cat /s3/late").strip() == "written-late"
    lab.ssh("sudo rm /etc/lab/before-stop.d/10-note")


def until(true: Callable[[], bool], seconds: float) -> None:
    """Wait until it is so."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"not so within {seconds} s"
        time.sleep(1)


def the_host(lab: Lab, ec2: Any) -> dict[str, Any]:
    """Return the lab's one instance."""
    filters = [
        {"Name": "tag:Lab", "Values": [lab.name]},
        {"Name": "instance-state-name", "Values": ["running", "stopped"]},
    ]
    (page,) = ec2.describe_instances(Filters=filters)["Reservations"]
    (host,) = page["Instances"]
    found: dict[str, Any] = host
    return found


def look_through(image_id: str, secrets: list[str]) -> None:
    """Look for secrets in an image as it is on disk, by other means than the project's own."""
    listing = ["--filter", f"reference=*/image:{image_id}", "--format", "{{.Repository}}:{{.Tag}}"]
    (reference,) = output("docker", "images", *listing).split()
    container = output("docker", "create", reference).strip()
    try:
        assert [text for _, text in files(container, "/etc/machine-id")] == [b""]
        for place in PLACES:
            for name, text in files(container, place):
                found = [secret[:12] for secret in secrets if secret.encode() in text]
                assert not found, f"{place}: {name} holds {found}"
    finally:
        output("docker", "rm", container)


def files(container: str, place: str) -> Iterator[tuple[str, bytes]]:
    """Give name and content of each file at a place of a container."""
    copy = ["docker", "cp", f"{container}:{place}", "-"]
    stream = subprocess.run(copy, capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(stream)) as archive:
        for member in archive:
            file = archive.extractfile(member) if member.isfile() else None
            if file:
                yield member.name, file.read()


def output(*command: str) -> str:
    """Run a command and return what it prints."""
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def prune(lab: Lab, ec2: Any) -> None:
    """Delete the images, with their snapshots."""
    assert "at most $3.00 a month" in lab.play("playbooks/status.yml").output
    lab.play("playbooks/bake.yml", "-e", "bake_prune=true", "-e", "bake_keep=0")
    assert ec2.describe_images(Owners=["self"])["Images"] == []
    ours = [{"Name": "tag:Lab", "Values": [lab.name]}]
    assert ec2.describe_snapshots(OwnerIds=["self"], Filters=ours)["Snapshots"] == []
    again = lab.play("playbooks/bake.yml", "-e", "bake_prune=true", "-e", "bake_keep=0")
    assert again.total("changed") == 0
