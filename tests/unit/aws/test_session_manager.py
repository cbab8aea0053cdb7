"""Without an open port the host is reached through Session Manager, or it is not made so."""

from __future__ import annotations

import base64
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from ansible.module_utils.lab.aws import plan, session_manager
from ansible.module_utils.lab.aws.variables import Spec
from ansible.module_utils.lab.errors import LabError

from tests.unit.aws import kit
from tests.unit.aws.kit import Faulty, build, look

REAL = "AKIAIOSFODNN7EXAMPLE"  # the one of AWS's documentation


@pytest.fixture
def on_aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Let moto be AWS, and this machine have what Session Manager needs."""
    monkeypatch.setattr(kit, "ENDPOINTS", {"ec2": "https://ec2.us-east-1.amazonaws.com"})
    monkeypatch.setattr(kit, "KEY", REAL)
    for name in ("aws", "session-manager-plugin"):
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")


@pytest.fixture
def shut(spec: Spec) -> Spec:
    return replace(spec, access="ssm")


def test_the_sandbox_says_what_it_has_not(aws: Faulty, shut: Spec) -> None:
    with pytest.raises(LabError, match="the sandbox has no Session Manager"):
        look(aws, shut)
    assert aws.writes() == []


def test_what_is_missing_here_is_named(shut: Spec) -> None:
    with pytest.raises(LabError, match="session-manager-plugin is not on this machine"):
        session_manager.check(shut, False, {"aws": "/usr/bin/aws"}.get)
    session_manager.check(shut, False, lambda name: f"/usr/bin/{name}")
    session_manager.check(replace(shut, access="tunnel"), True, lambda _: None)


@pytest.mark.usefixtures("on_aws")
def test_no_port_is_open_and_the_agent_may_call(aws: Faulty, shut: Spec) -> None:
    build(aws, shut)
    _, there, _, steps = look(aws, shut)
    assert steps == []
    assert there.groups[0].rules == frozenset()
    assert there.role and there.role.policy
    assert there.role.policy["Statement"][-1] == session_manager.statement()
    host = aws.inner.call("ec2", "DescribeInstances")["Reservations"][0]["Instances"][0]
    assert {"Key": "Agent", "Value": "ssm"} in host["Tags"]
    told = aws.inner.call(
        "ec2",
        "DescribeInstanceAttribute",
        InstanceId=host["InstanceId"],
        Attribute="userData",
    )
    script = base64.b64decode(told["UserData"]["Value"]).decode()
    assert "https://s3.us-east-1.amazonaws.com/amazon-ssm-us-east-1/latest" in script


@pytest.mark.usefixtures("on_aws")
def test_a_host_with_the_agent_goes_there_and_back(aws: Faulty, shut: Spec) -> None:
    build(aws, shut)
    tunnel = replace(shut, access="tunnel")
    said = build(aws, tunnel)
    assert "Allow tcp 22 from 198.51.100.7/32" in said
    _, there, _, _ = look(aws, tunnel)
    assert there.role and there.role.policy == plan.policy("gpulab-123456789012-lab")
    assert "Remove from security group" in "".join(build(aws, shut))
    assert look(aws, shut)[3] == []


@pytest.mark.usefixtures("on_aws")
def test_the_last_way_in_is_not_shut(aws: Faulty, spec: Spec, shut: Spec) -> None:
    build(aws, spec)
    before = aws.writes()
    with pytest.raises(LabError, match="was launched without the agent of Session Manager"):
        build(aws, shut)
    assert aws.writes() == before


def test_the_script_is_one_that_a_shell_reads(tmp_path: Path, shut: Spec) -> None:
    script = tmp_path / "user-data"
    script.write_text(session_manager.launch_options(shut)["UserData"])

    assert subprocess.run(["sh", "-n", str(script)], check=False).returncode == 0
    assert session_manager.launch_options(replace(shut, access="public")) == {}
