"""What a user's own tools do with the lab's ssh_config, and what a wrong host is told."""

from __future__ import annotations

import filecmp
import os
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

import yaml
from ansible.module_utils.lab import ssh_access

from tests.e2e.browser import wait_for_port
from tests.e2e.conftest import ROOT, Lab

BIG = 3_000_000  # bytes
# What Session Manager's agent does on the host: its own end of the session is port 22.
RELAY = """
import os, socket, threading
ssh = socket.create_connection(('127.0.0.1', 22))
def up():
    while sent := os.read(0, 65536):
        ssh.sendall(sent)
    ssh.shutdown(socket.SHUT_WR)
threading.Thread(target=up, daemon=True).start()
while said := ssh.recv(65536):
    os.write(1, said)
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def copy_a_folder_there_and_back(lab: Lab, folder: Path) -> None:
    """push.yml, pull.yml, scp and rsync; a second run changes nothing, check mode sends nothing."""
    source = folder / "my project"
    (source / "sub").mkdir(parents=True)
    (source / "a b.txt").write_text("one")
    (source / "sub/big").write_bytes(os.urandom(BIG))
    given = ["-e", f'{{"src": "{source}"}}']
    assert lab.play("playbooks/push.yml", "--check", *given).total("changed") == 1
    assert "absent" in lab.ssh("test -e '/data/work/my project' || echo absent")
    assert lab.play("playbooks/push.yml", *given).total("changed") == 1
    assert lab.play("playbooks/push.yml", *given).total("changed") == 0
    back = folder / "back"
    wanted = ["-e", f'{{"src": "/data/work/my project", "dest": "{back}"}}']
    assert lab.play("playbooks/pull.yml", *wanted).total("changed") == 1
    compared = filecmp.cmpfiles(source, back, ["a b.txt", "sub/big"], shallow=False)
    assert compared[0] == ["a b.txt", "sub/big"]
    config = str(lab.folder / "ssh_config")
    run("scp", "-q", "-F", config, f"{lab.name}:/data/work/my project/a b.txt", str(folder / "scp"))
    run(
        "rsync",
        "-a",
        "-s",
        "--mkpath",
        "-e",
        f"ssh -F {config}",
        f"{lab.name}:/data/work/my project",
        str(folder / "fetched"),
    )
    assert (folder / "scp").read_text() == "one"
    assert (folder / "fetched/my project/a b.txt").read_text() == "one"


def open_the_tunnel(lab: Lab) -> None:
    """tunnel.yml opens it once, and ends it."""
    port = next(
        line.split()[1].rpartition(":")[2]
        for line in (lab.folder / "ssh_config").read_text().splitlines()
        if "LocalForward" in line
    )
    said = lab.play("playbooks/tunnel.yml")
    assert f"http://127.0.0.1:{port}/" in said.output
    assert said.total("changed") == 1
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api") as answer:
            assert answer.status == 200
        assert lab.play("playbooks/tunnel.yml").total("changed") == 0
    finally:
        lab.play("playbooks/tunnel.yml", "-e", "tunnel=closed")
    assert lab.play("playbooks/tunnel.yml", "-e", "tunnel=closed").total("changed") == 0


def reach_a_port_as_vs_code_does(lab: Lab) -> None:
    """VS Code Remote runs its server over `ssh -T -D port` and reaches it through that proxy."""
    port = free_port()
    command = ["ssh", "-F", str(lab.folder / "ssh_config"), "-T", "-D", str(port), lab.name, "bash"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE) as process:
        try:
            wait_for_port(port)
            with socket.create_connection(("127.0.0.1", port), 10) as proxy:
                proxy.sendall(b"\x05\x01\x00")
                assert proxy.recv(2) == b"\x05\x00"
                proxy.sendall(b"\x05\x01\x00\x01\x7f\x00\x00\x01" + (8888).to_bytes(2, "big"))
                assert proxy.recv(10)[1] == 0
                proxy.sendall(b"GET /api HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n")
                assert b" 200 " in proxy.recv(64)
        finally:
            process.terminate()


def refuse_another_host_key(lab: Lab, instance: str) -> None:
    """Another key at the same instance is refused by ssh and by the playbooks, and not recorded."""
    inside = ["docker", "exec", f"gpulab-sandbox-{os.environ['GPULAB_SANDBOX_SLOT']}-{instance}"]
    key = "/etc/ssh/ssh_host_ed25519_key"
    renew = f"mv {key} /root/; mv {key}.pub /root/; ssh-keygen -q -t ed25519 -N '' -f {key}"
    recorded = (lab.folder / "known_hosts").read_text()
    run(*inside, "sh", "-ec", f"{renew}; systemctl reload ssh")
    time.sleep(1)  # for the daemon to have read it
    try:
        tried = subprocess.run(
            ["ssh", "-F", str(lab.folder / "ssh_config"), "-oBatchMode=yes", lab.name, "true"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert tried.returncode == 255
        assert "REMOTE HOST IDENTIFICATION HAS CHANGED" in tried.stderr
        play = lab.play("playbooks/start.yml", check=False)
        assert play.status != 0
        assert "offers another SSH host key" in play.output
        assert (lab.folder / "known_hosts").read_text() == recorded
    finally:
        run(*inside, "sh", "-ec", "mv /root/ssh_host_ed25519_key* /etc/ssh/; systemctl reload ssh")
    time.sleep(1)
    assert lab.ssh("echo back") == "back\n"


def go_through_session_manager(lab: Lab, instance: str, folder: Path) -> None:
    """As with lab_access ssm: ssh, scp and the look at the host key, all through a command.

    The sandbox has no Session Manager; in its place is a program of the same name that takes the
    same arguments and leads to port 22 from inside of the host, as the agent does.
    """
    region = lab.environment["AWS_REGION"]
    variables = yaml.safe_load((ROOT / "inventory/group_vars/all/access.yml").read_text())
    session = variables["lab_session_command"].replace("{{ lab_region }}", region).strip()
    container = f"gpulab-sandbox-{os.environ['GPULAB_SANDBOX_SLOT']}-{instance}"
    (folder / "relay.py").write_text(RELAY)
    program = folder / "aws"
    program.write_text(
        f"""#!/bin/sh
        test "$*" = '{session.removeprefix("aws ").replace("%p", "22")} {instance}' || exit 9
        exec docker exec -i {container} python3 -c "$(cat {folder}/relay.py)"
        """
    )
    program.chmod(0o755)
    proxy = f"{folder}/{session} {instance}"
    nowhere = "192.0.2.1"
    known = (lab.folder / "known_hosts").read_text().split()[1:3]
    assert " ".join(known) in ssh_access.scan_through(proxy)(nowhere)
    host = ssh_access.Host(lab.name, instance, nowhere, "admin", free_port(), lab.folder, proxy)
    config = folder / "ssh_config"
    config.write_text(ssh_access.config(host))
    said = subprocess.run(
        ["ssh", "-F", str(config), "-oBatchMode=yes", lab.name, "echo through"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert said.stdout == "through\n", said.stderr
    run("scp", "-q", "-F", str(config), f"{lab.name}:/etc/hostname", str(folder / "fetched"))
    assert (folder / "fetched").read_text() == lab.ssh("cat /etc/hostname")


def run(*command: str) -> None:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
