"""Plan, then apply: what the module `parallel_unzip` does."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from ansible.module_utils.lab.errors import LabError

from .dest import Look, hold_dest, open_dest
from .engines import load_engine
from .manifest import load_manifest, save_manifest
from .place import move_in, remove_files, remove_stage, repair_files, staging
from .plan import Plan, Request, make_plan
from .pool import Done, disk_error, run_pool
from .worker import ONE_SHOT, SLACK, Range, Worker

_RANGE_BYTES = 1 << 20
_RANGE_MEMBERS = 200
_PATIENCE = 30.0  # seconds that a second run waits for the first
_DIFF_LINES = 40


def run(request: Request, check: bool) -> dict[str, Any]:
    """Unpack, or in check mode say what would be done; gives the module's result.

    LabError for everything that a user can mend; dest is then as it was.
    """
    began = time.monotonic()
    engine = load_engine(request.engine).name
    try:
        plan, done = _check(request) if check else _unpack(request)
    except OSError as error:
        raise LabError(disk_error(error)) from error
    result = _result(plan, done)
    result["engine"] = engine
    result["seconds"] = round(time.monotonic() - began, 3)
    return result


def _check(request: Request) -> tuple[Plan, Done]:
    fd = open_dest(request.dest)
    look = Look(request.dest, fd)
    try:
        plan = make_plan(request, look, load_manifest(fd) if fd is not None else {})
    finally:
        look.close()
        if fd is not None:
            os.close(fd)
    plan.makes_dest = fd is None
    members = [member for part in plan.extracting for member in part.work() if not member.folder]
    return plan, Done(len(members), sum(member.size for member in members))


def _unpack(request: Request) -> tuple[Plan, Done]:
    with hold_dest(request.dest, request.modes.folder, _PATIENCE) as (dest, made):
        if request.modes.owned and (made or _is_bare(dest)):
            os.fchown(dest, request.modes.uid, request.modes.gid)
        look = Look(request.dest, dest)
        try:
            plan = make_plan(request, look, load_manifest(dest))
        finally:
            look.close()
        plan.makes_dest = made
        return plan, _apply(plan, dest)


def _is_bare(dest: int) -> bool:
    """Whether nothing is in dest, so that a killed run may have made it."""
    with os.scandir(dest) as entries:
        return next(entries, None) is None


def _apply(plan: Plan, dest: int) -> Done:
    done = Done()
    if plan.extracting:
        with staging(dest) as stage:
            done = _extract(plan, stage)
            for part in plan.extracting:
                os.close(part.archive.open())  # LabError if it changed meanwhile
            _place(plan, stage, dest)
    elif plan.leftover:
        remove_stage(dest)
    if plan.removed:
        remove_files(dest, plan.removed)
    if plan.repaired:
        repair_files(dest, plan.repaired, plan.request.modes)
    if plan.changed or plan.refresh:
        for part in plan.parts:
            part.entry.placing, part.entry.leaving = False, []
        save_manifest(dest, plan.manifest)
    return done


def _place(plan: Plan, stage: int, dest: int) -> None:
    """Move in what was extracted; a run killed here finds its own files by the manifest."""
    touched = {part.archive.path for part in plan.extracting}
    during = {
        path: replace(entry, placing=True) if path in touched else entry
        for path, entry in plan.manifest.items()
    }
    save_manifest(dest, during)
    move_in(stage, dest, set().union(*(part.altered for part in plan.parts)))


def _extract(plan: Plan, stage: int) -> Done:
    request = plan.request
    ranges = list(_ranges(plan))
    return run_pool(
        ranges,
        request.workers,
        lambda: Worker(stage, request.modes, load_engine(request.engine), request.strict),
    )


def _ranges(plan: Plan) -> Iterator[Range]:
    """Cut the members to extract into pieces of work that lie together in their archive."""
    for part in plan.extracting:
        members = part.work()
        first = 0
        for at in range(1, len(members) + 1):
            if at == len(members) or _is_full(members, first, at):
                yield Range(part.archive, members[first:at])
                first = at


def _is_full(members: Sequence[Any], first: int, at: int) -> bool:
    """Whether the member `at` begins a new range."""
    here, before = members[at], members[at - 1]
    return (
        at - first >= _RANGE_MEMBERS
        or here.offset - members[first].offset >= _RANGE_BYTES
        or here.offset - before.limit > SLACK
        or max(here.packed, before.packed) > ONE_SHOT
    )


def _result(plan: Plan, done: Done) -> dict[str, Any]:
    return {
        "changed": plan.changed,
        "dest": plan.request.dest,
        "files": done.files,
        "bytes": done.bytes,
        "skipped": plan.skipped,
        "removed": len(plan.removed),
        "repaired": len(plan.repaired),
        "workers": plan.request.workers,
        "archives": [
            {
                "path": part.archive.path,
                "state": part.state,
                "files": len(part.entry.files),
                "bytes": sum(size for _, size, _ in part.entry.files),
            }
            for part in plan.parts
        ],
        "diff": _diff(plan),
    }


def _diff(plan: Plan) -> dict[str, str]:
    """Before and after, a line for each file that is added, replaced, removed or put right."""
    before: list[str] = []
    after: list[str] = []
    for part in plan.extracting:
        for member in part.work():
            if member.path in part.altered:
                before.append(f"{member.path} (other contents)")
            shown = f"{member.path}/" if member.folder else f"{member.path} ({member.size} bytes)"
            after.append(shown)
    before += plan.removed
    before += [f"{path} (other owner or mode)" for path in plan.repaired]
    after += [f"{path} (owner and mode as asked)" for path in plan.repaired]
    return {
        "before_header": plan.request.dest,
        "after_header": plan.request.dest,
        "before": _lines(before),
        "after": _lines(after),
    }


def _lines(items: list[str]) -> str:
    shown = items[:_DIFF_LINES]
    if len(items) > len(shown):
        shown.append(f"… and {len(items) - len(shown)} more")
    return "".join(f"{line}\n" for line in shown)
