"""Where the host can be: the zones that offer its type, and the zone of its data volume."""

from __future__ import annotations

from collections.abc import Sequence

from .findings import Findings
from .session import Aws
from .things import Instance, Seen, Subnet
from .variables import Spec


def volume(there: Seen, host: Instance | None, spec: Spec, findings: Findings) -> None:
    """Refuse a data volume that the host could not have."""
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
    if data.size > spec.data_gb:
        findings.warnings.append(
            f"lab_data_gb is {spec.data_gb}, but the data volume {data.id} has {data.size} GB and"
            f" stays so: AWS cannot make a volume smaller. Set lab_data_gb to {data.size}; for a"
            " smaller one copy the data to the bucket, then playbooks/destroy.yml -e"
            " delete_data=true and site.yml"
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


def subnets(
    there: Seen,
    host: Instance | None,
    spec: Spec,
    offered: Sequence[str],
    findings: Findings,
) -> tuple[Subnet, ...]:
    """Return the subnets in which the host can be made, best first."""
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
            f"{spec.instance_type} is offered in {', '.join(offered)}, not in"
            f" {f'{zone} ({why})' if zone else 'a zone with a default subnet'}: choose another"
            " lab_instance_type" + ("" if data else " or leave lab_zone empty")
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


def offered(aws: Aws, instance_type: str) -> list[str]:
    """Return the zones that offer a type."""
    found = aws.pages(
        "ec2",
        "DescribeInstanceTypeOfferings",
        "InstanceTypeOfferings",
        LocationType="availability-zone",
        Filters=[{"Name": "instance-type", "Values": [instance_type]}],
    )
    return sorted(offer["Location"] for offer in found)
