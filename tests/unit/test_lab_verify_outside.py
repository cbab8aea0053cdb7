from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import io
import socket
import ssl
import subprocess
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from botocore.exceptions import ClientError

LIBRARY = Path(__file__).resolve().parents[2] / "library"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, LIBRARY / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


outside = load("lab_verify_outside")


def listen(answer: bytes | None) -> tuple[socket.socket, int]:
    """A server that sends `answer` to the first client, or drops it at once when it is None."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        client, _ = server.accept()
        if answer is not None:
            client.sendall(answer)
            with contextlib.suppress(ConnectionError):
                client.recv(1)
        client.close()

    threading.Thread(target=serve, daemon=True).start()
    return server, server.getsockname()[1]


@pytest.mark.parametrize(("wanted", "status"), [(True, "ok"), (False, "failed")])
def test_a_port_that_answers(wanted: bool, status: str) -> None:
    server, port = listen(b"SSH-2.0\r\n")
    with server:
        assert outside.see_port("127.0.0.1", port, wanted, 2).status == status


@pytest.mark.parametrize(("wanted", "status"), [(True, "failed"), (False, "ok")])
def test_a_port_that_drops_its_callers_is_not_open(wanted: bool, status: str) -> None:
    server, port = listen(None)
    with server:
        assert outside.see_port("127.0.0.1", port, wanted, 2).status == status


@pytest.mark.parametrize(("wanted", "status"), [(True, "failed"), (False, "ok")])
def test_a_port_that_nobody_listens_on(wanted: bool, status: str) -> None:
    server, port = listen(None)
    server.close()
    assert outside.see_port("127.0.0.1", port, wanted, 2).status == status


class Bucket:
    """As much of an S3 client as the module uses, with one object in it."""

    def __init__(self, key: str, body: bytes) -> None:
        self.objects = {key: body}

    def get_object(self, Bucket: str, Key: str) -> dict[str, Any]:  # noqa: N803 (boto3's names)
        if Key not in self.objects:
            raise ClientError({"Error": {"Code": "NoSuchKey", "Message": Key}}, "GetObject")
        return {"Body": io.BytesIO(self.objects[Key])}

    def delete_object(self, Bucket: str, Key: str) -> None:  # noqa: N803 (boto3's names)
        del self.objects[Key]


def test_the_file_is_found_compared_and_deleted() -> None:
    probe = {"key": ".lab-verify/1", "sha256": hashlib.sha256(b"x").hexdigest()}
    bucket = Bucket(".lab-verify/1", b"x")
    assert outside.see_object(bucket, "b", probe).status == "ok"
    assert bucket.objects == {}
    assert outside.see_object(Bucket(".lab-verify/1", b"y"), "b", probe).status == "failed"
    below = Bucket("runs/.lab-verify/1", b"x")
    assert outside.see_object(below, "b", probe, "runs").detail == "s3://b/runs/.lab-verify/1"
    assert outside.see_object(below, "b", probe).status == "failed"
    assert outside.see_object(Bucket("other", b"x"), "b", probe).status == "failed"
    assert outside.see_object(Bucket("other", b"x"), "b", {}).status == "failed"


class Groups:
    """As much of an EC2 client as the module uses: one security group."""

    def __init__(self, *permissions: dict[str, Any]) -> None:
        self.permissions = permissions

    def describe_security_groups(self, GroupIds: list[str]) -> dict[str, Any]:  # noqa: N803
        if GroupIds != ["sg-0a"]:
            raise ClientError({"Error": {"Code": "InvalidGroup.NotFound"}}, "Describe")
        return {"SecurityGroups": [{"IpPermissions": list(self.permissions)}]}


SSH = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": "192.0.2.1/32"}]}


def test_the_security_group_is_compared_with_what_the_host_says() -> None:
    said = [{"check": "firewall lets in", "status": "ok", "detail": "tcp 22 0.0.0.0/0"}]
    assert outside.see_agreement(Groups(SSH), ["sg-0a"], [], said).status == "ok"
    assert outside.see_agreement(Groups(), ["sg-0a"], [], said).status == "failed"
    assert outside.see_agreement(Groups(SSH), ["sg-0b"], [], said).status == "failed"
    assert outside.see_agreement(Groups(SSH), ["sg-0a"], [], []).status == "failed"


def test_only_the_certificate_that_is_known_will_do(tmp_path: Path) -> None:
    made = {name: make_certificate(tmp_path / name) for name in ("known", "other")}
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*made["known"])
    server = context.wrap_socket(socket.create_server(("127.0.0.1", 0)), server_side=True)

    def serve() -> None:
        for _ in made:
            with contextlib.suppress(OSError):
                server.accept()[0].close()

    threading.Thread(target=serve, daemon=True).start()
    for name, status in (("known", "ok"), ("other", "failed")):
        written = tmp_path / f"{name}.crt"
        written.write_text("SHA-256 AB\n" + made[name][0].read_text())
        port = server.getsockname()[1]
        assert outside.see_certificate("127.0.0.1", port, written, 5).status == status
    assert outside.see_certificate("127.0.0.1", port, tmp_path / "none", 5).status == "failed"
    server.close()


def make_certificate(folder: Path) -> tuple[Path, Path]:
    folder.mkdir()
    made = (folder / "crt", folder / "key")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-out", made[0], "-keyout",
         made[1], "-subj", "/CN=lab"],
        check=True, capture_output=True,
    )  # fmt: skip
    return made
