"""The machine image and the instance type, and whether they fit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from . import bake
from .findings import Findings
from .names import Names, read_tags
from .session import Aws, unless
from .things import Instance
from .variables import Spec

# Owners whose images have a known login user: Debian, Canonical.
OWNERS = {"136693071363": "admin", "099720109477": "ubuntu"}
NO_IMAGE = {"InvalidAMIID.NotFound", "InvalidAMIID.Unavailable", "InvalidAMIID.Malformed"}


@dataclass(frozen=True)
class Image:
    """A machine image; `size` is that of its root volume in GiB."""

    id: str
    name: str
    root_device: str
    size: int
    architecture: str
    user: str
    baked: str = ""  # the day, where it is one of bake.yml


def look(aws: Aws, spec: Spec, images: Mapping[str, Any]) -> Image | str:
    """Find the image of a new host: the newest baked one that will do, else the one that is named.

    A text says why there is none.
    """
    plain = _plain(aws, spec, images)
    if isinstance(plain, str) or not spec.use_bake:
        return plain
    baked = bake.fitting(
        bake.look(aws, Names(spec.name, spec.region)), spec.image, plain.architecture, spec.root_gb
    )
    if baked is None:
        return plain
    return Image(
        id=baked.id,
        name=baked.name,
        root_device=baked.root_device,
        size=baked.size,
        architecture=baked.architecture,
        user=baked.user or plain.user,
        baked=baked.day,
    )


def _plain(aws: Aws, spec: Spec, images: Mapping[str, Any]) -> Image | str:
    """Resolve the image by name through SSM, or describe an id; a text says why not."""
    named = images.get(spec.image)
    image_id, user = spec.image, spec.image_user
    if named is not None:
        kind = instance_type(aws, spec.instance_type)
        arm = kind is not None and kind["ProcessorInfo"]["SupportedArchitectures"] == ["arm64"]
        parameter = str(named["arm64" if arm else "x86_64"])
        answer = unless(
            {"ParameterNotFound"}, lambda: aws.call("ssm", "GetParameter", Name=parameter)
        )
        if answer is None:
            return (
                f"{spec.region} has no image {spec.image} (the SSM parameter {parameter} is not"
                " there): choose another lab_image, or give an id such as ami-0123456789abcdef0"
            )
        image_id, user = str(answer["Parameter"]["Value"]), user or str(named["user"])
    found = unless(NO_IMAGE, lambda: aws.call("ec2", "DescribeImages", ImageIds=[image_id]))
    if not found or not found.get("Images"):
        return (
            f"There is no image {image_id} in {spec.region} for these credentials: see `aws ec2"
            f" describe-images --image-ids {image_id} --region {spec.region}`, or choose"
            f" lab_image from {', '.join(sorted(images))}"
        )
    return _read_image(found["Images"][0], user, spec)


def _read_image(raw: Mapping[str, Any], user: str, spec: Spec) -> Image | str:
    if raw.get("State") != "available":
        return f"The image {raw['ImageId']} is {raw.get('State')}: choose another lab_image"
    known = read_tags(raw.get("Tags")).get("LoginUser") or OWNERS.get(raw.get("OwnerId", ""), "")
    user = user or known
    if not user:
        return (
            f"Nothing says which user logs in to {raw['ImageId']} ({raw.get('Name', '')}): give it"
            " with -e lab_image_user=ubuntu (or admin, …)"
        )
    root = raw.get("RootDeviceName", "/dev/xvda")
    disks = {d["DeviceName"]: d.get("Ebs", {}) for d in raw.get("BlockDeviceMappings", ())}
    return Image(
        id=raw["ImageId"],
        name=raw.get("Name", ""),
        root_device=root,
        size=int(disks.get(root, {}).get("VolumeSize", 0) or 0),
        architecture=raw.get("Architecture", ""),
        user=user,
    )


def instance_type(aws: Aws, instance_type: str) -> Mapping[str, Any] | None:
    """Return what AWS says of a type; None where it does not know it."""
    found = unless(
        {"InvalidInstanceType"},
        lambda: aws.call("ec2", "DescribeInstanceTypes", InstanceTypes=[instance_type]),
    )
    return found["InstanceTypes"][0] if found and found["InstanceTypes"] else None


def fit(kind: Mapping[str, Any] | None, image: Image | str, spec: Spec, findings: Findings) -> None:
    """Refuse an image that is not there or does not fit the disk or the type."""
    if isinstance(image, str):
        findings.problems.append(image)
        return
    if image.size > spec.root_gb:
        findings.problems.append(
            f"lab_root_gb is {spec.root_gb}, but the image {image.name} needs {image.size} GB: run"
            f" again with -e lab_root_gb={image.size}"
        )
    architectures = kind["ProcessorInfo"]["SupportedArchitectures"] if kind else []
    if architectures and image.architecture not in architectures:
        findings.problems.append(
            f"The image {image.id} ({image.name}) is for {image.architecture}, but"
            f" {spec.instance_type} is {', '.join(architectures)}: choose another lab_image or"
            " lab_instance_type"
        )


def others(
    kinds: Mapping[str, Mapping[str, Any] | None], architecture: str, spec: Spec, findings: Findings
) -> None:
    """Refuse types of `lab_instance_types` that do not exist or cannot run the image."""
    for name, kind in kinds.items():
        if kind is None:
            findings.problems.append(
                f"{spec.region} does not know the instance type {name} of lab_instance_types:"
                " take it out, or correct it"
            )
        elif architecture and architecture not in kind["ProcessorInfo"]["SupportedArchitectures"]:
            findings.problems.append(
                f"{name} of lab_instance_types is not for {architecture}, as the image is: take it"
                " out of lab_instance_types"
            )


def drift(host: Instance, kind: Mapping[str, Any] | None, spec: Spec, findings: Findings) -> None:
    """Say what an existing host keeps although lab.yml says otherwise, and what ends for a change.

    A host that runs as another of the types that will do is left alone.
    """
    known = kind["ProcessorInfo"]["SupportedArchitectures"] if kind else []
    if host.type != spec.instance_type and kind is None:
        findings.problems.append(
            f"{spec.region} does not offer the instance type {spec.instance_type}: choose another"
            " with -e lab_instance_type=…"
        )
    elif host.type != spec.instance_type and host.architecture and host.architecture not in known:
        findings.problems.append(
            f"The host {host.id} is for {host.architecture}, but {spec.instance_type} is"
            f" {', '.join(known)}: choose another lab_instance_type, or make a new host by"
            " playbooks/destroy.yml (it keeps the data volume) and site.yml"
        )
    elif host.spot:
        pass  # spot.drift says what it keeps
    elif host.type not in spec.types and host.state in ("pending", "running"):
        findings.warnings.append(
            f"The host is stopped to change it from {host.type} to {spec.instance_type}: what runs"
            " on it ends (the hooks in its /etc/lab/before-stop.d run first)"
        )
    elif host.type != spec.instance_type and host.state in ("pending", "running"):
        findings.warnings.append(
            f"The host runs as {host.type} of lab_instance_types; its next start tries"
            f" {spec.instance_type} again"
        )
    made_from = host.tags.get("Image", spec.image)
    if made_from != spec.image:
        findings.warnings.append(
            f"lab_image is {spec.image}, the host was made from {made_from} and stays so:"
            " playbooks/rebuild.yml makes a new one in its place"
        )
