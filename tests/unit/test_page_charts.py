"""The series of a run's charts."""

from __future__ import annotations

import pytest

from include.gleaner.api.charts import Batch, depth, pace


def batch(stage: str, pages: int, start: float, end: float) -> Batch:
    return Batch(stage=stage, pages=pages, start=start, end=end)


def test_a_batch_counts_evenly_over_its_time() -> None:
    # 30 pages in 15 s are 2 a second; the step of 10 s from 10 on holds half a step of them.
    assert pace([batch("load", 30, 5, 20)], 10) == {"load": [[0, 1.0], [10, 2.0]]}


@pytest.mark.parametrize("step", [1.0, 3.0, 7.5, 100.0])
def test_no_page_is_lost_or_counted_twice(step: float) -> None:
    batches = [batch("load", 50, 0.3, 12.7), batch("load", 20, 12.7, 12.7), batch("load", 7, 5.0, 30.0)]
    assert sum(value for _, value in pace(batches, step)["load"]) * step == pytest.approx(77)


def test_stages_are_apart() -> None:
    assert set(pace([batch("process", 1, 0, 1), batch("load", 1, 1, 2)], 1)) == {"process", "load"}


def test_who_runs_and_who_waits() -> None:
    # Looked at in the middle of each step: 5, 15, 25. The second batch waits from the first one's start to its own.
    found = depth([batch("load", 1, 0, 10), batch("load", 1, 12, 30), batch("process", 1, 12, 20)], 10)
    assert found == {
        "running": [[5.0, 1.0], [15.0, 2.0], [25.0, 1.0]],
        "waiting": [[5.0, 1.0], [15.0, 0.0], [25.0, 0.0]],
    }


def test_nothing_gives_nothing() -> None:
    assert pace([], 1) == {}
    assert depth([], 1) == {"running": [], "waiting": []}
