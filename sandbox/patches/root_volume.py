"""Gap: block device mappings are read in part, and one without the root device leaves no root.

moto ignores Iops and Throughput, wants a size where AWS takes the image's, leaves an instance
without a root volume if the mapping names only others, and makes an 8 GiB volume too many when
a launch template maps the root. Here the volumes are made after moto's launch, from the
request's mappings, else the template's, over those of the image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from moto.ec2.models import instances
from moto.ec2.responses import instances as responses

from sandbox.patches import patch
from sandbox.settings import Settings

DEFAULT_ROOT_GIB = 8


def apply(_settings: Settings) -> None:
    """Patch RunInstances' handling of block devices."""
    patch(responses.InstanceResponse, "_parse_block_device_mapping", _mappings_as_asked)
    patch(instances.InstanceBackend, "run_instances", _run_instances)


def _mappings_as_asked(original: Callable[..., Any], response: Any) -> list[dict[str, Any]]:
    asked: list[dict[str, Any]] = response._get_param("BlockDeviceMappings", [])
    for mapping in asked:
        if "NoDevice" not in mapping:
            mapping.setdefault("Ebs", {})
    return asked


def _run_instances(
    original: Callable[..., Any], backend: Any, image_id: str, *args: Any, **kwargs: Any
) -> Any:
    template = kwargs.get("launch_template")
    data = backend._get_template_from_args(template).data if template else {}
    asked = kwargs.pop("block_device_mappings", None) or data.get("BlockDeviceMappings") or []
    tags = (kwargs.get("tags") or {}).get("volume", {})
    # An empty list keeps moto from making any volume itself.
    reservation = original(backend, image_id, *args, block_device_mappings=[], **kwargs)
    for instance in reservation.instances:
        image = backend.amis.get(instance.image_id)
        for device, ebs in _devices(image, instance.root_device_name, asked).items():
            _make_volume(backend, instance, device, ebs).add_tags(tags)
    return reservation


def _devices(
    image: Any, root_device: str, asked: Sequence[dict[str, Any]]
) -> dict[str, dict[str, Any]]:
    root_gib = getattr(image, "root_gib", DEFAULT_ROOT_GIB)
    root = {"VolumeSize": root_gib, "VolumeType": "gp3", "DeleteOnTermination": True}
    devices: dict[str, dict[str, Any]] = {root_device: root}
    for mapping in asked:
        device = mapping["DeviceName"]
        if "NoDevice" in mapping:
            if device != root_device:
                devices.pop(device, None)
        elif "Ebs" in mapping:
            devices[device] = devices.get(device, {}) | mapping["Ebs"]
    return devices


def _make_volume(backend: Any, instance: Any, device: str, ebs: dict[str, Any]) -> Any:
    volume = backend.create_volume(
        size=ebs.get("VolumeSize"),
        zone_name=instance.availability_zone,
        snapshot_id=ebs.get("SnapshotId"),
        encrypted=ebs.get("Encrypted", False),
        kms_key_id=ebs.get("KmsKeyId"),
        volume_type=ebs.get("VolumeType"),
        iops=ebs.get("Iops"),
        throughput=ebs.get("Throughput"),
    )
    delete = bool(ebs.get("DeleteOnTermination", False))
    backend.attach_volume(volume.id, instance.id, device, delete)
    return volume
