"""The difference between what is there and what is wanted, as a list of steps. No call is made."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from . import (
    cluster,
    efs,
    guard,
    keys,
    placement,
    plan_efs,
    plan_guard,
    plan_mend,
    plan_workers,
    safe,
    session_manager,
)
from .names import POLICY
from .preflight import Target
from .steps import Step
from .things import Instance, Rule, Seen
from .variables import SSH_PORT, Opening

BUCKET_ACTIONS = ("s3:GetBucketLocation", "s3:ListBucket", "s3:ListBucketMultipartUploads")
OBJECT_ACTIONS = (
    "s3:AbortMultipartUpload",
    "s3:DeleteObject",
    "s3:GetObject",
    "s3:ListMultipartUploadParts",
    "s3:PutObject",
)


def policy(bucket: str, prefix: str = "") -> dict[str, Any]:
    """Return what the host may do: read and write its own bucket, nothing else.

    With a prefix, without outer slashes, only what lies under it. S3 takes the key that a HEAD asks
    for as s3:prefix when it decides between 404 and 403, so that new files can be made there.
    """
    arn = f"arn:aws:s3:::{bucket}"
    if not prefix:
        return _statements(
            {"Action": list(BUCKET_ACTIONS), "Resource": [arn]},
            {"Action": list(OBJECT_ACTIONS), "Resource": [f"{arn}/*"]},
        )
    below = {"StringLike": {"s3:prefix": [prefix, f"{prefix}/*"]}}
    return _statements(
        {"Action": ["s3:GetBucketLocation"], "Resource": [arn]},
        {"Action": ["s3:ListBucket"], "Resource": [arn], "Condition": below},
        {"Action": list(OBJECT_ACTIONS), "Resource": [f"{arn}/{prefix}/*"]},
    )


def _statements(*allowed: dict[str, Any]) -> dict[str, Any]:
    return {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", **statement} for statement in allowed],
    }


def make_plan(target: Target, there: Seen, key: keys.LocalKey) -> list[Step]:
    """Return the steps from what is there to what is wanted; none where they are equal."""
    return [
        *_key(target, there, key),
        *placement.left_over(target.spec, target.names, there),
        *_group(target, there),
        *_bucket(target, there),
        *_role(target, there),
        *plan_guard.stopper(target, there),
        *plan_guard.budget(target, there),
        *plan_efs.file_system(target, there),
        *_host(target, there),
        *plan_guard.schedules(target, there),
        *_data(target, there),
        *plan_efs.mount_target(target, there),
        *plan_workers.steps(target, there, host_tags(target, there)),
        *plan_efs.tell(target, there),
    ]


def _key(target: Target, there: Seen, key: keys.LocalKey) -> Iterator[Step]:
    if key.loose:
        paths = ", ".join(str(path) for path in key.loose)
        yield Step(
            "tighten_key",
            f"Keep others from reading {paths}",
            before=f"mode of {paths}: open to others",
            after=f"mode of {paths}: 0700 for the folder, 0600 for the key",
        )
    if not key.public_key:
        yield Step("make_key", f"Make the key {key.path}", after=f"file {key.path} (0600)")
    if there.key_pair is None:
        name = target.names.common
        yield Step("import_key", f"Import it as key pair {name}", after=f"key pair {name}")


def wanted_rules(target: Target) -> frozenset[Rule]:
    """Return the inbound rules: SSH and what else is open, from the allowed networks."""
    ssh = () if session_manager.wanted(target.spec) else (Opening("tcp", SSH_PORT, SSH_PORT),)
    open_ports = (*ssh, *target.spec.open_ports)
    return frozenset(
        Rule(opening.protocol, opening.first, opening.last, source)
        for opening in open_ports
        for source in opening.sources or target.cidrs
    )


def cluster_rules(target: Target, there: Seen) -> frozenset[Rule]:
    """Return the rules by which hosts reach one another and /data; none where none needs any."""
    if not target.spec.workers and not there.workers(target.names):
        return plan_efs.rules(target)
    return cluster.RULES | plan_efs.rules(target)


def _group(target: Target, there: Seen) -> Iterator[Step]:
    name, group = target.names.common, there.group(target.vpc_id)
    wanted = wanted_rules(target) | cluster_rules(target, there)
    if group is None:
        yield Step("create_group", f"Create security group {name}", after=f"security group {name}")
    have = group.rules if group else frozenset()
    # What is to go goes first: a port that was opened by hand is closed before anything else.
    for rule in sorted(have - wanted, key=str):
        yield Step(
            "close",
            f"Remove from security group {name}: {rule} (not in lab.yml)",
            {"rule": rule},
            before=f"security group {name}: {rule}",
        )
    for rule in sorted(wanted - have, key=str):
        yield Step(
            "open",
            f"Allow {rule}",
            {"rule": rule},
            after=f"security group {name}: {rule}",
        )


def _bucket(target: Target, there: Seen) -> Iterator[Step]:
    if target.users_bucket:
        return
    name, bucket = target.bucket, there.bucket
    if bucket is None:
        yield Step("create_bucket", f"Create bucket {name}", after=f"bucket {name}")
    if bucket is None or not target.names.owns(bucket.tags):
        yield Step("tag_bucket", f"Tag bucket {name}", after=f"bucket {name}: tagged")
    if bucket is None or not bucket.encrypted:
        yield Step("encrypt_bucket", f"Encrypt bucket {name}", after=f"bucket {name}: AES256")
    if bucket is None or not bucket.blocked:
        yield Step(
            "block_bucket",
            f"Block public access to bucket {name}",
            after=f"bucket {name}: no public access",
        )
    statement = safe.tls_only(name, guard.partition(target.spec.region))
    wanted = safe.with_tls_only(bucket.policy if bucket else None, statement)
    if bucket is None or bucket.policy != wanted:
        yield Step(
            "limit_bucket",
            f"Let nothing into bucket {name} but by TLS",
            {"policy": wanted},
            after=f"bucket {name}: by TLS only",
        )


def _role(target: Target, there: Seen) -> Iterator[Step]:
    name = target.names.role
    if there.role is None:
        yield Step("create_role", f"Create role {name}", after=f"role {name}")
    elif there.role.trust != safe.trust(target.account):
        yield Step(
            "trust_role",
            f"Let only EC2 in this account take role {name}",
            before=f"role {name}: another trust policy",
            after=f"role {name}: only EC2 in this account takes it",
        )
    place = "/".join(filter(None, (target.bucket, target.spec.bucket_prefix)))
    wanted = policy(target.bucket, target.spec.bucket_prefix)
    if session_manager.wanted(target.spec):
        wanted["Statement"].append(session_manager.statement())
    more = cluster.statements(target.spec, target.account)
    wanted["Statement"] += more
    what = f"bucket {place}{' and its workers' if more else ''}"
    if there.role is None or there.role.policy != wanted:
        changed = there.role is not None and there.role.policy is not None
        yield Step(
            "put_policy",
            f"Limit role {name} to {what}",
            {"policy": wanted},
            before=f"role {name}: another policy {POLICY}" if changed else "",
            after=f"role {name}: only {what}",
        )
    if there.profile is None:
        yield Step(
            "create_profile", f"Create instance profile {name}", after=f"instance profile {name}"
        )
    if there.profile is None or name not in there.profile.roles:
        yield Step(
            "fill_profile", f"Put the role in {name}", after=f"instance profile {name}: role"
        )


def host_tags(target: Target, there: Seen) -> dict[str, str]:
    """Return the host's tags; what it was made from and its user do not change with lab.yml."""
    host = there.host(target.names)
    made = host.tags if host else {}
    new_by_agent = host is None and session_manager.wanted(target.spec)
    return target.names.tags(
        **(session_manager.TAG if new_by_agent else {}),
        Bucket=target.bucket,
        LoginUser=made.get("LoginUser") or target.login_user,
        Image=made.get("Image") or target.spec.image,
        **plan_efs.address(target, there),
    )


def made_from(target: Target) -> str:
    """Say from which image a new host is made."""
    image = target.image
    if image is None or not image.baked:
        return target.spec.image
    return f"{target.spec.image} (baked: {image.id} of {image.baked})"


def _host(target: Target, there: Seen) -> Iterator[Step]:
    host, spec = there.host(target.names), target.spec
    name = target.names.common
    if host is None:
        zones = ", ".join(subnet.zone for subnet in target.subnets)
        source = made_from(target)
        yield Step(
            "launch",
            f"Launch {spec.instance_type} from {source} with {spec.root_gb} GB in {zones}",
            {"tags": host_tags(target, there)},
            after=f"instance {name}: {spec.instance_type}, {source}, {spec.root_gb} GB",
        )
    else:
        yield from _mend_host(target, there, host)
    # AWS protects no Spot host.
    on_spot = host.spot if host else spec.spot
    if not on_spot and (host is None or not there.protected):
        yield Step(
            "protect",
            f"Protect {name} from being terminated by mistake",
            before=f"instance {name}: not protected" if host else "",
            after=f"instance {name}: termination protection",
        )
    # A host that switches itself off must be there in the morning; launch asks for it at once.
    if host is not None and there.on_shutdown != "stop":
        yield Step(
            "keep_on_shutdown",
            f"Let {name} stop when it switches itself off",
            before=f"instance {name}: on shutdown {there.on_shutdown}",
            after=f"instance {name}: on shutdown stop",
        )
    changing = host is not None and not host.spot and host.type not in spec.types
    if host is not None and (host.state in ("stopped", "stopping") or changing):
        was = "stopped" if changing else host.state
        yield Step(
            "start",
            f"Start {host.id}, which is {was}",
            before=f"instance {name}: {host.state}",
            after=f"instance {name}: running",
        )


def _mend_host(target: Target, there: Seen, host: Instance) -> Iterator[Step]:
    name = target.names.common
    yield from plan_mend.tags(host, host_tags(target, there))
    stopped = host.state in ("stopping", "stopped")
    wanted = (host.type,) if host.spot else target.spec.types  # a Spot host stays of its type
    if not stopped and host.type not in wanted:
        yield Step(
            "stop_host",
            f"Stop {host.id} to change its type",
            before=f"instance {name}: {host.state}",
        )
    if host.type not in (wanted[:1] if stopped else wanted):
        yield Step(
            "change_type",
            f"Change {host.id} from {host.type} to {target.spec.instance_type}",
            before=f"instance {name}: {host.type}",
            after=f"instance {name}: {target.spec.instance_type}",
        )
    yield from plan_mend.settings(target, there, host, name)


def _data(target: Target, there: Seen) -> Iterator[Step]:
    if efs.wanted(target.spec):
        return
    data, host, name = there.data(), there.host(target.names), target.names.common
    if data is None:
        source = there.data_snapshot()
        size = max(target.spec.data_gb, source.size if source else 0)
        what = f" out of snapshot {source.id}" if source else ""
        yield Step(
            "create_volume",
            f"Create the data volume{what} with {size} GB",
            {"snapshot": source.id if source else "", "size": size},
            after=f"data volume {name}: {size} GB, gp3, encrypted{what}",
        )
    if data is not None and target.spec.data_gb > data.size:
        yield Step(
            "grow_volume",
            f"Grow the data volume {data.id} from {data.size} to {target.spec.data_gb} GB",
            before=f"data volume {name}: {data.size} GB",
            after=f"data volume {name}: {target.spec.data_gb} GB",
        )
    at_host = data and host and data.attached_to == host.id and data.attachment == "attached"
    if not at_host:
        yield Step(
            "attach_volume",
            f"Attach the data volume{f' {data.id}' if data else ''} to the host",
            after=f"data volume {name}: attached to the host",
        )


__all__ = ["Step", "diff", "make_plan", "policy", "wanted_rules"]


def diff(steps: list[Step]) -> dict[str, str]:
    """Return Ansible's diff of a plan."""
    return {
        "before": "".join(f"{step.before.rstrip()}\n" for step in steps if step.before),
        "after": "".join(f"{step.after.rstrip()}\n" for step in steps if step.after),
    }
