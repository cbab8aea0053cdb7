"""What is made is safe from the start, and made so again where it has drifted."""

from __future__ import annotations

import json

from ansible.module_utils.lab.aws import policy, safe
from ansible.module_utils.lab.aws.names import Names
from ansible.module_utils.lab.aws.variables import Spec

from tests.unit.aws.kit import Faulty, build

NAMES = Names("lab", "us-east-1")
ACCOUNT = "123456789012"
BUCKET = f"gpulab-{ACCOUNT}-lab"


def bucket_policy(aws: Faulty) -> list[dict[str, object]]:
    told = aws.inner.call("s3", "GetBucketPolicy", Bucket=BUCKET)["Policy"]
    statements: list[dict[str, object]] = json.loads(told)["Statement"]
    return statements


def test_the_bucket_takes_tls_alone(aws: Faulty, spec: Spec) -> None:
    build(aws, spec)
    (statement,) = bucket_policy(aws)
    assert statement["Effect"] == "Deny"
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    assert statement["Resource"] == [f"arn:aws:s3:::{BUCKET}", f"arn:aws:s3:::{BUCKET}/*"]


def test_other_statements_of_a_bucket_stay(aws: Faulty, spec: Spec) -> None:
    build(aws, spec)
    theirs = {
        "Sid": "Colleague", "Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:root"},
        "Action": "s3:GetObject", "Resource": f"arn:aws:s3:::{BUCKET}/*",
    }  # fmt: skip
    document = json.dumps({"Version": "2012-10-17", "Statement": [theirs]})
    aws.inner.call("s3", "PutBucketPolicy", Bucket=BUCKET, Policy=document)
    assert build(aws, spec) == [f"Let nothing into bucket {BUCKET} but by TLS"]
    assert [s["Sid"] for s in bucket_policy(aws)] == ["Colleague", safe.TLS_ONLY]
    assert build(aws, spec) == []


def test_the_role_is_this_accounts(aws: Faulty, spec: Spec) -> None:
    build(aws, spec)
    role = aws.inner.call("iam", "GetRole", RoleName=NAMES.role)["Role"]
    (statement,) = role["AssumeRolePolicyDocument"]["Statement"]
    assert statement["Principal"] == {"Service": "ec2.amazonaws.com"}
    assert statement["Condition"] == {"StringEqualsIfExists": {"aws:SourceAccount": ACCOUNT}}


def test_a_looser_role_is_mended(aws: Faulty, spec: Spec) -> None:
    build(aws, spec)
    loose = safe.trust(ACCOUNT)
    del loose["Statement"][0]["Condition"]
    document = json.dumps(loose)
    aws.inner.call("iam", "UpdateAssumeRolePolicy", RoleName=NAMES.role, PolicyDocument=document)
    assert build(aws, spec) == [f"Let only EC2 in this account take role {NAMES.role}"]
    assert build(aws, spec) == []


def test_nothing_of_a_lab_is_in_the_default_security_group(aws: Faulty, spec: Spec) -> None:
    build(aws, spec)
    found = aws.inner.call("ec2", "DescribeInstances")["Reservations"][0]["Instances"][0]
    assert [group["GroupName"] for group in found["SecurityGroups"]] == ["gpulab-lab"]


def test_nothing_is_shared_with_others() -> None:
    allowed = {a for s in policy.document(policy.Place())["Statement"] for a in s["Action"]}
    shares = ("ModifyImageAttribute", "ModifySnapshotAttribute", "PutBucketAcl", "PutObjectAcl")
    assert not [action for action in allowed if action.endswith(shares)]
