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


def compare(
    peers: Sequence[Peer], job: Job, wanted: Wanted, yard: Yard, plan: Plan
) -> list[Result]:
    """Run all rounds. A peer that fails once is out, with its reason."""
    results = {peer.name: Result(peer.name) for peer in peers}
    for turn in range(plan.rounds):
        for peer in rotate(peers, turn):
            result = results[peer.name]
            if result.reason:
                continue
            cost, fault = _run(peer, job, wanted if turn == 0 else None, yard, plan)
            _tell(turn, peer, cost)
            if fault:
                results[peer.name] = Result(
                    peer.name, reason=f"failed: {fault} ({cost.wall:.2f} s)"
                )
            else:
                result.costs.append(cost)
    return list(results.values())


def rotate(peers: Sequence[Peer], turn: int) -> list[Peer]:
    """Order of a round: backwards every other time, and begun one further on each time."""
    start = turn % len(peers) if peers else 0
    order = [*peers[start:], *peers[:start]]
    return order[::-1] if turn % 2 else order


def _run(peer: Peer, job: Job, wanted: Wanted | None, yard: Yard, plan: Plan) -> tuple[Cost, str]:
    """Measure one run; in the first round, look at what it wrote as well."""
    dest = yard.fresh()
    command = peer.command(replace(job, dest=dest))
    measure.settle(plan.patience)
    cost = measure.run(
        command.words, dest, {**plan.environment, **command.environment}, plan.deadline
    )
    fault = cost.error or (find_fault(dest, wanted) if wanted else "")
    return cost, fault


def _tell(turn: int, peer: Peer, cost: Cost) -> None:
    line = (
        f"  round {turn + 1}  {peer.name:32} wall {cost.wall:8.2f}  CPU {cost.cpu:8.2f}"
        f" (user {cost.user:.2f}, system {cost.system:.2f}), others {cost.others:.2f}"
    )
    print(f"{line}  {cost.error}".rstrip(), file=sys.stderr, flush=True)
