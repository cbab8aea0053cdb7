"""Signature Version 4 against botocore's, which is AWS's own."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from sandbox.signature import authorization_of_query, parse_authorization, signature_of

SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
CREDENTIALS = Credentials("AKIAIOSFODNN7EXAMPLE", SECRET)


@pytest.mark.parametrize(
    ("service", "signer", "method", "url", "wire", "body"),
    [
        (
            "s3",
            S3SigV4Auth,
            "GET",
            "/b?prefix=a%2Fb&delimiter=%2F",
            "/b?prefix=a/b&delimiter=/",
            b"",
        ),
        ("s3", S3SigV4Auth, "GET", "/b?list-type=2&prefix=a%20b%2Bc", None, b""),
        ("s3", S3SigV4Auth, "PUT", "/b/k%20e%2By%C3%BC", None, b"content"),
        ("s3", S3SigV4Auth, "POST", "/b/k?uploads", None, b""),
        ("ec2", SigV4Auth, "POST", "/", None, b"Action=DescribeInstances&Version=2016-11-15"),
    ],
)
def test_agrees_with_botocore(  # noqa: PLR0917  one argument for each column of the table
    service: str, signer: Any, method: str, url: str, wire: str | None, body: bytes
) -> None:
    request = AWSRequest(method, f"http://127.0.0.1:5600{url}", data=body)
    request.headers["Content-Type"] = "text/plain"
    signer(CREDENTIALS, service, "us-east-1").add_auth(request)
    request.headers["Host"] = "127.0.0.1:5600"
    credential = parse_authorization(request.headers["Authorization"])
    path, _, query = (wire or url).partition("?")

    def computed(secret: str) -> str:
        return signature_of(
            credential,
            secret,
            method=method,
            path=path,
            query=query,
            headers=request.headers,
            body=body,
        )

    assert computed(SECRET) == credential.signature
    assert computed("other") != credential.signature


@pytest.mark.parametrize("header", ["", "AWS key:signature", "AWS4-HMAC-SHA256 Credential=a"])
def test_other_authorization_is_refused(header: str) -> None:
    with pytest.raises(ValueError, match="not a Signature Version 4"):
        parse_authorization(header)


def test_plain_query_is_no_presigned_address() -> None:
    assert authorization_of_query("prefix=a&X-Amz-Signature=b") is None
