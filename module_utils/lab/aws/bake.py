"""Images of a lab's configured host: made, listed with their cost, taken for new hosts, pruned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ..errors import LabError
from . import power
from .clock import MINUTE, Clock
from .names import DATA_DEVICE, Names, read_tags, write_tags
from .session import Aws, unless
from .steps import Step
from .things import Instance

ROLE = "bake"
# An image of 60 GB takes AWS some ten minutes; of a terabyte an hour.
IMAGE_MINUTES = 55
GONE = {"InvalidAMIID.NotFound", "InvalidAMIID.Unavailable", "InvalidSnapshot.NotFound"}


@dataclass(frozen=True)
class Bake:
    """One image of a host: `of` names the image that the host was made from; sizes in GiB."""

    id: str
    name: str
    of: str
    user: str
    state: str
    created: str
    architecture: str
    root_device: str
    size: int
    snapshots: tuple[str, ...]

    @property
    def day(self) -> str:
        """The day it was made, as AWS tells it."""
        return self.created[:10]


def look(aws: Aws, names: Names) -> tuple[Bake, ...]:
    """Return the lab's images, the newest first. Raises AwsError."""
    filters = [*names.filters(), {"Name": "tag:Role", "Values": [ROLE]}]
    found = aws.call("ec2", "DescribeImages", Owners=["self"], Filters=filters)["Images"]
    return newest_first(read(raw) for raw in found)


def by_lab(aws: Aws, filters: Sequence[Mapping[str, Any]]) -> dict[str, tuple[Bake, ...]]:
    """Return the images of each lab, the newest first. Raises AwsError."""
    filters = [*filters, {"Name": "tag:Role", "Values": [ROLE]}]
    found = aws.call("ec2", "DescribeImages", Owners=["self"], Filters=filters)["Images"]
    labs = sorted({read_tags(raw.get("Tags")).get("Lab", "?") for raw in found})
    return {
        lab: newest_first(read(r) for r in found if read_tags(r.get("Tags")).get("Lab") == lab)
        for lab in labs
    }


def newest_first(bakes: Any) -> tuple[Bake, ...]:
    """Sort by the time they were made."""
    return tuple(sorted(bakes, key=lambda bake: (bake.created, bake.name), reverse=True))


def read(raw: Mapping[str, Any]) -> Bake:
    """Take what matters from DescribeImages' answer."""
    tags = read_tags(raw.get("Tags"))
    disks = [disk for disk in raw.get("BlockDeviceMappings", ()) if "Ebs" in disk]
    sizes = {disk["DeviceName"]: int(disk["Ebs"].get("VolumeSize", 0) or 0) for disk in disks}
    root = raw.get("RootDeviceName", "")
    return Bake(
        id=raw["ImageId"],
        name=raw.get("Name", ""),
        of=tags.get("Image", ""),
        user=tags.get("LoginUser", ""),
        state=raw.get("State", ""),
        created=str(raw.get("CreationDate", "")),
        architecture=raw.get("Architecture", ""),
        root_device=root,
        size=sizes.get(root, 0),
        snapshots=tuple(d["Ebs"]["SnapshotId"] for d in disks if d["Ebs"].get("SnapshotId")),
    )


def fitting(bakes: Sequence[Bake], of: str, architecture: str, root_gb: int) -> Bake | None:
    """Return the newest image of a host made from `of` that a new host can be made from."""
    return next(
        (
            bake
            for bake in bakes
            if bake.state == "available"
            and (bake.of, bake.architecture) == (of, architecture)
            and 0 < bake.size <= root_gb
        ),
        None,
    )


def make_plan(names: Names, host: Instance | None, now: datetime) -> list[Step]:
    """Return the steps to an image of the host. Raises LabError where there is none."""
    if host is None:
        raise LabError(
            f"There is no host of the lab {names.lab} in {names.region} to make an image of: build"
            f" one with `ansible-playbook site.yml -e lab_name={names.lab}`"
        )
    name = f"{names.common}-{now.astimezone(UTC):%Y%m%dT%H%M%SZ}"
    text = f"Stop {host.id}, which is {host.state}"
    stop = [Step("stop", text, {"instance": host}, before=f"{host.id}: {host.state}")]
    text = f"Make the image {name} of {host.id}, and wait until AWS has it"
    image = Step("image", text, {"instance": host, "name": name}, after=f"image {name}")
    return [*(stop if host.state != "stopped" else ()), image]


def carry_out(aws: Aws, names: Names, steps: Sequence[Step], clock: Clock) -> str:
    """Stop the host and make the image; return its id. Raises LabError."""
    image_id = ""
    for step in steps:
        if step.do == "stop":
            power.stop(aws, step.args["instance"], clock)
        elif step.do == "image":
            image_id = _image(aws, names, step, clock)
    return image_id


def _image(aws: Aws, names: Names, step: Step, clock: Clock) -> str:
    host: Instance = step.args["instance"]
    tags = names.tags(
        Role=ROLE,
        Image=host.tags.get("Image", host.image_id),
        LoginUser=host.tags.get("LoginUser", ""),
    )
    pairs = write_tags({**tags, "Name": step.args["name"]})
    made = aws.call(
        "ec2",
        "CreateImage",
        InstanceId=host.id,
        Name=step.args["name"],
        Description=f"GPU lab {names.lab}: its configured host, without secrets",
        NoReboot=True,  # it is stopped
        # The data volume is the user's, and no part of it.
        BlockDeviceMappings=[{"DeviceName": DATA_DEVICE, "NoDevice": ""}],
        TagSpecifications=[{"ResourceType": kind, "Tags": pairs} for kind in ("image", "snapshot")],
    )
    image_id = str(made["ImageId"])

    def done() -> bool:
        answer = unless(GONE, lambda: aws.call("ec2", "DescribeImages", ImageIds=[image_id]))
        states = [raw["State"] for raw in (answer or {}).get("Images", ())]
        if states and states[0] in ("failed", "error", "invalid", "deregistered"):
            raise LabError(
                f"AWS could not make the image {image_id}: start the host again with"
                f" `ansible-playbook playbooks/start.yml -e lab_name={names.lab}`, and run the same"
                " command once more"
            )
        return states == ["available"]

    clock.until(done, IMAGE_MINUTES * MINUTE, f"The image {image_id} available")
    return image_id


def prune_plan(bakes: Sequence[Bake], keep: int) -> list[Step]:
    """Return the steps that delete all but the newest `keep` images that can be used."""
    usable = [bake.id for bake in bakes if bake.state == "available"][:keep]
    pending = [bake.id for bake in bakes if bake.state == "pending"]
    return [
        Step(
            "delete",
            f"Delete the image {bake.id} of {bake.day} with its snapshot",
            {"bake": bake},
            before=f"image {bake.name} ({bake.id})",
        )
        for bake in bakes
        if bake.id not in (*usable, *pending)
    ]


def prune(aws: Aws, steps: Sequence[Step]) -> None:
    """Delete images, and only then the snapshots that they need. Raises AwsError."""
    for step in steps:
        bake: Bake = step.args["bake"]
        _deregister(aws, bake.id)
        for snapshot in bake.snapshots:
            _delete_snapshot(aws, snapshot)


def _deregister(aws: Aws, image: str) -> None:
    unless(GONE, lambda: aws.call("ec2", "DeregisterImage", ImageId=image))


def _delete_snapshot(aws: Aws, snapshot: str) -> None:
    unless(GONE, lambda: aws.call("ec2", "DeleteSnapshot", SnapshotId=snapshot))


def said(bakes: Sequence[Bake], gb_month: float, lab: str) -> list[str]:
    """List the images with what each costs, and how the old ones are deleted."""
    if not bakes:
        return ["There is no image of this lab."]
    lines = [
        f"image {bake.id} of {bake.day}, of a host made from {bake.of or '?'}: {bake.state},"
        f" {bake.size} GB, at most ${bake.size * gb_month:.2f} a month"
        for bake in bakes
    ]
    old = sum(bake.size for bake in bakes[1:]) * gb_month
    if len(bakes) > 1:
        lines.append(
            f"All but the newest cost at most ${old:.2f} a month: delete them with"
            f" `ansible-playbook playbooks/bake.yml -e lab_name={lab} -e bake_prune=true`"
        )
    return lines
