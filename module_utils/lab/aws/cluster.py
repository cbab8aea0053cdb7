"""What the hosts of a lab with workers may do to one another."""

from __future__ import annotations

from typing import Any

from .guard import partition
from .names import PROJECT, WORKER
from .things import ITSELF, Rule
from .variables import Spec

# NFS, Slurm's daemons, torchrun's rendezvous, where gloo and NCCL listen (the kernel's own range of
# ports, net.ipv4.ip_local_port_range, up to where srun's begins), and srun.
PORTS = ((2049, 2049), (6817, 6818), (29500, 29599), (32768, 60000), (60001, 61000))
RULES = frozenset(Rule("tcp", first, last, ITSELF) for first, last in PORTS)


def statements(spec: Spec, account: str) -> list[dict[str, Any]]:
    """Return what the head's role needs to stop and start workers, as Slurm asks for it.

    StartInstances and StopInstances are allowed on instances that bear all of the tags
    Project=gpulab, Lab=<the lab> and Role=worker (condition keys aws:ResourceTag/Project, /Lab and
    /Role), so neither on the head itself nor on another lab's. DescribeInstances knows no narrower
    resource than all. The workers have the same role.
    """
    if not (spec.slurm_autostop and spec.workers):
        return []
    arn = f"arn:{partition(spec.region)}:ec2:{spec.region}:{account}:instance/*"
    tags = {"Project": PROJECT, "Lab": spec.name, "Role": WORKER}
    keys = {f"aws:ResourceTag/{key}": value for key, value in tags.items()}
    return [
        {"Effect": "Allow", "Action": ["ec2:DescribeInstances"], "Resource": ["*"]},
        {
            "Effect": "Allow",
            "Action": ["ec2:StartInstances", "ec2:StopInstances"],
            "Resource": [arn],
            "Condition": {"StringEquals": keys},
        },
    ]
