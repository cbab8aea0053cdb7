"""A probe for each gap that sandbox/patches/ fills: True where the server does as AWS does.

Run as a program, `python -m tests.unit.sandbox.gaps patched|plain FOLDER`, it prints a JSON
object {probe: true|false}.
"""

from __future__ import annotations

import json
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import requests
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from sandbox.account import AdminKey
from sandbox.settings import ACCOUNT_ID
from tests.unit.sandbox.served import Served, plain_moto, sandbox

Probe = Callable[[Served], bool]
PROBES: dict[str, Probe] = {}
PUBLIC_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ5m2k4pNd9VtKq5bq0o0cM2J9vFqJ8jT0gq3l8hXq1B x@y"


def probe(function: Probe) -> Probe:
    PROBES[function.__name__] = function
    return function


def refused(code: str, call: Callable[..., Any], **arguments: Any) -> bool:
    try:
        call(**arguments)
    except ClientError as error:
        return bool(error.response["Error"]["Code"] == code)
    return False


def image(served: Served) -> str:
    images = served.client("ec2").describe_images(
        Filters=[{"Name": "name", "Values": ["debian-13-*"]}]
    )["Images"]
    # Plain moto has no such image.
    return images[0]["ImageId"] if images else "ami-12c6146b"


def run(served: Served, **arguments: Any) -> list[dict[str, Any]]:
    given = {"ImageId": image(served), "InstanceType": "t3.small", "MinCount": 1, "MaxCount": 1}
    instances: list[dict[str, Any]] = served.client("ec2").run_instances(**given | arguments)[
        "Instances"
    ]
    return instances


def describe(served: Served, instance_id: str) -> dict[str, Any]:
    found = served.client("ec2").describe_instances(InstanceIds=[instance_id])
    instance: dict[str, Any] = found["Reservations"][0]["Instances"][0]
    return instance


def volumes_of(served: Served, instance_id: str) -> list[dict[str, Any]]:
    filters = [{"Name": "attachment.instance-id", "Values": [instance_id]}]
    told = served.client("ec2").describe_volumes(Filters=filters)
    volumes: list[dict[str, Any]] = told["Volumes"]
    return volumes


def new_group(served: Served) -> str:
    group: str = served.client("ec2").create_security_group(
        GroupName=f"group-{uuid.uuid4().hex}", Description="probe"
    )["GroupId"]
    return group


def bucket(served: Served) -> str:
    name = f"probe-{uuid.uuid4().hex}"
    served.client("s3").create_bucket(Bucket=name)
    return name


def user_with(served: Served, *statements: dict[str, Any]) -> AdminKey:
    iam, name = served.client("iam"), f"user-{uuid.uuid4().hex}"
    iam.create_user(UserName=name)
    document = json.dumps({"Version": "2012-10-17", "Statement": list(statements)})
    iam.put_user_policy(UserName=name, PolicyName="p", PolicyDocument=document)
    key = iam.create_access_key(UserName=name)["AccessKey"]
    return AdminKey(key["AccessKeyId"], key["SecretAccessKey"])


def allow(action: str, resource: str = "*", **more: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": action, "Resource": resource, **more}


@probe
def public_addresses_are_on_this_machine(served: Served) -> bool:
    address = describe(served, run(served)[0]["InstanceId"])["PublicIpAddress"]
    return str(address).startswith("127.77.")


@probe
def elastic_address_outlives_a_stop(served: Served) -> bool:
    ec2, instance_id = served.client("ec2"), run(served)[0]["InstanceId"]
    elastic = ec2.allocate_address(Domain="vpc")
    ec2.associate_address(InstanceId=instance_id, AllocationId=elastic["AllocationId"])
    ec2.stop_instances(InstanceIds=[instance_id])
    ec2.start_instances(InstanceIds=[instance_id])
    return bool(describe(served, instance_id).get("PublicIpAddress") == elastic["PublicIp"])


@probe
def private_addresses_are_in_the_default_vpc(served: Served) -> bool:
    return str(run(served)[0]["PrivateIpAddress"]).startswith("172.31.")


@probe
def volume_tells_multi_attach_snapshot_and_throughput(served: Served) -> bool:
    volume = served.client("ec2").create_volume(
        AvailabilityZone="us-east-1a", Size=1, VolumeType="gp3"
    )
    told = served.client("ec2").describe_volumes(VolumeIds=[volume["VolumeId"]])["Volumes"][0]
    return (
        told.get("MultiAttachEnabled") is False
        and told.get("SnapshotId") == ""
        and told.get("Throughput") == 125
    )


@probe
def volume_is_attached_once(served: Served) -> bool:
    ec2 = served.client("ec2")
    one, two = (run(served)[0] for _ in range(2))
    zone = one["Placement"]["AvailabilityZone"]
    volume = ec2.create_volume(AvailabilityZone=zone, Size=1)["VolumeId"]
    ec2.attach_volume(VolumeId=volume, InstanceId=one["InstanceId"], Device="/dev/sdf")
    return refused(
        "VolumeInUse",
        ec2.attach_volume,
        VolumeId=volume,
        InstanceId=two["InstanceId"],
        Device="/dev/sdf",
    )


@probe
def volume_is_attached_in_its_zone(served: Served) -> bool:
    ec2, instance = served.client("ec2"), run(served)[0]
    zone = "us-east-1b" if instance["Placement"]["AvailabilityZone"][-1] == "a" else "us-east-1a"
    volume = ec2.create_volume(AvailabilityZone=zone, Size=1)["VolumeId"]
    return refused(
        "InvalidVolume.ZoneMismatch",
        ec2.attach_volume,
        VolumeId=volume,
        InstanceId=instance["InstanceId"],
        Device="/dev/sdf",
    )


@probe
def volume_is_detached_without_naming_the_instance(served: Served) -> bool:
    ec2, instance = served.client("ec2"), run(served)[0]
    zone = instance["Placement"]["AvailabilityZone"]
    volume = ec2.create_volume(AvailabilityZone=zone, Size=1)["VolumeId"]
    ec2.attach_volume(VolumeId=volume, InstanceId=instance["InstanceId"], Device="/dev/sdf")
    ec2.detach_volume(VolumeId=volume)
    return bool(ec2.describe_volumes(VolumeIds=[volume])["Volumes"][0]["State"] == "available")


@probe
def attachment_tells_delete_on_termination(served: Served) -> bool:
    root = volumes_of(served, run(served)[0]["InstanceId"])[0]
    return root["Attachments"][0].get("DeleteOnTermination") is True


@probe
def mapping_keeps_iops_and_throughput(served: Served) -> bool:
    ebs = {"VolumeSize": 20, "VolumeType": "gp3", "Iops": 4000, "Throughput": 250}
    mapping = [{"DeviceName": "/dev/sdf", "Ebs": ebs}]
    instance_id = run(served, BlockDeviceMappings=mapping)[0]["InstanceId"]
    data = [v for v in volumes_of(served, instance_id) if v["Size"] == 20]
    return bool(data and data[0].get("Iops") == 4000 and data[0].get("Throughput") == 250)


@probe
def mapping_without_the_root_leaves_a_root(served: Served) -> bool:
    mapping = [{"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 20}}]
    return len(volumes_of(served, run(served, BlockDeviceMappings=mapping)[0]["InstanceId"])) == 2


@probe
def mapping_of_the_root_needs_no_size(served: Served) -> bool:
    device = "/dev/xvda"
    mapping = [{"DeviceName": device, "Ebs": {"Encrypted": True}}]
    root = volumes_of(served, run(served, BlockDeviceMappings=mapping)[0]["InstanceId"])[0]
    return bool(root["Encrypted"])


@probe
def launch_template_is_honoured(served: Served) -> bool:
    ec2 = served.client("ec2")
    data = {
        "ImageId": image(served),
        "InstanceType": "t3.small",
        "MetadataOptions": {"HttpTokens": "required"},
        "InstanceMarketOptions": {"MarketType": "spot"},
    }
    template = ec2.create_launch_template(
        LaunchTemplateName=f"t-{uuid.uuid4().hex}", LaunchTemplateData=data
    )["LaunchTemplate"]["LaunchTemplateId"]
    instance = ec2.run_instances(
        LaunchTemplate={"LaunchTemplateId": template}, MinCount=1, MaxCount=1
    )["Instances"][0]
    return bool(
        instance["MetadataOptions"]["HttpTokens"] == "required"
        and instance.get("InstanceLifecycle") == "spot"
    )


@probe
def spot_request_is_as_asked(served: Served) -> bool:
    options = {"SpotInstanceType": "persistent", "InstanceInterruptionBehavior": "stop"}
    tags = [{"Key": "Lab", "Value": uuid.uuid4().hex}]
    run(
        served,
        InstanceMarketOptions={"MarketType": "spot", "SpotOptions": options},
        TagSpecifications=[{"ResourceType": "spot-instances-request", "Tags": tags}],
    )
    filters = [{"Name": "tag:Lab", "Values": [tags[0]["Value"]]}]
    found = served.client("ec2").describe_spot_instance_requests(Filters=filters)
    return [
        {name: request[name] for name in ("InstanceInterruptionBehavior", "Type")}
        for request in found["SpotInstanceRequests"]
    ] == [{"InstanceInterruptionBehavior": "stop", "Type": "persistent"}]


@probe
def spot_instance_is_neither_protected_nor_changed(served: Served) -> bool:
    given = {
        "InstanceId": run(served, InstanceMarketOptions={"MarketType": "spot"})[0]["InstanceId"]
    }
    modify = served.client("ec2").modify_instance_attribute
    return refused(
        "UnsupportedOperation", modify, DisableApiTermination={"Value": True}, **given
    ) and refused("UnsupportedOperation", modify, InstanceType={"Value": "t3.large"}, **given)


@probe
def one_time_spot_instance_is_not_stopped(served: Served) -> bool:
    instance = run(served, InstanceMarketOptions={"MarketType": "spot"})[0]["InstanceId"]
    stop = served.client("ec2").stop_instances
    return refused("UnsupportedOperation", stop, InstanceIds=[instance])


@probe
def spot_instance_has_a_request(served: Served) -> bool:
    instance = run(served, InstanceMarketOptions={"MarketType": "spot"})[0]
    requests_found = served.client("ec2").describe_spot_instance_requests()
    of_instance = [
        r
        for r in requests_found["SpotInstanceRequests"]
        if r.get("InstanceId") == instance["InstanceId"]
    ]
    return bool(
        of_instance
        and of_instance[0]["SpotInstanceRequestId"] == instance.get("SpotInstanceRequestId")
    )


@probe
def termination_protection_from_the_start(served: Served) -> bool:
    instance_id = run(served, DisableApiTermination=True)[0]["InstanceId"]
    return refused(
        "OperationNotPermitted",
        served.client("ec2").terminate_instances,
        InstanceIds=[instance_id],
    )


@probe
def all_instances_get_the_profile(served: Served) -> bool:
    iam, name = served.client("iam"), f"profile-{uuid.uuid4().hex}"
    iam.create_instance_profile(InstanceProfileName=name)
    instances = run(served, IamInstanceProfile={"Name": name}, MinCount=2, MaxCount=2)
    return all("IamInstanceProfile" in describe(served, i["InstanceId"]) for i in instances)


@probe
def one_client_token_makes_one_instance(served: Served) -> bool:
    token = uuid.uuid4().hex
    first, again = (run(served, ClientToken=token)[0]["InstanceId"] for _ in range(2))
    return bool(first == again)


@probe
def client_token_of_other_arguments_is_refused(served: Served) -> bool:
    token = uuid.uuid4().hex
    run(served, ClientToken=token)
    return refused(
        "IdempotentParameterMismatch",
        served.client("ec2").run_instances,
        ImageId=image(served),
        InstanceType="t3.micro",
        MinCount=1,
        MaxCount=1,
        ClientToken=token,
    )


@probe
def unknown_image_is_refused(served: Served) -> bool:
    return refused(
        "InvalidAMIID.NotFound",
        served.client("ec2").run_instances,
        ImageId="ami-00000000000000000",
        InstanceType="t3.small",
        MinCount=1,
        MaxCount=1,
    )


@probe
def unknown_type_is_refused(served: Served) -> bool:
    return refused(
        "InvalidParameterValue",
        served.client("ec2").run_instances,
        ImageId=image(served),
        InstanceType="t3.nosuch",
        MinCount=1,
        MaxCount=1,
    )


@probe
def unknown_key_pair_is_refused(served: Served) -> bool:
    return refused(
        "InvalidKeyPair.NotFound",
        served.client("ec2").run_instances,
        ImageId=image(served),
        InstanceType="t3.small",
        KeyName="nosuch",
        MinCount=1,
        MaxCount=1,
    )


@probe
def group_in_use_is_kept(served: Served) -> bool:
    group = new_group(served)
    run(served, SecurityGroupIds=[group])
    return refused("DependencyViolation", served.client("ec2").delete_security_group, GroupId=group)


@probe
def group_can_go_after_its_instance(served: Served) -> bool:
    ec2, group = served.client("ec2"), new_group(served)
    instance_id = run(served, SecurityGroupIds=[group])[0]["InstanceId"]
    kept = refused("DependencyViolation", ec2.delete_security_group, GroupId=group)
    ec2.terminate_instances(InstanceIds=[instance_id])
    ec2.delete_security_group(GroupId=group)
    return kept


@probe
def groups_of_the_interface_are_the_instances(served: Served) -> bool:
    group = new_group(served)
    nics = [{"DeviceIndex": 0, "Groups": [group]}]
    told = describe(served, run(served, NetworkInterfaces=nics)[0]["InstanceId"])
    return [g["GroupId"] for g in told["SecurityGroups"]] == [group]


@probe
def terminated_instance_is_not_started(served: Served) -> bool:
    ec2, instance_id = served.client("ec2"), run(served)[0]["InstanceId"]
    ec2.terminate_instances(InstanceIds=[instance_id])
    return refused("IncorrectInstanceState", ec2.start_instances, InstanceIds=[instance_id])


@probe
def starting_a_running_instance_keeps_its_address(served: Served) -> bool:
    ec2, instance_id = served.client("ec2"), run(served)[0]["InstanceId"]
    before = describe(served, instance_id)["PublicIpAddress"]
    ec2.start_instances(InstanceIds=[instance_id])
    return bool(describe(served, instance_id)["PublicIpAddress"] == before)


@probe
def launch_time_is_that_of_the_last_start(served: Served) -> bool:
    ec2, instance_id = served.client("ec2"), run(served)[0]["InstanceId"]
    before = describe(served, instance_id)["LaunchTime"]
    ec2.stop_instances(InstanceIds=[instance_id])
    time.sleep(1.1)
    ec2.start_instances(InstanceIds=[instance_id])
    return bool(describe(served, instance_id)["LaunchTime"] > before)


@probe
def shutdown_behaviour_can_be_changed(served: Served) -> bool:
    ec2, instance_id = served.client("ec2"), run(served)[0]["InstanceId"]
    ec2.modify_instance_attribute(
        InstanceId=instance_id, InstanceInitiatedShutdownBehavior={"Value": "terminate"}
    )
    told = ec2.describe_instance_attribute(
        InstanceId=instance_id, Attribute="instanceInitiatedShutdownBehavior"
    )
    return bool(told["InstanceInitiatedShutdownBehavior"]["Value"] == "terminate")


@probe
def created_image_has_tags_and_the_real_root_size(served: Served) -> bool:
    ec2 = served.client("ec2")
    device = "/dev/xvda"
    instance_id = run(
        served, BlockDeviceMappings=[{"DeviceName": device, "Ebs": {"VolumeSize": 23}}]
    )[0]["InstanceId"]
    tags = [{"Key": "a", "Value": "b"}]
    image_id = ec2.create_image(
        InstanceId=instance_id,
        Name=f"image-{uuid.uuid4().hex}",
        TagSpecifications=[
            {"ResourceType": "image", "Tags": tags},
            {"ResourceType": "snapshot", "Tags": tags},
        ],
    )["ImageId"]
    ebs = ec2.describe_images(ImageIds=[image_id])["Images"][0]["BlockDeviceMappings"][0]["Ebs"]
    snapshot = ec2.describe_snapshots(SnapshotIds=[ebs["SnapshotId"]])["Snapshots"][0]
    return bool(ebs["VolumeSize"] == 23 and snapshot.get("Tags") == tags)


@probe
def quotas_of_ec2_are_known(served: Served) -> bool:
    quotas = served.client("service-quotas")
    told = quotas.get_service_quota(ServiceCode="ec2", QuotaCode="L-DB2E81BA")["Quota"]["Value"]
    listed = quotas.list_service_quotas(ServiceCode="ec2")["Quotas"]
    return bool(told == 64.0 and len(listed) == 6)


@probe
def quotas_of_ec2_are_kept(served: Served) -> bool:
    return refused(
        "VcpuLimitExceeded",
        served.client("ec2").run_instances,
        ImageId=image(served),
        InstanceType="p4d.24xlarge",
        MinCount=1,
        MaxCount=1,
    )


@probe
def placement_groups_exist(served: Served) -> bool:
    ec2, name = served.client("ec2"), f"pg-{uuid.uuid4().hex}"
    ec2.create_placement_group(GroupName=name, Strategy="cluster")
    found = ec2.describe_placement_groups(GroupNames=[name])["PlacementGroups"]
    ec2.delete_placement_group(GroupName=name)
    return bool(found[0]["State"] == "available") and refused(
        "InvalidPlacementGroup.Unknown", ec2.describe_placement_groups, GroupNames=[name]
    )


@probe
def instances_are_in_placement_groups(served: Served) -> bool:
    ec2, name = served.client("ec2"), f"pg-{uuid.uuid4().hex}"
    ec2.create_placement_group(GroupName=name, Strategy="cluster")
    where = {"GroupName": name}
    burstable = refused(
        "InvalidParameterCombination", ec2.run_instances, ImageId=image(served),
        InstanceType="t3.small", MinCount=1, MaxCount=1, Placement=where,
    )  # fmt: skip
    this = run(served, InstanceType="c5.large", Placement=where)[0]["InstanceId"]
    told = describe(served, this)["Placement"].get("GroupName")
    in_use = refused("InvalidPlacementGroup.InUse", ec2.delete_placement_group, **where)
    running = {"InstanceId": this, "GroupName": ""}
    kept = refused("IncorrectInstanceState", ec2.modify_instance_placement, **running)
    ec2.stop_instances(InstanceIds=[this])
    ec2.modify_instance_placement(**running)
    ec2.delete_placement_group(**where)
    moved = not describe(served, this)["Placement"].get("GroupName")
    return bool(burstable and told == name and in_use and kept and moved)


@probe
def names_of_images_are_in_ssm(served: Served) -> bool:
    ssm = served.client("ssm")
    names = (
        "/aws/service/debian/release/13/latest/amd64",
        "/aws/service/canonical/ubuntu/server/24.04/stable/current/amd64/hvm/ebs-gp3/ami-id",
        "/aws/service/deeplearning/ami/x86_64/base-oss-nvidia-driver-gpu-ubuntu-24.04/latest/ami-id",
    )
    ids = [ssm.get_parameter(Name=name)["Parameter"]["Value"] for name in names]
    return len(served.client("ec2").describe_images(ImageIds=ids)["Images"]) == 3


@probe
def unimplemented_action_is_a_400(served: Served) -> bool:
    return refused(
        "InvalidAction",
        served.client("ec2").describe_capacity_block_offerings,
        CapacityDurationHours=24,
    )


@probe
def unknown_key_is_refused(served: Served) -> bool:
    stranger = served.client("ec2", AdminKey("AKIAIOSFODNN7EXAMPL2", "x" * 40))
    return refused("AuthFailure", stranger.describe_instances)


@probe
def wrong_secret_is_refused(served: Served) -> bool:
    wrong = AdminKey(served.key.access_key_id, "x" * 40)
    return refused("AuthFailure", served.client("ec2", wrong).describe_instances) and refused(
        "SignatureDoesNotMatch", served.client("s3", wrong).list_buckets
    )


@probe
def unsigned_request_is_refused(served: Served) -> bool:
    return requests.get(f"{served.url}/{bucket(served)}/key", timeout=10).status_code == 403


@probe
def presigned_address_works_and_forged_does_not(served: Served) -> bool:
    name, s3 = bucket(served), served.client("s3")
    s3.put_object(Bucket=name, Key="a/b c", Body=b"x")
    v4 = boto3.client(
        "s3",
        endpoint_url=served.url,
        region_name="us-east-1",
        aws_access_key_id=served.key.access_key_id,
        aws_secret_access_key=served.key.secret_access_key,
        config=Config(signature_version="s3v4", s3={"addressing_style": "path"}),
    )
    url = v4.generate_presigned_url("get_object", Params={"Bucket": name, "Key": "a/b c"})
    right = requests.get(url, timeout=10)
    forged = requests.get(url.replace("b%20c", "other"), timeout=10)
    return right.content == b"x" and forged.status_code == 403


@probe
def signature_over_an_unescaped_query(served: Served) -> bool:
    """As s3fs does it: signs `prefix=dir%2F`, sends `prefix=dir/`."""
    name, s3 = bucket(served), served.client("s3")
    key = user_with(served, allow("s3:*"))
    s3.put_object(Bucket=name, Key="dir/file", Body=b"x")
    url = f"{served.url}/{name}?delimiter=%2F&prefix=dir%2F"
    request = AWSRequest("GET", url)
    S3SigV4Auth(Credentials(key.access_key_id, key.secret_access_key), "s3", "us-east-1").add_auth(
        request
    )
    with requests.Session() as session:
        prepared = session.prepare_request(
            requests.Request("GET", url, headers=dict(request.headers))
        )
        prepared.url = url.replace("%2F", "/")
        reply = session.send(prepared, timeout=10)
        prepared.url = prepared.url.replace("dir/", "etc/")
        forged = session.send(prepared, timeout=10)
    return b"dir/file" in reply.content and forged.status_code == 403


@probe
def listing_right_lets_head_the_bucket(served: Served) -> bool:
    name = bucket(served)
    user = user_with(served, allow("s3:ListBucket", f"arn:aws:s3:::{name}"))
    served.client("s3", user).head_bucket(Bucket=name)
    return refused("403", served.client("s3", user).head_bucket, Bucket=bucket(served))


@probe
def copying_needs_the_right_to_read_the_source(served: Served) -> bool:
    own, foreign, s3 = bucket(served), bucket(served), served.client("s3")
    s3.put_object(Bucket=foreign, Key="secret", Body=b"x")
    user = user_with(served, allow("s3:*", f"arn:aws:s3:::{own}/*"))
    return refused(
        "AccessDenied",
        served.client("s3", user).copy_object,
        Bucket=own,
        Key="k",
        CopySource={"Bucket": foreign, "Key": "secret"},
    )


@probe
def deleting_many_needs_the_right_to_the_objects(served: Served) -> bool:
    name, s3 = bucket(served), served.client("s3")
    s3.put_object(Bucket=name, Key="k", Body=b"x")
    wanted = {"Objects": [{"Key": "k"}]}
    no_right = user_with(served, allow("s3:DeleteObject", f"arn:aws:s3:::{name}"))
    refusal = served.client("s3", no_right).delete_objects(Bucket=name, Delete=wanted)
    with_right = user_with(served, allow("s3:DeleteObject", f"arn:aws:s3:::{name}/*"))
    done = served.client("s3", with_right).delete_objects(Bucket=name, Delete=wanted)
    return refusal.get("Errors", [{}])[0].get("Code") == "AccessDenied" and "Deleted" in done


@probe
def condition_of_a_policy_counts(served: Served) -> bool:
    name = bucket(served)
    condition = {"StringLike": {"s3:prefix": "mine/*"}}
    user = user_with(served, allow("s3:ListBucket", f"arn:aws:s3:::{name}", Condition=condition))
    s3 = served.client("s3", user)
    s3.list_objects_v2(Bucket=name, Prefix="mine/")
    return refused("AccessDenied", s3.list_objects_v2, Bucket=name, Prefix="yours/")


@probe
def deny_of_insecure_transport_lets_the_owner_in(served: Served) -> bool:
    name, s3 = bucket(served), served.client("s3")
    s3.put_object(Bucket=name, Key="k", Body=b"x")
    deny = {
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:*",
        "Resource": [f"arn:aws:s3:::{name}", f"arn:aws:s3:::{name}/*"],
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }
    s3.put_bucket_policy(Bucket=name, Policy=json.dumps({"Statement": [deny]}))
    return bool(s3.get_object(Bucket=name, Key="k")["Body"].read() == b"x")


@probe
def deny_of_a_bucket_policy_holds_for_head_and_list(served: Served) -> bool:
    name, s3 = bucket(served), served.client("s3")
    s3.put_object(Bucket=name, Key="k", Body=b"x")
    deny = {
        "Effect": "Deny",
        "Principal": "*",
        "Action": ["s3:GetObject", "s3:ListBucket"],
        "Resource": [f"arn:aws:s3:::{name}", f"arn:aws:s3:::{name}/*"],
    }
    s3.put_bucket_policy(Bucket=name, Policy=json.dumps({"Statement": [deny]}))
    return refused("403", s3.head_object, Bucket=name, Key="k") and refused(
        "AccessDenied", s3.list_objects_v2, Bucket=name
    )


@probe
def refusal_of_ec2_has_its_own_name(served: Served) -> bool:
    user = user_with(served, allow("s3:*"))
    return refused("UnauthorizedOperation", served.client("ec2", user).describe_instances)


@probe
def refusal_of_a_json_service_is_json(served: Served) -> bool:
    user = user_with(served, allow("s3:*"))
    return refused(
        "AccessDeniedException", served.client("ssm", user).get_parameter, Name="/x"
    ) and refused(
        "UnrecognizedClientException",
        served.client("ssm", AdminKey(user.access_key_id, "x" * 40)).get_parameter,
        Name="/x",
    )


@probe
def unknown_service_is_a_400(served: Served) -> bool:
    return refused("InvalidAction", served.client("pricing").get_products, ServiceCode="AmazonEC2")


@probe
def right_to_one_instance_by_tag(served: Served) -> bool:
    mine, other = (run(served)[0]["InstanceId"] for _ in range(2))
    served.client("ec2").create_tags(Resources=[mine], Tags=[{"Key": "Lab", "Value": "x"}])
    condition = {"StringEquals": {"aws:ResourceTag/Lab": "x"}}
    user = user_with(
        served,
        allow("ec2:StopInstances", "arn:aws:ec2:*:*:instance/*", Condition=condition),
    )
    ec2 = served.client("ec2", user)
    ec2.stop_instances(InstanceIds=[mine])
    return refused("UnauthorizedOperation", ec2.stop_instances, InstanceIds=[other])


@probe
def right_to_one_volume_by_tag(served: Served) -> bool:
    ec2 = served.client("ec2")
    tags = [{"ResourceType": "volume", "Tags": [{"Key": "Lab", "Value": "x"}]}]
    zone = {"AvailabilityZone": "us-east-1a", "Size": 1}
    mine = ec2.create_volume(**zone, TagSpecifications=tags)["VolumeId"]
    other = ec2.create_volume(**zone)["VolumeId"]
    condition = {"StringEquals": {"aws:ResourceTag/Lab": "x"}}
    user = user_with(
        served, allow("ec2:DeleteVolume", "arn:aws:ec2:*:*:volume/*", Condition=condition)
    )
    served.client("ec2", user).delete_volume(VolumeId=mine)
    delete = served.client("ec2", user).delete_volume
    return refused("UnauthorizedOperation", delete, VolumeId=other)


@probe
def tags_at_birth_are_a_right_of_their_own(served: Served) -> bool:
    condition = {"StringEquals": {"aws:RequestTag/Lab": "x"}}
    born = allow("ec2:CreateVolume", "arn:aws:ec2:*:*:volume/*", Condition=condition)
    zone = {"AvailabilityZone": "us-east-1a", "Size": 1}
    tags = [{"ResourceType": "volume", "Tags": [{"Key": "Lab", "Value": "x"}]}]
    no_right = served.client("ec2", user_with(served, born))
    with_right = served.client("ec2", user_with(served, born, allow("ec2:CreateTags")))
    with_right.create_volume(**zone, TagSpecifications=tags)
    return refused("UnauthorizedOperation", with_right.create_volume, **zone) and refused(
        "UnauthorizedOperation", no_right.create_volume, **zone, TagSpecifications=tags
    )


@probe
def file_systems_are_judged_by_their_tags(served: Served) -> bool:
    tags, other = [{"Key": "Lab", "Value": "x"}], [{"Key": "Lab", "Value": "y"}]
    given = {"StringEquals": {"aws:RequestTag/Lab": "x"}}
    own = {"StringEquals": {"aws:ResourceTag/Lab": "x"}}
    systems = "arn:aws:elasticfilesystem:*:*:file-system/*"
    born = allow("elasticfilesystem:CreateFileSystem", systems, Condition=given)
    tagged = allow("elasticfilesystem:TagResource", systems, Condition=given)
    gone = allow("elasticfilesystem:DeleteFileSystem", systems, Condition=own)
    efs = served.client("efs", user_with(served, born, tagged, gone))
    token = uuid.uuid4().hex
    made = efs.create_file_system(CreationToken=token, Tags=tags)["FileSystemId"]
    strange = served.client("efs").create_file_system(CreationToken=f"{token}-y", Tags=other)
    denied = "AccessDeniedException"
    left = refused(denied, efs.delete_file_system, FileSystemId=strange["FileSystemId"])
    efs.delete_file_system(FileSystemId=made)
    no_right = served.client("efs", user_with(served, born))
    return (
        left
        and refused(denied, efs.create_file_system, CreationToken=f"{token}-z", Tags=other)
        and refused(denied, no_right.create_file_system, CreationToken=f"{token}-x", Tags=tags)
    )


@probe
def role_is_handed_on_by_right_alone(served: Served) -> bool:
    name = f"role-{uuid.uuid4().hex}"
    trust = json.dumps({"Version": "2012-10-17", "Statement": []})
    own = f"arn:aws:iam::*:role/{name}"
    make = allow("iam:CreateRole", own)
    profile = allow("iam:*InstanceProfile", "*")
    iam = served.client("iam", user_with(served, make, profile))
    iam.create_role(RoleName=name, AssumeRolePolicyDocument=trust)
    iam.create_instance_profile(InstanceProfileName=name)
    given = {"InstanceProfileName": name, "RoleName": name}
    passing = user_with(served, profile, allow("iam:PassRole", own))
    if not refused("AccessDenied", iam.add_role_to_instance_profile, **given):
        return False
    served.client("iam", passing).add_role_to_instance_profile(**given)
    return refused("AccessDenied", iam.create_role, RoleName="x", AssumeRolePolicyDocument=trust)


@probe
def budget_has_the_rights_of_iam(served: Served) -> bool:
    user = user_with(served, allow("budgets:ViewBudget", "arn:aws:budgets::*:budget/*"))
    budgets = served.client("budgets", user)
    budgets.describe_budgets(AccountId=ACCOUNT_ID)
    wanted = {"AccountId": ACCOUNT_ID, "BudgetName": "x"}
    return refused("AccessDeniedException", budgets.delete_budget, **wanted)


@probe
def content_of_objects_is_on_disk(served: Served) -> bool:
    name, s3 = bucket(served), served.client("s3")
    marker = uuid.uuid4().bytes * 4096
    s3.put_object(Bucket=name, Key="k", Body=marker)
    part = s3.get_object(Bucket=name, Key="k", Range="bytes=16-31")["Body"].read()
    files = Path(sys.argv[2]).glob(".sandbox/0/objects/*")
    return part == marker[16:32] and any(file.read_bytes() == marker for file in files)


@probe
def console_is_the_instances_own(served: Served) -> bool:
    instance_id = run(served)[0]["InstanceId"]
    told = served.client("ec2").get_console_output(InstanceId=instance_id)
    return bool(told["Output"] == f"console of {instance_id}")


@probe
def image_without_a_container_is_not_launched(served: Served) -> bool:
    ec2 = served.client("ec2")
    name = "ubuntu/images/hvm-ssd-gp3/ubuntu-noble-24.04-*"
    found = ec2.describe_images(Filters=[{"Name": "name", "Values": [name]}])["Images"]
    if not found:
        return False
    given = {"ImageId": found[0]["ImageId"], "InstanceType": "t3.small"}
    given |= {"MinCount": 1, "MaxCount": 1}
    return refused("DryRunOperation", ec2.run_instances, DryRun=True, **given) and refused(
        "Unsupported", ec2.run_instances, **given
    )


FAILURES = (
    ClientError,
    BotoCoreError,
    ResponseParserError,
    KeyError,
    IndexError,
    requests.RequestException,
)


def results(served: Served) -> dict[str, bool]:
    """Run all probes; one that fails in any way found no AWS."""
    found = {}
    for name, check in PROBES.items():
        try:
            found[name] = check(served)
        except FAILURES as e:
            print(f"{name}: {e!r}", file=sys.stderr)
            found[name] = False
        if served.running:  # the next probe has the whole quota
            terminate_all(served)
    return found


def terminate_all(served: Served) -> None:
    ec2 = served.client("ec2")
    for reservation in ec2.describe_instances()["Reservations"]:
        for instance in reservation["Instances"]:
            if instance["State"]["Name"] != "terminated":
                ec2.modify_instance_attribute(
                    InstanceId=instance["InstanceId"], DisableApiTermination={"Value": False}
                )
                ec2.terminate_instances(InstanceIds=[instance["InstanceId"]])


if __name__ == "__main__":
    place = Path(sys.argv[2])
    with sandbox(place) if sys.argv[1] == "patched" else plain_moto() as server:
        print(json.dumps(results(server)))
