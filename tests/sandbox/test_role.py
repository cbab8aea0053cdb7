"""The instance's role: credentials from its metadata service, limited by their policy."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.sandbox.conftest import Account, Machine

pytestmark = pytest.mark.sandbox

TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Principal": {"Service": "ec2.amazonaws.com"},
            "Action": "sts:AssumeRole",
        }
    ],
}
# Metadata v2 with what is on a bare host: Python's standard library.
FETCH = """
import json, sys, urllib.request as r
BASE = "http://169.254.169.254/latest/"
def ask(path, **headers):
    return r.urlopen(r.Request(BASE + path, headers=headers), timeout=5).read().decode()
def token():
    wanted = {"X-aws-ec2-metadata-token-ttl-seconds": "60"}
    return r.urlopen(r.Request(BASE + "api/token", method="PUT", headers=wanted)).read().decode()
"""


@pytest.fixture(scope="module")
def buckets(account: Account) -> Iterator[tuple[str, str]]:
    """A bucket that the role may use, and one that it may not."""
    s3 = account.client("s3")
    names = (f"own-{uuid.uuid4().hex}", f"foreign-{uuid.uuid4().hex}")
    for name in names:
        s3.create_bucket(Bucket=name)
        s3.put_object(Bucket=name, Key="dir/file", Body=b"content")
    yield names


@pytest.fixture(scope="module")
def with_role(account: Account, buckets: tuple[str, str]) -> Iterator[Machine]:
    iam, name = account.client("iam"), f"role-{uuid.uuid4().hex}"
    iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(TRUST))
    own = f"arn:aws:s3:::{buckets[0]}"
    objects = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject"]
    policy = {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Action": "s3:ListBucket", "Resource": own},
            {"Effect": "Allow", "Action": objects, "Resource": f"{own}/*"},
        ],
    }
    iam.put_role_policy(RoleName=name, PolicyName="bucket", PolicyDocument=json.dumps(policy))
    iam.create_instance_profile(InstanceProfileName=name)
    iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=name)
    machine = account.run(
        IamInstanceProfile={"Name": name},
        MetadataOptions={"HttpTokens": "required", "InstanceMetadataTags": "enabled"},
        TagSpecifications=[{"ResourceType": "instance", "Tags": [{"Key": "Lab", "Value": "test"}]}],
    )[0]
    yield machine
    machine.terminate()


def python(machine: Machine, script: str) -> str:
    return machine.output(f"python3 - <<'END'\n{FETCH}\n{script}\nEND")


@pytest.fixture(scope="module")
def credentials(with_role: Machine) -> dict[str, str]:
    script = """
t = {"X-aws-ec2-metadata-token": token()}
role = ask("meta-data/iam/security-credentials/", **t)
print(ask("meta-data/iam/security-credentials/" + role, **t))
"""
    told: dict[str, str] = json.loads(python(with_role, script))
    return told


def test_metadata_wants_a_token(with_role: Machine) -> None:
    script = """
try:
    ask("meta-data/instance-id")
except r.HTTPError as error:
    print(error.code)
print(ask("meta-data/instance-id", **{"X-aws-ec2-metadata-token": token()}))
"""
    assert python(with_role, script.replace("r.HTTPError", "Exception")).split() == [
        "401",
        with_role.instance_id,
    ]


def test_metadata_tells_tags_addresses_and_identity(with_role: Machine) -> None:
    script = """
t = {"X-aws-ec2-metadata-token": token()}
paths = ["meta-data/tags/instance/Lab", "meta-data/public-ipv4", "meta-data/local-ipv4",
         "meta-data/placement/region", "meta-data/instance-life-cycle"]
print(*[ask(path, **t) for path in paths])
print(json.loads(ask("dynamic/instance-identity/document", **t))["instanceId"])
"""
    told = with_role.describe()
    assert python(with_role, script).split() == [
        "test",
        told["PublicIpAddress"],
        told["PrivateIpAddress"],
        "us-east-1",
        "on-demand",
        with_role.instance_id,
    ]


def test_role_reaches_its_bucket_and_nothing_else(
    account: Account, credentials: dict[str, str], buckets: tuple[str, str]
) -> None:
    given = {
        "aws_access_key_id": credentials["AccessKeyId"],
        "aws_secret_access_key": credentials["SecretAccessKey"],
        "aws_session_token": credentials["Token"],
    }
    s3, (own, foreign) = account.client("s3", **given), buckets
    s3.head_bucket(Bucket=own)
    s3.put_object(Bucket=own, Key="by-role", Body=b"x")
    assert s3.get_object(Bucket=own, Key="by-role")["Body"].read() == b"x"
    s3.delete_object(Bucket=own, Key="by-role")
    attempts: tuple[Callable[[], Any], ...] = (
        lambda: s3.list_objects_v2(Bucket=foreign),
        lambda: s3.get_object(Bucket=foreign, Key="dir/file"),
        lambda: s3.put_object(Bucket=foreign, Key="x", Body=b""),
        lambda: s3.delete_bucket(Bucket=own),
    )
    for attempt in attempts:
        with pytest.raises(s3.exceptions.ClientError, match="AccessDenied"):
            attempt()
    ec2 = account.client("ec2", **given)
    with pytest.raises(ec2.exceptions.ClientError, match="UnauthorizedOperation"):
        ec2.describe_instances()
    arn = account.client("sts", **given).get_caller_identity()["Arn"]
    assert ":assumed-role/" in arn


def test_endpoint_is_the_same_inside(account: Account, with_role: Machine) -> None:
    url = account.exports["AWS_ENDPOINT_URL"]
    script = f"import urllib.request as r; print(r.urlopen('{url}/_sandbox/health').status)"
    assert with_role.output(f'python3 -c "{script}"') == "200"
