"""Machines from first boot to the end, in real containers."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from sandbox.errors import SandboxError
from sandbox.model import Machine

from .engine_kit import Bench, answers, bench, docker, wait_for

pytestmark = pytest.mark.sandbox
BOOT_ID = "cat /proc/sys/kernel/random/boot_id"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with bench(tmp_path_factory.mktemp("machines")) as made:
        yield made


@pytest.fixture(scope="module")
def first(lab: Bench) -> Machine:
    machine = lab.machine(1)
    lab.converge(machine)
    return machine


@pytest.mark.parametrize("release", ["13", "12"])
def test_a_new_machine_is_ready_when_converge_returns(lab: Bench, release: str) -> None:
    machine = lab.machine(20 + int(release), image=f"gpulab/debian:{release}", login_user="ubuntu")
    lab.converge(machine)
    told = lab.output(machine, "id -un; sudo id -un; cat /etc/debian_version; hostname -f").split()
    lab.remove(machine)
    assert told[:2] == ["ubuntu", "root"]
    assert told[2].startswith(f"{release}.")
    assert told[3] == machine.hostname


def test_it_is_a_whole_system(lab: Bench, first: Machine) -> None:
    assert lab.output(first, "systemctl is-system-running --wait") == "running"
    assert lab.output(first, "systemctl --failed --no-legend --no-pager") == ""


def test_nothing_of_the_sandbox_is_in_its_way(lab: Bench, first: Machine) -> None:
    assert lab.output(first, "ls /run | grep -c sandbox || true") == "0"
    assert lab.output(first, "findmnt -no SOURCE /run/sandbox || true") == ""


def test_mounts_made_later_show_in_services(lab: Bench, first: Machine) -> None:
    script = """
sudo systemd-run -q --unit view -p PrivateTmp=yes sleep 300
sudo mkdir -p /srv/later && sudo mount -t tmpfs later /srv/later && sudo touch /srv/later/seen
sudo ls /proc/$(systemctl show -P MainPID view)/root/srv/later
sudo systemctl stop view && sudo umount /srv/later
"""
    assert lab.output(first, "findmnt -no PROPAGATION /") == "shared"
    assert lab.output(first, script) == "seen"


def test_converging_again_does_nothing(lab: Bench, first: Machine) -> None:
    before = lab.output(first, BOOT_ID)
    started = time.monotonic()
    lab.converge(first)
    assert time.monotonic() - started < 3
    assert lab.output(first, BOOT_ID) == before


def test_names_resolve_after_the_packet_filter_was_emptied(lab: Bench, first: Machine) -> None:
    servers = lab.output(first, "grep ^nameserver /etc/resolv.conf")
    assert "127.0.0.11" not in servers


def test_stop_and_start_keep_the_disk_and_the_host_keys(lab: Bench, first: Machine) -> None:
    seen = "sudo cat /etc/ssh/ssh_host_ed25519_key.pub /etc/machine-id; cat ~/kept"
    lab.output(first, "echo kept >~/kept")
    before, boot = lab.output(first, seen), lab.output(first, BOOT_ID)
    lab.converge(lab.machine(1, running=False, public_ip=None))
    assert not answers(first.public_ip, 22)
    assert docker("inspect", "-f", "{{.State.Running}}", lab.name(first)) == "false"
    assert lab.engine.powered_off() == set()
    again = lab.machine(1, public_ip=str(lab.settings.public_network[900]))
    lab.converge(again)
    assert lab.output(again, seen) == before
    assert lab.output(again, BOOT_ID) != boot
    assert not answers(first.public_ip, 22)
    lab.converge(first)


def test_reboot(lab: Bench, first: Machine) -> None:
    before = lab.output(first, BOOT_ID)
    lab.engine.reboot(first.instance_id)
    assert lab.output(first, BOOT_ID) != before
    assert lab.engine.powered_off() == set()


def test_a_stopped_machine_cannot_be_rebooted(lab: Bench) -> None:
    with pytest.raises(SandboxError, match=r"^i-0000000000000004d does not run, so it cannot be"):
        lab.engine.reboot(lab.machine(77).instance_id)


@pytest.mark.parametrize("command", ["reboot", "systemctl reboot --force"])
def test_reboot_from_inside_is_healed_by_the_poll(lab: Bench, first: Machine, command: str) -> None:
    before = lab.output(first, BOOT_ID)
    lab.ssh(first, f"sudo {command}")

    def is_back() -> bool:
        assert lab.engine.powered_off() == set()
        done = lab.ssh(first, BOOT_ID)
        return done.returncode == 0 and done.stdout.strip() != before

    assert wait_for(is_back)


@pytest.mark.parametrize("command", ["poweroff", "shutdown now", "poweroff -f"])
def test_power_off_from_inside_is_told_until_it_is_known(
    lab: Bench, first: Machine, command: str
) -> None:
    lab.ssh(first, f"sudo {command}")
    assert wait_for(lambda: lab.engine.powered_off() == {first.instance_id})
    lab.converge(lab.machine(30))  # another call comes in before the control plane has looked
    assert lab.engine.powered_off() == {first.instance_id}
    lab.new_engine()  # or the process is started anew
    lab.converge()
    assert lab.engine.powered_off() == {first.instance_id}
    lab.converge(lab.machine(1, running=False))
    assert lab.engine.powered_off() == set()
    lab.new_engine()
    lab.converge(first)
    assert lab.engine.powered_off() == set()
    assert answers(first.public_ip, 22)
    lab.remove(lab.machine(30))


@pytest.mark.parametrize("how", [("kill",), ("stop", "-t", "20"), ("restart", "-t", "20")])
def test_a_container_stopped_from_outside_comes_back(
    lab: Bench, first: Machine, how: tuple[str, ...]
) -> None:
    docker(*how, lab.name(first))  # what a restart of Docker's daemon does to it
    assert lab.engine.powered_off() == set()
    assert answers(first.public_ip, 22)
    got = "curl -s -o /dev/null -w '%{http_code}' http://169.254.169.254/latest/meta-data/"
    assert lab.output(first, got) == "401"


def test_three_at_once_take_little_more_than_one(lab: Bench) -> None:
    started = time.monotonic()
    lab.converge(lab.machine(40))
    one = time.monotonic() - started
    started = time.monotonic()
    lab.converge(*(lab.machine(number) for number in (41, 42, 43)))
    three = time.monotonic() - started
    lab.remove(*(lab.machine(number) for number in range(40, 44)))
    assert three < 2.9 * one


def test_the_console_is_of_this_start_and_plain_text(lab: Bench, first: Machine) -> None:
    lab.engine.reboot(first.instance_id)
    text = lab.engine.console_output(first.instance_id)
    assert "Reached target" in text
    assert "Halting system" not in text
    assert "\x1b" not in text
    assert "\r" not in text


def test_an_image_that_is_not_there_is_named(lab: Bench) -> None:
    bad = lab.machine(50, image="gpulab/none:1")
    try:
        with pytest.raises(SandboxError, match=r"of gpulab/none:1 failed: the image is not there"):
            lab.converge(bad)
        assert answers(lab.machine(1).public_ip, 22)  # the others are not held up
    finally:
        lab.remove(bad)


def test_a_machine_that_does_not_answer_is_an_error_with_its_last_words(
    lab: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    mute = lab.machine(51)
    lab.converge(mute)
    docker("exec", lab.name(mute), "systemctl", "stop", "ssh")
    lab.new_engine()
    monkeypatch.setattr("sandbox.engine.engine.READY_TIMEOUT_S", 1.0)
    try:
        with pytest.raises(SandboxError, match="does not answer on port 22 of") as told:
            lab.converge()
    finally:
        lab.remove(mute)
    words, _, console = str(told.value).partition("the last lines of its console:\n")
    assert words.startswith(lab.name(mute))
    assert "Reached target" in console


def test_the_disk_of_a_removed_machine_is_gone(lab: Bench, first: Machine) -> None:
    gone = lab.machine(52)
    lab.converge(gone)
    lab.remove(gone)
    assert docker("ps", "-aq", "--filter", f"name={lab.name(gone)}") == ""
    assert not (lab.settings.state_dir / "machines" / gone.instance_id).exists()
    assert answers(first.public_ip, 22)
