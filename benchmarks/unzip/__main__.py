"""The command: makes the data sets, runs the peers in turn, prints medians and ratios."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from fnmatch import fnmatch
from pathlib import Path

from . import measure, peers
from .check import Wanted, wanted_of
from .data import SETS, DataSet, Place, archives_of, build
from .errors import MissingError
from .rounds import Outcome, Plan, Task, compare
from .table import Result, judge, noise, render
from .tools import Tools
from .yard import open_yard

CACHE = peers.ROOT / ".cache" / "bench-unzip"
S3_SET = DataSet("s3", "data set b as an object in S3", SETS["b"].make, limited=False)
KEYS = [*SETS, S3_SET.key]
_BUCKET = "bench"
_QUICK = 0.1


def parse(words: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.unzip", description=__doc__)
    parser.add_argument("--sets", default=",".join(KEYS), help="which data sets (%(default)s)")
    parser.add_argument("--peers", default="", help="only these; * and ? are wild")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each peer (%(default)s)")
    parser.add_argument("--scale", type=float, default=1.0, help="size of the data (%(default)s)")
    parser.add_argument("--quick", action="store_true", help=f"scale {_QUICK}: only a first look")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--latency", type=float, default=5.0, help="of S3, in ms (%(default)s)")
    parser.add_argument(
        "--deadline", type=float, default=600.0, help="of a run, in s (%(default)s)"
    )
    parser.add_argument(
        "--patience", type=float, default=10.0, help="wait for a quiet machine, in s (%(default)s)"
    )
    parser.add_argument("--yard", choices=["auto", "image", "folder"], default="auto")
    parser.add_argument("--no-fetch", action="store_true", help="take only installed programs")
    found = parser.parse_args(words)
    found.sets = found.sets.split(",")
    if unknown := set(found.sets) - set(KEYS):
        parser.error(
            f"--sets: there is no {', '.join(sorted(unknown))}; choose of {','.join(KEYS)}"
        )
    if found.rounds < 1 or found.scale <= 0 or found.workers < 1:
        parser.error("--rounds, --scale and --workers must be above 0")
    found.scale = _QUICK if found.quick else found.scale
    return found


def main() -> None:
    """Run the benchmark."""
    options = parse(sys.argv[1:])
    measure.adopt_orphans()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    print(f"# parallel_unzip and its peers, {time.strftime('%Y-%m-%d %H:%M')}\n")
    print(f"{machine()}; scale {options.scale:g}, {options.rounds} rounds,", end=" ")
    print(f"{options.workers} workers; load {os.getloadavg()[0]:.2f} at the start\n", flush=True)
    record = {}
    for key in options.sets:
        chosen = S3_SET if key == S3_SET.key else SETS[key]
        try:
            outcome = run_set(chosen, options)
        except MissingError as error:
            print(f"## {key}: {chosen.title}\n\nskipped: {error}\n", flush=True)
            continue
        record[key] = {one.name: asdict(one) for one in outcome.results}
        if not outcome.whole:
            break
    target = CACHE / "results" / f"{time.strftime('%Y%m%dT%H%M%S')}.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(record, indent=1), encoding="utf-8")
    print(f"All figures: {target.relative_to(peers.ROOT)}")


def run_set(chosen: DataSet, options: argparse.Namespace) -> Outcome:
    """Measure one data set and print its table."""
    place = Place(CACHE, options.scale)
    remote = chosen is S3_SET
    folder = build(SETS["b"] if remote else chosen, place)
    wanted = wanted_of(archives_of(folder))
    print(f"## {chosen.key}: {chosen.title}\n\n{_sizes(folder, wanted)}", flush=True)
    tools = Tools(CACHE / "tools", fetch=not options.no_fetch)
    job = peers.Job(folder, Path("dest"), options.workers, tools)
    plan = Plan(options.rounds, options.deadline, options.patience, {})
    # What S3's peers store beside the output needs room as well.
    room = 2 * wanted.bytes if remote else wanted.bytes
    yard, where = open_yard(CACHE / "yard", room, options.yard)
    server = serve(folder, options.latency) if remote else contextlib.nullcontext()
    with contextlib.closing(yard), server as port:
        if port:
            job = replace(job, address=f"s3://{_BUCKET}/{archives_of(folder)[0].name}")
            plan = replace(plan, environment=environment_of(port))
            where += f"; S3 with a latency of {options.latency:g} ms"
        ready, missing = peers.able(_chosen(remote, options.peers), job)
        outcome = compare(ready, Task(job, wanted, yard), plan)
    outcome.results.extend(
        Result(name, reason=f"skipped: {reason}") for name, reason in missing.items()
    )
    report(outcome.results, where, chosen, options.scale)
    return outcome


def _chosen(remote: bool, names: str) -> list[peers.Peer]:
    offered = peers.FROM_S3 if remote else peers.LOCAL
    parts = [part.strip() for part in names.split(",") if part.strip()]
    return [one for one in offered if not parts or any(fnmatch(one.name, part) for part in parts)]


def _sizes(folder: Path, wanted: Wanted) -> str:
    packed = sum(path.stat().st_size for path in archives_of(folder))
    files, million = len(wanted.files), 1_000_000
    return f"{files:,} files, {wanted.bytes / million:,.1f} MB; packed {packed / million:,.1f} MB."


def report(results: Sequence[Result], where: str, chosen: DataSet, scale: float) -> None:
    """Print table and, at full scale, targets: on little data, what is fixed outweighs."""
    named = {one.name: one for one in results}
    print(f"Unpacked into {where}. Load {os.getloadavg()[0]:.2f}; others used", end=" ")
    print(f"up to {noise(results):.2f} cores during a run.\n")
    print(render(named), end="\n\n")
    for verdict in judge(named, chosen.limited) if scale >= 1 else ():
        print(f"* {verdict}")
    if scale < 1:
        print("A first look only: the targets are for scale 1.")
    print(flush=True)


@contextlib.contextmanager
def serve(folder: Path, latency: float) -> Iterator[int]:
    """Run the S3-like server over a folder as a bucket; gives its port."""
    root = CACHE / "s3"
    root.mkdir(parents=True, exist_ok=True)
    bucket = root / _BUCKET
    bucket.unlink(missing_ok=True)
    bucket.symlink_to(folder)
    command = [sys.executable, "-m", "benchmarks.unzip.server", str(root), str(latency)]
    with subprocess.Popen(command, cwd=peers.ROOT, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout  # noqa: S101  it was asked for
            yield int(server.stdout.readline())
        finally:
            server.terminate()


def environment_of(port: int) -> dict[str, str]:
    """Make S3 clients talk to the server, with made-up credentials."""
    address = f"http://127.0.0.1:{port}"
    return {
        "AWS_ENDPOINT_URL": address,
        "S3_ENDPOINT_URL": address,  # s5cmd's name for it
        "AWS_ACCESS_KEY_ID": "benchmark",
        "AWS_SECRET_ACCESS_KEY": "benchmark",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def machine() -> str:
    """Say in a few words what machine this is."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cores = len(os.sched_getaffinity(0))
    system, python = platform.release(), platform.python_version()
    return f"{cores} cores, {memory:.0f} GiB, Linux {system}, Python {python}"


if __name__ == "__main__":
    main()
