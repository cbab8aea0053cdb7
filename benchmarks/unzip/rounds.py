"""The rounds: each peer once in each, another one first each time, in a fresh place."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace

from . import measure
from .check import Wanted, find_fault
from .measure import Cost
from .peers import Job, Peer
from .table import Result
from .yard import Yard


@dataclass(frozen=True)
class Plan:
    """How to measure.

    `deadline` in seconds for one run, `patience` in seconds for a quiet moment before each;
    `environment` is added to each command's own.
    """

    rounds: int
    deadline: float
    patience: float
    environment: dict[str, str]


@dataclass(frozen=True)
class Task:
    """What is unpacked, what must come of it, and where to."""

    job: Job
    wanted: Wanted
    yard: Yard


@dataclass(frozen=True)
class Outcome:
    """What all peers cost; not `whole` if the user stopped it."""

    results: list[Result]
    whole: bool = True


def compare(peers: Sequence[Peer], task: Task, plan: Plan) -> Outcome:
    """Run all rounds. A peer that fails once is out, with its reason.

    Interrupted, it gives the rounds that every peer has done.
    """
    results = {peer.name: Result(peer.name) for peer in peers}
    try:
        for turn in range(plan.rounds):
            for peer in rotate(peers, turn):
                if not results[peer.name].reason:
                    _measure(results[peer.name], peer, turn, task, plan)
    except KeyboardInterrupt:
        print("  interrupted", file=sys.stderr)
        return Outcome(_level(list(results.values())), whole=False)
    return Outcome(list(results.values()))


def _level(results: list[Result]) -> list[Result]:
    """Leave the rounds that all have done, so that a ratio is always within a round."""
    done = min((len(one.costs) for one in results if not one.reason), default=0)
    for one in results:
        del one.costs[done:]
        one.reason = one.reason or ("" if done else "interrupted")
    return results


def rotate(peers: Sequence[Peer], turn: int) -> list[Peer]:
    """Order of a round: backwards every other time, and begun one further on each time."""
    start = turn % len(peers) if peers else 0
    order = [*peers[start:], *peers[:start]]
    return order[::-1] if turn % 2 else order


def _measure(result: Result, peer: Peer, turn: int, task: Task, plan: Plan) -> None:
    """Add one run to a peer's result; in the first round, look at what it wrote as well."""
    dest = task.yard.fresh()
    command = peer.command(replace(task.job, dest=dest))
    measure.settle(plan.patience)
    environment = {**plan.environment, **command.environment}
    cost = measure.run(command.words, dest, environment, plan.deadline)
    _tell(turn, peer, cost)
    fault = cost.error or ("" if turn else find_fault(dest, task.wanted))
    if fault:
        result.costs.clear()
        result.reason = f"failed: {fault} ({cost.wall:.2f} s)"
    else:
        result.costs.append(cost)


def _tell(turn: int, peer: Peer, cost: Cost) -> None:
    line = (
        f"  round {turn + 1}  {peer.name:32} wall {cost.wall:8.2f}  CPU {cost.cpu:8.2f}"
        f" (user {cost.user:.2f}, system {cost.system:.2f}), others {cost.others:.2f}"
    )
    print(f"{line}  {cost.error}".rstrip(), file=sys.stderr, flush=True)
