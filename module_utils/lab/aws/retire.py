"""Lets go of a lab that nobody needs for long: its data in a snapshot, host and disks gone.

A snapshot costs less than the volume (what was written, at 0.05 against 0.08 dollars per GB and
month), and site.yml makes the data volume out of it again. The volume is deleted only after AWS has
said that the snapshot is complete. A /data on EFS is left as it is: it costs what is stored alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from ..errors import LabError
from . import destroy, efs, seen
from .clock import MINUTE, Clock
from .destroy import Things, Wish
from .names import Names, write_tags
from .session import Aws, side_by_side
from .spent import stopped_at
from .steps import Step
from .things import Instance, Snapshot, Volume

# A snapshot of an EBS volume of a terabyte takes hours the first time; a rerun goes on waiting.
SNAPSHOT_MINUTES = 50
DATA = "data"


@dataclass(frozen=True)
class Retiring:
    """What there is of the lab, with its snapshots of data volumes."""

    things: Things
    snapshots: tuple[Snapshot, ...]


def look(aws: Aws, names: Names, bucket: str) -> Retiring:
    """Find everything of the lab. Raises AwsError."""
    found = side_by_side(
        {
            "things": lambda: destroy.look(aws, names, bucket),
            "snapshots": lambda: seen.snapshots(aws, names.filters()),
        }
    )
    return Retiring(found["things"], data_snapshots(found["snapshots"]))


def data_snapshots(snapshots: Sequence[Snapshot]) -> tuple[Snapshot, ...]:
    """Return the snapshots of data volumes, the newest first."""
    ours = [s for s in snapshots if s.tags.get("Role") == DATA and s.state != "error"]
    return tuple(sorted(ours, key=lambda s: s.created or datetime.min.replace(tzinfo=UTC),
                        reverse=True))  # fmt: skip


def make_plan(names: Names, there: Retiring) -> list[Step]:
    """Return the steps, in the order in which nothing is lost. Raises LabError."""
    running = [i.id for i in there.things.instances if i.state != "stopped"]
    if running:
        raise LabError(
            f"The host {', '.join(running)} of the lab {names.lab} is not stopped, and its data can"
            " only be copied while nobody writes them: run `ansible-playbook playbooks/stop.yml -e"
            f" lab_name={names.lab}` first"
        )
    steps = []
    for volume in (v for v in there.things.volumes if v.tags.get("Role") == DATA):
        args = {"volume": volume}
        if _of(volume, there) is None:
            text = f"Copy {volume.id} ({volume.size} GB) into a snapshot"
            steps.append(Step("snapshot", text, args, after=f"snapshot of {volume.id}"))
        steps.append(Step("complete", f"Wait until the snapshot of {volume.id} is complete", args))
    wish = Wish(names.lab, delete_data=True, delete_bucket="")
    gone = {
        "cancel",
        "terminate",
        "delete_volume",
        "release",
        "delete_placement",
        "delete_schedule",
    }
    rest = destroy.make_plan(wish, names, there.things)
    return steps + [step for step in rest if step.do in gone]


def _of(volume: Volume, there: Retiring) -> Snapshot | None:
    """Return a snapshot that holds what the volume holds now: taken since its host last stopped."""
    ours = [s for s in there.snapshots if s.tags.get("Volume") == volume.id]
    host = next((i for i in there.things.instances if i.id == volume.attached_to), None)
    if not ours or (volume.attached_to and host is None):
        return None
    since = _written_until(host)
    newest = ours[0]
    if since and (newest.created is None or newest.created < since):
        return None
    return newest


def _written_until(host: Instance | None) -> datetime | None:
    """Return when the host may last have written to its disks."""
    if host is None:
        return None
    return max(stopped_at(host.stopped_because) or host.launched, host.launched)


def carry_out(aws: Aws, names: Names, there: Retiring, steps: Sequence[Step], clock: Clock) -> None:
    """Snapshot, wait, and only then delete. Raises LabError."""
    for step in steps:
        if step.do == "snapshot":
            _snapshot(aws, names, step.args["volume"])
    for step in steps:
        if step.do == "complete":
            _complete(aws, names, there.things, step.args["volume"], clock)
    rest = [step for step in steps if step.do not in ("snapshot", "complete")]
    destroy.carry_out(aws, rest, clock)


def _snapshot(aws: Aws, names: Names, volume: Volume) -> None:
    aws.call(
        "ec2",
        "CreateSnapshot",
        VolumeId=volume.id,
        Description=f"GPU lab {names.lab}: its data",
        TagSpecifications=[
            {
                "ResourceType": "snapshot",
                "Tags": write_tags(names.tags(Role=DATA, Volume=volume.id)),
            }
        ],
    )


def _complete(aws: Aws, names: Names, things: Things, volume: Volume, clock: Clock) -> None:
    def done() -> bool:
        taken = data_snapshots(seen.snapshots(aws, names.filters()))
        found = _of(volume, Retiring(things, taken))
        if found is None:
            raise LabError(
                f"The snapshot of {volume.id} failed, so nothing is deleted: run the same command"
                " again"
            )
        return found.state == "completed"

    clock.until(done, SNAPSHOT_MINUTES * MINUTE, f"The snapshot of {volume.id} complete")


def said(names: Names, there: Retiring, gb_month: float, efs_month: float) -> list[str]:
    """Say what stays, and what it costs a GB and month: a snapshot, a file system."""
    lines = [
        f"snapshot {s.id}: the data ({s.size} GB, at most ${s.size * gb_month:.2f} a month);"
        " the next site.yml makes the data volume out of it"
        for s in there.snapshots[:1]
    ]
    lines += [
        f"snapshot {s.id}: older data, at most ${s.size * gb_month:.2f} a month; delete it with"
        f" `aws ec2 delete-snapshot --region {names.region} --snapshot-id {s.id}`"
        for s in there.snapshots[1:]
    ]
    if there.things.file_system:
        lines.append(
            f"{efs.said(there.things.file_system, efs_month)}: /data as it is; the next site.yml"
            " takes it up again"
        )
    if there.things.bucket:
        lines.append(f"bucket {there.things.bucket.name}: as it is, billed by what is in it")
    return lines


def advice(host: Instance | None, days: int, cost: str, lab: str, now: datetime) -> list[str]:
    """Say that a host has been stopped for long; `days` 0 never does."""
    if host is None or host.state != "stopped" or not days:
        return []
    since = stopped_at(host.stopped_because)
    if since is None or now - since < timedelta(days=days):
        return []
    return [
        f"The host {host.id} of the lab {lab} has been stopped for {(now - since).days} days"
        f" (lab_retire_days is {days}) and its disks cost {cost}: `ansible-playbook"
        f" playbooks/retire.yml -e lab_name={lab}` keeps the data in a snapshot and lets go of the"
        " rest; site.yml brings the lab back"
    ]
