"""Turns of one process; the shared store has its own tests beside the database."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from include.gleaner.crawl.throttle import (
    LONGEST_PENALTY,
    MemoryStore,
    SiteBusyError,
    StoppedError,
    Throttle,
    eased,
)

SITE = "example.com"


class NotingStore(MemoryStore):
    """Notes between which moments each turn was given: on a busy machine they lie further apart, never closer."""

    def __init__(self) -> None:
        super().__init__()
        self.given: dict[str, list[tuple[float, float]]] = {}

    def claim(self, site: str, delay: float) -> tuple[float, float]:
        before = time.monotonic()
        wait, delay = super().claim(site, delay)
        if wait <= 0:
            self.given.setdefault(site, []).append((before, time.monotonic()))
        return wait, delay

    def gaps(self, site: str = SITE) -> list[float]:
        """The most seconds that can have been between two turns."""
        return [later[1] - earlier[0] for earlier, later in itertools.pairwise(sorted(self.given[site]))]


@pytest.fixture
def store() -> NotingStore:
    return NotingStore()


@pytest.fixture
def throttle(store: NotingStore) -> Iterator[Throttle]:
    throttle = Throttle(store, delay=0.05, concurrency=4, first_penalty=0.2, patience=1.0)
    yield throttle
    throttle.close()


def starts(throttle: Throttle, count: int, threads: int = 4, site: str = SITE) -> list[float]:
    times: list[float] = []

    def visit(_: int) -> None:
        with throttle.turn(site):
            times.append(time.monotonic())

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(visit, range(count)))
    return sorted(times)


def test_turns_of_one_site_are_never_closer_than_the_delay(store: NotingStore, throttle: Throttle) -> None:
    assert len(starts(throttle, 10)) == len(store.given[SITE]) == 10
    assert min(store.gaps()) >= 0.05


def test_sites_do_not_wait_for_each_other(throttle: Throttle) -> None:
    throttle.slow_down("slow.example", 30.0)
    with throttle.turn("slow.example"):
        assert len(starts(throttle, 3, site="other.example")) == 3


def test_a_crawl_delay_can_only_make_it_slower(store: NotingStore, throttle: Throttle) -> None:
    throttle.slow_down(SITE, 0.001)
    starts(throttle, 3)
    assert min(store.gaps()) >= 0.05
    throttle.slow_down("b.example", 0.15)
    starts(throttle, 2, site="b.example")
    assert min(store.gaps("b.example")) >= 0.15


def test_no_more_requests_at_once_than_slots() -> None:
    throttle = Throttle(MemoryStore(), delay=0.0, concurrency=2)
    now, most = 0, 0
    lock = threading.Lock()

    def visit(_: int) -> None:
        nonlocal now, most
        with throttle.turn(SITE):
            with lock:
                now += 1
                most = max(most, now)
            time.sleep(0.005)
            with lock:
                now -= 1

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(visit, range(40)))
    throttle.close()
    assert most == 2


def test_a_busy_site_gets_twice_the_delay_once_for_all_that_was_under_way(store: MemoryStore) -> None:
    assert store.penalize(SITE, first=1.0, retry_after=0.0, elapsed=60.0) == 1.0
    assert store.penalize(SITE, first=1.0, retry_after=0.0, elapsed=60.0) == 1.0  # was sent before the penalty
    assert store.penalize(SITE, first=1.0, retry_after=0.0, elapsed=0.0) == 2.0
    for _ in range(10):
        store.penalize(SITE, first=1.0, retry_after=0.0, elapsed=0.0)
    assert store.penalize(SITE, first=1.0, retry_after=0.0, elapsed=0.0) == LONGEST_PENALTY


def test_the_penalty_shrinks_with_every_answer_and_ends(store: MemoryStore) -> None:
    store.penalize(SITE, first=8.0, retry_after=0.0, elapsed=0.0)
    penalties = [8.0]
    while penalties[-1] > 0:
        penalties.append(store.ease(SITE))
    assert penalties == sorted(penalties, reverse=True)
    # The rate grows by a tenth of a request a second: from 1/8 to 10 a second takes 99 answers.
    assert len(penalties) == 100


def test_easing_is_additive_in_the_rate() -> None:
    assert 1 / eased(2.0) - 1 / 2.0 == pytest.approx(0.1)
    assert eased(0.05) == 0.0


def test_retry_after_is_waited_for(throttle: Throttle) -> None:
    began = time.monotonic()
    throttle.busy(SITE, retry_after=0.4, elapsed=0.0)
    assert starts(throttle, 1)[0] - began >= 0.4


def test_a_wait_beyond_all_patience_is_told(throttle: Throttle) -> None:
    throttle.busy(SITE, retry_after=3_600.0, elapsed=0.0)
    with pytest.raises(SiteBusyError) as caught, throttle.turn(SITE):
        raise AssertionError("a turn was given")
    assert 3_500 < caught.value.seconds <= 3_600


def test_stopping_ends_all_waits() -> None:
    throttle = Throttle(MemoryStore(), delay=0.05, concurrency=4, patience=120.0)
    throttle.busy(SITE, retry_after=30.0, elapsed=0.0)
    raised: list[str] = []

    def visit() -> None:
        try:
            with throttle.turn(SITE):
                raised.append("a turn was given")
        except StoppedError:
            raised.append("stopped")

    threads = [threading.Thread(target=visit) for _ in range(3)]
    for thread in threads:
        thread.start()
    throttle.stop()
    for thread in threads:
        thread.join(timeout=20)
    throttle.close()
    assert raised == ["stopped"] * 3
