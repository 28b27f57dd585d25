"""Politeness that is shared through the database: many crawls are one visitor, whoever of them dies."""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import psycopg
import pytest

from include.gleaner.crawl.shared_pace import PostgresStore
from include.gleaner.crawl.throttle import LONGEST_PENALTY, SiteBusyError, Throttle

ROOT = Path(__file__).parents[2]
SITE = "example.com"


def store_for(dsn: str, holder: int = 0) -> PostgresStore:
    with psycopg.connect(dsn, autocommit=True) as conn:
        return PostgresStore.beside(conn, holder=uuid.UUID(int=holder + 1))


@pytest.fixture
def store(knowledge_dsn: str) -> Iterator[PostgresStore]:
    with closing(store_for(knowledge_dsn)) as store:
        yield store


@pytest.fixture
def other(knowledge_dsn: str) -> Iterator[PostgresStore]:
    with closing(store_for(knowledge_dsn, 1)) as store:
        yield store


def test_eight_crawls_keep_one_pace_and_all_get_their_turns(knowledge_dsn: str) -> None:
    starts: list[tuple[float, int]] = []
    turns, delay = 6, 0.04

    def visit(number: int) -> None:
        with throttles[number].turn(SITE):
            starts.append((time.monotonic(), number))

    with ExitStack() as stack:
        throttles = [
            stack.enter_context(closing(Throttle(store_for(knowledge_dsn, number), delay=delay, concurrency=4)))
            for number in range(8)
        ]
        began = time.monotonic()
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(visit, [number for number in range(8) for _ in range(turns)]))
    # A thread may be late in noting its own start, but never early: the whole cannot be quicker than the pace.
    assert max(at for at, _ in starts) - began >= (8 * turns - 1) * delay
    assert {number for _, number in starts} == set(range(8))


def test_turns_are_claimed_one_by_one(store: PostgresStore, other: PostgresStore) -> None:
    assert store.claim(SITE, 5.0) == (0.0, 5.0)
    wait, delay = other.claim(SITE, 0.0)
    assert 3.0 < wait <= 5.2  # the pace and its margin, less what the two calls took
    assert delay == 5.0  # the slowest crawl of late sets the pace for all


def test_another_site_is_not_concerned(store: PostgresStore) -> None:
    store.claim(SITE, 60.0)
    assert store.claim("other.example", 1.0) == (0.0, 1.0)


def test_slots_are_shared_given_back_and_wanted(store: PostgresStore, other: PostgresStore) -> None:
    assert store.lease(SITE, 4, 3) == [1, 2, 3]
    assert other.lease(SITE, 4, 3) == [4]
    store.claim(SITE, 0.0)
    assert other.lease(SITE, 4, 1) == []
    assert store.beat() == {SITE}
    store.release(SITE, [2])
    assert other.lease(SITE, 4, 4) == [2]
    other.release(SITE, [1])  # which is not its own
    assert other.lease(SITE, 4, 1) == []


def test_what_a_killed_crawl_held_is_free_for_its_next_try_at_once_and_for_others_when_the_lease_ends(
    knowledge_dsn: str, conn: psycopg.Connection
) -> None:
    script = (
        "import sys, time; from tests.integration.test_shared_pace import SITE, store_for;"
        "store = store_for(sys.argv[1], 7); store.claim(SITE, 0.0); print(store.lease(SITE, 2, 2), flush=True);"
        "time.sleep(60)"
    )
    for _ in range(2):
        process = subprocess.Popen(
            [sys.executable, "-c", script, knowledge_dsn], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "[1, 2]\n"
        process.kill()
        process.wait()
    with closing(store_for(knowledge_dsn, 8)) as other:
        assert other.lease(SITE, 2, 2) == []
        conn.execute("UPDATE gleaner.site_slot SET held_until = clock_timestamp()")
        assert other.lease(SITE, 2, 2) == [1, 2]


def test_a_penalty_counts_for_all_grows_once_for_what_was_under_way_and_shrinks(
    store: PostgresStore, other: PostgresStore
) -> None:
    store.claim(SITE, 0.0)
    assert store.penalize(SITE, first=8.0, retry_after=0.0, elapsed=30.0) == 8.0
    assert other.claim(SITE, 0.0)[0] > 4.0
    assert other.claim(SITE, 0.0)[1] == 8.0
    assert other.penalize(SITE, first=8.0, retry_after=0.0, elapsed=30.0) == 8.0  # was sent before the penalty
    assert other.penalize(SITE, first=8.0, retry_after=0.0, elapsed=0.0) == 16.0
    for _ in range(10):
        other.penalize(SITE, first=8.0, retry_after=0.0, elapsed=0.0)
    assert other.penalize(SITE, first=8.0, retry_after=0.0, elapsed=0.0) == LONGEST_PENALTY
    penalties = [LONGEST_PENALTY]
    while penalties[-1] > 0:
        penalties.append(other.ease(SITE))
    assert all(later < earlier for earlier, later in itertools.pairwise(penalties))
    assert len(penalties) < 110


def test_retry_after_is_kept_by_all(knowledge_dsn: str, store: PostgresStore) -> None:
    with closing(Throttle(store_for(knowledge_dsn, 2), delay=0.0, concurrency=2, patience=5.0)) as throttle:
        with throttle.turn(SITE):
            pass
        store.penalize(SITE, first=1.0, retry_after=3_600.0, elapsed=0.0)
        time.sleep(0.6)  # a crawl without delay looks every half second
        with pytest.raises(SiteBusyError), throttle.turn(SITE):
            raise AssertionError("a turn was given")


def test_those_who_hold_all_slots_let_others_in(knowledge_dsn: str) -> None:
    """Two crawls without delay, each of which would use all slots all the time."""
    ended = threading.Event()
    turns = [0, 0]

    def keep_visiting(number: int) -> None:
        while not ended.is_set():
            with throttles[number].turn(SITE):
                turns[number] += 1
                time.sleep(0.005)

    with ExitStack() as stack:
        throttles = [
            stack.enter_context(closing(Throttle(store_for(knowledge_dsn, number), delay=0.0, concurrency=2)))
            for number in range(2)
        ]
        threads = [threading.Thread(target=keep_visiting, args=(number,)) for number in (0, 0, 1, 1)]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + 90
        while min(turns) < 20 and time.monotonic() < deadline:
            time.sleep(0.05)
        ended.set()
        for thread in threads:
            thread.join()
    assert min(turns) >= 20


def test_a_database_that_forgot_everything_is_no_fault(store: PostgresStore, conn: psycopg.Connection) -> None:
    store.claim(SITE, 1.0)
    conn.execute("TRUNCATE gleaner.site_pace, gleaner.site_slot")  # as after a crash: the tables are unlogged
    assert store.claim(SITE, 1.0)[0] < 0.1
    assert store.claim(SITE, 1.0) == (0.0, 1.0)
