"""User data and images of machines."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .engine_kit import Bench, answers, bench, docker, lines, wait_for

pytestmark = pytest.mark.sandbox
IDENTITY = "cat /etc/machine-id /etc/ssh/ssh_host_*_key.pub"
CLOUD_CONFIG = b"""#cloud-config
users: [default, {name: eve}]
write_files: [{path: /srv/written, content: "by cloud-init\\n"}]
runcmd: [[touch, /srv/ran]]
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with bench(tmp_path_factory.mktemp("images")) as made:
        yield made


def test_a_script_runs_once_as_root_and_is_logged(lab: Bench) -> None:
    script = b"#!/bin/bash\necho I am $(id -un) in $PWD\necho ran >>/srv/runs\nexit 0\n"
    machine = lab.machine(1, user_data=script)
    lab.converge(machine)
    finished = "test -e /var/lib/cloud/instance/boot-finished"
    assert wait_for(lambda: lab.ssh(machine, finished).returncode == 0)
    lab.engine.reboot(machine.instance_id)
    assert "I am root" in lab.output(machine, "sudo cat /var/log/cloud-init-output.log")
    assert lab.output(machine, "cat /srv/runs") == "ran"
    assert lab.output(machine, "systemctl is-system-running --wait") == "running"


@pytest.mark.parametrize("release", ["13", "12"])
def test_cloud_config_is_for_cloud_init(lab: Bench, release: str) -> None:
    machine = lab.machine(
        int(release), image=f"gpulab/debian:{release}", login_user="ubuntu", user_data=CLOUD_CONFIG
    )
    lab.converge(machine)
    assert "status: done" in lab.output(machine, "sudo cloud-init status --wait")
    told = lab.output(machine, "cat /srv/written; ls /srv/ran; id -u eve; sudo id -u")
    assert told.splitlines() == ["by cloud-init", "/srv/ran", "1001", "0"]
    assert lab.output(machine, "systemctl --failed --no-legend --no-pager") == ""
    lab.remove(machine)


def test_a_machine_made_from_an_image_has_the_disk_but_not_the_identity(lab: Bench) -> None:
    source = lab.machine(1)
    lab.converge(source)
    lab.output(source, "echo baked | sudo tee /srv/baked; echo old >>~/.ssh/authorized_keys")
    reference = lab.engine.create_image("ami-1", source.instance_id)
    assert reference == f"{lab.settings.label}/image:ami-1"
    copy = lab.machine(2, image=reference)
    lab.converge(copy)
    assert lab.output(copy, "cat /srv/baked") == "baked"
    assert lab.output(copy, "cat ~/.ssh/authorized_keys") == lab.public_key
    before = set(lab.output(source, IDENTITY).splitlines())
    assert not before & set(lab.output(copy, IDENTITY).splitlines())
    assert lab.output(copy, "hostname -f") == copy.hostname

    lab.engine.delete_image("ami-1")
    assert answers(copy.public_ip, 22)
    lab.converge(lab.machine(2, image=reference, running=False))
    lab.converge(copy)
    assert lab.output(copy, "cat /srv/baked") == "baked"
    lab.remove(copy)
    label = f"label=gpulab.sandbox.image={lab.settings.label}"
    assert lines("docker", "images", "-aq", "--filter", label) == []


def test_an_image_of_a_stopped_machine(lab: Bench) -> None:
    lab.converge(lab.machine(1, running=False))
    reference = lab.engine.create_image("ami-2", lab.machine(1).instance_id)
    label = docker("inspect", "-f", '{{index .Config.Labels "gpulab.sandbox.user"}}', reference)
    assert label == "admin"
    lab.engine.delete_image("ami-2")
    lab.engine.delete_image("ami-2")  # again: nothing happens
