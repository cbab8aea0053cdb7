"""Gaps of machine images.

* moto's own list has neither Debian nor the current Ubuntu and Deep Learning images; the one of
  amis.json takes its place.
* CreateImage with tags for the snapshot fails, and each image claims a root of 15 GiB that
  outlives the instance.

Each image carries, beside moto's fields, what the sandbox needs to launch it: `docker_image`
(None: it cannot be launched here), `login_user` and `root_gib`.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from moto import settings as moto_settings
from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models import amis

from sandbox.catalogue import public_images
from sandbox.patches import patch
from sandbox.settings import Settings


def apply(_settings: Settings) -> None:
    """Patch the list of public images and CreateImage."""
    moto_settings.ENABLE_AMI_VALIDATION = True
    patch(amis.AmiBackend, "_load_amis", _load)
    patch(amis.AmiBackend, "create_image", _create)
    patch(amis.AmiBackend, "copy_image", _copy)
    amis.Ami.block_device_mappings = property(_block_device_mappings)  # type: ignore[method-assign,assignment]
    amis.Ami.docker_image = None  # type: ignore[attr-defined]
    amis.Ami.login_user = ""  # type: ignore[attr-defined]
    amis.Ami.root_gib = 8  # type: ignore[attr-defined]


def _load(_original: Callable[..., Any], backend: Any) -> None:
    for image in public_images():
        ami = amis.Ami(
            backend,
            image.ami_id,
            name=image.name,
            description=image.description,
            owner_id=image.owner_id,
            owner_alias=image.owner_alias,
            public=True,
            virtualization_type="hvm",
            architecture=image.architecture,
            hypervisor="xen",
            image_location=f"{image.owner_alias or image.owner_id}/{image.name}",
            root_device_type="ebs",
            root_device_name=image.root_device_name,
            creation_date=datetime.fromisoformat(image.creation_date).replace(tzinfo=None),
            boot_mode="uefi-preferred",
        )
        _set_launch_data(ami, image.docker_image, image.login_user, image.root_gib)
        backend.amis[image.ami_id] = ami


def _set_launch_data(ami: Any, docker_image: str | None, login_user: str, root_gib: int) -> None:
    ami.docker_image, ami.login_user, ami.root_gib = docker_image, login_user, root_gib
    ami.ebs_snapshot.volume.size = root_gib


def _block_device_mappings(ami: Any) -> list[dict[str, Any]]:
    ebs = {
        "SnapshotId": ami.ebs_snapshot.id,
        "VolumeSize": ami.root_gib,
        "DeleteOnTermination": True,
        "VolumeType": "gp3",
        "Encrypted": ami.ebs_snapshot.encrypted,
    }
    return [{"DeviceName": ami.root_device_name, "Ebs": ebs}]


def _create(
    original: Callable[..., Any],
    backend: Any,
    instance_id: str,
    name: str,
    *description: str,
    tag_specifications: list[dict[str, Any]],
) -> Any:
    own = (ami for ami in backend.amis.values() if ami.owner_id == backend.account_id)
    if any(ami.name == name for ami in own):
        raise EC2ClientError(
            "InvalidAMIName.Duplicate",
            f"AMI name {name} is already in use by an AMI of this account",
        )
    instance = backend.get_instance(instance_id)
    if instance.state not in ("running", "stopped"):
        raise EC2ClientError(
            "IncorrectState", f"Instance '{instance_id}' is not 'running' or 'stopped'."
        )
    of_image = [spec for spec in tag_specifications if spec["ResourceType"] != "snapshot"]
    ami = original(backend, instance_id, name, *description, tag_specifications=of_image)
    for spec in tag_specifications:
        if spec["ResourceType"] == "snapshot":
            ami.ebs_snapshot.add_tags({tag["Key"]: tag["Value"] for tag in spec["Tags"]})
    source = backend.amis.get(instance.image_id)
    root = instance.block_device_mapping.get(instance.root_device_name)
    ami.root_device_name, ami.root_device_type = instance.root_device_name, "ebs"
    if root:
        ami.ebs_snapshot.encrypted = backend.get_volume(root.volume_id).encrypted
    # The reconciler fills in the Docker image once the container is saved.
    user = source.login_user if source else instance.login_user
    _set_launch_data(ami, None, user, root.size if root else ami.root_gib)
    return ami


def _copy(
    original: Callable[..., Any], backend: Any, source_image_id: str, *args: Any, **kwargs: Any
) -> Any:
    ami = original(backend, source_image_id, *args, **kwargs)
    region = args[0] if args else kwargs["source_region"]
    from moto.ec2.models import ec2_backends  # noqa: PLC0415  as in moto: they import each other

    source: Any = ec2_backends[backend.account_id][region].amis[source_image_id]
    ami.root_device_name, ami.root_device_type = source.root_device_name, source.root_device_type
    _set_launch_data(ami, source.docker_image, source.login_user, source.root_gib)
    return ami
