"""Everything that can go wrong is looked at before anything is made."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import LabError
from . import caller, environment, keys, seen
from .names import Names, read_tags
from .prices import Price, price
from .seen import Instance, Seen, Subnet
from .session import Aws, AwsError, side_by_side, unless
from .variables import Spec

# Service quotas of EC2 are counted in vCPUs and by family: the letters before the number.
QUOTAS = {
    "L-DB2E81BA": ("Running On-Demand G and VT instances", {"g", "gr", "vt"}),
    "L-417A185B": ("Running On-Demand P instances", {"p"}),
    "L-1216C47A": (
        "Running On-Demand Standard (A, C, D, H, I, M, R, T, Z) instances",
        set("acdhimrtz"),
    ),
}
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


@dataclass(frozen=True)
class Target:
    """What is to be there: the user's wishes, resolved against AWS."""

    spec: Spec
    names: Names
    account: str
    sandbox: bool
    bucket: str
    users_bucket: bool
    cidrs: tuple[str, ...]
    image: Image | None
    subnets: tuple[Subnet, ...]
    vpc_id: str
    price: Price
    warnings: tuple[str, ...] = ()

    @property
    def login_user(self) -> str:
        """The user to log in as, where a new host is made."""
        return self.image.user if self.image else ""


@dataclass
class Findings:
    """Problems and warnings, collected so that the user reads all of them at once."""

    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def stop(self) -> None:
        """Raise LabError if there is a problem."""
        if self.problems:
            raise LabError("\n".join(self.problems))


@dataclass(frozen=True)
class Inputs:
    """What the preflight is given besides AWS itself."""

    spec: Spec
    images: Mapping[str, Any]
    prices: Mapping[str, Any]
    environ: Mapping[str, str]
    inventory_region: str
    may_create: bool = True
    fetch: caller.Fetch = caller.fetch


def check(
    aws: Aws, inputs: Inputs, endpoints: Mapping[str, str], access_key: str
) -> tuple[Target, Seen, keys.LocalKey]:
    """Look at everything, decide, and refuse what cannot work. Raises LabError."""
    spec = inputs.spec
    sandbox = environment.check(endpoints, access_key, inputs.environ)
    _region(inputs)
    key = keys.look(spec.state_dir)
    names = Names(spec.name, spec.region)
    account = str(aws.call("sts", "GetCallerIdentity")["Account"])
    bucket = spec.bucket or names.bucket(account)
    found = side_by_side(
        {
            "seen": lambda: seen.look(aws, names, bucket, users_own=bool(spec.bucket)),
            "cidrs": lambda: caller.allowed(spec.allowed_cidrs, inputs.environ, inputs.fetch),
            "offered": lambda: _offered(aws, spec.instance_type),
            "type": lambda: _type(aws, spec.instance_type),
            "image": lambda: _image(aws, spec, inputs.images),
            "quota": lambda: _quota(aws, spec.instance_type),
        }
    )
    there: Seen = found["seen"]
    findings = Findings()
    host = there.host(names)
    if host is None and not inputs.may_create:
        raise LabError(
            f"There is no host of the lab {spec.name} in {spec.region} to start: build one with"
            " `ansible-playbook site.yml`"
        )
    _foreign(there, names, account, spec, findings)
    _bucket(there, spec, account, findings)
    _key(there, key, names, findings)
    _volume(there, host, spec, findings)
    subnets = _places(there, host, spec, found["offered"], findings)
    image = found["image"] if isinstance(found["image"], Image) else None
    if host is None:
        _type_and_image(found["type"], found["image"], spec, findings)
    else:
        _drift(host, spec, findings)
    findings.stop()
    _room(aws, there, host, found["type"], found["quota"], spec, findings)
    findings.stop()
    if "0.0.0.0/0" in found["cidrs"]:
        findings.warnings.append(
            "lab_allowed_cidrs opens the host to the whole internet (0.0.0.0/0): a key is still"
            " needed, but name your own networks where you can"
        )
    disk = spec.root_gb + (data.size if (data := there.data()) else spec.data_gb)
    target = Target(
        spec=spec,
        names=names,
        account=account,
        sandbox=sandbox,
        bucket=bucket,
        users_bucket=bool(spec.bucket),
        cidrs=found["cidrs"],
        image=image,
        subnets=subnets,
        vpc_id=host.vpc_id if host else subnets[0].vpc_id,
        price=price(inputs.prices, spec.region, spec.instance_type, disk),
        warnings=tuple(findings.warnings),
    )
    return target, there, key


def _region(inputs: Inputs) -> None:
    if inputs.inventory_region != inputs.spec.region:
        raise LabError(
            f'lab_region is "{inputs.spec.region}", but the inventory looks in'
            f" {inputs.inventory_region} (AWS_REGION or lab.yml): export"
            f" AWS_REGION={inputs.spec.region}, or set lab_region in lab.yml"
        )


def _foreign(there: Seen, names: Names, account: str, spec: Spec, findings: Findings) -> None:
    """Refuse every name that is taken by something which this lab has not made."""
    taken = [f"instance {i.id} (Name {names.common})" for i in there.strangers(names)]
    if there.key_pair and not names.owns(there.key_pair.tags):
        taken.append(f"key pair {names.common}")
    taken += [
        f"security group {names.common} ({group.id})"
        for group in there.groups
        if not names.owns(group.tags)
    ]
    if there.role and not names.owns(there.role.tags):
        taken.append(f"role {names.role}")
    if there.profile and not names.owns(there.profile.tags):
        taken.append(f"instance profile {names.role}")
    findings.problems += [
        f"The {thing} exists, but has not the tags Project=gpulab and Lab={names.lab}, so it is"
        " somebody else's and is not touched: choose another name with -e lab_name=…, or remove"
        " it by hand"
        for thing in taken
    ]
    if len(there.hosts(names)) > 1:
        ids = ", ".join(i.id for i in there.hosts(names))
        findings.problems.append(
            f"The lab {names.lab} has more than one host ({ids}): terminate all but one with"
            f" `aws ec2 terminate-instances --region {spec.region} --instance-ids …`"
        )


def _bucket(there: Seen, spec: Spec, account: str, findings: Findings) -> None:
    names, bucket = Names(spec.name, spec.region), there.bucket
    if spec.bucket:
        _users_bucket(bucket, spec, findings)
    elif bucket and not bucket.reachable:
        findings.problems.append(
            f"The bucket {bucket.name} exists, but these credentials may not reach it: it is"
            " somebody else's; name one of your own with -e lab_bucket=…"
        )
    elif bucket and not names.owns(bucket.tags) and not begun(spec, bucket.name):
        findings.problems.append(
            f"The bucket {bucket.name} exists, but has not the tags Project=gpulab and"
            f" Lab={spec.name}, so it is not touched: to use it as it is, -e"
            f" lab_bucket={bucket.name}; else choose another name with -e lab_name=…"
        )
    elif bucket and bucket.region and bucket.region != spec.region:
        findings.problems.append(
            f"The lab's bucket {bucket.name} lies in {bucket.region}, not in lab_region"
            f" {spec.region} (buckets' names are the same for all regions): choose another name"
            " with -e lab_name=…, or name another bucket with -e lab_bucket=…"
        )


def _users_bucket(bucket: seen.Bucket | None, spec: Spec, findings: Findings) -> None:
    if bucket is None:
        findings.problems.append(
            f"lab_bucket is {spec.bucket}, but there is no such bucket: make it with"
            f" `aws s3 mb s3://{spec.bucket} --region {spec.region}`, or leave lab_bucket empty to"
            " have one made"
        )
    elif not bucket.reachable:
        findings.problems.append(
            f"lab_bucket is {spec.bucket}, but these credentials may not reach it: see"
            f" `aws s3 ls s3://{spec.bucket}`"
        )
    elif bucket.region and bucket.region != spec.region:
        findings.warnings.append(
            f"The bucket {spec.bucket} lies in {bucket.region}, the lab in {spec.region}: AWS bills"
            " about $0.02 per GB that crosses"
        )


def begun(spec: Spec, bucket: str) -> bool:
    """Whether an earlier run of this lab began to make the bucket (S3 takes no tags with it)."""
    note = spec.state_dir / "making_bucket"
    return note.is_file() and note.read_text().strip() == bucket


def _key(there: Seen, key: keys.LocalKey, names: Names, findings: Findings) -> None:
    pair = there.key_pair
    if pair is None or not names.owns(pair.tags):
        host = there.host(names)
        if host and not key.public_key:
            findings.problems.append(_lost(key, names))
        return
    if not key.public_key:
        findings.problems.append(_lost(key, names))
    elif pair.public_key and pair.public_key != key.public_key:
        findings.problems.append(
            f"{key.path} is not the private key of the key pair {names.common} in AWS."
            + _choices(key, names)
        )


def _lost(key: keys.LocalKey, names: Names) -> str:
    return (
        f"The private key {key.path} is lost, while the lab's key pair or host is in AWS; a new key"
        " would not open the host, so none is made silently." + _choices(key, names)
    )


def _choices(key: keys.LocalKey, names: Names) -> str:
    return (
        f" Either put the right file back (a copy, or the machine that built the lab has it), or"
        f" run `ansible-playbook playbooks/destroy.yml -e lab_name={names.lab} -e"
        f" confirm={names.lab}` and then site.yml: that makes a new key and a new host, and keeps"
        " the data volume and the bucket"
    )


def _volume(there: Seen, host: Instance | None, spec: Spec, findings: Findings) -> None:
    found = there.data_volumes()
    if len(found) > 1:
        ids = ", ".join(volume.id for volume in found)
        findings.problems.append(
            f"The lab {spec.name} has more than one data volume ({ids}): take the tag Role=data"
            " from all but one with `aws ec2 delete-tags`"
        )
        return
    if not found:
        return
    data = found[0]
    strangers = {i.id for i in there.instances} - ({host.id} if host else set())
    if data.attached_to in strangers:
        findings.problems.append(
            f"The data volume {data.id} is attached to {data.attached_to}, which is not the host of"
            f" the lab {spec.name}: detach it with `aws ec2 detach-volume --region {spec.region}"
            f" --volume-id {data.id}`"
        )
    if data.size != spec.data_gb:
        findings.warnings.append(
            f"lab_data_gb is {spec.data_gb}, the data volume {data.id} has {data.size} GB and stays"
            f" so (to grow it: `aws ec2 modify-volume --region {spec.region} --volume-id {data.id}"
            f" --size {max(spec.data_gb, data.size + 1)}`, then resize2fs on the host)"
        )
    if host and host.zone != data.zone:
        findings.problems.append(
            f"The host is in {host.zone}, the data volume {data.id} in {data.zone}, and a volume"
            " cannot leave its zone: run playbooks/destroy.yml (it keeps the volume), then site.yml"
        )
    if not host and spec.zone and spec.zone != data.zone:
        findings.problems.append(
            f"lab_zone is {spec.zone}, but the data volume {data.id} lies in {data.zone}, and a"
            " volume cannot leave its zone: leave lab_zone empty"
        )


def _places(
    there: Seen,
    host: Instance | None,
    spec: Spec,
    offered: Sequence[str],
    findings: Findings,
) -> tuple[Subnet, ...]:
    """The subnets in which the host can be made, best first."""
    if host:
        return tuple(subnet for subnet in there.subnets if subnet.vpc_id == host.vpc_id)
    data = there.data()
    zone = data.zone if data else spec.zone
    if not offered:
        findings.problems.append(
            f"{spec.region} does not offer the instance type {spec.instance_type}: choose another"
            " with -e lab_instance_type=…, or another lab_region (`aws ec2"
            " describe-instance-type-offerings --filters"
            f" Name=instance-type,Values={spec.instance_type} --region …`)"
        )
        return ()
    if spec.subnet_id:
        return _own_subnet(there, spec, zone, offered, findings)
    subnets = [subnet for subnet in there.subnets if subnet.default]
    if not subnets:
        findings.problems.append(
            f"There is no default network in {spec.region}: make one with `aws ec2"
            f" create-default-vpc --region {spec.region}`, or name a subnet with -e lab_subnet_id=…"
        )
        return ()
    fit = [s for s in subnets if s.zone in offered and zone in ("", s.zone)]
    if not fit:
        why = f"the data volume {data.id} is there" if data else "lab_zone names it"
        findings.problems.append(
            f"{spec.instance_type} is offered in {', '.join(offered)}, not in {zone or 'a zone with'}"
            f"{f' ({why})' if zone else ' a default subnet'}: choose another lab_instance_type"
            + ("" if data else " or leave lab_zone empty")
        )
    return tuple(sorted(fit, key=lambda subnet: subnet.zone))


def _own_subnet(
    there: Seen, spec: Spec, zone: str, offered: Sequence[str], findings: Findings
) -> tuple[Subnet, ...]:
    subnet = next((s for s in there.subnets if s.id == spec.subnet_id), None)
    if subnet is None:
        findings.problems.append(
            f"lab_subnet_id is {spec.subnet_id}, but there is no such subnet in {spec.region}: see"
            f" `aws ec2 describe-subnets --region {spec.region}`"
        )
    elif not subnet.public:
        findings.problems.append(
            f"The subnet {subnet.id} gives its hosts no public address: `aws ec2"
            f" modify-subnet-attribute --subnet-id {subnet.id} --map-public-ip-on-launch`"
        )
    elif subnet.zone not in offered or zone not in ("", subnet.zone):
        findings.problems.append(
            f"The subnet {subnet.id} lies in {subnet.zone}, but {spec.instance_type} is offered in"
            f" {', '.join(offered)}{f' and the host must be in {zone}' if zone else ''}: choose"
            " another lab_subnet_id or lab_instance_type"
        )
    else:
        return (subnet,)
    return ()


def _type_and_image(
    kind: Mapping[str, Any] | None, image: Image | str, spec: Spec, findings: Findings
) -> None:
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


def _drift(host: Instance, spec: Spec, findings: Findings) -> None:
    """Say what an existing host keeps although lab.yml says otherwise."""
    if host.type != spec.instance_type and host.state != "stopped":
        findings.problems.append(
            f"lab_instance_type is {spec.instance_type}, but the host {host.id} runs as {host.type},"
            f" and a type can be changed only while it is stopped: run `ansible-playbook"
            f" playbooks/stop.yml -e lab_name={spec.name}` and then the same command again, or"
            f" -e lab_instance_type={host.type}"
        )
    made_from = host.tags.get("Image", spec.image)
    if made_from != spec.image:
        findings.warnings.append(
            f"lab_image is {spec.image}, the host was made from {made_from} and stays so: a new one"
            " is made by playbooks/destroy.yml (it keeps the data volume) and site.yml"
        )


def _room(
    aws: Aws,
    there: Seen,
    host: Instance | None,
    kind: Mapping[str, Any] | None,
    quota: float | None | str,
    spec: Spec,
    findings: Findings,
) -> None:
    """Compare the vCPU quota with what runs and what is to be started."""
    code = quota_code(spec.instance_type)
    if (host and host.state in ("pending", "running")) or not code or kind is None:
        return
    if not isinstance(quota, (int, float)):
        findings.warnings.append(
            f"The quota {code} ({QUOTAS[code][0]}) could not be read ({quota or 'not there'}), so"
            " it is not known whether the host has room in it"
        )
        return
    used = _vcpus(aws, there, code)
    needed = int(kind["VCpuInfo"]["DefaultVCpus"])
    if used + needed > quota:
        findings.problems.append(
            f"{spec.instance_type} needs {needed} vCPUs, but the quota {code} ({QUOTAS[code][0]}) in"
            f" {spec.region} is {quota:g}, of which {used} are in use: ask for more with `aws"
            f" service-quotas request-service-quota-increase --service-code ec2 --quota-code {code}"
            f" --desired-value {used + needed} --region {spec.region}` (hours to days)"
        )


def quota_code(instance_type: str) -> str:
    """Code of the on-demand quota that a type counts for, empty where it is not known."""
    letters = re.match(r"[a-z]+", instance_type)
    family = letters.group() if letters else ""
    return next((code for code, (_, families) in QUOTAS.items() if family in families), "")


def _vcpus(aws: Aws, there: Seen, code: str) -> int:
    """How many vCPUs of a quota run now."""
    running = [
        instance.type
        for instance in there.instances
        if instance.state in ("pending", "running")
        and not instance.spot
        and quota_code(instance.type) == code
    ]
    if not running:
        return 0
    kinds = aws.pages(
        "ec2", "DescribeInstanceTypes", "InstanceTypes", InstanceTypes=sorted(set(running))
    )
    sizes = {kind["InstanceType"]: int(kind["VCpuInfo"]["DefaultVCpus"]) for kind in kinds}
    return sum(sizes.get(kind, 0) for kind in running)


def _offered(aws: Aws, instance_type: str) -> list[str]:
    found = aws.pages(
        "ec2",
        "DescribeInstanceTypeOfferings",
        "InstanceTypeOfferings",
        LocationType="availability-zone",
        Filters=[{"Name": "instance-type", "Values": [instance_type]}],
    )
    return sorted(offer["Location"] for offer in found)


def _type(aws: Aws, instance_type: str) -> Mapping[str, Any] | None:
    found = unless(
        {"InvalidInstanceType"},
        lambda: aws.call("ec2", "DescribeInstanceTypes", InstanceTypes=[instance_type]),
    )
    return found["InstanceTypes"][0] if found and found["InstanceTypes"] else None


def _quota(aws: Aws, instance_type: str) -> float | None | str:
    """The quota in vCPUs; None or a reason where it cannot be read."""
    code = quota_code(instance_type)
    if not code:
        return None
    try:
        answer = aws.call("service-quotas", "GetServiceQuota", ServiceCode="ec2", QuotaCode=code)
    except AwsError as error:
        return error.code
    value = answer["Quota"].get("Value")
    return None if value is None else float(value)


def _image(aws: Aws, spec: Spec, images: Mapping[str, Any]) -> Image | str:
    """Resolve the image by name through SSM, or describe an id; a text says why not."""
    named = images.get(spec.image)
    image_id, user = spec.image, spec.image_user
    if named is not None:
        kind = _type(aws, spec.instance_type)
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


def summary(target: Target, there: Seen) -> dict[str, Any]:
    """What the playbooks tell the user and hand to the next steps."""
    host, data = there.host(target.names), there.data()
    return {
        "name": target.spec.name,
        "region": target.spec.region,
        "account": target.account,
        "sandbox": target.sandbox,
        "bucket": target.bucket,
        "allowed_cidrs": list(target.cidrs),
        "instance_type": host.type if host else target.spec.instance_type,
        "instance_id": host.id if host else "",
        "state": host.state if host else "",
        "zone": host.zone if host else "",
        "public_ip": host.public_ip if host else "",
        "private_ip": host.private_ip if host else "",
        "login_user": (host.tags.get("LoginUser") if host else "") or target.login_user,
        "data_volume": data.id if data else "",
        "price_hour": target.price.hour,
        "price_stopped_month": round(target.price.stopped_month, 2),
        "price_text": f"{target.price.running} while running, {target.price.stopped} while stopped"
        f" ({target.price.note})",
    }
