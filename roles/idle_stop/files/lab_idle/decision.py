"""The decision: samples in, what to do and why out.

Nothing here reads a clock, a file or a process, so every case can be written
down as a table. All times are seconds; ``at`` is a clock that only runs
forward and also counts time asleep (CLOCK_BOOTTIME).

Four rules make it safe. What is not known counts as active. A mark that
differs from the last sample's counts as activity, so that no wall clock is
ever compared. A gap in the samples, or another boot, starts the clock anew.
Until the moment that a user has named (`lab keep`) it neither stops nor warns early.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

State = Literal["active", "idle", "unknown", "absent"]
Action = Literal["off", "wait", "warn", "stop"]

# One missed sample is a busy host; three in a row say that nobody was watching.
GAP_PERIODS = 3
# A single look proves nothing, however long the period.
MIN_SAMPLES = 2
KILO = 1000


@dataclass(frozen=True)
class Signal:
    """What one source saw.

    ``mark`` is any text that changes when its subject did something. ``count`` is a counter that
    only grows; growing by ``busy_rate`` a second or more since the last sample is activity (a rate
    of 0 has no such rule).
    """

    name: str
    state: State
    detail: str = ""
    mark: str = ""
    count: float = 0.0
    busy_rate: float = 0.0

    @property
    def holds(self) -> bool:
        """Whether this alone keeps the host on."""
        return self.state in ("active", "unknown")


@dataclass(frozen=True)
class Sample:
    """All signals at one moment of one boot; it stays on until ``kept_until`` (the same clock)."""

    boot: str
    at: float
    signals: tuple[Signal, ...]
    kept_until: float = 0.0


@dataclass(frozen=True)
class Settings:
    """``limit`` 0 switches the stop off; ``warn`` is how long before the stop to warn."""

    limit: float
    period: float
    warn: float = 0.0

    def __post_init__(self) -> None:
        if self.period <= 0:
            raise ValueError(f"period is {self.period:g} s, it must be more than 0")
        if self.limit < 0 or self.warn < 0:
            raise ValueError(
                f"limit is {self.limit:g} s and warn {self.warn:g} s, neither may be negative"
            )

    @property
    def lead(self) -> float:
        """How long before the stop to warn; never before half of the limit."""
        return min(self.warn, self.limit / 2)


@dataclass(frozen=True)
class Memory:
    """What has to be kept between two samples."""

    boot: str
    at: float
    idle_since: float | None = None
    idle_samples: int = 0
    warned: bool = False
    marks: Mapping[str, str] = field(default_factory=dict)
    counts: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Decision:
    """``idle_for`` and ``left`` (until the stop, if nothing happens) are seconds.

    ``reasons`` say what keeps the host on; none where nothing does.
    """

    action: Action
    idle_for: float
    left: float
    reasons: tuple[str, ...]


def continues(memory: Memory | None, sample: Sample, settings: Settings) -> bool:
    """Whether the sample follows the memory without a boot or a gap between."""
    if memory is None or memory.boot != sample.boot:
        return False
    return 0 <= sample.at - memory.at <= GAP_PERIODS * settings.period


def holding(memory: Memory | None, sample: Sample) -> tuple[str, ...]:
    """Give the reasons to stay on, marks and counters compared with those of the last sample."""
    if not sample.signals:
        return ("nothing was looked at, which counts as active",)
    known = memory if memory is not None and memory.boot == sample.boot else None
    reasons = []
    for signal in sample.signals:
        if signal.state == "unknown":
            reasons.append(f"{signal.name}: unknown, which counts as active ({signal.detail})")
        elif signal.state == "active":
            reasons.append(f"{signal.name}: {signal.detail}")
        elif known is not None and known.marks.get(signal.name, "") != signal.mark:
            reasons.append(f"{signal.name}: used since the last look ({signal.detail})")
        elif known is not None and _rate(known, sample, signal) >= signal.busy_rate > 0:
            reasons.append(f"{signal.name}: {_said_rate(known, sample, signal)}")
    return tuple(reasons)


def _rate(known: Memory, sample: Sample, signal: Signal) -> float:
    """Growth a second since the last sample; a counter that ran back is unknown, hence endless."""
    before = known.counts.get(signal.name)
    if before is None or sample.at <= known.at:
        return 0.0
    if signal.count < before:
        return math.inf
    return (signal.count - before) / (sample.at - known.at)


def _said_rate(known: Memory, sample: Sample, signal: Signal) -> str:
    rate = _rate(known, sample, signal)
    if math.isinf(rate):
        return "its counter ran back, which counts as active"
    return f"{rate / KILO:.0f} kB/s where {signal.busy_rate / KILO:g} is busy"


def step(memory: Memory | None, sample: Sample, settings: Settings) -> tuple[Memory, Decision]:
    """Take one sample into account: the new memory, and the decision at this moment."""
    marks = {signal.name: signal.mark for signal in sample.signals if signal.mark}
    counts = {signal.name: signal.count for signal in sample.signals if signal.busy_rate}
    reasons = holding(memory, sample)
    kept = max(sample.kept_until - sample.at, 0.0)
    if reasons:
        # Used since the last look but not now: the idle time may begin at this very moment.
        quiet_now = bool(sample.signals) and not any(signal.holds for signal in sample.signals)
        since, seen = (sample.at, 1) if quiet_now else (None, 0)
        memory = Memory(sample.boot, sample.at, since, seen, marks=marks, counts=counts)
        left = max(settings.limit, kept)
        return memory, Decision(_unless_off("wait", settings), 0.0, left, reasons)
    spanning = memory if continues(memory, sample, settings) else None
    begun, seen, warned = sample.at, 1, False
    if spanning is not None and spanning.idle_since is not None:
        begun, seen, warned = spanning.idle_since, spanning.idle_samples + 1, spanning.warned
    idle_for = sample.at - begun
    left = max(settings.limit - idle_for, kept, 0.0)
    # Kept on after a warning: the next stop has a warning of its own.
    warned = warned and left <= settings.lead
    action = _action(left, seen, warned, settings)
    warned = warned or action == "warn"
    memory = Memory(sample.boot, sample.at, begun, seen, warned, marks, counts)
    return memory, Decision(action, idle_for, left, ())


def decide(samples: Iterable[Sample], settings: Settings) -> Decision:
    """Decide after all samples, oldest first; no sample at all decides nothing."""
    memory: Memory | None = None
    decision = Decision(_unless_off("wait", settings), 0.0, settings.limit, ("no sample yet",))
    for sample in samples:
        memory, decision = step(memory, sample, settings)
    return decision


def _unless_off(action: Action, settings: Settings) -> Action:
    return action if settings.limit else "off"


def _action(left: float, seen: int, warned: bool, settings: Settings) -> Action:
    if not settings.limit:
        return "off"
    if seen < MIN_SAMPLES:
        return "wait"
    if left <= 0:
        return "stop"
    if left <= settings.lead and settings.warn and not warned:
        return "warn"
    return "wait"
