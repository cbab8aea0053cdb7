"""Signatures against those that AWS publishes, and against botocore's."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from urllib.parse import quote

import pytest
from ansible.module_utils.lab.s3mount.sigv4 import Credentials, signed_headers
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotoCredentials
from hypothesis import given
from hypothesis import strategies as st

# docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
KEYS = Credentials("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
NOW = datetime(2013, 5, 24, tzinfo=UTC)
HOST = "https://examplebucket.s3.amazonaws.com"
PUBLISHED = [
    (
        "GET",
        f"{HOST}/test.txt",
        {"Range": "bytes=0-9"},
        b"",
        "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
    ),
    (
        "PUT",
        f"{HOST}/test%24file.text",
        {"Date": "Fri, 24 May 2013 00:00:00 GMT", "x-amz-storage-class": "REDUCED_REDUNDANCY"},
        b"Welcome to Amazon S3.",
        "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
    ),
    (
        "GET",
        f"{HOST}/?lifecycle",
        {},
        b"",
        "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
    ),
    (
        "GET",
        f"{HOST}/?max-keys=2&prefix=J",
        {},
        b"",
        "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
    ),
]


@pytest.mark.parametrize(("method", "url", "headers", "body", "signature"), PUBLISHED)
def test_signs_as_published(
    method: str, url: str, headers: dict[str, str], body: bytes, signature: str
) -> None:
    signed = signed_headers(
        method,
        url,
        KEYS,
        "us-east-1",
        NOW,
        headers=headers,
        body_sha256=hashlib.sha256(body).hexdigest(),
    )
    assert signed["authorization"].endswith(f"Signature={signature}")


@given(
    prefix=st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    region=st.sampled_from(["us-east-1", "eu-central-1", "cn-north-1"]),
    token=st.sampled_from(["", "a/token=="]),
    port=st.sampled_from(["", ":8333"]),
)
def test_signs_as_botocore_does(prefix: str, region: str, token: str, port: str) -> None:
    url = f"http://s3.test{port}/bucket/?list-type=2&max-keys=1&prefix={quote(prefix, safe='')}"
    keys = Credentials("KEY", "secret", token)
    ours = signed_headers("GET", url, keys, region, datetime.now(UTC))
    theirs = AWSRequest("GET", url, headers={"x-amz-content-sha256": ours["x-amz-content-sha256"]})
    theirs.context["timestamp"] = ours["x-amz-date"]
    signer = S3SigV4Auth(BotoCredentials("KEY", "secret", token or None), "s3", region)
    theirs.headers["X-Amz-Date"] = ours["x-amz-date"]
    if token:
        theirs.headers["X-Amz-Security-Token"] = token
    to_sign = signer.string_to_sign(theirs, signer.canonical_request(theirs))
    assert ours["authorization"].endswith(f"Signature={signer.signature(to_sign, theirs)}")


def test_a_secret_is_not_shown() -> None:
    assert "secret" not in repr(Credentials("KEY", "a-secret", "token"))
