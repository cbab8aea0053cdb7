"""What the lab never touches or replaces: other people's things, and the key."""

from __future__ import annotations

from . import keys
from .findings import Findings
from .names import Names
from .things import Bucket, Seen
from .variables import Spec


def foreign(there: Seen, names: Names, findings: Findings, workers: int = 0) -> None:
    """Refuse every name that is taken by something which this lab has not made."""
    strangers = there.strangers(names, workers)
    taken = [f"instance {i.id} (Name {i.tags['Name']})" for i in strangers]
    if there.key_pair and not names.owns(there.key_pair.tags):
        taken.append(f"key pair {names.common}")
    taken += [
        f"security group {names.common} ({group.id})"
        for group in there.groups
        if not names.owns(group.tags)
    ]
    if there.placement and not names.owns(there.placement.tags):
        taken.append(f"placement group {names.common}")
    if there.role and not names.owns(there.role.tags):
        taken.append(f"role {names.role}")
    if there.profile and not names.owns(there.profile.tags):
        taken.append(f"instance profile {names.role}")
    findings.problems += [
        f"The {thing} exists, but has not the tags Project=gpulab and Lab={names.lab}, so it is"
        " somebody else's and is not touched: choose another name with -e lab_name=…, or remove"
        " it by hand"
        for thing in taken
    ]
    if len(there.hosts(names)) > 1:
        ids = ", ".join(i.id for i in there.hosts(names))
        findings.problems.append(
            f"The lab {names.lab} has more than one host ({ids}): terminate all but one with"
            f" `aws ec2 terminate-instances --region {names.region} --instance-ids …`"
        )


def bucket(there: Seen, spec: Spec, findings: Findings) -> None:
    """Refuse a bucket that is not the lab's, unless the user names it as their own."""
    names, found = Names(spec.name, spec.region), there.bucket
    if spec.bucket:
        _users_bucket(found, spec, findings)
    elif found and not found.reachable:
        findings.problems.append(
            f"The bucket {found.name} exists, but these credentials may not reach it: it is"
            " somebody else's; name one of your own with -e lab_bucket=…"
        )
    elif found and not names.owns(found.tags) and not begun(spec, found.name):
        findings.problems.append(
            f"The bucket {found.name} exists, but has not the tags Project=gpulab and"
            f" Lab={spec.name}, so it is not touched: to use it as it is, -e"
            f" lab_bucket={found.name}; else choose another name with -e lab_name=…"
        )
    elif found and found.region and found.region != spec.region:
        findings.problems.append(
            f"The lab's bucket {found.name} lies in {found.region}, not in lab_region"
            f" {spec.region} (buckets' names are the same for all regions): choose another name"
            " with -e lab_name=…, or name another bucket with -e lab_bucket=…"
        )


def _users_bucket(bucket: Bucket | None, spec: Spec, findings: Findings) -> None:
    if bucket is None:
        findings.problems.append(
            f"lab_bucket is {spec.bucket}, but there is no such bucket: make it with"
            f" `aws s3 mb s3://{spec.bucket} --region {spec.region}`, or leave lab_bucket empty to"
            " have one made"
        )
    elif not bucket.reachable:
        findings.problems.append(
            f"lab_bucket is {spec.bucket}, but these credentials may not reach it: see"
            f" `aws s3 ls s3://{spec.bucket}`"
        )
    elif bucket.region and bucket.region != spec.region:
        findings.warnings.append(
            f"The bucket {spec.bucket} lies in {bucket.region}, the lab in {spec.region}: AWS bills"
            " about $0.02 per GB that crosses"
        )


def begun(spec: Spec, bucket: str) -> bool:
    """Whether an earlier run of this lab began to make the bucket (S3 takes no tags with it)."""
    note = spec.state_dir / "making_bucket"
    return note.is_file() and note.read_text().strip() == bucket


def key(there: Seen, local: keys.LocalKey, names: Names, findings: Findings) -> None:
    """Refuse to go on without the private key of what is in AWS."""
    pair = there.key_pair
    if pair is None or not names.owns(pair.tags):
        host = there.host(names)
        if host and not local.public_key:
            findings.problems.append(_lost(local, names))
        return
    if not local.public_key:
        findings.problems.append(_lost(local, names))
    elif pair.public_key and pair.public_key != local.public_key:
        findings.problems.append(
            f"{local.path} is not the private key of the key pair {names.common} in AWS."
            + _choices(names)
        )


def _lost(local: keys.LocalKey, names: Names) -> str:
    return (
        f"The private key {local.path} is lost, while the lab's key pair or host is in AWS; a new"
        " key would not open the host, so none is made silently." + _choices(names)
    )


def _choices(names: Names) -> str:
    return (
        " Either put the right file back (a copy, or the machine that built the lab has it), or"
        f" run `ansible-playbook playbooks/destroy.yml -e lab_name={names.lab} -e"
        f" confirm={names.lab}` and then site.yml: that makes a new key and a new host, and keeps"
        " the data volume and the bucket"
    )
