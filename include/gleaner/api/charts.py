"""The series of a run's charts, from when each batch began and ended. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil


@dataclass(frozen=True, kw_only=True)
class Batch:
    """One batch; seconds since the run began."""

    stage: str
    pages: int
    start: float
    end: float  # of one that goes on: now


def pace(batches: Sequence[Batch], step: float) -> dict[str, list[list[float]]]:
    """Pages a second by stage, as [seconds, pages a second] for each step in which there were any.

    A batch's pages count evenly over its time. The sum of a series, times the step, is the number of pages.
    """
    found: dict[str, dict[int, float]] = {}
    for batch in batches:
        series = found.setdefault(batch.stage, {})
        first, seconds = int(batch.start / step), batch.end - batch.start
        last = max(first, ceil(batch.end / step) - 1)
        for at in range(first, last + 1):
            share = 1.0 if seconds <= 0 else (min(batch.end, (at + 1) * step) - max(batch.start, at * step)) / seconds
            series[at] = series.get(at, 0.0) + batch.pages * share / step
    return {stage: [[at * step, value] for at, value in sorted(series.items())] for stage, series in found.items()}


def depth(batches: Sequence[Batch], step: float) -> dict[str, list[list[float]]]:
    """Batches at work and batches that wait at the middle of each step, as [seconds, number].

    A batch waits from the first start of its stage until its own; one that never began is not known here.
    """
    if not batches:
        return {"running": [], "waiting": []}
    opened = {batch.stage: min(b.start for b in batches if b.stage == batch.stage) for batch in batches}
    times = [(at + 0.5) * step for at in range(ceil(max(batch.end for batch in batches) / step))]
    running = [[at, float(sum(b.start <= at < b.end for b in batches))] for at in times]
    waiting = [[at, float(sum(opened[b.stage] <= at < b.start for b in batches))] for at in times]
    return {"running": running, "waiting": waiting}
