"""Session Manager in the place of an open port: what it needs here, in AWS and on the host."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

from ..errors import LabError
from .findings import Findings
from .things import Instance
from .variables import WHERE, Spec

# The tag of a host that was launched with the agent, and so can do without an open port.
TAG = {"Agent": "ssm"}
# What the agent on the host calls; none of it knows a narrower resource.
ACTIONS = (
    "ssm:UpdateInstanceInformation",
    "ssmmessages:CreateControlChannel",
    "ssmmessages:CreateDataChannel",
    "ssmmessages:OpenControlChannel",
    "ssmmessages:OpenDataChannel",
)
# Ubuntu and the Deep Learning AMIs have the agent, Debian has not, nor does it package it.
USER_DATA = """\
#!/bin/sh
# Installs the agent of AWS Session Manager where the image has none.
set -eu
if command -v amazon-ssm-agent >/dev/null || snap list amazon-ssm-agent >/dev/null 2>&1; then
    exit 0
fi
from=https://s3.{region}.amazonaws.com/amazon-ssm-{region}/latest
from=$from/debian_$(dpkg --print-architecture)/amazon-ssm-agent.deb
get='import sys, urllib.request; urllib.request.urlretrieve(*sys.argv[1:])'
for _ in 1 2 3 4 5 6 7 8 9 10; do
    if python3 -c "$get" "$from" /root/amazon-ssm-agent.deb; then break; fi
    sleep 6
done
dpkg --install /root/amazon-ssm-agent.deb
systemctl enable --now amazon-ssm-agent
"""


def wanted(spec: Spec) -> bool:
    """Whether the host is to be reached through Session Manager alone."""
    return spec.access == "ssm"


def check(spec: Spec, sandbox: bool, which: Callable[[str], str | None] = shutil.which) -> None:
    """Refuse where nobody could get in. Raises LabError."""
    if not wanted(spec):
        return
    if sandbox:
        raise LabError(
            "lab_access is ssm, but the sandbox has no Session Manager, and without it nobody"
            " reaches a host that has no open port: take -e lab_access=tunnel or"
            " -e lab_access=public here"
        )
    missing = [name for name in ("aws", "session-manager-plugin") if not which(name)]
    if missing:
        raise LabError(
            f"lab_access is ssm, but {' and '.join(missing)} is not on this machine: install the"
            " AWS CLI and its Session Manager plugin, or set lab_access to tunnel in"
            f" {WHERE}"
        )


def check_host(spec: Spec, host: Instance | None, findings: Findings) -> None:
    """Refuse to shut the last way into a host that was launched without the agent."""
    if wanted(spec) and host is not None and host.tags.get("Agent") != TAG["Agent"]:
        findings.problems.append(
            f"lab_access is ssm, but the host {host.id} was launched without the agent of Session"
            " Manager, and to close its port would shut it for ever: make it anew, with the same"
            " data volume, by `ansible-playbook playbooks/rebuild.yml -e lab_access=ssm`"
        )


def statement() -> dict[str, Any]:
    """Return what the host's role needs besides its bucket."""
    return {"Effect": "Allow", "Action": list(ACTIONS), "Resource": ["*"]}


def launch_options(spec: Spec) -> dict[str, str]:
    """Return what a launch asks for besides."""
    return {"UserData": USER_DATA.format(region=spec.region)} if wanted(spec) else {}
