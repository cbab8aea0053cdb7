"""Medians, ratios and targets, and how they are printed."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from . import peers
from .measure import Cost

CPU_LIBDEFLATE, CPU_ZLIB = 1.15, 1.5  # times the limit, at most
FASTER_THAN_USERS_LINE, FASTER_THAN_UNARCHIVE = 2.0, 4.0  # times, at least
_MEGA = 1_000_000


@dataclass
class Result:
    """Of one peer on one data set: a cost for each round, or why there is none."""

    name: str
    costs: list[Cost] = field(default_factory=list)
    reason: str = ""

    @property
    def good(self) -> bool:
        """Whether it ran and its output was right."""
        return bool(self.costs) and not self.reason


Results = Mapping[str, Result]


def wall(cost: Cost) -> float:
    """Wall clock seconds."""
    return cost.wall


def cpu(cost: Cost) -> float:
    """CPU seconds."""
    return cost.cpu


def median(result: Result, figure: Callable[[Cost], float]) -> float:
    """Median over the rounds."""
    return statistics.median(map(figure, result.costs))


def ratio(one: Result, other: Result, figure: Callable[[Cost], float]) -> float:
    """Median over the rounds of the ratio within a round: what slows a whole round drops out."""
    pairs = zip(one.costs, other.costs, strict=True)
    return statistics.median(figure(a) / max(figure(b), 1e-9) for a, b in pairs)


def render(results: Results) -> str:
    """Write the table of one data set in Markdown, the fastest first."""
    good = sorted((one for one in results.values() if one.good), key=lambda one: median(one, wall))
    ours = _reference(results)
    limit = results.get(peers.LIMIT)
    lines = [
        "| | wall s | CPU s | wall / limit | CPU / limit | wall / ours | CPU / ours | peak MB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for one in good:
        cells = [one.name, _spread(one, wall), _spread(one, cpu)]
        for other in (limit, ours):
            for figure in (wall, cpu):
                fits = other and other.good
                cells.append(f"{ratio(one, other, figure):.2f}" if other and fits else "-")
        cells.append(f"{max(cost.peak for cost in one.costs) / _MEGA:,.0f}")
        lines.append(f"| {' | '.join(cells)} |")
    lines += [f"| {one.name} | {one.reason} |" for one in results.values() if one.reason]
    return "\n".join(lines)


def _reference(results: Results) -> Result | None:
    for name in (peers.OURS, peers.OURS_S3):
        if name in results and results[name].good:
            return results[name]
    return None


def _spread(result: Result, figure: Callable[[Cost], float]) -> str:
    values = [figure(cost) for cost in result.costs]
    return f"{statistics.median(values):.2f} ({min(values):.2f}-{max(values):.2f})"


@dataclass(frozen=True)
class Verdict:
    """One target on one data set."""

    text: str
    value: float
    bound: float
    at_most: bool

    @property
    def met(self) -> bool:
        """Whether the target is met."""
        return self.value <= self.bound if self.at_most else self.value >= self.bound

    def __str__(self) -> str:
        sign = "<=" if self.at_most else ">="
        word = "met" if self.met else "MISSED"
        return f"{self.text}: {self.value:.2f} ({sign} {self.bound:g}) {word}"


def judge(results: Results, limited: bool) -> list[Verdict]:
    """Hold the figures against the targets; what was not measured is left out."""
    return list(_judge({name: one for name, one in results.items() if one.good}, limited))


def _judge(good: Results, limited: bool) -> Iterator[Verdict]:
    ours = _reference(good)
    if not ours:
        return
    limit = good.get(peers.LIMIT)
    if limit and limited:
        yield Verdict("CPU / limit, libdeflate", ratio(ours, limit, cpu), CPU_LIBDEFLATE, True)
        if peers.OURS_ZLIB in good:
            value = ratio(good[peers.OURS_ZLIB], limit, cpu)
            yield Verdict("CPU / limit, zlib", value, CPU_ZLIB, True)
    for label, figure in (("wall", wall), ("CPU", cpu)):
        rivals = [one for one in good.values() if not _is_ours(one.name)]
        if rivals:
            best = min(rivals, key=lambda one: median(one, figure))
            text = f"{label} / that of the best peer ({best.name})"
            yield Verdict(text, ratio(ours, best, figure), 1.0, True)
    if peers.USERS_LINE in good:
        value = ratio(good[peers.USERS_LINE], ours, wall)
        yield Verdict(f"faster than {peers.USERS_LINE}", value, FASTER_THAN_USERS_LINE, False)
    if peers.UNARCHIVE in good and peers.OURS_ANSIBLE in good:
        value = ratio(good[peers.UNARCHIVE], good[peers.OURS_ANSIBLE], wall)
        text = "through Ansible, faster than unarchive"
        yield Verdict(text, value, FASTER_THAN_UNARCHIVE, False)


def _is_ours(name: str) -> bool:
    return name.startswith(peers.LIMIT) or "parallel_unzip" in name


def noise(results: Sequence[Result]) -> float:
    """Most CPU seconds that anything else used during a run, as a share of the run's wall time."""
    shares = (cost.others / cost.wall for one in results for cost in one.costs)
    return max(shares, default=0.0)
