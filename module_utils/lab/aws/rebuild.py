"""Replaces a lab's host and keeps its data volume; the old host stays until the new one is proved.

The old host is told by its name, so that every other machine finds the same state: set aside, it is
called gpulab-<lab>-old. In each order of a kill the next run goes on, forward or back:

1. the host stops and the data volume leaves it: site.yml would start it again, as it was;
2. it takes the name of the old one: site.yml and rebuild.yml make a new host;
3. the new host is proved: the old one is terminated. Or the way back: the new one is terminated,
   and the old one takes its name again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ..errors import LabError
from . import destroy, efs, power, seen, spot
from .clock import MINUTE, Clock
from .names import Names, write_tags
from .session import Aws, side_by_side, unless
from .steps import Step
from .things import FileSystem, Instance, Volume

# What DetachVolume answers where the volume has left already.
FREE = {"IncorrectState"}


@dataclass(frozen=True)
class Pair:
    """The lab's host, the one that was set aside, and the data volume; None where there is none."""

    host: Instance | None
    old: Instance | None
    data: Volume | None
    workers: tuple[int, ...] = ()
    file_system: FileSystem | None = None  # has /data in place of the volume


def look(aws: Aws, names: Names) -> Pair:
    """Find both hosts and the data volume. Raises AwsError, and LabError where two have a name."""
    found = side_by_side(
        {
            "instances": lambda: seen.instances(aws, names.filters()),
            "volumes": lambda: seen.volumes(aws, names.filters()),
            "file_system": lambda: efs.look(aws, names, needed=False),
        }
    )
    system: FileSystem | None = found["file_system"]
    data = [v for v in found["volumes"] if v.tags.get("Role") == "data"]
    return Pair(
        host=_only(found["instances"], names.common),
        old=_only(found["instances"], names.old),
        data=data[0] if data else None,
        file_system=system if system and names.owns(system.tags) else None,
        workers=tuple(sorted(one.worker for one in found["instances"] if one.worker)),
    )


def check_workers(there: Pair, names: Names) -> None:
    """Refuse to set a host aside whose workers have not been let go of. Raises LabError."""
    if not there.workers or there.old:
        return
    lab = f"-e lab_name={names.lab}"
    raise LabError(
        f"Workers of the lab {names.lab} are still there (number"
        f" {', '.join(map(str, there.workers))}), whose /data and queue are on the host: when"
        " their jobs have ended (`squeue` on it), run `ansible-playbook playbooks/rebuild.yml"
        f" {lab}` again; of a host that no longer starts, terminate the workers in the EC2 console"
        " first"
    )


def _only(instances: Sequence[Instance], name: str) -> Instance | None:
    named = [i for i in instances if i.tags.get("Name") == name]
    if len(named) > 1:
        ids = ", ".join(i.id for i in named)
        raise LabError(
            f"There is more than one host named {name} ({ids}): terminate what you do not need in"
            " the EC2 console, then run the same command again"
        )
    return named[0] if named else None


def begin(names: Names, there: Pair) -> list[Step]:
    """Return the steps that set the host aside; none where a rebuild has begun. Raises LabError."""
    host, data = there.host, there.data
    if there.old:
        return []
    if host is None:
        raise LabError(
            f"There is no host of the lab {names.lab} in {names.region} to rebuild: build one with"
            f" `ansible-playbook site.yml -e lab_name={names.lab}`"
        )
    if data is None and there.file_system is None:
        raise LabError(
            f"The lab {names.lab} has no data volume, so a rebuild would keep nothing: run"
            f" `ansible-playbook site.yml -e lab_name={names.lab}` first, which makes one"
        )
    if spot.interrupted(host):
        # AWS would start it at any time; without its request it cannot be kept.
        text = f"Cancel the Spot request of {host.id}: AWS deletes it with its system disk"
        cancel = Step("cancel", text, {"instance": host}, before=f"{host.id}: interrupted")
        return [*_let_go(host, data), cancel]
    return [*_let_go(host, data), _named(host, names.old, f"Set {host.id} aside as {names.old}")]


def finish(names: Names, there: Pair) -> list[Step]:
    """Return the steps that let go of the old host. Raises LabError where no other has it all."""
    host, old, data = there.host, there.old, there.data
    if old is None:
        return []
    kept = there.file_system or (host and data and data.attached_to == host.id)
    if host is None or host.state != "running" or not kept:
        raise LabError(
            f"The old host {old.id} is kept, for the new one does not run with the data volume:"
            f" run `ansible-playbook playbooks/rebuild.yml -e lab_name={names.lab}` again"
        )
    return [_gone(old, f"Terminate the old host {old.id} with its system disk")]


def back(names: Names, there: Pair) -> list[Step]:
    """Return the steps that give the old host its name again. Raises LabError."""
    host, old, data = there.host, there.old, there.data
    if old is None:
        raise LabError(
            f"The lab {names.lab} has no old host to go back to: see what there is with"
            " `ansible-playbook playbooks/status.yml`"
        )
    steps = [_named(old, names.common, f"Name {old.id} {names.common} again")]
    if host is None:
        return steps
    away = f"Terminate the new host {host.id} with its system disk"
    kept = data or there.file_system
    return [*(_let_go(host, data) if kept else ()), _gone(host, away), *steps]


def _let_go(host: Instance, data: Volume | None) -> list[Step]:
    steps = []
    if host.state != "stopped":
        text = f"Stop {host.id}, which is {host.state}"
        steps.append(Step("stop", text, {"instance": host}, before=f"{host.id}: {host.state}"))
    if data and data.attached_to == host.id:
        text = f"Detach the data volume {data.id} from {host.id}"
        steps.append(
            Step("detach", text, {"id": data.id, "at": host.id}, before=f"{data.id}: at {host.id}")
        )
    return steps


def _named(host: Instance, name: str, text: str) -> Step:
    args = {"id": host.id, "name": name}
    was = f"{host.id}: named {host.tags.get('Name', '')}"
    return Step("name", text, args, before=was, after=f"{host.id}: named {name}")


def _gone(host: Instance, text: str) -> Step:
    return Step("terminate", text, {"instance": host}, before=f"{host.id}: {host.state}")


def carry_out(aws: Aws, steps: Sequence[Step], clock: Clock) -> None:
    """Carry out the steps in their order. Raises LabError."""
    for step in steps:
        DO[step.do](aws, step, clock)


def _stop(aws: Aws, step: Step, clock: Clock) -> None:
    power.stop(aws, step.args["instance"], clock)


def _detach(aws: Aws, step: Step, clock: Clock) -> None:
    volume_id = step.args["id"]
    where = {"VolumeId": volume_id, "InstanceId": step.args["at"]}
    unless(FREE, lambda: aws.call("ec2", "DetachVolume", **where))
    by_id = [{"Name": "volume-id", "Values": [volume_id]}]

    def free() -> bool:
        return any(volume.state == "available" for volume in seen.volumes(aws, by_id))

    clock.until(free, 3 * MINUTE, f"Data volume {volume_id} free")


def _name(aws: Aws, step: Step, _clock: Clock) -> None:
    tags = write_tags({"Name": step.args["name"]})
    aws.call("ec2", "CreateTags", Resources=[step.args["id"]], Tags=tags)


def _cancel(aws: Aws, step: Step, clock: Clock) -> None:
    host: Instance = step.args["instance"]
    spot.cancel(aws, [host.spot_request])
    gone = f"{host.id} terminated"
    clock.until(lambda: not seen.not_terminated(aws, [host.id]), 10 * MINUTE, gone)


def _terminate(aws: Aws, step: Step, clock: Clock) -> None:
    destroy.terminate(aws, [step.args["instance"]], clock)


DO: Mapping[str, Callable[[Aws, Step, Clock], None]] = {
    "stop": _stop,
    "detach": _detach,
    "name": _name,
    "cancel": _cancel,
    "terminate": _terminate,
}
PLANS: Mapping[str, Callable[[Names, Pair], list[Step]]] = {
    "begun": begin,
    "finished": finish,
    "back": back,
}


def advice(old: Instance | None, names: Names, disk: str) -> list[str]:
    """Say that a rebuild is not finished; `disk` is what the old host's disk costs."""
    if old is None:
        return []
    command = f"ansible-playbook playbooks/rebuild.yml -e lab_name={names.lab}"
    return [
        f"The old host {old.id} of a rebuild is kept, and its disk costs {disk}: `{command}` goes"
        f" on and lets go of it once the new one is proved; `{command} -e rebuild_back=true` goes"
        " back to it"
    ]


__all__ = ["PLANS", "Pair", "advice", "back", "begin", "carry_out", "finish", "look"]
