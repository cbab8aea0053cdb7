"""The command: grows a lab, submits jobs, trains and breaks it, in a sandbox of its own."""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.cluster import faults, jobs
from benchmarks.converge.__main__ import ROOT, BenchmarkError, play, run, sandbox

LAB = "bench-cluster"
GROWN_GOAL = 2.5
PARTS = ("growing", "jobs", "training", "faults")


@dataclass
class Grown:
    """Seconds that so many new workers took: made, told to the head, configured, and again.

    `controller` is what configuring took of the controller's processors; the rest is the hosts'.
    """

    workers: int
    make: float
    head: float
    configure: float
    again: float
    controller: float


@dataclass
class Figures:
    """What was measured, by part; what was not asked for stays empty."""

    grown: list[Grown] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)


def parse(words: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cluster", description=__doc__)
    parser.add_argument(
        "--workers", type=int, nargs="+", default=[1, 4, 8], help="how many are added (%(default)s)"
    )
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="(%(default)s)")
    parser.add_argument("--jobs", type=int, default=100, help="jobs of a queue (%(default)s)")
    parser.add_argument("--slot", default="7", help="slot of the sandbox (%(default)s)")
    parser.add_argument("--kept", action="store_true", help="go on with a lab, and leave it there")
    return parser.parse_args(words)


def step(name: str, workers: int, environment: Mapping[str, str]) -> tuple[float, str]:
    """Run a playbook for a lab of so many workers."""
    return play(name, LAB, environment, "-e", f"lab_workers={workers}")


def have(workers: int, environment: Mapping[str, str]) -> Grown:
    """Have so many workers, beside those that are there; what it took. Raises BenchmarkError."""
    # As in site.yml: the head opens its firewall to the new ones before they come.
    make, head = (step(name, workers, environment)[0] for name in ("create_host", "configure_host"))
    before = processor()
    configure, _ = step("configure_workers", workers, environment)
    controller = processor() - before
    again, said = step("configure_workers", workers, environment)
    if set(changed(said)) != {"0"}:
        raise BenchmarkError(f"the second converge changed something:\n{said[-3000:]}")
    return Grown(workers, make, head, configure, again, controller)


def processor() -> float:
    """Seconds of processor that the commands so far have taken; hosts are no children of ours."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def changed(said: str) -> list[str]:
    """Read the counts of changes, one a host, out of a play's recap."""
    recap = said.rpartition("PLAY RECAP")[2]
    return [word.removeprefix("changed=") for word in recap.split() if word.startswith("changed=")]


def grow(counts: Sequence[int], environment: Mapping[str, str]) -> list[Grown]:
    """From none, add each number of workers, and let go of them again."""
    grown = []
    for count in counts:
        step("remove_workers", 0, environment)
        grown.append(have(count, environment))
        print(f"{count} workers: {grown[-1]}", flush=True)
    return grown


def table(grown: Sequence[Grown]) -> str:
    """Write what it took to grow, and the last converge as a multiple of the first."""
    rows = [
        f"{one.workers:3} workers  made {one.make:6.1f} s, head {one.head:5.1f} s,"
        f" configured {one.configure:6.1f} s ({one.controller:.1f} s of the controller's"
        f" processors), once more {one.again:5.1f} s"
        for one in grown
    ]
    ratio = grown[-1].configure / grown[0].configure
    wanted = f" (goal for 8 to 1: {GROWN_GOAL})"
    return "\n".join(
        [*rows, f"{grown[-1].workers} to {grown[0].workers}: {ratio:.2f} times{wanted}"]
    )


def missed(grown: Sequence[Grown]) -> bool:
    """Tell whether 8 workers took longer than the goal allows; no, where they were not measured."""
    seconds = {one.workers: one.configure for one in grown}
    return {1, 8} <= seconds.keys() and seconds[8] > GROWN_GOAL * seconds[1]


def build(environment: Mapping[str, str]) -> None:
    """Have a lab with a worker: the lock, the data, and warm mirrors."""
    for name in ("create_host", "configure_host", "configure_workers"):
        step(name, 1, environment)


def measure(wanted: argparse.Namespace, environment: Mapping[str, str]) -> Figures:
    """Measure what was asked for."""
    figures = Figures()
    if not wanted.kept:
        build(environment)
    if "growing" in wanted.parts:
        figures.grown = grow(wanted.workers, environment)
    if set(wanted.parts) - {"growing"}:
        have(max(2, *wanted.workers) if "growing" in wanted.parts else 2, environment)
    if "jobs" in wanted.parts:
        alone, queue = jobs.latency(LAB, wanted.jobs, environment)
        figures.lines += [
            f"srun true: median {1000 * statistics.median(alone):.0f} ms,"
            f" slowest of {len(alone)} {1000 * max(alone):.0f} ms",
            f"an array of {wanted.jobs} jobs: {queue:.1f} s, {wanted.jobs / queue:.1f} a second",
        ]
    if "training" in wanted.parts:
        one, two = (jobs.training(LAB, nodes, environment) for nodes in (1, 2))
        figures.lines.append(
            f"training: {one:.0f} images/s on 1 worker, {two:.0f} on 2: {two / one:.2f} times"
        )
    if "faults" in wanted.parts:
        figures.lines += faults.measure(LAB, wanted.slot, environment)
    return figures


def main() -> int:
    """Measure, print; 1 where the goal was missed, 2 where there are no figures."""
    wanted = parse(sys.argv[1:])
    environment = sandbox(wanted.slot)
    try:
        figures = measure(wanted, environment)
    except BenchmarkError as error:
        print(error, file=sys.stderr)
        return 2
    finally:
        if not wanted.kept:
            run([sys.executable, "-m", "sandbox", "down"], environment)
            shutil.rmtree(ROOT / ".lab" / LAB, ignore_errors=True)
    print("\n".join([*([table(figures.grown)] if figures.grown else []), *figures.lines]))
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[1]:.1f}")
    return int(missed(figures.grown))


if __name__ == "__main__":
    sys.exit(main())
