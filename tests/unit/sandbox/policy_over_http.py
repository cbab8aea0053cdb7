"""A lab's whole life as a user who has the policy of `make policy`; prints what was asked of IAM.

Run as a program, `python -m tests.unit.sandbox.policy_over_http FOLDER`, for the sandbox patches
moto in its process for good.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import tests.conftest  # noqa: F401  (it puts module_utils in its place)

# isort: split
from ansible.module_utils.lab.aws import (
    apply,
    audit,
    bake,
    destroy,
    plan,
    policy,
    power,
    preflight,
    rebuild,
    remove,
    retire,
    safe,
    seen,
    spent,
    status,
)
from ansible.module_utils.lab.aws.clock import Clock
from ansible.module_utils.lab.aws.destroy import Wish
from ansible.module_utils.lab.aws.names import POLICY, Names, write_tags
from ansible.module_utils.lab.aws.session import AwsError, Boto
from ansible.module_utils.lab.aws.work import Work
from botocore.exceptions import ClientError
from moto.iam import access_control
from moto.iam.models import iam_backends

from sandbox.account import AdminKey
from sandbox.patches import authorization
from sandbox.settings import ACCOUNT_ID
from tests.unit.aws.kit import HERE, IMAGES, PRICES, wish
from tests.unit.sandbox.served import Served, sandbox

NAMES = Names("lab", "us-east-1")
BUCKET = f"gpulab-{ACCOUNT_ID}-lab"
USER, KEY, SECRET = "researcher", "AKIAGPULABSANDBOX777", "s" * 40
Asked = tuple[str, str, dict[str, Any]]


@dataclass
class Life:
    """The user's way to AWS, and the administrator's, who lets things drift."""

    aws: Boto
    admin: Callable[[str], Any]
    folder: Path
    said: dict[str, Any] = field(default_factory=dict)

    def build(self, **changes: Any) -> None:
        """Do what site.yml does."""
        spec = wish(self.folder, **changes)
        inputs = preflight.Inputs(spec, IMAGES, PRICES, HERE, "us-east-1")
        target, there, key = preflight.check(self.aws, inputs, self.aws.endpoints, KEY)
        work = Work(self.aws, target, there)
        apply.carry_out(work, plan.make_plan(target, there, key))
        preflight.summary(target, preflight.look_again(self.aws, target))

    def host(self) -> str:
        """Return the id of the host."""
        found = power.find(self.aws, NAMES)
        assert found
        return found.id


def drift(life: Life) -> None:
    """Change by hand what the next run puts right."""
    ec2, iam, host = life.admin("ec2"), life.admin("iam"), life.host()
    ec2.modify_instance_metadata_options(InstanceId=host, HttpTokens="optional")
    (group,) = seen.groups(life.aws, NAMES)
    world = {
        "IpProtocol": "tcp",
        "FromPort": 80,
        "ToPort": 80,
        "IpRanges": [{"CidrIp": "0.0.0.0/0"}],
    }
    ec2.authorize_security_group_ingress(GroupId=group.id, IpPermissions=[world])
    found = ec2.describe_iam_instance_profile_associations()["IamInstanceProfileAssociations"]
    ec2.disassociate_iam_instance_profile(AssociationId=found[0]["AssociationId"])
    iam.create_instance_profile(InstanceProfileName="other")
    loose = safe.trust(ACCOUNT_ID)
    del loose["Statement"][0]["Condition"]
    iam.update_assume_role_policy(RoleName=NAMES.role, PolicyDocument=json.dumps(loose))


def swap_profile(life: Life) -> None:
    """Give the host another profile."""
    ec2 = life.admin("ec2")
    found = ec2.describe_iam_instance_profile_associations()["IamInstanceProfileAssociations"]
    ec2.disassociate_iam_instance_profile(AssociationId=found[0]["AssociationId"])
    profile = {"Name": "other"}
    ec2.associate_iam_instance_profile(InstanceId=life.host(), IamInstanceProfile=profile)


def leave_more(life: Life) -> None:
    """Leave what destroy takes along: an address, a policy, objects, an unfinished upload."""
    tags = write_tags(NAMES.tags())
    life.admin("ec2").allocate_address(
        Domain="vpc", TagSpecifications=[{"ResourceType": "elastic-ip", "Tags": tags}]
    )
    iam = life.admin("iam")
    made = iam.create_policy(PolicyName="more", PolicyDocument=json.dumps(plan.policy("x")))
    iam.attach_role_policy(RoleName=NAMES.role, PolicyArn=made["Policy"]["Arn"])
    s3 = life.admin("s3")
    s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    s3.put_object(Bucket=BUCKET, Key="a", Body=b"x")
    s3.create_multipart_upload(Bucket=BUCKET, Key="b")


def replace_host(life: Life) -> None:
    """Rebuild: set the host aside, build another, let go of the old one."""
    for wanted in ("begun", "finished"):
        there = rebuild.look(life.aws, NAMES)
        rebuild.carry_out(life.aws, rebuild.PLANS[wanted](NAMES, there), Clock())
        if wanted == "begun":
            life.build()


def bake_image(life: Life) -> None:
    """Make an image of the host, and delete it."""
    steps = bake.make_plan(NAMES, power.find(life.aws, NAMES), datetime.now(UTC))
    bake.carry_out(life.aws, NAMES, steps, Clock())
    bake.prune(life.aws, bake.prune_plan(bake.look(life.aws, NAMES), 0))


def retire_lab(life: Life) -> None:
    """Copy the data into a snapshot and let go of the rest."""
    host = power.find(life.aws, NAMES)
    assert host
    power.stop(life.aws, host, Clock())
    there = retire.look(life.aws, NAMES, BUCKET)
    retire.carry_out(life.aws, NAMES, there, retire.make_plan(NAMES, there), Clock())


def look_around(life: Life) -> None:
    """Ask what there is and what it costs."""
    status.look(life.aws)
    life.said["denied"] = dict(audit.look(life.aws, PRICES).denied)
    spent.bill(life.aws, "lab", datetime.now(UTC))


def destroy_lab(life: Life) -> None:
    """Take everything away."""
    wishes = Wish("lab", delete_data=True, delete_bucket=BUCKET)
    things = destroy.look(life.aws, NAMES, BUCKET)
    destroy.carry_out(life.aws, destroy.make_plan(wishes, NAMES, things), Clock())


def on_efs(life: Life) -> None:
    """Live once more, with a file system of EFS in place of the data volume."""
    ec2 = life.admin("ec2")
    for snapshot in ec2.describe_snapshots(Filters=NAMES.filters())["Snapshots"]:
        ec2.delete_snapshot(SnapshotId=snapshot["SnapshotId"])  # of the retired lab's data
    life.build(shared="efs")
    destroy_lab(life)


def as_the_host(life: Life, served: Served, workers: int) -> dict[str, str]:
    """Try, by the policy of the host's role, to stop and start what the lab has; AWS's answers."""
    iam, sts = served.client("iam"), served.client("sts")
    document = iam.get_role_policy(RoleName=NAMES.role, PolicyName=POLICY)["PolicyDocument"]
    name = f"as-the-host-{workers}"
    anybody = {"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}
    trust = {"Version": "2012-10-17", "Statement": [anybody]}
    role = iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(trust))["Role"]
    iam.put_role_policy(RoleName=name, PolicyName="x", PolicyDocument=json.dumps(document))
    given = sts.assume_role(RoleArn=role["Arn"], RoleSessionName="host")["Credentials"]
    key = AdminKey(given["AccessKeyId"], given["SecretAccessKey"])
    ec2 = served.client("ec2", key, given["SessionToken"])
    host, mine = power.find_all(life.aws, NAMES)
    other = served.client("ec2").describe_instances(
        Filters=[{"Name": "tag:Lab", "Values": ["other"]}]
    )["Reservations"][0]["Instances"][0]["InstanceId"]
    assert host
    ids = [one.id for one in mine]
    return {
        "look": answer(ec2.describe_instances),
        "stop workers": answer(ec2.stop_instances, InstanceIds=ids),
        "start workers": answer(ec2.start_instances, InstanceIds=ids),
        "stop host": answer(ec2.stop_instances, InstanceIds=[host.id]),
        "stop host with workers": answer(ec2.stop_instances, InstanceIds=[*ids, host.id]),
        "stop another lab's": answer(ec2.stop_instances, InstanceIds=[other]),
        "terminate workers": answer(ec2.terminate_instances, InstanceIds=ids),
        "tag workers": answer(ec2.create_tags, Resources=ids, Tags=write_tags({"Lab": "other"})),
    }


def answer(call: Callable[..., Any], **params: Any) -> str:
    """Call, and return AWS's word for its refusal, or none."""
    try:
        call(**params)
    except ClientError as error:
        return str(error.response["Error"]["Code"])
    return ""


def workers(life: Life, served: Served) -> None:
    """Grow, let the host stop and start its workers, stop them, and shrink to none."""
    served.client("ec2").run_instances(
        ImageId="ami-0deb1300000000001", InstanceType="t3.micro", MinCount=1, MaxCount=1,
        TagSpecifications=[{"ResourceType": "instance", "Tags": write_tags(
            Names("other", "us-east-1").worker_tags(1))}],
    )  # fmt: skip
    life.build(workers=2, slurm_autostop=True, placement_group="always", **MONEY)
    life.said["with autostop"] = as_the_host(life, served, 2)
    power.stop_workers(life.aws, power.find_all(life.aws, NAMES)[1], Clock())
    life.build(workers=2, placement_group="never", **MONEY)
    life.said["without"] = as_the_host(life, served, 0)
    there = remove.look(life.aws, NAMES)
    spec = wish(life.folder)
    steps = remove.make_plan(spec, NAMES, there, frozenset({1, 2}))
    remove.carry_out(life.aws, steps, Clock())


MONEY = {"monthly_budget": 50, "budget_email": "me@example.org", "daily_stop": "23:00"}


def live(life: Life, served: Served) -> None:
    """Do everything that the playbooks do, once."""
    life.build(**MONEY)
    workers(life, served)
    drift(life)
    life.build()
    swap_profile(life)
    life.build(data_gb=150, instance_type="g5.xlarge")
    look_around(life)
    replace_host(life)
    bake_image(life)
    life.build(**MONEY)
    retire_lab(life)
    life.build(spot=True, **MONEY)
    leave_more(life)
    destroy_lab(life)
    on_efs(life)


def documents() -> list[dict[str, Any]]:
    """Return both policies of `make policy`."""
    place = policy.Place()
    return [policy.document(place), policy.document_of_efs(place)]


def make_user(served: Served) -> None:
    """Make a user who has the policies and nothing else."""
    served.client("iam").create_user(UserName=USER)
    for name, document in zip(("lab", "efs"), documents(), strict=True):
        served.client("iam").put_user_policy(
            UserName=USER, PolicyName=name, PolicyDocument=json.dumps(document)
        )
    served.client("iam").create_access_key(UserName=USER)
    (key,) = iam_backends[ACCOUNT_ID]["aws"].get_user(USER).access_keys
    key.access_key_id, key.secret_access_key = KEY, SECRET


@contextmanager
def recorded() -> Iterator[list[Asked]]:
    """Write down what IAM is asked for the user."""
    asked: list[Asked] = []
    check = access_control.IAMRequestBase.check_action_permitted

    def note(request: Any, resource: str) -> None:
        check(request, resource)  # raises where it is refused
        if request._access_key.arn.endswith(f":user/{USER}"):
            asked.append((request._action, resource, dict(authorization._context.get())))

    base: Any = access_control.IAMRequestBase
    base.check_action_permitted = note
    yield asked
    base.check_action_permitted = check


def refused_without(asked: list[Asked], action: str) -> int:
    """Count what would be refused were one action missing from the policy."""
    every = [statement for one in documents() for statement in one["Statement"]]
    for statement in every:
        statement["Action"] = [a for a in statement["Action"] if a != action]
    judge = access_control.IAMPolicy(json.dumps({"Version": "2012-10-17", "Statement": every}))
    refused = 0
    # What other actions are asked for does not change.
    for asked_action, resource, keys in (one for one in asked if one[0] == action):
        token = authorization._context.set(keys)
        judged = judge.is_action_permitted(asked_action, resource)
        authorization._context.reset(token)
        refused += judged is not access_control.PermissionResult.PERMITTED
    return refused


def main(folder: Path) -> dict[str, Any]:
    """Live, and say what was asked and what each action is needed for."""
    with sandbox(folder / "sandbox") as served:
        make_user(served)
        served.become(KEY, SECRET)
        life = Life(Boto("us-east-1"), served.client, folder)
        with recorded() as asked:
            try:
                live(life, served)
            except AwsError as error:
                life.said["refused"] = str(error)
        actions = {a for one in documents() for s in one["Statement"] for a in s["Action"]}
        return {
            **life.said,
            "asked": sorted({action for action, _, _ in asked}),
            "refused_without": {a: refused_without(asked, a) for a in sorted(actions)},
        }


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1])), default=str))
