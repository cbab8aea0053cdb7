"""The command: fills the service, runs the ways in turn, prints medians, ratios and requests."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from fnmatch import fnmatch

from benchmarks.unzip import measure
from benchmarks.unzip.__main__ import machine
from benchmarks.unzip.errors import MissingError
from benchmarks.unzip.measure import Cost
from benchmarks.unzip.table import Result, Verdict, median, ratio, wall

from .programs import CACHE, ROOT, Programs
from .service import CLASSES, Lag, Service
from .sets import SETS, STREAMED, Job, Set, Target
from .ways import DIRECT, USERS, Way, mounted, named, streams

_KEYS = 20_000
_LARGE = 1 << 30
_QUICK = 0.1


@dataclass
class Phase:
    """One phase of a set: a result for each way, and its requests in the first round."""

    results: dict[str, Result] = field(default_factory=dict)
    requests: dict[str, Counter[str]] = field(default_factory=dict)


def parse(words: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.s3_mount", description=__doc__)
    parser.add_argument("--sets", default=",".join(SETS), help="which sets (%(default)s)")
    parser.add_argument("--ways", default="*", help="only these, parted by ;, * and ? are wild")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each way (%(default)s)")
    parser.add_argument("--scale", type=float, default=1.0, help="size of the data (%(default)s)")
    parser.add_argument("--quick", action="store_true", help=f"scale {_QUICK}: only a first look")
    parser.add_argument("--latency", type=float, default=20.0, help="in ms (%(default)s)")
    parser.add_argument(
        "--patience", type=float, default=10.0, help="wait for a quiet machine, in s (%(default)s)"
    )
    parser.add_argument("--no-fetch", action="store_true", help="take only what is fetched")
    found = parser.parse_args(words)
    found.sets = found.sets.split(",")
    if unknown := set(found.sets) - set(SETS):
        parser.error(
            f"--sets: there is no {', '.join(sorted(unknown))}; choose of {','.join(SETS)}"
        )
    if found.rounds < 1 or found.scale <= 0:
        parser.error("--rounds and --scale must be above 0")
    found.scale = _QUICK if found.quick else found.scale
    return found


def main() -> None:
    """Run the benchmark."""
    options = parse(sys.argv[1:])
    programs = Programs(fetch=not options.no_fetch)
    if os.geteuid() or not os.path.exists("/dev/fuse"):  # noqa: PTH110 - a device
        sys.exit("This mounts: run it as root on a machine, or in a container, with /dev/fuse.")
    print(f"# s3_mount and the users' line, {time.strftime('%Y-%m-%d %H:%M')}\n")
    print(f"{machine()}; scale {options.scale:g}, {options.rounds} rounds;", end=" ")
    print(f"load {os.getloadavg()[0]:.2f} at the start\n", flush=True)
    record = {}
    with Service(programs) as service:
        service.fill(_keys(options.scale), round(_LARGE * options.scale))
        for key in options.sets:
            phases = run_set(SETS[key], options, service, programs)
            record[key] = {
                name: {one.name: asdict(one) for one in phase.results.values()}
                for name, phase in phases.items()
            }
    target = CACHE / "results" / f"{time.strftime('%Y%m%dT%H%M%S')}.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(record, indent=1), encoding="utf-8")
    print(f"All figures: {target.relative_to(ROOT)}")


@dataclass
class Round:
    """The rounds of one set: what was found so far, and why a way is out."""

    chosen: Set
    options: argparse.Namespace
    service: Service
    programs: Programs
    phases: dict[str, Phase] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def run(self, way: Way, turn: int) -> None:
        """Do the set's work in one way, unless that failed before."""
        if way.name in self.failed:
            return
        measure.settle(self.options.patience)
        latency, rate = self.options.latency, self.chosen.rate
        try:
            with Lag(self.programs, self.service.port, latency, rate) as lag:
                for name, cost, counted in self._work(way, lag):
                    phase = self.phases.setdefault(name, Phase())
                    phase.results.setdefault(way.name, Result(way.name)).costs.append(cost)
                    phase.requests.setdefault(way.name, counted)
                    _tell(turn, way.name, name, cost, counted)
        except MissingError as error:
            self.failed[way.name] = f"skipped: {error}"
        except OSError as error:
            self.failed[way.name] = f"failed: {error}"

    def _work(self, way: Way, lag: Lag) -> Iterator[tuple[str, Cost, Counter[str]]]:
        scale = self.options.scale
        size = max(1, round(self.chosen.size * scale))
        job = Job(None, lag.port, size, _keys(scale), self.programs)
        if way.command is None:
            yield from _timed(self.chosen, job, lag)
            return
        with mounted(way, lag.port, self.programs) as mount:
            yield from _timed(self.chosen, replace(job, mount=mount), lag)


def run_set(
    chosen: Set, options: argparse.Namespace, service: Service, programs: Programs
) -> dict[str, Phase]:
    """Measure one set and print its tables."""
    print(f"## {chosen.key}: {chosen.title}\n", flush=True)
    parts = [part.strip() for part in options.ways.split(";")]
    ready = [way for way in named(chosen.ways) if any(fnmatch(way.name, part) for part in parts)]
    rounds = Round(chosen, options, service, programs)
    for turn in range(options.rounds):
        for way in ready[::-1] if turn % 2 else ready:
            rounds.run(way, turn)
    for phase in rounds.phases.values():
        for name in rounds.failed:
            phase.results.pop(name, None)
    report(rounds)
    return rounds.phases


def _keys(scale: float) -> int:
    return max(2 * CLASSES, round(_KEYS * scale))


def _timed(chosen: Set, job: Job, lag: Lag) -> Iterator[tuple[str, Cost, Counter[str]]]:
    work = chosen.work(job)
    lag.requests()
    began, busy = time.monotonic(), measure.machine_busy()
    for name in work:
        seconds, used = time.monotonic() - began, measure.machine_busy() - busy
        counted = lag.requests()
        if name:
            # The CPU is the whole machine's: mount, service, proxy and readers together.
            yield name, Cost(seconds, used, 0.0, 0, 0.0, ""), counted
        began, busy = time.monotonic(), measure.machine_busy()


def _tell(turn: int, way: str, phase: str, cost: Cost, counted: Counter[str]) -> None:
    line = f"  round {turn + 1}  {way:32} {phase:10} wall {cost.wall:8.2f}  {_shown(counted)}"
    print(line, file=sys.stderr, flush=True)


def _shown(counted: Counter[str]) -> str:
    return ", ".join(f"{number:,} {kind}" for kind, number in counted.items() if number) or "none"


def report(rounds: Round) -> None:
    """Print a table for each phase and, at full scale, the targets."""
    print(f"Load {os.getloadavg()[0]:.2f}.\n")
    for name, phase in rounds.phases.items():
        print(f"{name}\n\n{render(phase)}\n")
    for name, reason in rounds.failed.items():
        print(f"* {name}: {reason}")
    if rounds.options.scale < 1:
        print("A first look only: the targets are for scale 1.")
    else:
        for verdict in judge(rounds.phases, targets_of(rounds.chosen, rounds.programs)):
            print(f"* {verdict}")
    print(flush=True)


def targets_of(chosen: Set, programs: Programs) -> Sequence[Target]:
    """Give the targets; an s3fs that uploads while it is written to has a higher one."""
    return (STREAMED,) if chosen.key == "write" and streams(programs) else chosen.targets


def render(phase: Phase) -> str:
    """Write the table of one phase in Markdown, the fastest first."""
    users, direct = phase.results.get(USERS), phase.results.get(DIRECT)
    lines = [
        "| | s | times the users' line | of s5cmd's speed | requests |",
        "|---|---|---|---|---|",
    ]
    for one in sorted(phase.results.values(), key=lambda one: median(one, wall)):
        seconds = [cost.wall for cost in one.costs]
        shown = f"{median(one, wall):.2f} ({min(seconds):.2f}-{max(seconds):.2f})"
        times = f"{ratio(users, one, wall):.2f}" if users else "-"
        speed = f"{ratio(direct, one, wall):.2f}" if direct else "-"
        requests = _shown(phase.requests[one.name])
        lines.append(f"| {one.name} | {shown} | {times} | {speed} | {requests} |")
    return "\n".join(lines)


def judge(phases: dict[str, Phase], targets: Sequence[Target]) -> list[Verdict]:
    """Hold the figures against the targets; what was not measured is left out."""
    verdicts = []
    for target in targets:
        results = phases[target.phase].results if target.phase in phases else {}
        if USERS in results and target.way in results:
            value = ratio(results[USERS], results[target.way], wall)
            text = f"{target.phase}, {target.way}, times the users' line"
            verdicts.append(Verdict(text, value, target.times, at_most=False))
    return verdicts


if __name__ == "__main__":
    main()
