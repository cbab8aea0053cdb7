"""Instances, as a user of EC2 meets them: launched by boto3, entered by SSH."""

from __future__ import annotations

import base64
import time
import uuid

import pytest
from botocore.exceptions import ClientError

from tests.sandbox.conftest import Account, Machine, is_open, tcp, wait_for

pytestmark = pytest.mark.sandbox


def test_login_user_has_sudo_and_the_hosts_name(machine: Machine) -> None:
    private = machine.describe()["PrivateIpAddress"]
    assert machine.output("sudo id -un; hostname; hostname -I").split() == [
        "root",
        f"ip-{private.replace('.', '-')}",
        private,
    ]


def test_systemd_is_in_charge(machine: Machine) -> None:
    assert machine.output("cat /proc/1/comm; systemctl is-active ssh") == "systemd\nactive"


def test_console_shows_the_boot(machine: Machine) -> None:
    shown = machine.account.ec2.get_console_output(InstanceId=machine.instance_id)["Output"]
    assert "systemd" in shown


def test_stop_and_start_give_a_new_address_and_keep_the_disk(machine: Machine) -> None:
    ec2, first = machine.account.ec2, machine.public_ip
    machine.output("echo kept > ~/file")
    ec2.stop_instances(InstanceIds=[machine.instance_id])
    assert machine.state == "stopped"
    assert "PublicIpAddress" not in machine.describe()
    assert not is_open(first, 22)
    ec2.start_instances(InstanceIds=[machine.instance_id])
    assert machine.public_ip != first
    assert machine.output("cat ~/file") == "kept"


def test_elastic_address_stays_over_stop_and_start(machine: Machine) -> None:
    ec2 = machine.account.ec2
    elastic = ec2.allocate_address(Domain="vpc")
    ec2.associate_address(InstanceId=machine.instance_id, AllocationId=elastic["AllocationId"])
    assert machine.ssh("true", elastic["PublicIp"]).returncode == 0
    ec2.stop_instances(InstanceIds=[machine.instance_id])
    ec2.start_instances(InstanceIds=[machine.instance_id])
    assert machine.ssh("true", elastic["PublicIp"]).returncode == 0
    ec2.release_address(AllocationId=elastic["AllocationId"])
    assert not is_open(elastic["PublicIp"], 22)
    assert machine.public_ip != elastic["PublicIp"]


@pytest.mark.parametrize("from_inside", [False, True])
def test_reboot_changes_the_boot_id_and_keeps_the_address(
    machine: Machine, from_inside: bool
) -> None:
    address, boot_id = machine.public_ip, machine.output("cat /proc/sys/kernel/random/boot_id")
    if from_inside:
        machine.ssh("sudo systemctl reboot")
    else:
        machine.account.ec2.reboot_instances(InstanceIds=[machine.instance_id])

    def is_back() -> bool:
        done = machine.ssh("cat /proc/sys/kernel/random/boot_id", address)
        return done.returncode == 0 and done.stdout.strip() != boot_id

    assert wait_for(is_back, 60)
    assert machine.public_ip == address


@pytest.mark.parametrize("behaviour", ["stop", "terminate"])
def test_power_off_from_inside(account: Account, behaviour: str) -> None:
    machine = account.run(InstanceInitiatedShutdownBehavior=behaviour)[0]
    machine.ssh("sudo systemctl poweroff")
    expected = {"stop": "stopped", "terminate": "terminated"}[behaviour]
    assert wait_for(lambda: machine.state == expected, 60)
    reason = machine.describe()["StateReason"]["Code"]
    assert reason == "Client.InstanceInitiatedShutdown"
    if behaviour == "stop":
        account.ec2.start_instances(InstanceIds=[machine.instance_id])
        assert machine.output("echo up") == "up"
        machine.terminate()


def test_user_data_script_runs(account: Account) -> None:
    script = "#!/bin/sh\necho done by $(id -un) > /run/user-data-was-here\n"
    machine = account.run(UserData=script)[0]
    assert wait_for(lambda: machine.ssh("cat /run/user-data-was-here").returncode == 0, 60)
    assert machine.output("cat /run/user-data-was-here") == "done by root"
    told = account.ec2.describe_instance_attribute(
        InstanceId=machine.instance_id, Attribute="userData"
    )
    assert base64.b64decode(told["UserData"]["Value"]).decode() == script
    machine.terminate()


def test_several_reach_each_other_and_only_where_the_group_says(account: Account) -> None:
    group = account.group()
    inside = {
        "IpProtocol": "tcp",
        "FromPort": 7000,
        "ToPort": 7000,
        "UserIdGroupPairs": [{"GroupId": group}],
    }
    account.ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[inside])
    one, two = account.run(2, SecurityGroupIds=[group])
    two.output(
        "cd /; for port in 7000 7001; do nohup python3 -m http.server $port >/dev/null 2>&1 & done"
    )
    private = two.describe()["PrivateIpAddress"]
    script = f"import urllib.request as r; r.urlopen('http://{private}:%d', timeout=4)"
    fetch = f'python3 -c "{script}"'
    assert wait_for(lambda: one.ssh(fetch % 7000).returncode == 0, 20)
    assert one.ssh(fetch % 7001).returncode != 0
    for machine in (one, two):
        machine.terminate()


def test_ports_open_and_close_with_the_group(account: Account) -> None:
    group = account.group()
    machine = account.run(SecurityGroupIds=[group])[0]
    machine.output("nohup python3 -m http.server 8888 >/dev/null 2>&1 &")
    address = machine.public_ip
    assert not is_open(address, 8888)
    account.ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[tcp(8888)])
    assert wait_for(lambda: is_open(address, 8888), 10)
    account.ec2.revoke_security_group_ingress(GroupId=group, IpPermissions=[tcp(8888)])
    assert not is_open(address, 8888)
    foreign = tcp(8888, "203.0.113.0/24")
    account.ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[foreign])
    assert not is_open(address, 8888)
    machine.terminate()
    account.ec2.delete_security_group(GroupId=group)


def test_volume_outlives_its_instance_and_its_snapshot_has_the_content(account: Account) -> None:
    ec2, first = account.ec2, account.run()[0]
    zone = first.describe()["Placement"]["AvailabilityZone"]
    volume = ec2.create_volume(AvailabilityZone=zone, Size=1, VolumeType="gp3")["VolumeId"]
    ec2.attach_volume(VolumeId=volume, InstanceId=first.instance_id, Device="/dev/sdf")
    device = f"/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_{volume.replace('-', '')}"
    first.output(
        f"sudo mkfs.ext4 -q {device}; sudo mkdir -p /data; sudo mount {device} /data;"
        " echo precious | sudo tee /data/file; sudo umount /data"
    )
    snapshot = ec2.create_snapshot(VolumeId=volume)["SnapshotId"]
    first.terminate()
    assert ec2.describe_volumes(VolumeIds=[volume])["Volumes"][0]["State"] == "available"
    copy = ec2.create_volume(AvailabilityZone=zone, SnapshotId=snapshot)["VolumeId"]
    second = account.run(Placement={"AvailabilityZone": zone})[0]
    for volume_id, letter in ((volume, "f"), (copy, "g")):
        ec2.attach_volume(
            VolumeId=volume_id, InstanceId=second.instance_id, Device=f"/dev/sd{letter}"
        )
        device = f"/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_{volume_id.replace('-', '')}"
        point = f"/mnt/{letter}"
        read = f"sudo mkdir -p {point}; sudo mount {device} {point}; cat {point}/file"
        assert second.output(read) == "precious"
        second.output(f"sudo umount {point}")
    ec2.detach_volume(VolumeId=volume)
    second.terminate()
    ec2.delete_snapshot(SnapshotId=snapshot)
    for volume_id in (volume, copy):
        ec2.delete_volume(VolumeId=volume_id)


def test_mapped_data_volume_goes_with_its_instance(account: Account) -> None:
    ebs = {"VolumeSize": 1, "DeleteOnTermination": True, "Encrypted": True, "VolumeType": "gp3"}
    machine = account.run(BlockDeviceMappings=[{"DeviceName": "/dev/sdf", "Ebs": ebs}])[0]
    mappings = {m["DeviceName"]: m["Ebs"] for m in machine.describe()["BlockDeviceMappings"]}
    assert set(mappings) == {"/dev/xvda", "/dev/sdf"}
    volume = mappings["/dev/sdf"]["VolumeId"]
    device = f"/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_{volume.replace('-', '')}"
    assert machine.output(f"sudo blockdev --getsize64 {device}") == str(1 << 30)
    machine.terminate()
    with pytest.raises(ClientError, match=r"InvalidVolume\.NotFound"):
        account.ec2.describe_volumes(VolumeIds=[volume])


def test_image_of_an_instance_is_launched(account: Account, machine: Machine) -> None:
    machine.output("echo baked | sudo tee /etc/baked")
    name = f"baked-{uuid.uuid4().hex}"
    image = account.ec2.create_image(InstanceId=machine.instance_id, Name=name)["ImageId"]
    again = account.run(ImageId=image)[0]
    assert again.output("cat /etc/baked") == "baked"
    assert again.output("cat /etc/machine-id") != machine.output("cat /etc/machine-id")
    again.terminate()
    account.ec2.deregister_image(ImageId=image)


def test_repeated_launch_with_one_token_makes_one_machine(account: Account) -> None:
    token, group = uuid.uuid4().hex, account.group()
    first = account.run(ClientToken=token, SecurityGroupIds=[group])[0]
    started = time.monotonic()
    again = account.run(ClientToken=token, SecurityGroupIds=[group])[0]
    assert again.instance_id == first.instance_id
    assert time.monotonic() - started < 2
    first.terminate()
    with pytest.raises(ClientError, match="IdempotentInstanceTerminated"):
        account.run(ClientToken=token, SecurityGroupIds=[group])
