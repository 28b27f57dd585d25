"""The simulation of the dispatcher does as Airflow was seen to do, and by its rules."""

from __future__ import annotations

import pytest

from benchmarks import dispatcher
from benchmarks.dispatcher import Costs, Fleet, day, simulate

FLEET = Fleet(crawl=4, process=2, load=2)
LOCAL = Costs(crawl_page=0.0016)  # a website on loopback


@pytest.mark.parametrize(("largest", "tasks", "seconds"), [(50, 204, 137.6), (2_500, 8, 41.1)])
def test_it_says_what_was_measured(largest: int, tasks: int, seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """5,000 pages in batches of 50, and in as few as there are."""
    monkeypatch.setattr(dispatcher, "LARGEST_BATCH", largest)
    outcome = simulate([(0.0, 5_000)], FLEET, LOCAL)
    assert outcome.tasks == tasks
    assert outcome.seconds == pytest.approx(seconds, rel=0.1)


def test_a_single_page_takes_its_tasks_one_after_the_other() -> None:
    costs = Costs(task=1.0, hand_over=0.5, crawl_page=0.0, process_page=0.0, load_page=0.0, starts_per_second=1e9)
    outcome = simulate([(10.0, 1)], FLEET, costs)
    assert outcome.tasks == 6
    assert outcome.seconds == pytest.approx(10 + 6 * 1.0 + 5 * 0.5)


def test_a_long_website_holds_up_a_short_one_by_a_batch() -> None:
    alone = simulate([(0.0, 20)], FLEET, LOCAL).seconds
    both = simulate([(0.0, 100_000), (400.0, 20)], FLEET, LOCAL)
    batch = LOCAL.task + dispatcher.LARGEST_BATCH * LOCAL.process_page
    assert both.latencies[20][0] <= alone + 3 * batch  # one for the batches of process, one for load, one to spare
    assert both.latencies[100_000][0] > 20 * both.latencies[20][0]


def test_a_day_has_the_pages_that_were_asked_for() -> None:
    runs = day(100_000)
    assert sum(pages for _, pages in runs) == 100_000
    assert all(0 <= arrival < 86_400 for arrival, _ in runs)


def test_a_million_pages_a_day_are_done_by_ten_machines() -> None:
    rows = {what: fits for what, _, _, fits in dispatcher.capacity()}
    assert rows["1,000,000 pages a day on 10 machines (simulated)"]
