"""What the preflight sees and says of the workers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from . import image, places, session_manager, spot
from .findings import Findings
from .image import Image
from .names import Names
from .session import Aws
from .things import Instance, Subnet
from .variables import Spec


@dataclass(frozen=True)
class Wanted:
    """The workers that there are to be, against those that are there."""

    spec: Spec
    there: tuple[Instance, ...]
    may_create: bool = True

    def numbers(self) -> range:
        """Return the numbers of the workers that there are to be."""
        return range(1, self.spec.workers + 1)

    def staying(self) -> dict[int, Instance]:
        """Return those that are there and are to stay, by their numbers."""
        return {worker.worker: worker for worker in self.there if worker.worker in self.numbers()}

    def missing(self) -> list[int]:
        """Return the numbers of those that are to be made."""
        return sorted(set(self.numbers()) - set(self.staying())) if self.may_create else []

    def idle(self) -> list[Instance]:
        """Return those that are to be started, or on their way.

        One on Spot capacity that AWS has taken back only AWS can start.
        """
        found = self.staying().values()
        return [one for one in found if one.state != "running" and not spot.interrupted(one)]

    def types(self) -> list[str]:
        """Return the type of each worker that there will be, those that are to go included."""
        return [one.type for one in self.there] + [self.spec.worker_types[0]] * len(self.missing())

    def types_to_start(self) -> list[str]:
        """Return the type of each that does not run yet."""
        starting = [one.type for one in self.idle() if one.state != "pending"]
        return starting + [self.spec.worker_types[0]] * len(self.missing())


def looks(aws: Aws, spec: Spec) -> dict[str, Callable[[], Any]]:
    """Return what is to be asked of AWS for a type of the workers' own; nothing without workers."""
    kind = spec.worker_type
    if not spec.workers or kind in ("", spec.instance_type):
        return {}
    return {
        "worker_type": lambda: image.instance_type(aws, kind),
        "worker_offered": lambda: places.offered(aws, kind),
    }


def made_from(
    aws: Aws, host: Instance | None, found: Image | str, spec: Spec, images: Mapping[str, Any]
) -> Image | str:
    """Return the image of new workers: the host's by its name, also where lab_image has changed."""
    tags = host.tags if host else {}
    name = tags.get("Image", spec.image)
    if name == spec.image:
        return found
    return image.look(aws, replace(spec, image=name, image_user=tags.get("LoginUser", "")), images)


def check(wanted: Wanted, names: Names, findings: Findings) -> None:
    """Refuse two workers of one number; say what differs from lab.yml and stays so."""
    spec = wanted.spec
    for number, count in Counter(one.worker for one in wanted.there).items():
        if count > 1:
            ids = ", ".join(one.id for one in wanted.there if one.worker == number)
            findings.problems.append(
                f"The lab {names.lab} has more than one worker {number} ({ids}): terminate all but"
                f" one with `aws ec2 terminate-instances --region {names.region} --instance-ids …`"
            )
    for number, one in wanted.staying().items():
        session_manager.check_host(spec, one, findings)
        if one.type not in spec.worker_types:
            findings.warnings.append(
                f"Worker {number} ({one.id}) is a {one.type} and stays so, though"
                f" {spec.worker_types[0]} is wanted: to have it made anew, run site.yml with -e"
                f" lab_workers={number - 1}, which takes it away, and then as usual"
            )
        if spot.interrupted(one):
            findings.warnings.append(
                f"AWS has taken back the Spot capacity of worker {number} ({one.id}), and starts it"
                " again when there is room; nobody else can"
            )


def fit(kind: Mapping[str, Any] | None, of: Image | str, spec: Spec, findings: Findings) -> None:
    """Refuse a type or an image that new workers cannot have; `kind` None: AWS knows it not."""
    if isinstance(of, str):
        findings.problems.append(of)
        return
    if kind is None:
        findings.problems.append(
            f"{spec.region} does not know the instance type {spec.worker_types[0]} of the workers:"
            " choose another with -e lab_worker_type=…"
        )
        return
    known = kind["ProcessorInfo"]["SupportedArchitectures"]
    if of.architecture not in known:
        findings.problems.append(
            f"The image {of.id} ({of.name}) is for {of.architecture}, but the workers'"
            f" {spec.worker_types[0]} is {', '.join(known)}, and host and workers are made of one"
            " image: choose another lab_worker_type"
        )
    if of.size > spec.root_gb:
        findings.problems.append(
            f"lab_root_gb is {spec.root_gb}, but the workers' image {of.name} needs {of.size} GB:"
            f" run again with -e lab_root_gb={of.size}"
        )


def near(
    subnets: Sequence[Subnet],
    host: Instance | None,
    offered: Sequence[str] | None,
    spec: Spec,
    findings: Findings,
) -> tuple[Subnet, ...]:
    """Keep the subnets whose zone offers the workers' type as well.

    `offered` None: it is the host's own.
    """
    if offered is None:
        return tuple(subnets)
    zones = {host.zone} if host else {subnet.zone for subnet in subnets}
    if subnets and not zones & set(offered):
        findings.problems.append(
            f"The workers' {spec.worker_type} is offered in {', '.join(offered) or 'no zone'}, not"
            f" in {', '.join(sorted(zones))}, where the host {'is' if host else 'can be'}, and"
            " all are in one zone: choose another lab_worker_type"
        )
    return tuple(subnet for subnet in subnets if subnet.zone in offered)
