"""Takes a lab away: everything that carries its tags but what is kept, and says what that is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import LabError
from . import efs, guard, placement, seen, spot
from .clock import MINUTE, Clock
from .names import Names, read_tags
from .seen import NO_ENTITY
from .session import Aws, AwsError, side_by_side, unless
from .steps import Step
from .things import (
    Bucket,
    FileSystem,
    Group,
    Guard,
    Instance,
    KeyPair,
    PlacementGroup,
    Profile,
    Role,
    Schedule,
    Seen,
    Volume,
)
from .variables import Spec

GONE = {
    "InvalidGroup.NotFound",
    "InvalidInstanceID.NotFound",
    "InvalidKeyPair.NotFound",
    "InvalidPlacementGroup.Unknown",
    "InvalidVolume.NotFound",
    "InvalidAllocationID.NotFound",
    "NoSuchBucket",
    *NO_ENTITY,
    *efs.NOT_THERE,
}
# AWS's words for what something else still holds on to.
HELD = {
    "DeleteConflict",
    "DependencyViolation",
    "FileSystemInUse",
    "IncorrectFileSystemLifeCycleState",
    "IncorrectState",
    "InvalidPlacementGroup.InUse",
    "VolumeInUse",
}
# What a later build may need again, or what other images need: named, never deleted here.
IMAGES = ("image", "snapshot")


@dataclass(frozen=True)
class Wish:
    """What the user has typed."""

    confirm: str
    delete_data: bool
    delete_bucket: str


@dataclass(frozen=True)
class Things:
    """Everything that carries the lab's tags."""

    instances: tuple[Instance, ...]
    volumes: tuple[Volume, ...]
    groups: tuple[Group, ...]
    key_pair: KeyPair | None
    role: Role | None
    profile: Profile | None
    bucket: Bucket | None
    addresses: tuple[str, ...]
    images: tuple[str, ...]
    snapshots: tuple[str, ...]
    guard: Guard = field(default_factory=Guard)
    requests: tuple[str, ...] = ()
    file_system: FileSystem | None = None
    placement: PlacementGroup | None = None


def look(aws: Aws, names: Names, bucket: str) -> Things:
    """Find everything of the lab; what merely has its name is left out. Raises AwsError."""
    found = side_by_side(
        {
            "seen": lambda: seen.look(aws, names, bucket, users_own=False),
            "instances": lambda: seen.instances(aws, names.filters()),
            "volumes": lambda: seen.volumes(aws, names.filters()),
            "addresses": lambda: _ids(aws, names, "DescribeAddresses", "Addresses", "AllocationId"),
            "imaged": lambda: _imaged(aws, names),
            "guard": lambda: _guard(aws, names),
            "file_system": lambda: efs.look(aws, names, needed=False),
            "placement": lambda: placement.look(aws, names),
            "requests": lambda: spot.requests(aws, names),
            "snapshots": lambda: _ids(aws, names, "DescribeSnapshots", "Snapshots", "SnapshotId"),
        }
    )
    there: Seen = found.pop("seen")
    group: PlacementGroup | None = found.pop("placement")
    imaged: Mapping[str, set[str]] = found.pop("imaged")
    # An image's snapshot goes with it, and not before.
    held = {snapshot for snapshots in imaged.values() for snapshot in snapshots}
    found["images"] = tuple(sorted(imaged))
    found["snapshots"] = tuple(s for s in found["snapshots"] if s not in held)

    def own(thing: Any) -> Any:
        return thing if thing and names.owns(thing.tags) else None

    found["file_system"] = own(found["file_system"])
    return Things(
        **found,
        groups=tuple(group for group in there.groups if names.owns(group.tags)),
        key_pair=own(there.key_pair),
        role=own(there.role),
        profile=own(there.profile),
        bucket=own(there.bucket),
        placement=own(group),
    )


def _guard(aws: Aws, names: Names) -> Guard:
    """Look at what stops the host from outside; what is somebody else's is left out."""
    account = str(aws.call("sts", "GetCallerIdentity")["Account"])
    found = guard.look(aws, names, account, workers=True)

    def ours(schedules: Mapping[str, Schedule]) -> dict[str, Schedule]:
        by_us = f":{account}:role/{names.stopper}"
        return {key: one for key, one in schedules.items() if one.role_arn.endswith(by_us)}

    role = found.role if found.role and names.owns(found.role.tags) else None
    budget = found.budget if found.budget and found.budget.tag == f"user:Lab${names.lab}" else None
    return replace(
        found,
        schedules=ours(found.schedules),
        workers=ours(found.workers),
        role=role,
        budget=budget,
    )


def _imaged(aws: Aws, names: Names) -> dict[str, set[str]]:
    """Return the lab's images, each with its snapshots."""
    found = aws.call("ec2", "DescribeImages", Owners=["self"], Filters=names.filters())["Images"]
    return {
        raw["ImageId"]: {
            disk.get("Ebs", {}).get("SnapshotId", "") for disk in raw.get("BlockDeviceMappings", ())
        }
        for raw in found
        if names.owns(read_tags(raw.get("Tags")))
    }


def _ids(aws: Aws, names: Names, operation: str, key: str, field: str) -> tuple[str, ...]:
    # Without owners this would search every public snapshot.
    owner = {"OwnerIds": ["self"]} if key == "Snapshots" else {}
    found = aws.call("ec2", operation, Filters=names.filters(), **owner)[key]
    return tuple(sorted(item[field] for item in found if names.owns(read_tags(item.get("Tags")))))


def check_name(wish: Wish, names: Names) -> None:
    """Refuse what was not confirmed. Raises LabError."""
    if wish.confirm != names.lab:
        raise LabError(
            f'The lab is named "{names.lab}", but the name typed is "{wish.confirm}": nothing is'
            " deleted. Type the name at the prompt, or give -e"
            f" confirm={names.lab} (and -e lab_name=… for another lab)"
        )


def check_bucket(wish: Wish, there: Things, own: str) -> None:
    """Refuse to delete another bucket than the lab's own, which may be gone. Raises LabError."""
    if there.bucket is None and wish.delete_bucket == own:
        return
    bucket = there.bucket.name if there.bucket else ""
    if wish.delete_bucket and wish.delete_bucket != bucket:
        raise LabError(
            f'delete_bucket is "{wish.delete_bucket}", but'
            + (f" this lab's own bucket is {bucket}" if bucket else " this lab has made no bucket")
            + ": nothing is deleted. A bucket of your own is never deleted from here (`aws s3 rb`);"
            " leave delete_bucket out"
        )


def make_plan(wish: Wish, names: Names, there: Things) -> list[Step]:
    """Return the steps, in the order in which AWS lets go of things."""
    steps = [Step("cancel", f"Cancel the Spot request {i}", {"id": i}) for i in there.requests]
    steps += [
        Step("terminate", f"Terminate {_said(i)} with its root volume", {"instance": i})
        for i in there.instances
    ]
    for volume in there.volumes:
        data = volume.tags.get("Role") == "data"
        gone_with_host = volume.tags.get("Role") == "root" and volume.attached_to
        if (data and wish.delete_data) or not (data or gone_with_host):
            what = "data volume" if data else "volume"
            text = f"Delete the {what} {volume.id} ({volume.size} GB)"
            steps.append(Step("delete_volume", text, {"id": volume.id}))
    steps += _file_system_steps(wish, there.file_system)
    steps += [Step("release", f"Release the address {i}", {"id": i}) for i in there.addresses]
    steps += [
        Step("delete_group", f"Delete security group {names.common} ({g.id})", {"id": g.id})
        for g in there.groups
    ]
    if there.placement:
        name = there.placement.name
        steps.append(Step("delete_placement", f"Delete placement group {name}", {"name": name}))
    if there.key_pair:
        steps.append(Step("delete_key", f"Delete key pair {names.common}", {"name": names.common}))
    if there.profile:
        args = {"name": names.role, "roles": there.profile.roles}
        steps.append(Step("delete_profile", f"Delete instance profile {names.role}", args))
    if there.role:
        steps.append(Step("delete_role", f"Delete role {names.role}", {"name": names.role}))
    steps += _guard_steps(names, there.guard)
    if there.bucket and wish.delete_bucket:
        text = f"Delete bucket {there.bucket.name} with all that is in it"
        steps.append(Step("delete_bucket", text, {"name": there.bucket.name}))
    return [replace(step, before=step.text.partition(" ")[2]) for step in steps]


def _file_system_steps(wish: Wish, system: FileSystem | None) -> list[Step]:
    """Let go of the mount targets, which bear the security group, and of the data where wanted."""
    if system is None:
        return []
    steps = [
        Step(
            "delete_mount_target",
            f"Delete the mount target {one.id} ({one.address})",
            {"id": one.id, "system": system.id},
        )
        for one in system.targets
    ]
    if wish.delete_data:
        size = efs.gib(system)
        text = f"Delete the file system {system.id} ({size:.1f} GB) with all that is in it"
        steps.append(Step("delete_file_system", text, {"id": system.id}))
    return steps


def _said(one: Instance) -> str:
    return f"{one.id} ({f'worker {one.worker}, ' if one.worker else ''}{one.type})"


def _guard_steps(names: Names, found: Guard) -> list[Step]:
    steps = [
        Step("delete_schedule", f"Delete schedule {schedule.name}", {"name": schedule.name})
        for schedule in (*found.schedules.values(), *found.workers.values())
    ]
    if found.role:
        steps.append(Step("delete_role", f"Delete role {names.stopper}", {"name": names.stopper}))
    if found.budget:
        steps.append(Step("delete_budget", f"Delete budget {names.role}", {"name": names.role}))
    return steps


def kept(wish: Wish, names: Names, there: Things, spec: Spec) -> list[str]:
    """Say what stays, and how it is deleted."""
    region = spec.region
    again = f"ansible-playbook playbooks/destroy.yml -e lab_name={names.lab} -e confirm={names.lab}"
    lines = [
        f"data volume {v.id} ({v.size} GB): the next site.yml takes it up again; delete it with"
        f" `{again} -e delete_data=true`"
        for v in there.volumes
        if v.tags.get("Role") == "data" and not wish.delete_data
    ]
    if there.file_system and not wish.delete_data:
        lines.append(
            f"file system {there.file_system.id} ({efs.gib(there.file_system):.1f} GB): the next"
            f" site.yml takes it up again; delete it with `{again} -e delete_data=true`"
        )
    if there.bucket and not wish.delete_bucket:
        name = there.bucket.name
        lines.append(
            f"bucket {name}: the next site.yml takes it up again; delete it and all that is in it"
            f" with `{again} -e delete_bucket={name}`"
        )
    if spec.bucket:
        lines.append(f"bucket {spec.bucket}: it is your own")
    if spec.state_dir.exists():
        lines.append(f"{spec.state_dir}: the key and the password, for the next site.yml")
    prune = f"ansible-playbook playbooks/bake.yml -e lab_name={names.lab} -e bake_prune=true"
    lines += [
        f"image {i}: the next site.yml starts from the newest; delete it with its snapshot by"
        f" `{prune} -e bake_keep=0`"
        for i in there.images
    ]
    lines += [
        f"snapshot {s}: delete it with `aws ec2 delete-snapshot --region {region}"
        f" --snapshot-id {s}`"
        for s in there.snapshots
    ]
    lines += [
        f"{service}, if this lab has something there, for it could not be looked at: {why}"
        for service, why in sorted(there.guard.denied.items())
    ]
    return lines


def carry_out(aws: Aws, steps: list[Step], clock: Clock) -> None:
    """Delete, waiting where AWS must let go first. Raises LabError."""
    for step in steps:
        if step.do == "cancel":
            spot.cancel(aws, [step.args["id"]])
    doomed: list[Instance] = [step.args["instance"] for step in steps if step.do == "terminate"]
    terminate(aws, doomed, clock)
    for step in steps:
        if step.do == "delete_mount_target":
            efs.delete_target(aws, step.args["id"])
    for step in steps:
        if step.do == "delete_mount_target":
            efs.gone(aws, step.args["system"], [step.args["id"]], clock)
    for step in steps:
        if step.do not in ("cancel", "terminate", "delete_mount_target"):
            let_go(partial(DELETE[step.do], aws, step.args), clock)


def terminate(aws: Aws, doomed: Sequence[Instance], clock: Clock) -> None:
    """Terminate instances, protected or not, and wait until they are gone. Raises LabError."""
    ids = [instance.id for instance in doomed]
    if not ids:
        return
    # First, or AWS would launch another host for a persistent request.
    spot.cancel(aws, [instance.spot_request for instance in doomed if instance.spot_request])
    # Workers are not protected, nor is a Spot host.
    for instance_id in (one.id for one in doomed if not one.spot and not one.worker):
        # Only now, after the name was typed, is the protection taken off.
        unless(
            GONE,
            lambda i=instance_id: aws.call(  # type: ignore[misc]
                "ec2",
                "ModifyInstanceAttribute",
                InstanceId=i,
                DisableApiTermination={"Value": False},
            ),
        )
    unless(GONE, lambda: aws.call("ec2", "TerminateInstances", InstanceIds=ids))
    clock.until(
        lambda: not seen.not_terminated(aws, ids), 10 * MINUTE, f"{', '.join(ids)} terminated"
    )


def let_go(work: Callable[[], None], clock: Clock) -> None:
    """Delete something; try again for two minutes while something else still holds on to it."""
    end = clock.now() + 2 * MINUTE
    while True:
        try:
            unless(GONE, work)
            return
        except AwsError as error:
            if error.code not in HELD or clock.now() >= end:
                raise
        clock.sleep(3)


def _delete_volume(aws: Aws, args: Mapping[str, Any]) -> None:
    aws.call("ec2", "DeleteVolume", VolumeId=args["id"])


def _release(aws: Aws, args: Mapping[str, Any]) -> None:
    aws.call("ec2", "ReleaseAddress", AllocationId=args["id"])


def _delete_group(aws: Aws, args: Mapping[str, Any]) -> None:
    aws.call("ec2", "DeleteSecurityGroup", GroupId=args["id"])


def _delete_placement(aws: Aws, args: Mapping[str, Any]) -> None:
    placement.delete(aws, args["name"])


def _delete_key(aws: Aws, args: Mapping[str, Any]) -> None:
    aws.call("ec2", "DeleteKeyPair", KeyName=args["name"])


def _delete_profile(aws: Aws, args: Mapping[str, Any]) -> None:
    for role in args["roles"]:
        unless(
            NO_ENTITY,
            lambda r=role: aws.call(  # type: ignore[misc]
                "iam",
                "RemoveRoleFromInstanceProfile",
                InstanceProfileName=args["name"],
                RoleName=r,
            ),
        )
    aws.call("iam", "DeleteInstanceProfile", InstanceProfileName=args["name"])


def _delete_role(aws: Aws, args: Mapping[str, Any]) -> None:
    name = args["name"]
    for policy in aws.pages("iam", "ListRolePolicies", "PolicyNames", RoleName=name):
        aws.call("iam", "DeleteRolePolicy", RoleName=name, PolicyName=policy)
    for policy in aws.pages("iam", "ListAttachedRolePolicies", "AttachedPolicies", RoleName=name):
        aws.call("iam", "DetachRolePolicy", RoleName=name, PolicyArn=policy["PolicyArn"])
    aws.call("iam", "DeleteRole", RoleName=name)


def _delete_bucket(aws: Aws, args: Mapping[str, Any]) -> None:
    """Empty the bucket, old versions and unfinished uploads included, and delete it."""
    name = args["name"]
    for upload in aws.pages("s3", "ListMultipartUploads", "Uploads", Bucket=name):
        where = {"Key": upload["Key"], "UploadId": upload["UploadId"]}
        aws.call("s3", "AbortMultipartUpload", Bucket=name, **where)
    objects = [
        {"Key": item["Key"], "VersionId": item["VersionId"]}
        for kind in ("Versions", "DeleteMarkers")
        for item in aws.pages("s3", "ListObjectVersions", kind, Bucket=name)
    ]
    for start in range(0, len(objects), 1000):
        batch = {"Objects": objects[start : start + 1000], "Quiet": True}
        failed = aws.call("s3", "DeleteObjects", Bucket=name, Delete=batch).get("Errors")
        if failed:
            raise LabError(
                f"S3 would not delete {len(failed)} objects of {name}, first {failed[0]['Key']}"
                f" ({failed[0]['Code']}): see the bucket's policy and run the same command again"
            )
    aws.call("s3", "DeleteBucket", Bucket=name)


def _delete_schedule(aws: Aws, args: Mapping[str, Any]) -> None:
    guard.drop_schedule(aws, args["name"])


def _delete_budget(aws: Aws, args: Mapping[str, Any]) -> None:
    account = str(aws.call("sts", "GetCallerIdentity")["Account"])
    guard.drop_budget(aws, account, args["name"])


DELETE: Mapping[str, Callable[[Aws, Mapping[str, Any]], None]] = {
    "delete_volume": _delete_volume,
    "delete_file_system": efs.delete_file_system,
    "release": _release,
    "delete_group": _delete_group,
    "delete_placement": _delete_placement,
    "delete_key": _delete_key,
    "delete_profile": _delete_profile,
    "delete_role": _delete_role,
    "delete_bucket": _delete_bucket,
    "delete_schedule": _delete_schedule,
    "delete_budget": _delete_budget,
}


def prove(wish: Wish, names: Names, there: Things) -> None:
    """See that nothing is left but what is kept. Raises LabError."""
    left = [step.before for step in make_plan(wish, names, there)]
    if left:
        raise LabError(
            f"Of the lab {names.lab} there is still: {'; '.join(left)}: run the same command again"
        )


def stale_files(state_dir: Path) -> list[Path]:
    """Return the controller's files that lead nowhere now; key and password stay for a rebuild."""
    stale = ("ssh_config", "known_hosts", "client_token.json", "report.json")
    found = [path for name in stale if (path := state_dir / name).exists()]
    more = ("client_token_*.json", "report-worker-*.json")
    return [*found, *(path for name in more for path in sorted(state_dir.glob(name)))]
