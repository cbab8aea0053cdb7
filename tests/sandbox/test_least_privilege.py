"""The role of a lab's host, by the policy that the lab gives it: its bucket, and nothing else.

Every operation of S3 that botocore knows is asked for, on the lab's own bucket and on another,
and every operation of the services that hold what a thief would want.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.lab.aws import plan
from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.model import ListShape, MapShape, OperationModel, Shape, StructureShape

from tests.sandbox.conftest import Account, wait_for

pytestmark = pytest.mark.sandbox

REFUSED = {
    "403",
    "AccessDenied",
    "AccessDeniedException",
    "Forbidden",
    "UnauthorizedOperation",
}
TRUST = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}],
}
PREFIX = "runs/mine"
# s3fs mounts no prefix for which there is no object; the module makes it.
OBJECTS = {"key", f"{PREFIX}/", f"{PREFIX}/key", "runs/other/", "runs/other/key"}


@dataclass(frozen=True)
class Lab:
    """Two buckets with the same objects, and the role of a host that one of them belongs to."""

    account: Account
    own: str
    foreign: str
    role: str

    def client(self, service: str) -> Any:
        sts = self.account.client("sts")
        arn = self.account.client("iam").get_role(RoleName=self.role)["Role"]["Arn"]
        given = sts.assume_role(RoleArn=arn, RoleSessionName="host")["Credentials"]
        return self.account.client(
            service,
            aws_access_key_id=given["AccessKeyId"],
            aws_secret_access_key=given["SecretAccessKey"],
            aws_session_token=given["SessionToken"],
            config=Config(
                retries={"total_max_attempts": 1},
                s3={"addressing_style": "path"},
                inject_host_prefix=False,  # the sandbox has one name
                parameter_validation=False,
            ),
        )


def make_lab(account: Account, prefix: str) -> Lab:
    s3, iam = account.client("s3"), account.client("iam")
    lab = Lab(account, *(f"{name}-{uuid.uuid4().hex}" for name in ("own", "foreign", "role")))
    for bucket in (lab.own, lab.foreign):
        s3.create_bucket(Bucket=bucket)
        for key in OBJECTS:
            s3.put_object(Bucket=bucket, Key=key, Body=b"x")
    iam.create_role(RoleName=lab.role, AssumeRolePolicyDocument=json.dumps(TRUST))
    document = json.dumps(plan.policy(lab.own, prefix))
    iam.put_role_policy(RoleName=lab.role, PolicyName="lab", PolicyDocument=document)
    return lab


@pytest.fixture(scope="module")
def lab(account: Account) -> Lab:
    return make_lab(account, "")


@pytest.fixture(scope="module")
def prefixed(account: Account) -> Lab:
    return make_lab(account, PREFIX)


def example(shape: Shape, depth: int = 0) -> Any:
    """Give a value that a shape takes; of a structure what it requires and no more."""
    if isinstance(shape, StructureShape):
        # A union wants exactly one of its members.
        names = shape.required_members or (list(shape.members)[:1] if _is_union(shape) else [])
        return {name: example(shape.members[name], depth + 1) for name in names if depth < 8}
    if isinstance(shape, ListShape):
        return [example(shape.member, depth + 1)] if depth < 8 else []
    if isinstance(shape, MapShape):
        return {}
    plain = {
        "boolean": False,
        "integer": 1,
        "long": 1,
        "float": 1.0,
        "double": 1.0,
        "blob": b"x",
        "timestamp": "2026-01-01T00:00:00Z",
    }
    if shape.type_name in plain:
        return plain[shape.type_name]
    if getattr(shape, "enum", None):
        return shape.enum[0]  # type: ignore[attr-defined]
    return "x" * max(1, shape.metadata.get("min", 1))


def _is_union(shape: StructureShape) -> bool:
    return bool(getattr(shape, "is_tagged_union", False))


def operations(client: Any) -> Iterator[tuple[str, OperationModel]]:
    """Give each operation by the name of its method."""
    names = {operation: method for method, operation in client.meta.method_to_api_mapping.items()}
    for operation in client.meta.service_model.operation_names:
        yield names[operation], client.meta.service_model.operation_model(operation)


def ask(client: Any, method: str, model: OperationModel, **given: str) -> str:
    """Ask for an operation; gives the code of its refusal, empty if it was carried out."""
    shape = model.input_shape
    arguments = example(shape) if shape else {}
    arguments.update({k: v for k, v in given.items() if shape and k in shape.members})
    try:
        answer = getattr(client, method)(**arguments)
    except ClientError as error:
        return str(error.response["Error"]["Code"])
    # DeleteObjects answers 200 and refuses each of the keys.
    return str(answer["Errors"][0]["Code"]) if answer.get("Errors") else ""


def not_refused(client: Any, **given: str) -> dict[str, str]:
    """Ask for everything; gives what was answered other than by a refusal."""
    answers = {
        model.name: ask(client, method, model, **given) for method, model in operations(client)
    }
    assert len(answers) > 10
    return {name: code for name, code in answers.items() if code not in REFUSED}


def test_the_role_works_in_its_bucket(lab: Lab) -> None:
    s3 = lab.client("s3")
    s3.put_object(Bucket=lab.own, Key="new", Body=b"content")
    assert s3.get_object(Bucket=lab.own, Key="new")["Body"].read() == b"content"
    assert "new" in keys(s3, lab.own)
    upload = s3.create_multipart_upload(Bucket=lab.own, Key="big")["UploadId"]
    assert s3.list_parts(Bucket=lab.own, Key="big", UploadId=upload)["UploadId"] == upload
    s3.abort_multipart_upload(Bucket=lab.own, Key="big", UploadId=upload)
    s3.delete_object(Bucket=lab.own, Key="new")
    assert "new" not in keys(s3, lab.own)


def keys(s3: Any, bucket: str, prefix: str = "") -> set[str]:
    listed = s3.list_objects_v2(Bucket=bucket, Prefix=prefix)
    return {entry["Key"] for entry in listed.get("Contents", [])}


def test_every_operation_on_another_bucket_is_refused(lab: Lab) -> None:
    own = {"CopySource": f"{lab.own}/key", "RenameSource": "/key", "UploadId": "x"}
    assert not_refused(lab.client("s3"), Bucket=lab.foreign, Key="key", **own) == {}
    admin = lab.account.client("s3")
    assert keys(admin, lab.foreign) == OBJECTS


def test_nothing_comes_out_of_another_bucket_by_a_copy(lab: Lab) -> None:
    s3, source = lab.client("s3"), f"{lab.foreign}/key"
    with pytest.raises(ClientError, match="AccessDenied"):
        s3.copy_object(Bucket=lab.own, Key="copy", CopySource=source)
    upload = s3.create_multipart_upload(Bucket=lab.own, Key="copy")["UploadId"]
    with pytest.raises(ClientError, match="AccessDenied"):
        s3.upload_part_copy(
            Bucket=lab.own, Key="copy", CopySource=source, UploadId=upload, PartNumber=1
        )
    s3.abort_multipart_upload(Bucket=lab.own, Key="copy", UploadId=upload)


def test_the_bucket_itself_cannot_be_changed(lab: Lab) -> None:
    """What moto cannot tell from reading an object is left out: it knows fewer actions than AWS."""
    changes = (
        "PutBucket",
        "DeleteBucket",
        "CreateBucket",
        "UpdateBucket",
        "PutPublic",
        "DeletePub",
    )
    done = not_refused(lab.client("s3"), Bucket=lab.own, Key="key")
    assert {name for name in done if name.startswith(changes) or name.endswith("Acl")} == set()
    assert keys(lab.account.client("s3"), lab.own) - {"key"}


@pytest.mark.parametrize(
    "service",
    [
        "dynamodb",
        "ec2",
        "ecr",
        "iam",
        "kms",
        "logs",
        "organizations",
        "rds",
        "secretsmanager",
        "sns",
        "sqs",
        "ssm",
    ],
)
def test_every_operation_of_other_services_is_refused(lab: Lab, service: str) -> None:
    assert not_refused(lab.client(service)) == {}


def test_of_sts_it_may_only_ask_who_it_is(lab: Lab) -> None:
    sts = lab.client("sts")
    assert sts.get_caller_identity()["Arn"].endswith(f":assumed-role/{lab.role}/host")
    # These two take a token of somebody else's in place of the caller's signature.
    of_others = {"AssumeRoleWithSAML", "AssumeRoleWithWebIdentity"}
    assert set(not_refused(sts)) - of_others == {"GetCallerIdentity"}


def test_with_a_prefix_it_works_below_it(prefixed: Lab) -> None:
    s3, key = prefixed.client("s3"), f"{PREFIX}/deep/new"
    s3.put_object(Bucket=prefixed.own, Key=key, Body=b"content")
    assert keys(s3, prefixed.own, f"{PREFIX}/") == {key, f"{PREFIX}/key", f"{PREFIX}/"}
    s3.delete_object(Bucket=prefixed.own, Key=key)
    with pytest.raises(ClientError, match="404"):
        s3.head_object(Bucket=prefixed.own, Key=key)


@pytest.mark.parametrize("place", ["runs/other/", "runs/", "", "runs/mineral/"])
def test_with_a_prefix_everything_beside_it_is_refused(prefixed: Lab, place: str) -> None:
    s3, key = prefixed.client("s3"), f"{place}key"
    attempts = (
        lambda: s3.list_objects_v2(Bucket=prefixed.own, Prefix=place),
        lambda: s3.list_objects_v2(Bucket=prefixed.own),
        lambda: s3.get_object(Bucket=prefixed.own, Key=key),
        lambda: s3.put_object(Bucket=prefixed.own, Key=key, Body=b""),
        lambda: s3.delete_object(Bucket=prefixed.own, Key=key),
        lambda: s3.create_multipart_upload(Bucket=prefixed.own, Key=key),
        lambda: s3.list_objects_v2(Bucket=prefixed.foreign, Prefix=f"{PREFIX}/"),
    )
    for attempt in attempts:
        with pytest.raises(ClientError, match="AccessDenied"):
            attempt()  # type: ignore[no-untyped-call]  # boto3's clients have no types


Mounter = Callable[[Lab, str], tuple[Path, "subprocess.Popen[bytes]"]]


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Mounter]:
    """Mount what lies under a prefix by s3fs, with the keys of a user of the lab's own policy."""
    if shutil.which("s3fs") is None or not Path("/dev/fuse").exists():
        pytest.skip("s3fs or /dev/fuse is missing on this machine: the policy by s3fs UNTESTED")
    made: list[tuple[Path, subprocess.Popen[bytes]]] = []

    def mount(lab: Lab, prefix: str) -> tuple[Path, subprocess.Popen[bytes]]:
        iam, user, settings = lab.account.client("iam"), uuid.uuid4().hex, lab.account.settings
        iam.create_user(UserName=user)
        document = json.dumps(plan.policy(lab.own, PREFIX))
        iam.put_user_policy(UserName=user, PolicyName="lab", PolicyDocument=document)
        key = iam.create_access_key(UserName=user)["AccessKey"]
        password, point = tmp_path / user, tmp_path / f"{user}-mount"
        password.write_text(f"{key['AccessKeyId']}:{key['SecretAccessKey']}")
        password.chmod(0o600)
        point.mkdir()
        options = f"url={settings.endpoint_url},endpoint=us-east-1,use_path_request_style"
        source = f"{lab.own}:/{prefix}" if prefix else lab.own
        command = ["s3fs", "-f", source, str(point), "-o", f"passwd_file={password},{options}"]
        daemon = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        made.append((point, daemon))
        return point, daemon

    yield mount
    for point, daemon in made:
        subprocess.run(["umount", "-l", str(point)], check=False, stderr=subprocess.DEVNULL)
        daemon.wait(20)


def lists_the_root() -> bool:
    """Tell whether s3fs is so old that it asks for the whole bucket before it mounts a prefix."""
    said = subprocess.run(["s3fs", "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"V(\d+)\.(\d+)", said)
    assert found
    return (int(found[1]), int(found[2])) < (1, 91)


def test_s3fs_works_below_the_prefix(prefixed: Lab, mount: Mounter) -> None:
    point, daemon = mount(prefixed, PREFIX)
    if lists_the_root():
        daemon.wait(20)
        assert not os.path.ismount(point)
        return
    assert wait_for(lambda: os.path.ismount(point), 10)
    assert (point / "key").read_bytes() == b"x"
    (point / "folder").mkdir()
    (point / "folder" / "new").write_bytes(b"content")
    (point / "folder" / "new").rename(point / "folder" / "last")
    admin = prefixed.account.client("s3")
    assert keys(admin, prefixed.own, f"{PREFIX}/folder/") == {
        f"{PREFIX}/folder/",
        f"{PREFIX}/folder/last",
    }
    shutil.rmtree(point / "folder")


@pytest.mark.parametrize("prefix", ["", "runs/other"])
def test_s3fs_mounts_nothing_beside_the_prefix(prefixed: Lab, mount: Mounter, prefix: str) -> None:
    point, daemon = mount(prefixed, prefix)
    daemon.wait(20)  # it asks the bucket, is refused and ends
    assert not os.path.ismount(point)
