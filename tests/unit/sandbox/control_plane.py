"""What the control plane tells the engine, told as JSON: run as a program, twice on one folder.

`python -m tests.unit.sandbox.control_plane first|again FOLDER`: moto's state is the process's.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

from tests.unit.sandbox.served import Served, sandbox

PUBLIC_KEY = (
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ5m2k4pNd9VtKq5bq0o0cM2J9vFqJ8jT0gq3l8hXq1B tester"
)
TRUST = {"Version": "2012-10-17", "Statement": []}


def tcp(port: int, **source: Any) -> dict[str, Any]:
    return {"IpProtocol": "tcp", "FromPort": port, "ToPort": port, **source}


def launch(served: Served, **more: Any) -> str:
    ec2 = served.client("ec2")
    name = "/aws/service/debian/release/13/latest/amd64"
    image = served.client("ssm").get_parameter(Name=name)["Parameter"]["Value"]
    given = {"ImageId": image, "InstanceType": "t3.small", "MinCount": 1, "MaxCount": 1}
    instance_id: str = ec2.run_instances(**given | more)["Instances"][0]["InstanceId"]
    return instance_id


def first(served: Served) -> dict[str, Any]:
    """Launch what there is to launch, and tell what came of it."""
    ec2, iam = served.client("ec2"), served.client("iam")
    ec2.import_key_pair(KeyName="key", PublicKeyMaterial=PUBLIC_KEY.encode())
    group = ec2.create_security_group(GroupName="lab", Description="lab")["GroupId"]
    permissions = [
        tcp(22, IpRanges=[{"CidrIp": "127.0.0.1/32"}, {"CidrIp": "10.0.0.0/8"}]),
        tcp(7077, UserIdGroupPairs=[{"GroupId": group}]),
    ]
    ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=permissions)
    iam.create_role(RoleName="role", AssumeRolePolicyDocument=json.dumps(TRUST))
    iam.create_instance_profile(InstanceProfileName="profile")
    iam.add_role_to_instance_profile(InstanceProfileName="profile", RoleName="role")
    devices = [
        {"DeviceName": "/dev/xvda", "Ebs": {"VolumeSize": 30}},
        {"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 5}},
    ]
    instance_id = launch(
        served,
        KeyName="key",
        SecurityGroupIds=[group],
        BlockDeviceMappings=devices,
        IamInstanceProfile={"Name": "profile"},
        UserData="#!/bin/sh\necho hi\n",
        MetadataOptions={"HttpTokens": "required", "InstanceMetadataTags": "enabled"},
        TagSpecifications=[{"ResourceType": "instance", "Tags": [{"Key": "Lab", "Value": "x/y"}]}],
    )
    ec2.reboot_instances(InstanceIds=[instance_id])
    return {"instance_id": instance_id} | told_of(served, instance_id)


def told_of(served: Served, instance_id: str) -> dict[str, Any]:
    assert served.engine is not None
    metadata = served.engine.metadata(instance_id)
    tree = {k: v.decode() if isinstance(v, bytes) else v for k, v in metadata.tree.items()}
    machines = [dataclasses.asdict(m) for m in served.engine.machines]
    for machine in machines:
        machine["user_data"] = (machine["user_data"] or b"").decode()
    return {
        "machines": machines,
        "tree": tree,
        "options": dataclasses.asdict(metadata.options),
        "calls": list(served.engine.calls),
        "described": json.loads(
            json.dumps(served.client("ec2").describe_instances()["Reservations"], default=str)
        ),
    }


def again(served: Served) -> dict[str, Any]:
    """Tell what a new process made of the state, then go through the rest of a life."""
    assert served.engine is not None
    assert served.running is not None
    ec2, engine = served.client("ec2"), served.engine
    served.running.catch_up()
    found = ec2.describe_instances()["Reservations"][0]["Instances"][0]
    instance_id = found["InstanceId"]
    told: dict[str, Any] = {"restarted": told_of(served, instance_id)}
    volume = next(v["VolumeId"] for v in ec2.describe_volumes()["Volumes"] if v["Size"] == 5)
    engine.calls.clear()
    snapshot = ec2.create_snapshot(VolumeId=volume)["SnapshotId"]
    image = ec2.create_image(InstanceId=instance_id, Name="baked")["ImageId"]
    baked = launch(served, ImageId=image)
    ec2.deregister_image(ImageId=image)
    told["baked"] = {"image": image, "machine": dataclasses.asdict(engine.machines[-1])}
    engine.off = {instance_id, baked}
    served.running.reconciler.follow_power_off()
    told["off"] = [machine.running for machine in engine.machines]
    ec2.terminate_instances(InstanceIds=[instance_id, baked])
    ec2.delete_snapshot(SnapshotId=snapshot)
    ec2.delete_volume(VolumeId=volume)
    told["efs"] = file_system(served)
    told |= {"calls": engine.calls, "volume": volume, "snapshot": snapshot}
    return told | {"instance_id": instance_id, "baked_id": baked}


def file_system(served: Served) -> dict[str, Any]:
    """Make a file system with a mount target, and delete both; tell what the engine was told."""
    assert served.engine is not None
    ec2, efs, engine = served.client("ec2"), served.client("efs"), served.engine
    begun = len(engine.calls)
    group = ec2.create_security_group(GroupName="efs", Description="efs")["GroupId"]
    member = launch(served, SecurityGroupIds=[group])
    nfs = tcp(2049, UserIdGroupPairs=[{"GroupId": group}])
    ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[nfs])
    made = efs.create_file_system(CreationToken="x", Encrypted=True)["FileSystemId"]
    subnet = ec2.describe_subnets()["Subnets"][0]["SubnetId"]
    target = efs.create_mount_target(FileSystemId=made, SubnetId=subnet, SecurityGroups=[group])
    (served_at,) = engine.targets
    private = next(m.private_ip for m in engine.machines if m.instance_id == member)
    efs.delete_mount_target(MountTargetId=target["MountTargetId"])
    efs.delete_file_system(FileSystemId=made)
    ec2.terminate_instances(InstanceIds=[member])
    calls, engine.calls[begun:] = engine.calls[begun:], []
    return {
        "id": made,
        "address": target["IpAddress"],
        "served": dataclasses.asdict(served_at),
        "member": private,
        "calls": calls,
    }


if __name__ == "__main__":
    with sandbox(Path(sys.argv[2])) as server:
        print(json.dumps({"first": first, "again": again}[sys.argv[1]](server)))
