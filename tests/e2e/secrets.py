"""Where no secret may be: in what playbooks print, in process lists, in what others can read."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

from tests.e2e.conftest import KEPT, ROOT, Lab

EVERY_SECONDS = 0.5
SHORTEST = 16  # a shorter text could be anywhere by chance
# What the host keeps for root: its own SSH key, all of Jupyter's, and its way into the bucket.
ON_THE_HOST = r"""
set -eu
sudo cat /etc/ssh/ssh_host_ed25519_key /etc/lab/jupyter_watcher_token
sudo cat /etc/lab/jupyter/cookie_secret; echo
sudo sed -nE 's/.*"hashed_password": "(.*)".*/\1/p' /etc/lab/jupyter/jupyter_server_config.json
! sudo test -e /data/.lab/jupyter/jupyter.key || sudo cat /data/.lab/jupyter/jupyter.key
at=http://169.254.169.254/latest
token=$(curl -sf -X PUT $at/api/token -H 'X-aws-ec2-metadata-token-ttl-seconds: 60')
role=$at/meta-data/iam/security-credentials/
ask() { curl -sf -H "X-aws-ec2-metadata-token: $token" "$role$1"; }
ask "$(ask '')" | sed -nE 's/.*"SecretAccessKey" ?: "([^"]*)".*/\1/p'
"""
# Programs and data sets, gigabytes of them, came from outside.
PASSED_BY = ("/proc", "/sys", "/usr", "/opt/lab", "/data/datasets", "/s3", "/var/lib/apt", "/boot")


def known(lab: Lab, *more: str) -> set[str]:
    """Collect the lab's secrets, each as the pieces by which it would be known."""
    kept = [
        (lab.folder / "id_ed25519").read_text(),
        (lab.folder / "jupyter_password").read_text(),
        lab.environment["AWS_SECRET_ACCESS_KEY"],
        lab.ssh(ON_THE_HOST),
    ]
    words = {word for text in kept for line in text.splitlines() for word in pieces(line)}
    assert len(words) >= 12, f"only {len(words)} secrets were found to look for"
    return words | set(more)


def pieces(line: str) -> Iterator[str]:
    """Take a line apart: a key's base64, a hash's salt and digest, a token, a password."""
    if line.startswith(("-----", "SHA-256")):
        return
    for word in re.split(r"[\"$]", line):
        # What every OpenSSH key begins with is no secret.
        if len(word) >= SHORTEST and "=" not in word[:-2] and not word.startswith("b3BlbnNza"):
            yield word.strip()


def told(secrets: set[str], text: str) -> list[str]:
    """Return where a secret stands in a text, each place without it."""
    found = []
    for secret in secrets:
        at = text.find(secret)
        if at >= 0:
            found.append(text[max(0, at - 200) : at] + "<here>")
    return found


@contextlib.contextmanager
def watching_processes() -> Iterator[set[str]]:
    """Collect the command lines of all processes of this machine, those in containers included."""
    seen: set[str] = set()
    over = threading.Event()

    def watch() -> None:
        while not over.wait(EVERY_SECONDS):
            for entry in os.scandir("/proc"):
                if entry.name.isdigit():
                    with contextlib.suppress(OSError):
                        line = Path(entry.path, "cmdline").read_bytes()
                        seen.add(line.replace(b"\0", b" ").decode(errors="replace"))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def readable_by_nobody(lab: Lab, secrets: set[str]) -> str:
    """Search all that a stranger on the host can read, and the journal; name the files."""
    config = str(lab.folder / "ssh_config")
    passed = " -o ".join(f"-path {path}" for path in PASSED_BY)
    search = (
        "cat >/run/user/patterns; "
        f"sudo -u nobody find / \\( {passed} \\) -prune -o -type f -readable -print0 2>/dev/null"
        " | sudo xargs -0 grep -lsF -f /run/user/patterns; "
        "sudo journalctl --no-pager | grep -qF -f /run/user/patterns && echo the journal; "
        "rm /run/user/patterns"
    ).replace("/run/user/patterns", "$HOME/.patterns")
    done = subprocess.run(
        ["ssh", "-F", config, "-o", "BatchMode=yes", lab.name, f"umask 077; {search}"],
        input="".join(f"{secret}\n" for secret in secrets),
        cwd=ROOT, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def loose_here(lab: Lab) -> list[str]:
    """Name what others can read in the lab's folder on this machine."""
    for_all = {"jupyter.crt", "report.json", "manifest.json", "python.lock", "id_ed25519.pub"}
    return [
        path.name
        for path in lab.folder.iterdir()
        if path.stat().st_mode & 0o077 and path.name not in for_all
    ]


def printed() -> str:
    """Return all that the playbooks have printed in these tests."""
    return (KEPT / "playbooks.log").read_text()
