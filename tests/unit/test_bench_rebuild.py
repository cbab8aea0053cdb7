"""The benchmark of a baked image: its figures, and that it compares what it says."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.converge.__main__ import BenchmarkError
from benchmarks.rebuild import __main__ as bench


def test_the_ratio_is_of_the_medians() -> None:
    times = bench.Times(
        plain=[(10.0, 90.0), (20.0, 180.0), (1.0, 99.0)],
        baked=[(10.0, 5.0), (5.0, 5.0), (9.0, 9.0)],
    )
    text, ratio = bench.table(times)
    assert ratio == pytest.approx(0.15)
    assert "from lab_image         100.0 s" in text
    assert "create_host      10.0 s and 9.0 s" in text
    assert "ratio 0.15 (goal 0.2); medians of 3 round(s)" in text


@pytest.mark.parametrize("baked", [True, False])
def test_a_host_of_the_other_image_is_no_figure(
    monkeypatch: pytest.MonkeyPatch, baked: bool
) -> None:
    said = "Launch g4dn.xlarge from debian_13 (baked: ami-1 of 2026-11-22) with 60 GB"
    played: list[tuple[Any, ...]] = []

    def play(name: str, _lab: str, _environment: Any, *more: str) -> tuple[float, str]:
        played.append((name, *more))
        return 1.0, said if name == "create_host" else ""

    monkeypatch.setattr(bench, "play", play)
    if baked:
        assert bench.build({}, baked=True, gpu=False) == (1.0, 1.0)
        assert ("create_host", "-e", "lab_use_bake=true") in played
    else:
        with pytest.raises(BenchmarkError, match="another image"):
            bench.build({}, baked=False, gpu=False)
