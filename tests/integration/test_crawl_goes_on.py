"""Crawls that are stopped on their way, by time, by their site or by a signal, and what becomes of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from include.gleaner.config import IngestRequest
from include.gleaner.crawl.crawler import (
    SITE_ASKS_TO_WAIT,
    SITE_FAULTS_IN_A_ROW,
    SITE_IS_SILENT,
    TIME_IS_OVER,
    CrawlOutcome,
    crawl,
)
from include.gleaner.crawl.wave import MOST_AHEAD
from include.gleaner.errors import StartPageError
from tests.support.website import Raw, Reply, TestWebsite, page

ROOT = Path(__file__).parents[2]
PAGES = [f"/p{number:03}" for number in range(60)]


@pytest.fixture
def site() -> Iterator[TestWebsite]:
    with TestWebsite() as website:
        website.routes = {"/": page("home", *PAGES)} | {path: page(path, "/deep") for path in PAGES}
        website.routes["/deep"] = page("deep")
        yield website


def run(
    conn: psycopg.Connection, site: TestWebsite, run_id: str, params: Mapping[str, Any] | None = None, **policy: Any
) -> CrawlOutcome:
    request = IngestRequest.from_params(
        {"tenant": "acme", "url": site.url, "delay_seconds": 0.0, **(params or {})}, {"GLEANER_LOCAL_HOSTS": site.host}
    )
    request = replace(request, crawl=replace(request.crawl, backoff_seconds=0.02, **policy))
    return crawl(conn, tenant_id="acme", request=request, run_id=run_id)


def job(conn: psycopg.Connection, run_id: str) -> tuple[str, str, bool]:
    row = conn.execute(
        "SELECT state, coalesce(reason, ''), goes_on FROM gleaner.crawl_job WHERE run_id = %s", [run_id]
    ).fetchone()
    assert row is not None
    return row[0], row[1], row[2]


def stop_by_time(conn: psycopg.Connection, site: TestWebsite, run_id: str) -> int:
    """A crawl that ends before it is through: the site holds most pages until then. How many pages it visited."""
    routes, asked, budget = dict(site.routes), len(site.arrivals), 2.0

    def late(path: str) -> Callable[[Mapping[str, str]], str]:
        def reply(_: Mapping[str, str]) -> str:
            time.sleep(max(0.0, site.arrivals[asked] + budget - time.monotonic()))
            return str(routes[path])

        return reply

    site.routes |= {path: late(path) for path in PAGES[8:]}
    visited = run(conn, site, run_id, time_budget_seconds=budget).visited
    site.routes = routes
    state, reason, goes_on = job(conn, run_id)
    assert (state, TIME_IS_OVER in reason, goes_on) == ("partial", True, True)
    assert 1 < visited < 61  # in the middle of its wave
    return visited


def long_enough(conn: psycopg.Connection) -> None:
    """The policy is part of a crawl's rules: the next runs of a test have another budget than the one that was cut."""
    conn.execute("UPDATE gleaner.crawl_job SET conf = jsonb_set(conf, '{crawl,time_budget_seconds}', '3000.0')")


def test_the_next_run_goes_on_where_time_stopped_the_last(conn: psycopg.Connection, site: TestWebsite) -> None:
    visited = stop_by_time(conn, site, "run-1")
    long_enough(conn)
    asked = site.requests.copy()
    outcome = run(conn, site, "run-2")
    assert (outcome.state, outcome.visited) == ("complete", 62)
    assert outcome.changed == 62 - visited
    pages = site.requests - asked
    assert all(pages[path] + asked[path] == 1 for path in [*PAGES, "/deep"])
    assert job(conn, "run-1")[2] is False
    site.requests.clear()
    assert run(conn, site, "run-3").state == "complete"  # a crawl of its own again
    assert all(site.requests[path] == 1 for path in PAGES)


def test_pages_that_failed_are_asked_for_again_when_a_crawl_goes_on(
    conn: psycopg.Connection, site: TestWebsite
) -> None:
    site.routes[PAGES[0]] = Reply(status=500)
    stop_by_time(conn, site, "run-1")
    long_enough(conn)
    site.routes[PAGES[0]] = page("well again")
    assert run(conn, site, "run-2").state == "complete"
    assert conn.execute("SELECT count(*) FROM gleaner.dead_letter WHERE resolved_at IS NULL").fetchone() == (0,)


@pytest.mark.parametrize("change", ["other rules", "too old", "another run has it", "failed"])
def test_a_crawl_is_not_gone_on_with_when(conn: psycopg.Connection, site: TestWebsite, change: str) -> None:
    stop_by_time(conn, site, "run-1")
    long_enough(conn)
    params: dict[str, Any] = {}
    if change == "other rules":
        params = {"exclude_patterns": ["/p059"]}
    elif change == "too old":
        conn.execute("UPDATE gleaner.crawl_job SET crawled_at = crawled_at - interval '4 days'")
    elif change == "another run has it":
        conn.execute("UPDATE gleaner.crawl_job SET goes_on = false")
    else:
        conn.execute("UPDATE gleaner.crawl_job SET state = 'failed'")
    site.requests.clear()
    outcome = run(conn, site, "run-2", params)
    assert outcome.state == "complete"
    assert all(site.requests[path] == 1 for path in PAGES[:59])


def test_a_site_that_asks_for_more_patience_than_there_is_stops_the_crawl_and_all_others_for_that_time(
    conn: psycopg.Connection, site: TestWebsite
) -> None:
    site.routes[PAGES[30]] = Reply(status=429, headers={"Retry-After": "3600"})
    outcome = run(conn, site, "run-1", patience_seconds=1.0)
    assert job(conn, "run-1") == ("partial", SITE_ASKS_TO_WAIT, True)
    assert outcome.failed == 0
    assert site.requests[PAGES[30]] == 1
    asked = sum(site.requests.values())
    with pytest.raises(StartPageError, match="patience"):
        run(conn, site, "run-2", {"max_pages": 100}, patience_seconds=1.0)
    assert sum(site.requests.values()) == asked
    # The hour is over.
    site.routes[PAGES[30]] = page("well again")
    conn.execute("UPDATE gleaner.site_pace SET next_turn = '-infinity', penalty = 0")
    assert run(conn, site, "run-3", patience_seconds=1.0).state == "complete"


def test_a_short_retry_after_is_waited_for(conn: psycopg.Connection, site: TestWebsite) -> None:
    busy_at: list[float] = []

    def busy_once(_: Mapping[str, str]) -> Reply | str:
        busy_at.append(time.monotonic())
        return Reply(status=503, headers={"Retry-After": "2"}) if len(busy_at) == 1 else page("well again")

    site.routes[PAGES[5]] = busy_once
    outcome = run(conn, site, "run-1")
    assert (outcome.state, outcome.failed) == ("complete", 0)
    assert busy_at[1] - busy_at[0] >= 2.0
    after = sorted(at for at in site.arrivals if at > busy_at[0] + 1.0)
    assert min(after) >= busy_at[0] + 2.0  # nobody else asked in the meantime but those that were under way


def test_a_site_that_falls_silent_is_left_in_peace(conn: psycopg.Connection, site: TestWebsite) -> None:
    quiet = [False]
    paths = [f"/p{number:03}" for number in range(120)]

    def answer(path: str) -> Any:
        def reply(_: Mapping[str, str]) -> Raw | str:
            quiet[0] = quiet[0] or path == paths[10]
            return Raw(b"") if quiet[0] else page(path)

        return reply

    site.routes = {"/": page("home", *paths)} | {path: answer(path) for path in paths}
    site.routes["/robots.txt"] = lambda _: Raw(b"") if quiet[0] else Reply(status=404)
    outcome = run(conn, site, "run-1", attempts=1)
    state, reason, goes_on = job(conn, "run-1")
    assert (state, goes_on) == ("partial", True)
    assert SITE_IS_SILENT in reason
    # Those in a row, and what the threads had been given meanwhile; not all that are silent.
    assert SITE_FAULTS_IN_A_ROW <= outcome.failed < SITE_FAULTS_IN_A_ROW + MOST_AHEAD < 110
    quiet[0] = False
    site.routes[paths[10]] = page("well again")
    assert run(conn, site, "run-2", attempts=1).state == "complete"


def test_a_site_that_is_busy_whatever_the_pace_stops_the_crawl(conn: psycopg.Connection, site: TestWebsite) -> None:
    site.routes |= {path: Reply(status=429) for path in PAGES}
    run(conn, site, "run-1", patience_seconds=0.5)
    assert job(conn, "run-1") == ("partial", SITE_ASKS_TO_WAIT, True)
    # 0.02 s doubles five times until it is beyond the patience; each time at most four requests are under way.
    assert sum(site.requests[path] for path in PAGES) <= 4 * 6


def test_many_broken_pages_on_a_site_that_lives_do_not_stop_a_crawl(
    conn: psycopg.Connection, site: TestWebsite
) -> None:
    site.routes |= {path: Reply(body="<p>half", length=900) for path in PAGES[:40]}
    outcome = run(conn, site, "run-1", attempts=1)
    assert job(conn, "run-1")[:2] == ("partial", "40 pages could not be fetched")
    assert (outcome.visited, outcome.failed) == (62, 40)


INTERRUPTED = """
import signal, sys, psycopg
from include.gleaner.config import IngestRequest
from include.gleaner.crawl.crawler import crawl
signal.signal(signal.SIGTERM, signal.default_int_handler)  # an exception in the main thread, as Airflow raises one
dsn, url, host = sys.argv[1:]
request = IngestRequest.from_params({"tenant": "acme", "url": url, "delay_seconds": 0.0}, {"GLEANER_LOCAL_HOSTS": host})
with psycopg.connect(dsn, autocommit=True) as conn:
    crawl(conn, tenant_id="acme", request=request, run_id="run-1")
"""


def test_a_task_that_is_told_to_end_does_not_wait_for_slow_pages(
    knowledge_dsn: str, conn: psycopg.Connection, site: TestWebsite
) -> None:
    site.routes |= {path: Reply(body="<p>" + "x" * 1_000, drip=0.05) for path in PAGES}  # 50 s each
    command = [sys.executable, "-c", INTERRUPTED, knowledge_dsn, site.url, site.host]
    process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while sum(site.requests[path] for path in PAGES) < 4:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=40)
    assert time.monotonic() - began < 25
    assert b"KeyboardInterrupt" in told
    site.routes |= {path: page(path) for path in PAGES}
    site.routes[PAGES[0]] = page("deep", "/deep")
    outcome = run(conn, site, "run-1")  # the retry
    assert (outcome.state, outcome.visited) == ("complete", 62)
