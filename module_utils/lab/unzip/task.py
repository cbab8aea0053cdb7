"""Plan, then apply: what the module `parallel_unzip` does."""

from __future__ import annotations

import gc
import os
import time
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain, islice
from typing import Any

from ansible.module_utils.lab.errors import LabError

from .dest import Look, hold_dest, open_dest
from .directory import FOLDER
from .engines import load_engine
from .manifest import load_manifest, noting
from .place import move_in, remove_files, remove_stage, repair_files, staging
from .plan import REPLACE, Part, Plan, Request, make_plan
from .pool import Done, Range, disk_error, run_pool
from .progress import NoProgress, Progress
from .worker import Source, Worker

# Bytes and members of a piece of work, and of one where each read costs a round trip.
_AIM = (1 << 20, 200)
_REMOTE_AIM = (4 << 20, 4000)
_MOST_READ = (16 << 20, 512 << 20)  # bytes read at once, at least and at most
_PATIENCE = 30.0  # seconds that a second run waits for the first
_DIFF_LINES = 40


def run(request: Request, check: bool, progress: Progress | None = None) -> dict[str, Any]:
    """Unpack, or in check mode say what would be done; gives the module's result.

    LabError for everything that a user can mend; dest is then as it was.
    """
    began = time.monotonic()
    engine = load_engine(request.engine).name
    watch = progress or NoProgress()
    gc.disable()  # nothing here makes cycles, and looking for them would take a tenth of the plan
    try:
        watch.stage("reading")
        plan = _check(request) if check else _unpack(request, watch)
        watch.stage("done")
    except OSError as error:
        raise LabError(disk_error(error)) from error
    finally:
        gc.enable()
    result = _result(plan)
    result["engine"] = engine
    result["seconds"] = round(time.monotonic() - began, 3)
    return result


def _check(request: Request) -> Plan:
    fd = open_dest(request.dest)
    look = Look(request.dest, fd)
    try:
        plan = make_plan(request, look, load_manifest(fd) if fd is not None else {})
    finally:
        look.close()
        if fd is not None:
            os.close(fd)
    plan.makes_dest = fd is None
    return plan


def _unpack(request: Request, watch: Progress) -> Plan:
    with hold_dest(request.dest, request.modes.folder, _PATIENCE) as (dest, made):
        look = Look(request.dest, dest)
        # Where nothing is in dest, a killed run may have made it.
        if request.modes.owned and (made or look.bare):
            os.fchown(dest, request.modes.uid, request.modes.gid)
        try:
            plan = make_plan(request, look, load_manifest(dest))
        finally:
            look.close()
        plan.makes_dest = made
        _apply(plan, dest, watch)
        return plan


def _apply(plan: Plan, dest: int, watch: Progress) -> None:
    if plan.extracting:
        watch.begin(len(plan.extracting), plan.files, plan.bytes)
        watch.stage("unpacking")
        with staging(dest) as stage:
            _extract(plan, stage, watch)
            for part in plan.extracting:
                part.archive.open().close()  # LabError if it changed meanwhile
            watch.stage("placing")
            _place(plan, stage, dest)
    elif plan.changed or plan.refresh:
        if plan.leftover:
            remove_stage(dest)
        _place(plan, None, dest)


def _place(plan: Plan, stage: int | None, dest: int) -> None:
    """Move in what was extracted; a run killed here finds its own files by the manifest."""
    touched = {part.archive.path for part in plan.extracting}
    during = {
        path: replace(entry, placing=True) if path in touched else entry
        for path, entry in plan.manifest.items()
    }
    after = {path: replace(entry, placing=False, leaving=[]) for path, entry in during.items()}
    replaceable = set(chain.from_iterable(part.altered() for part in plan.parts))
    with noting(dest, after, during if touched or plan.removed else None, _lists(plan)):
        if stage is not None:
            move_in(stage, dest, replaceable)
        if plan.removed:
            remove_files(dest, plan.removed)
        if plan.repaired:
            repair_files(dest, plan.repaired, plan.request.modes)


def _lists(plan: Plan) -> Iterator[tuple[str, bytes]]:
    return ((part.entry.listed, part.found.listed) for part in plan.parts if part.found)


def _extract(plan: Plan, stage: int, watch: Progress) -> Done:
    request = plan.request
    sources = [
        Source(part.archive, part.directory)
        for part in plan.extracting
        if part.directory is not None
    ]
    most = _most_read(request.workers)

    def make() -> Worker:
        return Worker(stage, request.modes, load_engine(request.engine), request.strict, most)

    ranges = _ranges(plan.extracting, most)
    return run_pool(sources, ranges, request.workers, make, watch.update)


def _most_read(workers: int) -> int:
    """How much a worker may read at once for one large member, by the memory that is free."""
    free = 0
    with open("/proc/meminfo", encoding="ascii") as lines:  # noqa: PTH123  a path of the kernel
        for line in lines:
            if line.startswith("MemAvailable:"):
                free = int(line.split()[1]) << 10
    least, most = _MOST_READ
    return max(least, min(most, free // (8 * max(1, workers))))


def _ranges(parts: list[Part], most: int) -> Iterator[Range]:
    """Cut the members to extract into pieces of work that lie together in their archive."""
    for number, part in enumerate(parts):
        assert part.directory is not None  # noqa: S101  the plan reads it
        offsets = part.directory.offsets
        aim = _REMOTE_AIM if part.archive.remote else _AIM
        for first, last in part.runs():
            for begin, end in _cuts(offsets, first, last, aim, most):
                yield number, begin, end


def _cuts(
    offsets: array[int], first: int, last: int, aim: tuple[int, int], most: int
) -> Iterator[tuple[int, int]]:
    size, members = aim
    while first < last:
        bound = min(last, first + members)
        end = max(first + 1, bisect_left(offsets, offsets[first] + size, first + 1, bound))
        # A member that is too large to be read at once stays alone.
        if end - first > 1 and offsets[end] - offsets[first] > most:
            end -= 1
        yield first, end
        first = end


def _result(plan: Plan) -> dict[str, Any]:
    return {
        "changed": plan.changed,
        "dest": plan.request.dest,
        "files": plan.files,
        "bytes": plan.bytes,
        "unchanged": plan.unchanged,
        "removed": len(plan.removed),
        "repaired": len(plan.repaired),
        "workers": plan.request.workers,
        "archives": [
            {
                "path": part.archive.path,
                "state": part.state,
                "files": part.entry.files,
                "bytes": part.entry.bytes,
            }
            for part in plan.parts
        ],
        "diff": _diff(plan),
    }


def _diff(plan: Plan) -> dict[str, str]:
    """Before and after, a line for each file that is added, replaced, removed or put right."""
    replaced = chain.from_iterable(part.altered() for part in plan.extracting)
    before = chain(
        (f"{path} (other contents)" for path in replaced),
        plan.removed,
        (f"{path} (other owner or mode)" for path in plan.repaired),
    )
    work = chain.from_iterable(part.work() for part in plan.extracting)
    after = chain(
        (f"{m.path}/" if m.kind == FOLDER else f"{m.path} ({m.size} bytes)" for m in work),
        (f"{path} (owner and mode as asked)" for path in plan.repaired),
    )
    replacing = sum(part.todo.count(REPLACE) for part in plan.extracting)
    counted = sum(part.count for part in plan.extracting)
    return {
        "before_header": plan.request.dest,
        "after_header": plan.request.dest,
        "before": _lines(before, replacing + len(plan.removed) + len(plan.repaired)),
        "after": _lines(after, counted + len(plan.repaired)),
    }


def _lines(items: Iterable[str], count: int) -> str:
    shown = list(islice(items, _DIFF_LINES))
    if count > len(shown):
        shown.append(f"… and {count - len(shown)} more")
    return "".join(f"{line}\n" for line in shown)
