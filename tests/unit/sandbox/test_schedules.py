"""When a schedule was due: pure, in every time zone."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from sandbox.schedules import latest

NOW = datetime(2026, 11, 22, 12, 0, 30, tzinfo=UTC)
CASES = {
    "a moment that has passed": ("at(2026-11-22T12:00:00)", "UTC", (22, 12, 0)),
    "a moment to come": ("at(2026-11-22T12:01:00)", "UTC", None),
    "a moment elsewhere": ("at(2026-11-22T12:59:00)", "Europe/Berlin", (22, 11, 59)),
    "daily, today": ("cron(0 11 * * ? *)", "UTC", (22, 11, 0)),
    "daily, last yesterday": ("cron(30 23 * * ? *)", "UTC", (21, 23, 30)),
    "daily, elsewhere": ("cron(0 13 * * ? *)", "Europe/Berlin", (22, 12, 0)),
    "weekly": ("cron(0 13 ? * MON *)", "UTC", None),
    "a rate": ("rate(1 hour)", "UTC", None),
}


@pytest.mark.parametrize(("expression", "zone", "due"), CASES.values(), ids=CASES.keys())
def test_when_it_was_due(expression: str, zone: str, due: tuple[int, int, int] | None) -> None:
    found = latest(expression, zone, NOW)
    if due is None:
        assert found is None
    else:
        day, hour, minute = due
        assert found == datetime(2026, 11, day, hour, minute, tzinfo=UTC)
