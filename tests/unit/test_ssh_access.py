"""A host is known by its key under its instance's id; another key is refused."""

from __future__ import annotations

import base64
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from ansible.module_utils.lab import ssh_access
from ansible.module_utils.lab.errors import LabError


def key(kind: str, body: bytes) -> str:
    return f"{kind} {base64.b64encode(body).decode()}"


ONE, TWO, RSA = key("ssh-ed25519", b"one"), key("ssh-ed25519", b"two"), key("ssh-rsa", b"three")


@pytest.fixture
def host(tmp_path: Path) -> ssh_access.Host:
    return ssh_access.Host("lab", "i-0a", "198.51.100.7", "admin", 8888, tmp_path)


def test_a_new_host_is_taken_as_it_is(host: ssh_access.Host) -> None:
    assert ssh_access.judge(host, [], [RSA, ONE], just_made=True) == (ONE, "")


def test_a_host_without_a_record_is_taken_with_a_warning(host: ssh_access.Host) -> None:
    taken, warning = ssh_access.judge(host, [], [ONE], just_made=False)
    assert taken == ONE
    assert ssh_access.fingerprint(ONE) in warning
    assert "get-console-output" in warning


def test_a_known_host_stays_known(host: ssh_access.Host) -> None:
    assert ssh_access.judge(host, [RSA], [ONE, RSA], just_made=False) == (RSA, "")


def test_another_key_is_refused(host: ssh_access.Host) -> None:
    with pytest.raises(LabError, match="offers another SSH host key") as caught:
        ssh_access.judge(host, [ONE], [TWO, RSA], just_made=False)
    assert ssh_access.fingerprint(ONE) in str(caught.value)
    assert ssh_access.fingerprint(TWO) in str(caught.value)
    assert str(host.known_hosts) in str(caught.value)


def test_the_record_is_by_instance_and_not_by_address(host: ssh_access.Host) -> None:
    for path, text in ssh_access.wanted_files(host, ONE).items():
        path.write_text(text)
    moved = replace(host, address="198.51.100.8")
    rebuilt = replace(host, alias="i-0b")
    assert ssh_access.known(moved) == [ONE]
    assert ssh_access.known(rebuilt) == []
    assert ssh_access.wanted_files(moved, ONE)[host.known_hosts] == host.known_hosts.read_text()


def test_ssh_reads_the_config_as_it_is_meant(host: ssh_access.Host) -> None:
    host = replace(host, state_dir=host.state_dir / "with a space")
    host.state_dir.mkdir()
    host.ssh_config.write_text(ssh_access.config(host))
    read = subprocess.run(
        ["ssh", "-G", "-F", str(host.ssh_config), "lab"],
        capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    assert {
        "hostname 198.51.100.7",
        "hostkeyalias i-0a",
        "user admin",
        f"identityfile {host.state_dir}/id_ed25519",
        f"userknownhostsfile {host.known_hosts}",
        "stricthostkeychecking true",
        "localforward [127.0.0.1]:8888 [127.0.0.1]:8888",
        "exitonforwardfailure no",
        "globalknownhostsfile /dev/null",
        "updatehostkeys false",
        "checkhostip no",
        "preferredauthentications publickey",
        "forwardagent no",
        "forwardx11 no",
    } <= set(read)
    tunnel = subprocess.run(
        ["ssh", "-G", "-F", str(host.ssh_config), "lab-tunnel"],
        capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    assert "exitonforwardfailure yes" in tunnel
    assert [line for line in tunnel if line.startswith("controlpath")] == [
        f"controlpath {Path.home()}/{host.control_path.removeprefix('~/')}"
    ]


def test_a_host_without_an_open_port_is_reached_through_a_command(
    host: ssh_access.Host, tmp_path: Path
) -> None:
    proxy = "aws ssm start-session --parameters portNumber=%p --target i-0a"
    host = replace(host, proxy=proxy)
    host.ssh_config.write_text(ssh_access.config(host))
    for name in ("lab", "lab-tunnel"):
        read = subprocess.run(
            ["ssh", "-G", "-F", str(host.ssh_config), name],
            capture_output=True, text=True, check=True,
        ).stdout.splitlines()  # fmt: skip
        assert f"proxycommand {proxy}" in read
    assert "ProxyCommand" not in ssh_access.config(replace(host, proxy=""))


def test_a_command_that_leads_nowhere_offers_no_key() -> None:
    assert ssh_access.scan_through("false")("198.51.100.7") == []


def test_the_tunnel_has_a_short_path_of_its_own(host: ssh_access.Host) -> None:
    deep = replace(host, state_dir=Path("/" + "x" * 200))
    assert len(deep.control_path) < 50
    assert deep.control_path != host.control_path


def test_a_late_host_is_waited_for() -> None:
    answers = [[], [], [ONE]]
    slept: list[float] = []
    found = ssh_access.wait_for_keys("x", 60, lambda _: answers.pop(0), slept.append)
    assert found == [ONE]
    assert len(slept) == 2


def test_a_silent_host_ends_the_wait() -> None:
    with pytest.raises(LabError, match="does not answer on port 22 after 0 s"):
        ssh_access.wait_for_keys("198.51.100.7", 0, lambda _: [], lambda _: None)


def test_the_fingerprint_is_that_of_ssh_keygen(tmp_path: Path) -> None:
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "k")], check=True
    )
    said = subprocess.run(
        ["ssh-keygen", "-l", "-f", str(tmp_path / "k.pub")],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    public = " ".join((tmp_path / "k.pub").read_text().split()[:2])
    assert ssh_access.fingerprint(public) in said


@pytest.fixture
def workers(host: ssh_access.Host) -> dict[ssh_access.Host, str]:
    """Return two workers with their keys."""
    return {
        replace(host, alias="i-0b", address="198.51.100.8", worker=1): TWO,
        replace(host, alias="i-0c", address="198.51.100.9", worker=12): RSA,
    }


def test_a_worker_has_its_own_entry_and_no_tunnel(
    host: ssh_access.Host, workers: dict[ssh_access.Host, str]
) -> None:
    for path, text in ssh_access.wanted_files(host, ONE, workers).items():
        path.write_text(text)
    read = subprocess.run(
        ["ssh", "-G", "-F", str(host.ssh_config), "lab-worker-12"],
        capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    assert {"hostname 198.51.100.9", "hostkeyalias i-0c", "user admin"} <= set(read)
    assert not [line for line in read if line.startswith("localforward")]
    assert [ssh_access.known(one) for one in (host, *workers)] == [[ONE], [TWO], [RSA]]
    # Without workers the files are as they always were.
    assert ssh_access.wanted_files(host, ONE)[host.ssh_config] == ssh_access.config(host)


def test_a_worker_that_sleeps_stays_on_record(
    host: ssh_access.Host, workers: dict[ssh_access.Host, str]
) -> None:
    for path, text in ssh_access.wanted_files(host, ONE, workers).items():
        path.write_text(text)
    one, two = workers
    asleep = replace(two, address="")
    found = ssh_access.wanted_files(host, ONE, {one: TWO}, [asleep])
    assert "lab-worker-12" not in found[host.ssh_config]
    assert found[host.known_hosts].splitlines() == [f"i-0a {ONE}", f"i-0b {TWO}", f"i-0c {RSA}"]


def test_workers_that_are_gone_are_forgotten(
    host: ssh_access.Host, workers: dict[ssh_access.Host, str]
) -> None:
    for path, text in ssh_access.wanted_files(host, ONE, workers).items():
        path.write_text(text)
    one, _ = workers
    gone = ssh_access.forget(host.state_dir, "lab", {12: "i-0c"})
    assert gone == ssh_access.wanted_files(host, ONE, {one: TWO})
    for path, text in gone.items():
        path.write_text(text)
    assert ssh_access.forget(host.state_dir, "lab", {12: "i-0c"}) == {}
    assert ssh_access.forget(host.state_dir / "nowhere", "lab", {1: "i-0b"}) == {}
