"""The idle decision: tables of cases, and what holds for every course of events."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roles.idle_stop.files.lab_idle.decision import (
    GAP_PERIODS,
    Decision,
    Sample,
    Settings,
    Signal,
    decide,
    step,
)

HOUR = Settings(limit=3600, period=60, warn=600)
NOTHING = Signal("ssh", "idle", "no connection to port 22")
LOGIN = Signal("ssh", "active", "1 open to port 22")
BLIND = Signal("gpu", "unknown", "nvidia-smi ended with 9")


def course(
    *signals: Signal, start: float = 100, every: float = 60, boot: str = "a"
) -> list[Sample]:
    """One sample for each signal, in step."""
    return [Sample(boot, start + n * every, (signal,)) for n, signal in enumerate(signals)]


def idle(count: int, **how: float) -> list[Sample]:
    return course(*[NOTHING] * count, **how)  # type: ignore[arg-type]


HOUR_IDLE = idle(61)

CASES = {
    "no sample": ([], "wait", 0),
    "one look proves nothing": (idle(1), "wait", 0),
    "49 minutes": (idle(50), "wait", 49 * 60),
    "50 minutes, the warning": (idle(51), "warn", 50 * 60),
    "warned once only": (idle(52), "wait", 51 * 60),
    "a minute short": (idle(60), "wait", 59 * 60),
    "an hour": (HOUR_IDLE, "stop", 3600),
    "still an hour after a stop that failed": (idle(63), "stop", 62 * 60),
    "a login in the last minute": (course(*[NOTHING] * 60, LOGIN), "wait", 0),
    "a login long ago": (course(LOGIN, *[NOTHING] * 61), "stop", 3600),
    "unknown holds": (course(*[NOTHING] * 60, BLIND), "wait", 0),
    "another boot": (idle(60) + course(NOTHING, start=100 + 3600, boot="b"), "wait", 0),
    "the timer was dead for an hour": (idle(2) + idle(1, start=4000), "wait", 0),
    "two looks missed": (idle(30) + idle(31, start=100 + 30 * 60 + 120), "stop", 62 * 60),
    "a clock that ran back": (idle(60) + idle(1, start=0), "wait", 0),
    "nothing was looked at": ([*idle(60), Sample("a", 100 + 3600, ())], "wait", 0),
}


@pytest.mark.parametrize(("samples", "action", "idle_for"), CASES.values(), ids=CASES.keys())
def test_cases(samples: list[Sample], action: str, idle_for: float) -> None:
    decision = decide(samples, HOUR)
    assert (decision.action, decision.idle_for) == (action, idle_for)
    assert decision.left == 3600 - min(idle_for, 3600)


@pytest.mark.parametrize("samples", [case[0] for case in CASES.values()], ids=CASES.keys())
def test_no_limit_never_acts(samples: list[Sample]) -> None:
    assert decide(samples, Settings(limit=0, period=60, warn=600)).action == "off"


REASONS = {
    "active": (LOGIN, "ssh: 1 open to port 22"),
    "unknown": (BLIND, "gpu: unknown, which counts as active (nvidia-smi ended with 9)"),
}


@pytest.mark.parametrize(("signal", "reason"), REASONS.values(), ids=REASONS.keys())
def test_reasons(signal: Signal, reason: str) -> None:
    assert decide(course(signal), HOUR).reasons == (reason,)


def test_idle_needs_no_reason() -> None:
    assert decide(course(NOTHING), HOUR).reasons == ()


def marked(mark: str) -> Signal:
    return Signal("jupyter", "idle", "1 kernel, none busy", mark)


MARKS = {
    "unchanged": (["x"] * 61, "stop"),
    "changed at the end": (["x"] * 60 + ["y"], "wait"),
    "first kernel": ([""] * 60 + ["x"], "wait"),
    "last kernel closed": (["x"] * 60 + [""], "wait"),
    "changed at the start": (["y"] + ["x"] * 61, "stop"),
    "a minute too short after a change": (["y"] + ["x"] * 60, "wait"),
}


@pytest.mark.parametrize(("marks", "action"), MARKS.values(), ids=MARKS.keys())
def test_a_changed_mark_is_activity(marks: list[str], action: str) -> None:
    decision = decide(course(*[marked(mark) for mark in marks]), HOUR)
    assert decision.action == action
    if marks[-1] != marks[-2]:
        assert decision.reasons == ("jupyter: used since the last look (1 kernel, none busy)",)


def test_a_mark_from_before_the_boot_says_nothing() -> None:
    """The kernels of another boot are gone: that is no use of the host."""
    before = course(marked("x"))
    after = course(*[marked("")] * 61, start=500, boot="b")
    assert decide(before + after, HOUR).action == "stop"


def counted(total: float) -> Signal:
    return Signal("disk", "idle", "so far", count=total, busy_rate=1000)


RATES = {
    "still": ([5.0] * 61, "stop"),
    "a little each minute": ([n * 59_999.0 for n in range(61)], "stop"),
    "much in the last minute": ([0.0] * 60 + [60_000.0], "wait"),
    "much in the first minute": ([0.0] + [60_000.0] * 60, "wait"),
    "an hour after much": ([0.0] + [60_000.0] * 61, "stop"),
    "a counter that ran back": ([9.0] * 60 + [0.0], "wait"),
}


@pytest.mark.parametrize(("totals", "action"), RATES.values(), ids=RATES.keys())
def test_traffic_is_activity_from_its_rate_on(totals: list[float], action: str) -> None:
    assert decide(course(*[counted(total) for total in totals]), HOUR).action == action


def test_traffic_is_said_with_its_figures() -> None:
    fast, back = (decide(course(counted(10.0), counted(t)), HOUR) for t in (600_010.0, 0.0))
    assert fast.reasons == ("disk: 10 kB/s where 1 is busy",)
    assert back.reasons == ("disk: its counter ran back, which counts as active",)


def kept(samples: list[Sample], until: float) -> list[Sample]:
    return [dataclasses.replace(sample, kept_until=until) for sample in samples]


def test_kept_on_it_stops_when_that_ends() -> None:
    """Kept for two hours from its first minute on; the warning comes ten minutes before."""
    samples = kept(idle(122), until=100 + 7200)
    actions = [decide(samples[: n + 1], HOUR).action for n in range(122)]
    assert actions[:110] == ["wait"] * 110
    assert actions[110] == "warn"
    assert actions[111:120] == ["wait"] * 9
    assert actions[120:] == ["stop"] * 2


def test_kept_for_less_than_the_limit_changes_nothing() -> None:
    assert decide(kept(HOUR_IDLE, until=1000), HOUR).action == "stop"


def test_kept_on_after_a_warning_it_is_warned_again() -> None:
    until = 100 + 51 * 60 + 7200
    samples = idle(52) + kept(idle(123, start=100 + 52 * 60), until=until)
    actions = [decide(samples[: n + 1], HOUR).action for n in range(len(samples))]
    assert actions.count("warn") == 2
    assert actions.index("stop") == 51 + 120


def test_the_warning_never_comes_before_half_of_the_limit() -> None:
    short = Settings(limit=300, period=60, warn=600)
    actions = [decide(idle(n), short).action for n in range(1, 7)]
    assert actions == ["wait", "wait", "wait", "warn", "wait", "stop"]


def test_no_warning_when_none_is_wanted() -> None:
    quiet = dataclasses.replace(HOUR, warn=0)
    assert {decide(idle(n), quiet).action for n in range(1, 61)} == {"wait"}


@pytest.mark.parametrize(
    ("limit", "period", "warn", "message"),
    [
        (60, 0, 0, "period is 0 s, it must be more than 0"),
        (-1, 60, 0, "limit is -1 s and warn 0 s, neither may be negative"),
        (60, 60, -5, "limit is 60 s and warn -5 s, neither may be negative"),
    ],
)
def test_settings_that_make_no_sense(
    limit: float, period: float, warn: float, message: str
) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        Settings(limit, period, warn)


states = st.sampled_from(["active", "idle", "unknown", "absent"])
signals = st.lists(
    st.builds(
        Signal,
        st.sampled_from(["ssh", "tmux", "jupyter", "load"]),
        states,
        st.just("seen"),
        st.sampled_from(["", "x", "y"]),
        st.sampled_from([0.0, 1e3, 1e9]),
        st.sampled_from([0.0, 100.0]),
    ),
    max_size=4,
    unique_by=lambda signal: signal.name,
).map(tuple)
settings_any = st.builds(Settings, st.floats(60, 7200), st.floats(1, 60), st.floats(0, 7200))


@st.composite
def histories(draw: st.DrawFn, back: float = 100) -> list[Sample]:
    """Any course of events: gaps, boots, clocks that run back (by at most ``back`` seconds)."""
    at, boot, samples = draw(st.floats(0, 1e6)), 0, []
    for _ in range(draw(st.integers(0, 30))):
        at += draw(st.floats(-back, 500))
        boot += draw(st.sampled_from([0, 0, 0, 0, 1]))
        until = at + draw(st.sampled_from([0.0, 0.0, 0.0, 300.0, 9000.0]))
        samples.append(Sample(str(boot), at, draw(signals), until))
    return samples


@given(histories(), settings_any)
def test_never_acts_while_anything_holds(history: list[Sample], settings: Settings) -> None:
    memory = None
    for sample in history:
        memory, decision = step(memory, sample, settings)
        if not sample.signals or any(signal.holds for signal in sample.signals):
            assert decision.action == "wait"
            assert decision.idle_for == 0
        if sample.kept_until > sample.at:
            assert decision.action != "stop"


@given(histories(back=0), settings_any)
def test_a_stop_has_a_whole_idle_limit_behind_it(history: list[Sample], settings: Settings) -> None:
    """Seen from the samples alone: same boot, no gap, nothing active, over the whole limit."""
    decision = decide(history, settings)
    if decision.action != "stop":
        return
    last = history[-1]
    span = [s for s in history if s.boot == last.boot and last.at - s.at <= settings.limit]
    assert len(span) >= 2
    assert not any(signal.holds for sample in span for signal in sample.signals)
    ordered = sorted(sample.at for sample in span)
    assert max(b - a for a, b in itertools.pairwise(ordered)) <= GAP_PERIODS * settings.period


@given(
    histories(),
    settings_any,
    signals.filter(bool),
    st.lists(st.floats(0.5, 1.0), min_size=1, max_size=5),
    st.sampled_from([0.0, 30.0, 8000.0]),
)
def test_always_stops_within_the_limit_and_two_periods(
    history: list[Sample],
    settings: Settings,
    kinds: tuple[Signal, ...],
    steps: list[float],
    keep: float,
) -> None:
    """Whatever was before: all idle from now on, looks at most a period apart."""
    quiet = tuple(dataclasses.replace(signal, state="idle") for signal in kinds)
    memory = None
    for sample in history:
        memory, _ = step(memory, sample, settings)
    fell_idle = at = history[-1].at if history else 0.0
    boot = history[-1].boot if history else "0"
    until = fell_idle + keep
    decision, n = Decision("wait", 0, 0, ()), 0
    while decision.action != "stop":
        at += settings.period * steps[n % len(steps)]
        n += 1
        memory, decision = step(memory, Sample(boot, at, quiet, until), settings)
        # A tolerance for the sums of floats.
        longest = max(settings.limit, keep)
        assert at - fell_idle <= longest + 2 * settings.period + 1e-3
