"""The command: makes hosts from the plain image and from a baked one, in turn, and compares."""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.converge.__main__ import (
    GPU_WISHES,
    ROOT,
    BenchmarkError,
    hide_gpu,
    play,
    run,
    sandbox,
    show_gpu,
)

LAB = "bench-rebuild"
GOAL = 0.2
PARTS = ("create_host", "configure_host")


@dataclass
class Times:
    """Seconds of each round, for each of PARTS."""

    plain: list[tuple[float, ...]] = field(default_factory=list)
    baked: list[tuple[float, ...]] = field(default_factory=list)


def parse(words: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rebuild", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="hosts of each (%(default)s)")
    parser.add_argument("--slot", default="7", help="slot of the sandbox (%(default)s)")
    parser.add_argument("--tasks", action="store_true", help="print the longest tasks as well")
    parser.add_argument("--gpu", action="store_true", help="hosts with a simulated GPU")
    return parser.parse_args(words)


def build(environment: Mapping[str, str], baked: bool, gpu: bool) -> tuple[float, ...]:
    """Make a host where there is none; the seconds of each of PARTS. Raises BenchmarkError."""
    play("destroy", LAB, environment, "-e", f"confirm={LAB}")
    wishes = ["-e", f"lab_use_bake={str(baked).lower()}", *(GPU_WISHES if gpu else ())]
    making, said = play("create_host", LAB, environment, *wishes)
    if baked != ("(baked: ami-" in said):
        raise BenchmarkError(f"the host was made from another image:\n{said[-3000:]}")
    if gpu:
        show_gpu(LAB, environment)
    configuring, said = play("configure_host", LAB, environment, *wishes)
    print(said[said.rindex("PLAY RECAP") :] if "TASKS RECAP" in said else "", end="")
    return making, configuring


def one_round(times: Times, environment: Mapping[str, str], gpu: bool) -> None:
    """Make a host of each kind."""
    times.plain.append(build(environment, baked=False, gpu=gpu))
    if gpu:
        hide_gpu(LAB, environment)  # the bake starts the host again and proves it
    play("bake", LAB, environment)
    play("bake", LAB, environment, "-e", "bake_prune=true")
    times.baked.append(build(environment, baked=True, gpu=gpu))


def table(times: Times) -> tuple[str, float]:
    """Write medians and the ratio; the ratio."""
    sums = {
        "from lab_image": [sum(parts) for parts in times.plain],
        "from a baked image": [sum(parts) for parts in times.baked],
    }
    plain, baked = (statistics.median(seconds) for seconds in sums.values())
    rows = [f"{name:20} {statistics.median(seconds):7.1f} s" for name, seconds in sums.items()]
    parts = [
        f"  of which {part:14} {statistics.median(p[at] for p in times.plain):6.1f} s and"
        f" {statistics.median(b[at] for b in times.baked):.1f} s"
        for at, part in enumerate(PARTS)
    ]
    ratio = baked / plain
    rows += [*parts, f"ratio {ratio:.2f} (goal {GOAL}); medians of {len(times.plain)} round(s),"
             f" {os.cpu_count()} cores"]  # fmt: skip
    return "\n".join(rows), ratio


def main() -> int:
    """Measure, print; 1 where the goal was missed, 2 where there are no figures."""
    wanted = parse(sys.argv[1:])
    times = Times()
    environment = sandbox(wanted.slot)
    if wanted.tasks:
        environment["ANSIBLE_CALLBACKS_ENABLED"] = "ansible.posix.profile_tasks"
    try:
        build(environment, baked=False, gpu=wanted.gpu)  # the lock, the data sets, and warm mirrors
        for _ in range(wanted.rounds):
            one_round(times, environment, wanted.gpu)
    except BenchmarkError as error:
        print(error, file=sys.stderr)
        return 2
    finally:
        run([sys.executable, "-m", "sandbox", "down"], environment)
        shutil.rmtree(ROOT / ".lab" / LAB, ignore_errors=True)
    text, ratio = table(times)
    print(text)
    return int(ratio > GOAL)


if __name__ == "__main__":
    sys.exit(main())
