from __future__ import annotations

from typing import Any

import pytest

from sandbox.conditions import UnknownOperatorError, holds, wildcard_match

CONTEXT = {
    "aws:securetransport": ["true"],
    "aws:sourceip": ["10.1.2.3"],
    "s3:prefix": ["home/a"],
    "aws:tagkeys": ["Lab", "Project"],
    "s3:max-keys": ["10"],
}


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ({}, True),
        ({"Bool": {"aws:SecureTransport": "true"}}, True),
        ({"Bool": {"aws:SecureTransport": False}}, False),
        ({"StringEquals": {"s3:prefix": ["x", "home/a"]}}, True),
        ({"StringEquals": {"s3:prefix": "HOME/A"}}, False),
        ({"StringEqualsIgnoreCase": {"s3:prefix": "HOME/A"}}, True),
        ({"StringLike": {"s3:prefix": "home/?"}}, True),
        ({"StringNotLike": {"s3:prefix": ["home/*", "x"]}}, False),
        ({"StringNotEquals": {"s3:prefix": ["y", "x"]}}, True),
        ({"StringEquals": {"absent": "x"}}, False),
        ({"StringNotEquals": {"absent": "x"}}, True),
        ({"StringEqualsIfExists": {"absent": "x"}}, True),
        ({"Null": {"absent": "true"}}, True),
        ({"Null": {"s3:prefix": "true"}}, False),
        ({"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}, True),
        ({"NotIpAddress": {"aws:SourceIp": "10.0.0.0/8"}}, False),
        ({"IpAddress": {"aws:SourceIp": "nonsense"}}, False),
        ({"NumericLessThanEquals": {"s3:max-keys": "10"}}, True),
        ({"NumericGreaterThan": {"s3:max-keys": "10"}}, False),
        ({"ForAllValues:StringEquals": {"aws:TagKeys": ["Lab", "Project", "x"]}}, True),
        ({"ForAllValues:StringEquals": {"aws:TagKeys": ["Lab"]}}, False),
        ({"ForAnyValue:StringEquals": {"aws:TagKeys": ["Lab"]}}, True),
        ({"ForAllValues:StringEquals": {"absent": ["Lab"]}}, True),
        ({"ForAnyValue:StringEquals": {"absent": ["Lab"]}}, False),
        ({"Bool": {"aws:SecureTransport": "true"}, "StringLike": {"s3:prefix": "x"}}, False),
    ],
)
def test_condition(condition: dict[str, dict[str, Any]], expected: bool) -> None:
    assert holds(condition, CONTEXT) is expected


def test_unknown_operator_is_told() -> None:
    with pytest.raises(UnknownOperatorError, match="DateGreaterThan"):
        holds({"DateGreaterThan": {"aws:CurrentTime": "2020-01-01T00:00:00Z"}}, CONTEXT)


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        ("arn:aws:s3:::a.b/*", "arn:aws:s3:::a.b/c/d", True),
        ("arn:aws:s3:::a.b/*", "arn:aws:s3:::aXb/c", False),
        ("s3:Get*", "s3:GetObject", True),
        ("s3:get*", "s3:GetObject", False),
        ("a?c", "abc", True),
        ("a?c", "ac", False),
        ("a[b]c", "abc", False),
    ],
)
def test_wildcards(pattern: str, text: str, expected: bool) -> None:
    assert wildcard_match(pattern, text) is expected
