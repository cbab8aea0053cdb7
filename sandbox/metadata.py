"""What an instance's metadata service tells, drawn from moto's backends at each request."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from moto.ec2.models import ec2_backends
from moto.iam.models import iam_backends
from moto.sts.models import sts_backends

from sandbox.locks import MOTO_LOCK
from sandbox.model import Metadata, MetadataOptions
from sandbox.settings import ACCOUNT_ID

CREDENTIALS_LAST = timedelta(hours=6)
RENEW_BEFORE = timedelta(minutes=15)  # clients renew when less than this is left

_lock = threading.Lock()


def find_instance(instance_id: str) -> Any:
    """Find an instance in any region. Raises KeyError."""
    for backend in list(ec2_backends[ACCOUNT_ID].values()):
        for reservation in list(backend.reservations.values()):
            for instance in reservation.instances:
                if instance.id == instance_id:
                    return instance
    raise KeyError(instance_id)


def metadata_of(instance_id: str, keep: Callable[[], None]) -> Metadata:
    """Make the metadata tree of one instance. Raises KeyError if there is none such.

    `keep` is called before new credentials are told, so that they outlive this process.
    """
    with MOTO_LOCK:
        return _metadata(find_instance(instance_id), keep)


def _metadata(instance: Any, keep: Callable[[], None]) -> Metadata:
    options = instance.metadata_options
    tree: dict[str, str | bytes] = {f"meta-data/{k}": v for k, v in _basics(instance).items()}
    tree |= {f"meta-data/{k}": v for k, v in _network(instance).items()}
    tree |= {f"meta-data/{k}": v for k, v in _keys(instance).items()}
    tree |= {f"meta-data/{k}": v for k, v in _role(instance, keep).items()}
    if interruption := getattr(instance, "interruption", None):
        notice = {"action": "stop", "time": _iso(interruption)}
        tree["meta-data/spot/instance-action"] = json.dumps(notice)
    if options.instance_metadata_tags == "enabled":
        tree |= {f"meta-data/tags/instance/{t['Key']}": t["Value"] for t in _tags(instance)}
    tree["dynamic/instance-identity/document"] = _identity_document(instance)
    if (data := user_data_of(instance)) is not None:
        tree["user-data"] = data
    answered = MetadataOptions(
        tokens_required=options.http_tokens == "required",
        enabled=options.http_endpoint != "disabled",
    )
    return Metadata(answered, tree)


def user_data_of(instance: Any) -> bytes | None:
    """Give the user data as it was before it was encoded for the API."""
    if not instance.user_data:
        return None
    return base64.b64decode(str(instance.user_data))


def _tags(instance: Any) -> list[dict[str, str]]:
    tags = instance.ec2_backend.tags.get(instance.id, {})
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def _basics(instance: Any) -> dict[str, str]:
    zone, region = instance.availability_zone, instance.region_name
    basics = {
        "ami-id": instance.image_id,
        "ami-launch-index": str(instance.ami_launch_index),
        "ami-manifest-path": "(unknown)",
        "hostname": instance.private_dns_name,
        "instance-action": "none",
        "instance-id": instance.id,
        "instance-life-cycle": instance.lifecycle or "on-demand",
        "instance-type": instance.instance_type,
        "local-hostname": instance.private_dns_name,
        "local-ipv4": instance.private_ip,
        "placement/availability-zone": zone,
        "placement/region": region,
        "profile": "default-hvm",
        "reservation-id": _reservation_id(instance),
        "security-groups": "\n".join(group.name for group in instance.security_groups),
        "services/domain": "amazonaws.com",
        "services/partition": "aws",
        "block-device-mapping/ami": instance.root_device_name.removeprefix("/dev/"),
        "block-device-mapping/root": instance.root_device_name,
    }
    if instance.public_ip:
        basics |= {"public-ipv4": instance.public_ip, "public-hostname": instance.public_dns_name}
    return basics


def _reservation_id(instance: Any) -> str:
    for reservation in list(instance.ec2_backend.reservations.values()):
        if instance in reservation.instances:
            return str(reservation.id)
    return ""


def _network(instance: Any) -> dict[str, str]:
    interface = instance.nics[0]
    mac, subnet = interface.mac_address, interface.subnet
    base = f"network/interfaces/macs/{mac}"
    vpc_block = instance.ec2_backend.vpcs[subnet.vpc_id].cidr_block
    tree = {
        "mac": mac,
        f"{base}/device-number": "0",
        f"{base}/interface-id": interface.id,
        f"{base}/local-hostname": instance.private_dns_name,
        f"{base}/local-ipv4s": instance.private_ip,
        f"{base}/mac": mac,
        f"{base}/owner-id": ACCOUNT_ID,
        f"{base}/security-group-ids": "\n".join(g.id for g in instance.security_groups),
        f"{base}/security-groups": "\n".join(g.name for g in instance.security_groups),
        f"{base}/subnet-id": subnet.id,
        f"{base}/subnet-ipv4-cidr-block": subnet.cidr_block,
        f"{base}/vpc-id": subnet.vpc_id,
        f"{base}/vpc-ipv4-cidr-block": vpc_block,
    }
    if instance.public_ip:
        tree |= {
            f"{base}/public-ipv4s": instance.public_ip,
            f"{base}/public-hostname": instance.public_dns_name,
        }
    return tree


def _keys(instance: Any) -> dict[str, str]:
    key = public_key_of(instance)
    if key is None:
        return {}
    return {"public-keys": f"0={instance.key_name}", "public-keys/0/openssh-key": key}


def public_key_of(instance: Any) -> str | None:
    """Give the public key that the instance was launched with, in OpenSSH's form.

    It is kept on the instance: deleting the key pair afterwards does not change the machine.
    """
    if not hasattr(instance, "public_key"):
        pair = instance.ec2_backend.key_pairs.get(instance.key_name)
        instance.public_key = None
        if pair:
            text = pair.material_public
            instance.public_key = (text.decode() if isinstance(text, bytes) else text).strip()
    key: str | None = instance.public_key
    return key


def _role(instance: Any, keep: Callable[[], None]) -> dict[str, str]:
    association = instance.ec2_backend.iam_instance_profile_associations.get(instance.id)
    if association is None:
        return {}
    profile = association.iam_instance_profile
    info = {
        "Code": "Success",
        "LastUpdated": _iso(instance.launch_time),
        "InstanceProfileArn": profile.arn,
        "InstanceProfileId": profile.id,
    }
    tree = {"iam/info": json.dumps(info, indent=2)}
    for role in profile.roles[:1]:
        credentials = json.dumps(_credentials(instance.id, role.arn, keep), indent=2)
        tree[f"iam/security-credentials/{role.name}"] = credentials
    return tree


def _credentials(instance_id: str, role_arn: str, keep: Callable[[], None]) -> dict[str, str]:
    """Give the role's current credentials, new ones when they are about to expire."""
    with _lock:
        sts = sts_backends[ACCOUNT_ID]["aws"]
        now = datetime.now(UTC)
        ours = [
            role
            for role in sts.assumed_roles
            if role.session_name == instance_id
            and role.role_arn == role_arn
            and role.expiration.replace(tzinfo=UTC) > now + RENEW_BEFORE
        ]
        role = ours[-1] if ours else _assume(instance_id, role_arn)
        if not ours:
            keep()
    return {
        "Code": "Success",
        "LastUpdated": _iso(role.expiration - CREDENTIALS_LAST),
        "Type": "AWS-HMAC",
        "AccessKeyId": role.access_key_id,
        "SecretAccessKey": role.secret_access_key,
        "Token": role.session_token,
        "Expiration": _iso(role.expiration),
    }


def _assume(instance_id: str, role_arn: str) -> Any:
    iam_backends[ACCOUNT_ID]["aws"].get_role_by_arn(role_arn)  # raises if it is gone
    return sts_backends[ACCOUNT_ID]["aws"].assume_role(
        region_name="us-east-1",
        role_session_name=instance_id,
        role_arn=role_arn,
        policy="",
        duration=int(CREDENTIALS_LAST.total_seconds()),
        external_id="",
    )


def _iso(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _identity_document(instance: Any) -> str:
    return json.dumps(
        {
            "accountId": ACCOUNT_ID,
            "architecture": instance.architecture,
            "availabilityZone": instance.availability_zone,
            "imageId": instance.image_id,
            "instanceId": instance.id,
            "instanceType": instance.instance_type,
            "pendingTime": _iso(instance.launch_time),
            "privateIp": instance.private_ip,
            "region": instance.region_name,
            "version": "2017-09-30",
        },
        indent=2,
    )
