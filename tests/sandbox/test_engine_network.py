"""Public ports, security groups, metadata and the way to the API."""

from __future__ import annotations

import dataclasses
import hashlib
import http.server
import shlex
import socket
import subprocess
import threading
from collections.abc import Iterator

import pytest

from sandbox.model import IngressRule, Machine, MetadataOptions

from .engine_kit import EVERYONE, SSH, SSH_OPTIONS, Bench, answers, bench, wait_for

pytestmark = pytest.mark.sandbox
MIB = 1 << 20
TOKEN = (
    'T=$(curl -s -X PUT -H "X-aws-ec2-metadata-token-ttl-seconds: 60"'
    " http://169.254.169.254/latest/api/token);"
)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with bench(tmp_path_factory.mktemp("network")) as made:
        made.converge(made.machine(1), made.machine(2))
        yield made


@pytest.fixture
def one(lab: Bench) -> Iterator[Machine]:
    yield lab.machine(1)
    lab.converge(lab.machine(1))


def serve(lab: Bench, machine: Machine, port: int, address: str = "0.0.0.0") -> None:  # noqa: S104
    """Let a machine greet at a port."""
    program = (
        "import socket\n"
        f"s = socket.create_server(({address!r}, {port}))\n"
        "while True:\n    c, _ = s.accept(); c.sendall(b'hello'); c.close()"
    )
    unit = f"greet-{port}"
    lab.output(machine, f"sudo systemd-run -q --unit {unit} python3 -c {shlex.quote(program)}")
    ready = f"ss -ltn | grep -q :{port}"
    assert wait_for(lambda: lab.ssh(machine, ready).returncode == 0)


def opened(machine: Machine, *rules: IngressRule) -> Machine:
    return dataclasses.replace(machine, ingress=(SSH, *rules))


def reaches(lab: Bench, source: Machine, target: Machine, port: int) -> bool:
    """Tell whether one machine gets a greeting from another at its private address."""
    script = (
        f"import socket;print(socket.create_connection(('{target.private_ip}', {port}), 2).recv(1))"
    )
    return lab.ssh(source, f'python3 -c "{script}"').returncode == 0


def test_a_port_opens_and_closes_with_its_rule(lab: Bench, one: Machine) -> None:
    serve(lab, one, 8888)
    assert not answers(one.public_ip, 8888)
    lab.converge(opened(one, IngressRule("tcp", 8888, 8888, ("127.0.0.1/32",))))
    assert answers(one.public_ip, 8888)
    assert not answers(lab.machine(2).public_ip, 8888)
    lab.converge(one)
    assert not answers(one.public_ip, 8888)


def test_other_sources_are_turned_away(lab: Bench, one: Machine) -> None:
    assert answers(one.public_ip, 22, source="127.0.0.1")
    assert not answers(one.public_ip, 22, source="127.0.0.2")
    rules = (IngressRule("tcp", 22, 22, ("10.0.0.0/8", "127.0.0.2/31")),)
    lab.converge(dataclasses.replace(one, ingress=rules))
    assert answers(one.public_ip, 22, source="127.0.0.3")
    assert not answers(one.public_ip, 22, source="127.0.0.1")


def test_a_rule_taken_away_leaves_its_connections(lab: Bench, one: Machine) -> None:
    assert one.public_ip is not None
    with socket.create_connection((one.public_ip, 22), timeout=10) as held:
        assert held.recv(4) == b"SSH-"
        lab.converge(dataclasses.replace(one, ingress=()))
        assert not answers(one.public_ip, 22)
        held.sendall(b"SSH-2.0-test\r\n")
        assert held.recv(100)


def test_a_wide_rule_opens_what_listens(lab: Bench, one: Machine) -> None:
    lab.converge(opened(one, IngressRule("tcp", 0, 65535, (EVERYONE,))))
    serve(lab, one, 23456)
    serve(lab, one, 23457, address="127.0.0.1")
    assert wait_for(lambda: lab.engine.powered_off() == set() and answers(one.public_ip, 23456), 5)
    assert not answers(one.public_ip, 23457)
    lab.output(one, "sudo systemctl stop greet-23456")
    assert lab.engine.powered_off() == set()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((str(one.public_ip), 23456), timeout=5)


def test_the_machines_own_firewall_is_effective_too(lab: Bench, one: Machine) -> None:
    lab.converge(opened(one, IngressRule("tcp", 8889, 8889, (EVERYONE,))))
    serve(lab, one, 8889)
    assert answers(one.public_ip, 8889)
    rules = (
        "table inet t { chain i { type filter hook input priority 0; tcp dport 8889 reject; }; }"
    )
    lab.output(one, "sudo apt-get install -y -qq nftables >/dev/null 2>&1; sudo nft --version")
    lab.output(one, f"echo '{rules}' | sudo nft -f -")
    assert not answers(one.public_ip, 8889)
    lab.output(one, "sudo nft flush ruleset")
    assert answers(one.public_ip, 8889)
    lab.output(one, "getent hosts deb.debian.org")  # Docker's own resolver is flushed away


def test_a_port_that_another_program_has_taken_is_led_round(lab: Bench) -> None:
    machine = lab.machine(5)
    with socket.create_server((str(machine.public_ip), 22)):
        lab.converge(machine)
        assert answers(machine.public_ip, 22)
        assert lab.output(machine, "echo $SSH_CONNECTION").endswith(f"{machine.private_ip} 22")
        assert not answers(machine.public_ip, 22, source="127.0.0.2")
        lab.remove(machine)


def test_large_files_arrive_whole_and_half_closed_connections_stay(
    lab: Bench, one: Machine
) -> None:
    data = bytes(range(256)) * (100 * MIB // 256)
    done = subprocess.run(
        ["ssh", *SSH_OPTIONS, "-i", str(lab.key_file), f"admin@{one.public_ip}", "sha256sum"],
        input=data,
        capture_output=True,
        check=True,
        timeout=120,
    )
    assert done.stdout.split()[0].decode() == hashlib.sha256(data).hexdigest()
    lab.converge(opened(one, IngressRule("tcp", 9000, 9000, (EVERYONE,))))
    program = (
        "import socket; s = socket.create_server((str(), 9000)); c, _ = s.accept()\n"
        "n = 0\nwhile d := c.recv(65536): n += len(d)\nc.sendall(str(n).encode()); c.close()"
    )
    lab.output(one, f"sudo systemd-run -q --unit half python3 -c {shlex.quote(program)}")
    assert wait_for(lambda: lab.ssh(one, "ss -ltn | grep -q :9000").returncode == 0)
    with socket.create_connection((str(one.public_ip), 9000), timeout=30) as connection:
        connection.sendall(b"x" * MIB)
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(100) == str(MIB).encode()


def test_many_connections_at_once(lab: Bench, one: Machine) -> None:
    lab.converge(opened(one, IngressRule("tcp", 9001, 9001, (EVERYONE,))))
    serve(lab, one, 9001)
    held = [socket.create_connection((str(one.public_ip), 9001), 10) for _ in range(300)]
    try:
        assert all(connection.recv(5) == b"hello" for connection in held)
    finally:
        for connection in held:
            connection.close()


def test_groups_between_machines(lab: Bench, one: Machine) -> None:
    two = lab.machine(2)
    assert lab.engine.isolates
    serve(lab, one, 7000)
    assert not reaches(lab, two, one, 7000)
    lab.converge(opened(one, IngressRule("tcp", 7000, 7000, (f"{two.private_ip}/32",))))
    assert reaches(lab, two, one, 7000)
    lab.converge(opened(one, IngressRule("tcp", 7000, 7000, (f"{one.private_ip}/32",))))
    assert not reaches(lab, two, one, 7000)
    lab.converge(opened(one, IngressRule("-1", 0, 0, (EVERYONE, "10.0.0.0/8"))))
    assert reaches(lab, two, one, 7000)
    assert lab.ssh(two, f"ping -c1 -W2 {one.private_ip}").returncode == 0
    lab.converge(one)
    assert lab.ssh(two, f"ping -c1 -W2 {one.private_ip}").returncode != 0


def test_this_machine_has_no_way_round_the_groups(lab: Bench, one: Machine) -> None:
    lab.converge(opened(one, IngressRule("-1", 0, 0, (EVERYONE,))))
    with pytest.raises(TimeoutError):
        socket.create_connection((one.private_ip, 22), timeout=1)


def test_metadata_with_and_without_token(lab: Bench, one: Machine) -> None:
    get = "curl -s http://169.254.169.254/latest/meta-data/instance-id"
    assert lab.output(one, f"{get} -o /dev/null -w '%{{http_code}}'") == "401"
    with_token = f'{TOKEN} {get} -H "X-aws-ec2-metadata-token: $T"'
    assert lab.output(one, with_token) == one.instance_id
    assert lab.output(lab.machine(2), with_token) == lab.machine(2).instance_id
    stolen = lab.output(one, f"{TOKEN} echo $T")
    theirs = f"{get} -o /dev/null -w '%{{http_code}}' -H 'X-aws-ec2-metadata-token: {stolen}'"
    assert lab.output(lab.machine(2), theirs) == "401"
    lab.options = MetadataOptions(tokens_required=False)
    try:
        assert lab.output(one, get) == one.instance_id
    finally:
        lab.options = MetadataOptions(tokens_required=True)


def test_the_api_is_at_the_same_place_inside(lab: Bench, one: Machine) -> None:
    class Api(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"the API")

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", lab.settings.port), Api)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        lab.engine.reboot(one.instance_id)
        assert lab.output(one, f"curl -s {lab.settings.endpoint_url}/") == "the API"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
