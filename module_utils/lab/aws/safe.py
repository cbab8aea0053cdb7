"""Who may use what a lab makes: its bucket by TLS alone, its role from this account alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TLS_ONLY = "TlsOnly"
# Missing keys let through: AWS does not say of every way in which EC2 takes a role that it names
# the account there, and a host without credentials would be of no use. Where it does, another
# account is refused.
_ACCOUNT = "StringEqualsIfExists"


def trust(account: str) -> dict[str, Any]:
    """Return who may take the host's role: EC2, for this account."""
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"Service": "ec2.amazonaws.com"},
                "Action": "sts:AssumeRole",
                "Condition": {_ACCOUNT: {"aws:SourceAccount": account}},
            }
        ],
    }


def tls_only(bucket: str, partition: str) -> dict[str, Any]:
    """Return the statement by which a bucket refuses what is not encrypted on its way."""
    arn = f"arn:{partition}:s3:::{bucket}"
    return {
        "Sid": TLS_ONLY,
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:*",
        "Resource": [arn, f"{arn}/*"],
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }


def with_tls_only(have: Mapping[str, Any] | None, statement: Mapping[str, Any]) -> dict[str, Any]:
    """Return a bucket's policy with the statement in it; others that are there stay."""
    others = [s for s in (have or {}).get("Statement", ()) if s.get("Sid") != statement["Sid"]]
    return {"Version": "2012-10-17", "Statement": [*others, dict(statement)]}
