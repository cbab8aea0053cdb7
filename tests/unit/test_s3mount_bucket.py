"""What the bucket's answer is turned into, against a small server of our own."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from ansible.module_utils.lab.errors import LabError
from ansible.module_utils.lab.s3mount import credentials
from ansible.module_utils.lab.s3mount.bucket import Bucket, Client
from ansible.module_utils.lab.s3mount.credentials import Access
from ansible.module_utils.lab.s3mount.imds import InstanceMetadata
from ansible.module_utils.lab.s3mount.sigv4 import Credentials

KEYS = Credentials("KEY", "secret")


@dataclass
class Server:
    """Answers every request with the same thing and remembers what was asked."""

    status: int = 200
    body: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    asked: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    pages: dict[str, str] | None = None
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def serve(server: Server) -> Iterator[Server]:
    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            server.asked.append(
                (self.command, self.path, {k.lower(): v for k, v in self.headers.items()})
            )
            status, body = server.status, server.body
            if server.pages is not None:
                status, body = (
                    (200 if self.path in server.pages else 404),
                    server.pages.get(self.path, ""),
                )
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **server.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body.encode())

        do_GET = do_PUT = answer  # noqa: N815 - the names are the library's

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listener:
        server.port = listener.server_port
        thread = Thread(target=listener.serve_forever, daemon=True)
        thread.start()
        yield server
        listener.shutdown()


def error(code: str, more: str = "") -> str:
    return f"<Error><Code>{code}</Code><Message>m</Message>{more}</Error>"


REFUSALS = [
    (
        404,
        error("NoSuchBucket"),
        {},
        "^There is no bucket b at http://127.*: make it, or check bucket",
    ),
    (
        403,
        error("AccessDenied"),
        {},
        "^The key KEY may not list the bucket b under p: .*s3:ListBucket",
    ),
    (403, error("InvalidAccessKeyId"), {}, "^The access key KEY is unknown at http://127"),
    (
        403,
        error("SignatureDoesNotMatch"),
        {},
        r"^The secret key does not belong to the access key KEY\.$",
    ),
    (400, error("ExpiredToken"), {}, "has expired"),
    (
        400,
        error("AuthorizationHeaderMalformed", "<Region>eu-west-1</Region>"),
        {},
        "^The bucket b is not in the region us-east-1 but in eu-west-1: set region.$",
    ),
    (
        301,
        error("PermanentRedirect"),
        {"x-amz-bucket-region": "eu-central-1"},
        "not in the region us-east-1 but in eu-central-1",
    ),
    (301, "", {}, "^The bucket b is not in the region us-east-1: set region.$"),
    (
        403,
        error("RequestTimeTooSkewed"),
        {},
        r"^The clock of this host is (\d+ s )?off and S3 refuses its requests: set it with ",
    ),
    (500, "oops", {}, r"answers 500 HTTP 500\.$"),
    (409, error("Strange"), {}, r"answers 409 Strange\.$"),
]


@pytest.mark.parametrize(("status", "body", "headers", "says"), REFUSALS)
def test_names_the_reason(status: int, body: str, headers: dict[str, str], says: str) -> None:
    with serve(Server(status, body, headers)) as server:
        bucket = Bucket(
            "b", "us-east-1", server.url, path_style=True, prefix="p" if "under" in says else ""
        )
        with pytest.raises(LabError, match=says.replace("under p", "under p/")):
            Client(bucket, KEYS).check()


def test_asks_for_one_key_under_the_prefix_and_signs() -> None:
    with serve(Server(body="<Key>p/x</Key>")) as server:
        bucket = Bucket("b", "us-east-1", server.url, path_style=True, prefix="a b/p")
        assert Client(bucket, KEYS).check() is True
        server.body = "<ListBucketResult/>"
        assert Client(bucket, KEYS).check() is False
        Client(bucket, KEYS).make_prefix()
        Client(bucket, None).check()
    (_, list_path, headers), _, (put, put_path, put_headers), (_, _, anonymous) = server.asked
    assert list_path == "/b/?list-type=2&max-keys=1&prefix=a%20b%2Fp%2F"
    assert headers["authorization"].startswith("AWS4-HMAC-SHA256 Credential=KEY/")
    assert put_headers["content-type"] == "application/x-directory"
    assert (put, put_path) == ("PUT", "/b/a%20b/p/")
    assert "authorization" not in anonymous


def test_names_what_cannot_be_reached() -> None:
    with serve(Server()) as server:
        closed = server.url
    with pytest.raises(LabError, match="refuses the connection: nothing listens there"):
        Client(Bucket("b", "r", closed, path_style=True), KEYS).check()
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections, says nothing
        mute = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(LabError, match=r"does not answer within 0 s: check the network"):
            Client(Bucket("b", "r", mute, path_style=True), KEYS, timeout=0.2).check()


@pytest.mark.parametrize(
    ("bucket", "url"),
    [
        (Bucket("b", "eu-west-1"), "https://b.s3.eu-west-1.amazonaws.com/"),
        (Bucket("b", "cn-north-1"), "https://b.s3.cn-north-1.amazonaws.com.cn/"),
        (Bucket("b.c", "us-east-1", path_style=True), "https://s3.us-east-1.amazonaws.com/b.c/"),
        (Bucket("b", "r", "http://h:1/", path_style=True), "http://h:1/b/"),
        (Bucket("b", "r", "https://h/s3"), "https://b.h/s3/"),
    ],
)
def test_builds_the_url(bucket: Bucket, url: str) -> None:
    assert bucket.url() == url


ROLE = {"AccessKeyId": "ASIA", "SecretAccessKey": "s", "Token": "t", "Expiration": "x"}


def test_asks_the_metadata_service_with_a_token() -> None:
    pages = {
        "/latest/api/token": "TOKEN",
        "/latest/meta-data/placement/region": "eu-west-1",
        "/latest/meta-data/iam/security-credentials/": "lab-role",
        "/latest/meta-data/iam/security-credentials/lab-role": json.dumps(ROLE),
    }
    with serve(Server(pages=pages)) as server:
        metadata = InstanceMetadata(server.url)
        assert metadata.region() == "eu-west-1"
        found = credentials.find(Access("instance_role"), "b", metadata)
    assert found == Credentials("ASIA", "s", "t")
    token, read, *_ = server.asked
    assert (token[0], "x-aws-ec2-metadata-token-ttl-seconds" in token[2]) == ("PUT", True)
    assert read[2]["x-aws-ec2-metadata-token"] == "TOKEN"


def test_says_that_there_is_no_role_or_no_service() -> None:
    with (
        serve(Server(pages={"/latest/api/token": "TOKEN"})) as server,
        pytest.raises(LabError, match="The instance has no role: attach an instance profile"),
    ):
        InstanceMetadata(server.url).role_name()
    with pytest.raises(LabError, match="No instance metadata service answers at http://127"):
        InstanceMetadata(server.url).region()


def test_says_that_the_role_cannot_be_taken() -> None:
    pages = {
        "/latest/api/token": "TOKEN",
        "/latest/meta-data/iam/security-credentials/r": '{"Code": "AssumeRoleUnauthorizedAccess"}',
    }
    with (
        serve(Server(pages=pages)) as server,
        pytest.raises(LabError, match=r"may not take the role r \(AssumeRoleUnauthorizedAccess\)"),
    ):
        InstanceMetadata(server.url).credentials("r")


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("KEY:secret\n", "KEY"),
        ("# a comment\nother:A:s\nKEY:secret\n", "KEY"),
        ("KEY:secret\nb:MINE:s\n", "MINE"),
    ],
)
def test_reads_a_password_file(tmp_path: Path, text: str, key: str) -> None:
    path = tmp_path / "passwd"
    path.write_text(text)
    path.chmod(0o600)
    found = credentials.find(Access("file", passwd_file=str(path)), "b", InstanceMetadata())
    assert found is not None
    assert found.access_key == key


def test_refuses_a_password_file_that_s3fs_would_refuse(tmp_path: Path) -> None:
    path = tmp_path / "passwd"
    with pytest.raises(LabError, match=r"cannot be read \(No such file or directory\)"):
        credentials.read_passwd(path, "b")
    path.write_text("other:A:s\n")
    path.chmod(0o644)
    with pytest.raises(LabError, match=f"{path} is open to others: chmod 600 {path}"):
        credentials.read_passwd(path, "b")
    path.chmod(0o600)
    with pytest.raises(LabError, match="holds no line KEY:SECRET for the bucket b"):
        credentials.read_passwd(path, "b")


def test_takes_a_lasting_key_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    monkeypatch.delenv("AWS_SESSION_TOKEN", raising=False)
    with pytest.raises(LabError, match="needs AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"):
        credentials.environment_key()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "KEY")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    assert credentials.environment_key() == ("KEY", "secret")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "t")
    with pytest.raises(LabError, match="the mount would end with it"):
        credentials.environment_key()
