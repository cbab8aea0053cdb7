"""What must hold before a sandbox starts, each point told in one sentence."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Mapping

from sandbox.account import KEY_ID_PREFIX
from sandbox.errors import SandboxError

# Variables that lead an AWS client to a real account; the sandbox sets none of them.
REAL_CREDENTIALS = (
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_SESSION_TOKEN",
    "AWS_SECURITY_TOKEN",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_ROLE_ARN",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)


def check(environ: Mapping[str, str]) -> None:
    """Raise SandboxError for the first thing that does not hold."""
    check_credentials(environ)
    check_machine()


def check_credentials(environ: Mapping[str, str]) -> None:
    """Refuse to run beside credentials that could be of a real account."""
    key_id = environ.get("AWS_ACCESS_KEY_ID", "")
    if key_id and not key_id.startswith(KEY_ID_PREFIX):
        raise SandboxError(
            f"AWS_ACCESS_KEY_ID={key_id} is not a key of the sandbox, which does not start beside"
            " real credentials: unset AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY first"
        )
    for name in REAL_CREDENTIALS:
        if environ.get(name):
            raise SandboxError(
                f"{name} is set, and the sandbox does not start beside real credentials:"
                f" unset {name} first"
            )


def check_machine() -> None:
    """Ask for Linux, root and a Docker that answers."""
    if platform.system() != "Linux":
        raise SandboxError(
            f"the sandbox needs Linux, not {platform.system()}: run it in a Linux virtual machine"
        )
    if os.geteuid() != 0:
        raise SandboxError(
            "the sandbox needs root (it enters network namespaces and makes loop devices):"
            " run it with sudo"
        )
    if shutil.which("docker") is None:
        raise SandboxError("Docker is not installed: install it (on Debian: apt install docker.io)")
    asked = subprocess.run(
        ["docker", "version", "--format", "{{.Server.Version}}"],
        check=False,
        capture_output=True,
        text=True,
        timeout=30,
    )
    if asked.returncode != 0:
        reason = asked.stderr.strip().splitlines()[-1:] or ["no answer"]
        raise SandboxError(f"Docker does not answer ({reason[0]}): start it (service docker start)")
