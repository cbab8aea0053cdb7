"""Launches the host once, or starts it, and waits until it runs."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import LabError
from . import session_manager, spot
from .clock import MINUTE
from .image import Image
from .lock import write_private
from .names import write_tags
from .plan_mend import HOP_LIMIT
from .seen import NOT_YET, fresh
from .session import AwsError
from .steps import Step
from .things import Instance
from .work import Work

# AWS answers with these where another zone may still have room.
NO_CAPACITY = {"InsufficientInstanceCapacity", "InsufficientHostCapacity", "Unsupported"}
NO_QUOTA = {"VcpuLimitExceeded"}
# A start tries the types that will do for so long.
TRY_SECONDS = 60
ELSEWHERE = (
    "run the same command again later, name other types that will do with -e"
    " lab_instance_types=g5.xlarge,g6.xlarge, or take another type with -e lab_instance_type=…"
)


def launch(work: Work, step: Step) -> None:
    """Launch in the first zone that has room for the first of the types that will do."""
    full = []
    for kind in work.target.spec.types:
        for subnet in work.target.subnets:
            try:
                request = request_for(work, step.args["tags"], kind, subnet.id, work.target.image)
                instance_id = run_instance(work, request)
            except AwsError as error:
                if error.code not in try_next(work, kind):
                    raise
                full.append(f"{kind} in {subnet.zone} ({error.code})")
                continue
            _wait_running(work, instance_id)
            token_file(work.target.spec.state_dir).unlink(missing_ok=True)
            return
    data = work.there.data()
    bound = f"; the data volume {data.id} binds the lab to {data.zone}" if data else ""
    raise LabError(f"AWS has free now no {', no '.join(full)}{bound}: {ELSEWHERE}")


def try_next(work: Work, kind: str) -> set[str]:
    """Tell after which errors another place is tried; only the wanted type's quota is an error."""
    return NO_CAPACITY if kind == work.target.spec.instance_type else {*NO_CAPACITY, *NO_QUOTA}


def request_for(
    work: Work, tags: Mapping[str, str], kind: str, subnet_id: str, image: Image | None
) -> dict[str, Any]:
    """Return what RunInstances is asked for one instance. Raises LabError."""
    target = work.target
    if image is None:
        raise LabError(f"The image {target.spec.image} is not there: run the same command again")
    root_tags = work.tags_for("volume", Role="root")
    return {
        "ImageId": image.id,
        "InstanceType": kind,
        "MinCount": 1,
        "MaxCount": 1,
        "KeyName": target.names.common,
        "SecurityGroupIds": [work.group_id],
        "SubnetId": subnet_id,
        "IamInstanceProfile": {"Name": target.names.role},
        "InstanceInitiatedShutdownBehavior": "stop",
        **session_manager.launch_options(target.spec),
        "MetadataOptions": {
            "HttpTokens": "required",
            "HttpPutResponseHopLimit": HOP_LIMIT,
            "HttpEndpoint": "enabled",
            "InstanceMetadataTags": "enabled",
        },
        "BlockDeviceMappings": [
            {
                "DeviceName": image.root_device,
                "Ebs": {
                    "VolumeSize": target.spec.root_gb,
                    "VolumeType": "gp3",
                    "Encrypted": True,
                    "DeleteOnTermination": True,
                },
            }
        ],
        "TagSpecifications": [
            {"ResourceType": "instance", "Tags": write_tags(tags)},
            *root_tags,
            *(work.tags_for("spot-instances-request") if target.spec.spot else ()),
        ],
        **spot.asked_for(target.spec),
    }


def run_instance(work: Work, request: Mapping[str, Any], number: int = 0) -> str:
    """Ask for one instance, with one token for every try, so that AWS never makes two.

    `number` is that of a worker, whose token is its own.
    """
    folder = work.target.spec.state_dir
    token = client_token(folder, request, number)
    end = work.clock.now() + 2 * MINUTE
    while True:
        try:
            made = work.ec2("RunInstances", ClientToken=token, **request)
            return str(made["Instances"][0]["InstanceId"])
        except AwsError as error:
            # IAM needs some seconds until EC2 knows a new instance profile.
            spreading = "iamInstanceProfile" in str(error) or "Instance Profile" in str(error)
            if error.code == "IdempotentInstanceTerminated":
                # Of a run that was killed, whose instance somebody has terminated since.
                token_file(folder, number).unlink(missing_ok=True)
                token = client_token(folder, request, number)
                continue
            if not (spreading or error.code in NOT_YET) or work.clock.now() >= end:
                raise
        work.clock.sleep(3)


def token_file(state_dir: Path, number: int = 0) -> Path:
    """Where the token of a launch on its way is kept, of the host or of a worker."""
    return state_dir / (f"client_token_{number}.json" if number else "client_token.json")


def client_token(state_dir: Path, request: Mapping[str, Any], number: int = 0) -> str:
    """Return the token of this very request: a rerun gets the one that was sent before.

    Another request needs another token, or AWS answers IdempotentParameterMismatch.
    """
    digest = hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()
    path = token_file(state_dir, number)
    try:
        kept = json.loads(path.read_text())
    except (OSError, ValueError):
        kept = {}
    if kept.get("request") == digest:
        return str(kept["token"])
    token = uuid.uuid4().hex
    write_private(path, json.dumps({"request": digest, "token": token}))
    return token


def _wait_running(work: Work, instance_id: str) -> None:
    """Wait until the host runs and has its public address."""

    def running() -> bool:
        work.host = fresh(work.aws, instance_id)
        if work.host is None:
            return False
        if work.host.state in ("stopping", "stopped", "shutting-down", "terminated"):
            raise LabError(_fell(work, work.host))
        return work.host.state == "running" and bool(work.host.public_ip)

    work.clock.until(running, 5 * MINUTE, f"Instance {instance_id} running with a public address")


def _fell(work: Work, host: Instance) -> str:
    raw = work.ec2("DescribeInstances", InstanceIds=[host.id])["Reservations"][0]["Instances"][0]
    reason = raw.get("StateReason", {}).get("Message", "no reason given")
    return f"The host {host.id} became {host.state} instead of running ({reason}): run it again"


def start(work: Work, _step: Step) -> None:
    """Start the host, as another of the types that will do where there is no room for the first.

    A stopped host can change its type, not its zone. Raises LabError after a minute.
    """
    host_id = work.host_id()
    wait_for_state(work, host_id, "stopped", unless_stopping=True)
    full: list[str] = []
    end = work.clock.now() + TRY_SECONDS
    host = work.host
    # A Spot host stays of its type.
    types = (host.type,) if host and host.spot else work.target.spec.types
    for kind in types:
        if full and work.clock.now() >= end:
            break
        if full:
            _become(work, host_id, kind)
            work.said.append(f"Change {host_id} to {kind}: there is no {full[-1]}")
        try:
            work.ec2("StartInstances", InstanceIds=[host_id])
        except AwsError as error:
            if host and error.code in spot.NOT_NOW:
                raise LabError(spot.waits(host, work.target.names)) from error
            if error.code not in try_next(work, kind):
                raise
            full.append(f"{kind} ({error.code})")
            continue
        _wait_running(work, host_id)
        return
    # As it was: the next run begins with the wanted type.
    if len(full) > 1:
        _become(work, host_id, work.target.spec.instance_type)
    zone = work.host.zone if work.host else work.target.spec.region
    raise LabError(
        f"AWS has free now in {zone} no {', no '.join(full)}: {ELSEWHERE}. Another zone would do as"
        " well, but the data volume cannot leave this one: playbooks/retire.yml copies it into a"
        " snapshot and deletes the host, and site.yml then builds the lab where there is room"
    )


def _become(work: Work, host_id: str, kind: str) -> None:
    work.ec2("ModifyInstanceAttribute", InstanceId=host_id, InstanceType={"Value": kind})


def wait_for_state(work: Work, instance_id: str, state: str, unless_stopping: bool = False) -> None:
    """Wait until an instance has a state (or at least has left `stopping`)."""

    def there() -> bool:
        work.host = fresh(work.aws, instance_id)
        now = work.host.state if work.host else "terminated"
        return now == state or (unless_stopping and now != "stopping")

    work.clock.until(there, 10 * MINUTE, f"Instance {instance_id} {state}")
