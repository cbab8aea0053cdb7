"""Everything that can go wrong is looked at before anything is made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from ..errors import LabError
from . import (
    caller,
    efs,
    environment,
    guard,
    guards,
    image,
    keys,
    placement,
    places,
    quota,
    rebuild,
    refusals,
    retire,
    seen,
    session_manager,
    spent,
    spot,
    workers,
)
from .findings import Findings
from .image import Image
from .names import Names
from .prices import Held, Price, current, price, together
from .session import Aws, side_by_side
from .things import Instance, Seen, Subnet
from .variables import Spec


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
    table: Mapping[str, Any] = field(default_factory=dict)
    held: Held = field(default_factory=lambda: Held(0))
    bill: str = ""
    warnings: tuple[str, ...] = ()
    may_create: bool = True
    worker_image: Image | None = None
    placement: str = ""  # the placement group that workers are to be in

    @property
    def login_user(self) -> str:
        """The user to log in as, where a new host is made."""
        return self.image.user if self.image else ""


@dataclass(frozen=True)
class Inputs:
    """What the preflight is given besides AWS itself."""

    spec: Spec
    images: Mapping[str, Any]
    prices: Mapping[str, Any]
    environ: Mapping[str, str]
    inventory_region: str
    may_create: bool = True
    replacing: bool = False  # as if the host were gone: what a rebuild will find
    fetch: caller.Fetch = caller.fetch


@dataclass(frozen=True)
class _Look:
    """What the look at AWS has found, by the names of its questions."""

    inputs: Inputs
    host: Instance | None
    workers: workers.Wanted
    found: Mapping[str, Any]


def check(
    aws: Aws, inputs: Inputs, endpoints: Mapping[str, str], access_key: str
) -> tuple[Target, Seen, keys.LocalKey]:
    """Look at everything, decide, and refuse what cannot work. Raises LabError."""
    spec = inputs.spec
    sandbox = environment.check(endpoints, access_key, inputs.environ)
    session_manager.check(spec, sandbox)
    _region(inputs)
    key = keys.look(spec.state_dir)
    names = Names(spec.name, spec.region)
    account = str(aws.call("sts", "GetCallerIdentity")["Account"])
    bucket = spec.bucket or names.bucket(account)
    kinds = (*spec.types, *(spec.worker_types if spec.workers else ()))
    found = side_by_side(
        {
            "seen": lambda: seen.look(aws, names, bucket, users_own=bool(spec.bucket)),
            "cidrs": lambda: caller.allowed(spec.allowed_cidrs, inputs.environ, inputs.fetch),
            "offered": lambda: places.offered(aws, spec.instance_type),
            "type": lambda: image.instance_type(aws, spec.instance_type),
            "others": lambda: {kind: image.instance_type(aws, kind) for kind in spec.types[1:]},
            "image": lambda: image.look(aws, spec, inputs.images),
            "bill": lambda: spent.bill(aws, spec.name, _now()) if spec.cost_explorer else "",
            "guard": lambda: guard.look(aws, names, account, workers=spec.workers > 0),
            "file_system": lambda: efs.look(aws, names, needed=efs.wanted(spec)),
            "quota": lambda: quota.look(aws, kinds, spec.spot),
            "prices": lambda: current(aws, inputs.prices, spec.region, kinds),
            **workers.looks(aws, spec),
        }
    )
    there: Seen = replace(found["seen"], guard=found["guard"], file_system=found["file_system"])
    if inputs.replacing:
        rest = tuple(i for i in there.instances if i not in there.hosts(names))
        there = replace(there, instances=rest, protected=False, on_shutdown="")
    there = replace(there, placement=placement.look_if_used(aws, spec, names, there))
    host = there.host(names)
    if host is None and not inputs.may_create:
        raise LabError(
            f"There is no host of the lab {spec.name} in {spec.region} to start: build one with"
            " `ansible-playbook site.yml`"
        )
    findings = Findings()
    session_manager.check_host(spec, host, findings)
    refusals.foreign(there, names, findings, spec.workers)
    refusals.bucket(there, spec, findings)
    refusals.key(there, key, names, findings)
    guards.refuse(guard.Wanted(spec, names, account), there, findings)
    efs.refuse(there, spec, names, findings)
    places.volume(there, host, spec, findings)
    subnets = places.subnets(there, host, spec, found["offered"], findings)
    if host is None:
        image.fit(found["type"], found["image"], spec, findings)
    else:
        image.drift(host, found["type"], spec, findings)
        spot.drift(host, spec, findings)
    made_of = found["image"].architecture if isinstance(found["image"], Image) else ""
    image.others(found["others"], host.architecture if host else made_of, spec, findings)
    wanted = workers.Wanted(spec, tuple(there.workers(names)), inputs.may_create)
    looked = _Look(inputs, host, wanted, found)
    worker_image = _workers(aws, looked, findings)
    subnets = workers.near(subnets, host, found.get("worker_offered"), spec, findings)
    group = _group(looked, there, findings)
    findings.stop()
    _room(aws, looked, there, findings)
    if "0.0.0.0/0" in found["cidrs"]:
        findings.warnings.append(
            "lab_allowed_cidrs opens the host to the whole internet (0.0.0.0/0): a key is still"
            " needed, but name your own networks where you can"
        )
    warnings = findings.warnings
    held = Held(  # by the host; each worker has its root volume
        disk_gb=spec.root_gb + _data_gb(spec, there),
        shared_gb=efs.gib(there.file_system),
        snapshot_gb=sum(snapshot.size for snapshot in there.snapshots),
        addresses=len(there.addresses),
    )
    cost = price(found["prices"], spec.region, spec.instance_type, held)
    warnings += retire.advice(host, spec.retire_days, cost.stopped, spec.name, _now())
    warnings += rebuild.advice(there.old(names), names, cost_of_old(there, names, found["prices"]))
    target = Target(
        spec=spec,
        names=names,
        account=account,
        sandbox=sandbox,
        bucket=bucket,
        users_bucket=bool(spec.bucket),
        cidrs=found["cidrs"],
        image=found["image"] if isinstance(found["image"], Image) else None,
        subnets=subnets,
        vpc_id=host.vpc_id if host else subnets[0].vpc_id,
        price=cost,
        table=found["prices"],
        held=held,
        bill=found["bill"],
        warnings=tuple(warnings),
        may_create=inputs.may_create,
        worker_image=worker_image,
        placement=group,
    )
    return target, there, key


def _workers(aws: Aws, look: _Look, findings: Findings) -> Image | None:
    """Refuse workers that cannot be; return the image of new ones, None where there are none."""
    spec, found = look.inputs.spec, look.found
    workers.check(look.workers, Names(spec.name, spec.region), findings)
    if not look.workers.missing():
        return None
    made_of = workers.made_from(aws, look.host, found["image"], spec, look.inputs.images)
    if look.host is not None or "worker_type" in found:  # else it was looked at as the host's
        workers.fit(found.get("worker_type", found["type"]), made_of, spec, findings)
    return made_of if isinstance(made_of, Image) else None


def _group(look: _Look, there: Seen, findings: Findings) -> str:
    """Return the name of the placement group of the workers; empty where they need none."""
    spec, kinds = look.inputs.spec, _kinds(look)
    names = Names(spec.name, spec.region)
    placement.check(spec, kinds, findings)
    group = placement.wanted(spec, names, kinds)
    if there.placement is None and not look.inputs.may_create:
        return ""
    placement.outside(group, list(look.workers.staying().values()), names, findings)
    return group


def _kinds(look: _Look) -> dict[str, Mapping[str, Any] | None]:
    """Return what AWS says of the types that host and workers may be of."""
    spec, found = look.inputs.spec, look.found
    kinds = {spec.instance_type: found["type"], **found["others"]}
    if "worker_type" in found:
        kinds[spec.worker_type] = found["worker_type"]
    return kinds


def _room(aws: Aws, look: _Look, there: Seen, findings: Findings) -> None:
    """Refuse what the quotas have no room for, host and workers together. Raises LabError."""
    spec, host, found = look.inputs.spec, look.host, look.found
    starting = look.workers.types_to_start()
    if host is None or host.type not in spec.types or host.state not in ("pending", "running"):
        rest = tuple(i for i in there.instances if host is None or i.id != host.id)
        there = replace(there, instances=rest)
        starting = [spec.instance_type, *starting]
    if not starting:
        return
    kinds = _kinds(look)
    for kind in set(starting) - set(kinds):
        kinds[kind] = image.instance_type(aws, kind)
    quota.room(aws, there, quota.Need(spec, starting, kinds, found["quota"]), findings)
    findings.stop()


def _data_gb(spec: Spec, there: Seen) -> int:
    """Return the size of the data volume, there or to be made; 0 where /data is on EFS."""
    data = there.data()
    if data:
        return data.size
    return 0 if efs.wanted(spec) else spec.data_gb


def _region(inputs: Inputs) -> None:
    if inputs.inventory_region != inputs.spec.region:
        raise LabError(
            f'lab_region is "{inputs.spec.region}", but the inventory looks in'
            f" {inputs.inventory_region} (AWS_REGION, else us-east-1): export"
            f" AWS_REGION={inputs.spec.region}, or set lab_region to {inputs.inventory_region}"
        )


def look_again(aws: Aws, target: Target) -> Seen:
    """Look at the lab after a change of it. Raises AwsError."""
    there = seen.look(aws, target.names, target.bucket, users_own=target.users_bucket)
    watched = guard.look(aws, target.names, target.account, workers=target.spec.workers > 0)
    system = efs.look(aws, target.names, needed=efs.wanted(target.spec))
    return replace(there, guard=watched, file_system=system)


def runs(target: Target, there: Seen) -> tuple[spent.Run, ...]:
    """Return when the hosts ran, as earlier runs have kept it and as AWS tells it now."""
    kept = spent.read(target.spec.state_dir)
    host = there.host(target.names)
    kept = spent.update(kept, host, cost_of(target, host).host_hour, _now())
    hours = {one.id: cost_of_worker(target, one.type).host_hour for one in _mine(target, there)}
    return spent.update_workers(kept, _mine(target, there), hours, _now())


def _mine(target: Target, there: Seen) -> tuple[Instance, ...]:
    return tuple(there.workers(target.names))


def cost_of(target: Target, host: Instance | None) -> Price:
    """Return what the host costs as it is, which may be another type than the wanted one."""
    kind = host.type if host else target.spec.instance_type
    return price(target.table, target.spec.region, kind, target.held)


def cost_of_worker(target: Target, kind: str) -> Price:
    """Return what one worker of a type costs: instance, address and its root volume."""
    return price(target.table, target.spec.region, kind, Held(target.spec.root_gb))


def cost_of_all(target: Target, there: Seen) -> tuple[Price, int]:
    """Return what the host and the workers cost that are there or wanted, and how many workers."""
    wanted = workers.Wanted(target.spec, _mine(target, there), target.may_create)
    others = [cost_of_worker(target, kind) for kind in wanted.types()]
    return together([cost_of(target, there.host(target.names)), *others]), len(others)


def _now() -> datetime:
    return datetime.now(UTC)


def cost_of_old(there: Seen, names: Names, table: Mapping[str, Any]) -> str:
    """Say what the disk of the host costs that a rebuild has set aside."""
    old = there.old(names)
    sizes = (v.size for v in there.volumes if old and v.id == old.root_volume)
    return f"${sum(sizes) * float(table['gp3_gb_month']):.2f} a month"


def summary(target: Target, there: Seen) -> dict[str, Any]:
    """Return what the playbooks tell the user and hand to the next steps."""
    host, data = there.host(target.names), there.data()
    cost, count = cost_of_all(target, there)
    others = f" for the host and {count} worker{'s' if count > 1 else ''}" if count else ""
    # Spot's prices change by the hour; they are never above those on demand.
    most = "at most " if (host.spot if host else target.spec.spot) else ""
    wanted = guard.Wanted(target.spec, target.names, target.account)
    so_far = spent.this_month(
        runs(target, there), there.volumes, float(target.table["gp3_gb_month"]), _now()
    )
    so_far = so_far.plus(efs.spent(there.file_system, float(target.table["efs_gb_month"]), _now()))
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
        "file_system": there.file_system.id if there.file_system else "",
        "price_hour": cost.hour,
        "price_stopped_month": round(cost.stopped_month, 2),
        "price_text": f"{most}{cost.running}{others} while running, {cost.stopped} while stopped"
        f" ({cost.note})",
        "spent_month": round(so_far.dollars, 2),
        "spent_text": f"{so_far.text}; {target.bill}" if target.bill else so_far.text,
        "guard": list(guard.says(wanted, there.guard)),
        "workers": [_worker(target, one) for one in _mine(target, there)],
    }


def _worker(target: Target, one: Instance) -> dict[str, Any]:
    return {
        "number": one.worker,
        "name": target.names.worker(one.worker),
        "instance_id": one.id,
        "instance_type": one.type,
        "state": one.state,
        "public_ip": one.public_ip,
        "private_ip": one.private_ip,
        "wanted": one.worker <= target.spec.workers,
    }
