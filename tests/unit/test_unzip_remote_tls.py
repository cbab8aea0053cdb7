"""Archives at https://: whom we trust, through which proxy, and never down to http://."""

from __future__ import annotations

import datetime
import ipaddress
import os
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible.module_utils.lab.errors import LabError
from ansible.module_utils.lab.unzip import http_connection
from ansible.module_utils.lab.unzip.sources import Access, find_archives
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from .range_server import RangeServer, Thing, closed, cut, hang_up, serving, status

DATA = os.urandom(300_000)


@pytest.fixture(autouse=True)
def closed_yard(monkeypatch: pytest.MonkeyPatch) -> None:
    closed(monkeypatch, read=1.0)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key and the certificate for 127.0.0.1 that it signed itself, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(address, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + signed.public_bytes(serialization.Encoding.PEM)
    )
    return path


@pytest.fixture
def server(certificate: Path) -> Iterator[RangeServer]:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    with serving(RangeServer({"/a.zip": Thing(DATA)}), tls) as served:
        yield served


def read(address: str, bundle: Path | None) -> bytes:
    access = Access(ca_bundle=str(bundle) if bundle else None)
    (archive,) = find_archives([address], False, access)
    reader = archive.open()
    try:
        return reader.read_at(len(DATA), 0)
    finally:
        reader.close()


def test_a_bundle_makes_its_server_trusted(server: RangeServer, certificate: Path) -> None:
    server.faults = [status(503), cut(0), hang_up]
    assert read(f"{server.url}/a.zip", certificate) == DATA
    server.asked.clear()
    assert read(f"{server.url}/a.zip", certificate) == DATA
    assert server.connections == 1


def test_a_bundle_of_the_environment(
    server: RangeServer, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate))
    assert read(f"{server.url}/a.zip", None) == DATA


def test_an_unknown_authority_is_told_at_once(server: RangeServer) -> None:
    with pytest.raises(LabError) as caught:
        read(f"{server.url}/a.zip?hush", None)
    said = str(caught.value)
    assert said.startswith(f"{server.url}/a.zip: its server's certificate is not trusted (")
    assert said.endswith("give the authority as ca_bundle") and "hush" not in said


def test_a_certificate_of_another_name(server: RangeServer, certificate: Path) -> None:
    with pytest.raises(LabError, match=r"certificate is not trusted .*localhost"):
        read(f"https://localhost:{server.port}/a.zip", certificate)


def test_no_tls_where_tls_is_expected(certificate: Path) -> None:
    with serving() as plain, pytest.raises(LabError, match=r"cannot be read, .* \(5 tries\)"):
        read(f"https://127.0.0.1:{plain.port}/a.zip", certificate)


def test_a_referral_never_leads_down_to_http(server: RangeServer, certificate: Path) -> None:
    with serving(RangeServer({"/a.zip": Thing(DATA)})) as plain:
        server.always = status(302, Location=f"{plain.url}/a.zip")
        with pytest.raises(LabError, match="refers to an address without TLS"):
            read(f"{server.url}/a.zip", certificate)
        assert not plain.asked
        plain.always = status(307, Location=f"{server.url}/a.zip")
        server.always = None
        assert read(f"{plain.url}/latest", certificate) == DATA


@pytest.mark.parametrize("user", ["", "me:word@"])
def test_https_goes_through_the_proxy(
    user: str, server: RangeServer, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving() as proxy:
        monkeypatch.setenv("https_proxy", f"http://{user}127.0.0.1:{proxy.port}")
        assert read(f"{server.url}/a.zip", certificate) == DATA
        assert [asked.target for asked in proxy.asked] == [f"127.0.0.1:{server.port}"]
        sent = proxy.asked[0].headers.get("Proxy-Authorization")
        assert sent == ("Basic bWU6d29yZA==" if user else None)
        assert all("Proxy-Authorization" not in asked.headers for asked in server.asked)
        http_connection._idle.clear()
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        assert read(f"{server.url}/a.zip", certificate) == DATA
        assert len(proxy.asked) == 1


def test_a_proxy_that_refuses(
    server: RangeServer, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving() as proxy:
        proxy.always = status(407)
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy.port}")
        with pytest.raises(LabError, match=r"the proxy refuses it \(Tunnel connection failed: 407"):
            read(f"{server.url}/a.zip", certificate)
