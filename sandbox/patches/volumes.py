"""Gaps of EBS volumes.

* `MultiAttachEnabled` and `SnapshotId` are missing from the reply, which ec2_vol stumbles on.
* gp3's throughput of 125 MiB/s is missing.
* DeleteOnTermination of an attachment is not told by DescribeVolumes.
* A volume that is attached already, or lies in another zone, is attached all the same.
* DetachVolume without InstanceId, which AWS allows, is an internal error; detaching the root
  volume of an instance, which cannot work, succeeds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models import elastic_block_store as ebs
from moto.ec2.responses import elastic_block_store as responses

from sandbox.patches import patch
from sandbox.settings import Settings

GP3_MIB_PER_SECOND = 125


def apply(_settings: Settings) -> None:
    """Patch volumes and their attachments."""
    patch(ebs.Volume, "__init__", _initialise)
    patch(ebs.EBSBackend, "attach_volume", _attach)
    patch(responses.ElasticBlockStore, "detach_volume", _detach)
    ebs.VolumeAttachment.delete_on_termination = property(_delete_on_termination)  # type: ignore[attr-defined]


def _initialise(original: Callable[..., Any], volume: Any, *args: Any, **kwargs: Any) -> None:
    original(volume, *args, **kwargs)
    volume.multi_attach_enabled = bool(volume.multi_attach_enabled)
    volume.snapshot_id = volume.snapshot_id or ""
    if volume.volume_type == "gp3":
        volume.throughput = volume.throughput or GP3_MIB_PER_SECOND


def _delete_on_termination(attachment: Any) -> bool:
    device = attachment.instance.block_device_mapping.get(attachment.device)
    return bool(device and device.delete_on_termination)


def _attach(
    original: Callable[..., Any],
    backend: Any,
    volume_id: str,
    instance_id: str,
    device_path: str,
    *delete_on_termination: bool,
) -> Any:
    volume, instance = backend.get_volume(volume_id), backend.get_instance(instance_id)
    if volume.attachment:
        raise EC2ClientError(
            "VolumeInUse",
            f"{volume_id} is already attached to an instance",
        )
    if volume.availability_zone != instance.availability_zone:
        raise EC2ClientError(
            "InvalidVolume.ZoneMismatch",
            f"The volume '{volume_id}' is not in the same availability zone as instance"
            f" '{instance_id}'",
        )
    if device_path in instance.block_device_mapping:
        raise EC2ClientError(
            "InvalidParameterValue",
            f"Invalid value '{device_path}' for unixDevice. Attachment point {device_path} is"
            " already in use",
        )
    if instance.state not in ("running", "stopped"):
        raise EC2ClientError(
            "IncorrectState", f"Instance '{instance_id}' is not 'running' or 'stopped'."
        )
    return original(backend, volume_id, instance_id, device_path, *delete_on_termination)


def _detach(original: Callable[..., Any], response: Any) -> Any:
    volume = response.ec2_backend.get_volume(response._get_param("VolumeId"))
    if volume.attachment is None:
        raise EC2ClientError("IncorrectState", f"Volume '{volume.id}' is in the 'available' state.")
    instance = volume.attachment.instance
    if volume.attachment.device == instance.root_device_name:
        raise EC2ClientError(
            "OperationNotPermitted",
            f"Unable to detach root volume '{volume.id}' from instance '{instance.id}'",
        )
    response.params.setdefault("InstanceId", instance.id)
    return original(response)
