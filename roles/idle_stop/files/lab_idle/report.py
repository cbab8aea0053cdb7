"""Says a decision in words: one line for the journal, a page for a person."""

from __future__ import annotations

from .decision import Decision
from .store import Record


def span(seconds: float) -> str:
    """Show seconds as a person says them: ``90 s``, ``48 min``, ``1 h 30 min``."""
    whole = round(seconds)
    if whole < 120:  # noqa: PLR2004  (below two minutes the seconds matter)
        return f"{whole} s"
    hours, minutes = divmod(whole // 60, 60)
    if not hours:
        return f"{minutes} min"
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def line(decision: Decision, limit: float) -> str:
    """One line: the action, the figures and the reasons."""
    why = "; ".join(decision.reasons) or "nothing is active"
    if decision.action == "off":
        return f"off (idle_stop_minutes is 0): {why}"
    if decision.action == "stop":
        return f"stop: idle for {span(decision.idle_for)}, the limit is {span(limit)}"
    if decision.reasons:
        return f"stays on: {why}"
    kept = " (lab keep)" if decision.left > limit - decision.idle_for + 1 else ""
    return (
        f"idle for {span(decision.idle_for)} of {span(limit)}, powers off in"
        f" {span(decision.left)}{kept}"
    )


def page(record: Record, now: float) -> str:
    """Show the last decision with all its figures; ``now`` is CLOCK_BOOTTIME."""
    rows = [line(record.decision, record.settings.limit)]
    if record.sample.kept_until > now:
        rows.append(f"kept on for {span(record.sample.kept_until - now)} more (lab keep)")
    rows.append(f"seen {span(now - record.sample.at)} ago:")
    rows += [
        f"  {signal.name:<10} {signal.state:<8} {signal.detail}" for signal in record.sample.signals
    ]
    return "\n".join(rows)


def warning(decision: Decision) -> str:
    """Word what every terminal is told before the host goes."""
    return (
        f"This host has been idle for {span(decision.idle_for)} and powers off in "
        f"{span(decision.left)}. "
        "Any work on it keeps it on: log in, run a cell, start a job in tmux, "
        "or type: lab keep 2h"
    )
