"""A simulation of how Airflow hands out batches, for sizes that no machine here has. Pure, but for what it prints.

python -m benchmarks.dispatcher

Runs arrive, are crawled, cut into batches as `planning.batch_size` cuts them, processed and loaded. The scheduler
starts so many tasks a second, those that a whole run waits for first, then the first batch of each run before the
second of any; a slot is held for a task's own start and for its pages. What is measured stands in `Costs`.
"""

from __future__ import annotations

import heapq
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from include.gleaner.config import MAX_BATCHES
from include.gleaner.pipeline.planning import LARGEST_BATCH, batch_size

Row = tuple[str, str, str, bool]


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Seconds, as measured with two tasks at once on two cores; see docs/capacity.md."""

    task: float = 0.9  # that a task instance holds its slot beside its work, until the next one begins
    hand_over: float = 0.2  # between the end of a task and the start of the one that waits for it
    crawl_page: float = 0.05  # waiting for websites, four requests at once
    process_page: float = 0.0064
    load_page: float = 0.0046  # with its share of an embedding request
    starts_per_second: float = 8.0  # of one scheduler


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """How many tasks may run at once, by pool."""

    crawl: int
    process: int
    load: int
    schedulers: int = 1


@dataclass(kw_only=True)
class Outcome:
    """Of all runs together, in seconds."""

    seconds: float = 0.0
    pages: int = 0
    tasks: int = 0
    most_waiting: int = 0  # ready to be started and not started
    latencies: dict[int, list[float]] = field(default_factory=dict)  # by pages of the run: from its arrival to its end


def simulate(runs: Sequence[tuple[float, int]], fleet: Fleet, costs: Costs) -> Outcome:
    """What comes of runs, each (when it arrives, its pages)."""
    free = {"crawl": fleet.crawl, "process": fleet.process, "load": fleet.load, "default": 1 << 30}
    slots = {"process": fleet.process, "load": fleet.load}
    ready: dict[str, list[tuple[int, int, int]]] = {pool: [] for pool in free}  # (number of the batch, run, pages)
    events: list[tuple[float, int, str, int, int, int]] = []  # (when, order, what, run, number, pages)
    left = [0] * len(runs)
    outcome = Outcome(pages=sum(pages for _, pages in runs))
    order = 0
    now = next_start = 0.0
    gap = 1 / (costs.starts_per_second * fleet.schedulers)

    def push(when: float, what: str, run: int, number: int = 0, pages: int = 0) -> None:
        nonlocal order
        order += 1
        heapq.heappush(events, (when, order, what, run, number, pages))

    def cut(run: int, pool: str) -> None:
        pages = runs[run][1]
        size = batch_size(pages, LARGEST_BATCH, slots[pool])
        count = -(-pages // size)
        assert count <= MAX_BATCHES
        left[run] = count
        for number in range(count):
            heapq.heappush(ready[pool], (number, run, min(size, pages - number * size)))

    for run, (arrival, _) in enumerate(runs):
        push(arrival, "arrive", run)
    seconds = {
        "crawl": lambda pages: costs.task + pages * costs.crawl_page,
        "process": lambda pages: costs.task + pages * costs.process_page,
        "load": lambda pages: costs.task + pages * costs.load_page,
        "default": lambda pages: costs.task,
    }
    after = {"crawl": "plan", "plan": "process", "process": "survey", "survey": "load", "load": "reconcile"}
    while events or any(ready.values()):
        if events and not (any(ready[pool] and free[pool] for pool in free) and next_start <= events[0][0]):
            now, _, what, run, number, pages = heapq.heappop(events)
            if what == "arrive":
                heapq.heappush(ready["crawl"], (0, run, runs[run][1]))
            elif what.startswith("ready "):
                stage = what[6:]
                if stage in slots:
                    cut(run, stage)
                else:
                    heapq.heappush(ready["default"], (-1, run, {"plan": 0, "survey": 1, "reconcile": 2}[stage]))
            else:
                free[what if what in free else "default"] += 1
                if what in slots:
                    left[run] -= 1
                if what == "reconcile":
                    outcome.latencies.setdefault(runs[run][1], []).append(now - runs[run][0])
                    outcome.seconds = max(outcome.seconds, now)
                elif what not in slots or left[run] == 0:
                    push(now + costs.hand_over, f"ready {after[what]}", run)
            outcome.most_waiting = max(outcome.most_waiting, sum(map(len, ready.values())))
            continue
        now = max(now, next_start)
        next_start = now + gap
        pool = min((pool for pool in free if ready[pool] and free[pool]), key=lambda pool: ready[pool][0])
        number, run, pages = heapq.heappop(ready[pool])
        free[pool] -= 1
        outcome.tasks += 1
        stage = ("plan", "survey", "reconcile")[pages] if pool == "default" else pool
        push(now + seconds[pool](pages), stage, run, number, pages)
    return outcome


def day(pages: int, largest: int = 5_000) -> list[tuple[float, int]]:
    """Runs spread over a day: of ten websites eight have 40 pages, one has 500, and one has `largest`."""
    sizes: list[int] = []
    left = pages
    mix = [40] * 8 + [500, largest]
    while left > 0:
        size = min(mix[len(sizes) % 10], left)
        sizes.append(size)
        left -= size
    return [(86_400 * number / len(sizes), size) for number, size in enumerate(sizes)]


def capacity(costs: Costs | None = None) -> Iterator[Row]:
    """How many pages a day one, ten and forty machines take, by the simulation."""
    costs = costs or Costs()
    for machines, pages in ((1, 100_000), (10, 1_000_000), (40, 4_000_000)):
        fleet = Fleet(crawl=16 * machines, process=2 * machines, load=2 * machines, schedulers=max(1, machines // 10))
        outcome = simulate(day(pages), fleet, costs)
        small = sorted(outcome.latencies[40])
        p95 = small[int(len(small) * 0.95)]
        told = (
            f"done {outcome.seconds / 3_600 - 24:+.1f} h after the day, {outcome.tasks:,} tasks, at most "
            f"{outcome.most_waiting} waiting; a website of 40 pages takes {p95:.0f} s (p95)"
        )
        kept = outcome.seconds <= 86_400 + 3_600 and p95 <= 120
        yield f"{pages:,} pages a day on {machines} machines (simulated)", told, "≤ 1 h late, ≤ 120 s", kept


def main(rows: Iterable[Row]) -> int:
    """Print them; 0 when all are kept."""
    kept = True
    for what, told, promise, fits in rows:
        print(f"| {what} | {told} | {promise} |", "" if fits else " <-- not kept")
        kept = kept and fits
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main(capacity()))
