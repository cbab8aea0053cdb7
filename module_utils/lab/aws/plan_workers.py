"""The steps to the workers: what is missing is launched, what is stopped is started.

None is ever removed here, for it may run a job, of which only the queue knows: the module
lab_workers removes them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from . import efs, placement, plan_guard, plan_mend, session_manager
from .plan_guard import named
from .preflight import Target
from .steps import Step
from .things import Instance, Seen
from .workers import Wanted


def steps(target: Target, there: Seen, tags: Mapping[str, str]) -> Iterator[Step]:
    """Make, mend and start the workers up to `lab_workers`; `tags` are those of the head."""
    wanted = Wanted(target.spec, tuple(there.workers(target.names)), target.may_create)
    for worker in wanted.staying().values():
        yield from _mend(target, there, worker, tags)
    yield from placement.steps(target.placement, there, target.names, wanted.idle())
    yield from _start(target, wanted.idle())
    yield from _launch(target, wanted.missing(), tags)
    yield from plan_guard.of_workers(target, there, wanted)


def _mend(target: Target, there: Seen, worker: Instance, tags: Mapping[str, str]) -> Iterator[Step]:
    made = {key: worker.tags.get(key) or tags[key] for key in ("LoginUser", "Image")}
    name = target.names.worker(worker.worker)
    told = {key: tags[key] for key in (efs.ADDRESS,) if key in tags}
    own = target.names.worker_tags(worker.worker, Bucket=target.bucket, **made, **told)
    yield from plan_mend.tags(worker, own)
    yield from plan_mend.settings(target, there, worker, name)


def _start(target: Target, idle: list[Instance]) -> Iterator[Step]:
    if idle:
        yield Step(
            "start_workers",
            f"Start {named(worker.worker for worker in idle)}",
            {"workers": idle},
            before=_lines(target, {worker.worker: worker.state for worker in idle}),
            after=_lines(target, {worker.worker: "running" for worker in idle}),
        )


def _launch(target: Target, missing: list[int], tags: Mapping[str, str]) -> Iterator[Step]:
    if not missing:
        return
    spec = target.spec
    what = f"{spec.worker_types[0]} from {tags['Image']} with {spec.root_gb} GB"
    near = f" and placement group {target.placement}" if target.placement else ""
    agent = session_manager.TAG if session_manager.wanted(spec) else {}
    passed = ("Bucket", "LoginUser", "Image", efs.ADDRESS)
    more = {**agent, **{key: tags[key] for key in passed if key in tags}}
    yield Step(
        "launch_workers",
        f"Launch {named(missing)} in the zone of the host{near}: {what}",
        {"tags": {number: target.names.worker_tags(number, **more) for number in missing}},
        after=_lines(target, dict.fromkeys(missing, what)),
    )


def _lines(target: Target, said: Mapping[int, str]) -> str:
    return "".join(f"instance {target.names.worker(n)}: {text}\n" for n, text in said.items())
