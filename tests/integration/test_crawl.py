"""Whole crawls of real servers on loopback, against a real database."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg

from include.gleaner.config import IngestRequest
from include.gleaner.crawl.crawler import crawl
from tests.support.crawling import run, states
from tests.support.website import Reply, TestWebsite, page

ROOT = Path(__file__).parents[2]


def test_everything_in_scope_is_found_and_stored_once(conn: psycopg.Connection, site: TestWebsite) -> None:
    site.routes = {
        "/": page(
            "home", "/a", "/b?utm_source=mail", "/b", "/picture.png", "https://elsewhere.example/", "mailto:x@y.z"
        ),
        "/a": page("a", "/c#part", "/old"),
        "/b": page("b", "/a"),
        "/c": page("c"),
        "/old": Reply(status=301, headers={"Location": "/new"}),
        "/new": page("new"),
        "/listed": page("only the sitemap knows me"),
        "/robots.txt": Reply(body=f"User-agent: *\nDisallow: /secret\nSitemap: {site.url}map.xml\n"),
        "/map.xml": f"<urlset xmlns='http://www.sitemaps.org/schemas/sitemap/0.9'><url><loc>{site.url}listed</loc></url>"
        f"<url><loc>{site.url}secret</loc></url></urlset>",
    }
    outcome = run(conn, site)
    assert states(conn, site) == {
        "/": ("fetched", None),
        "/a": ("fetched", None),
        "/b": ("fetched", None),
        "/c": ("fetched", None),
        "/listed": ("fetched", None),
        "/new": ("fetched", None),
        "/old": ("skipped", "redirect"),
        "/secret": ("skipped", "robots"),
    }
    assert (outcome.state, outcome.found, outcome.visited, outcome.changed, outcome.failed) == ("complete", 8, 8, 6, 0)
    assert max(site.requests.values()) == 1
    assert site.requests["/secret"] == 0
    assert conn.execute("SELECT count(*) FROM gleaner.page_snapshot").fetchone() == (6,)


CRAWLER = """
import sys, psycopg
from include.gleaner.config import IngestRequest
from include.gleaner.crawl.crawler import crawl
dsn, url, host = sys.argv[1:]
request = IngestRequest.from_params({"tenant": "acme", "url": url, "delay_seconds": 0.0}, {"GLEANER_LOCAL_HOSTS": host})
with psycopg.connect(dsn, autocommit=True) as conn:
    crawl(conn, tenant_id="acme", request=request, run_id="run-1")
"""


def written(conn: psycopg.Connection) -> int:
    row = conn.execute("SELECT count(*) FROM gleaner.website_page WHERE visited_job IS NOT NULL").fetchone()
    return int(row[0]) if row else 0


def test_a_killed_crawl_goes_on_where_it_was(knowledge_dsn: str, conn: psycopg.Connection, site: TestWebsite) -> None:
    """The site answers four pages more than are written, so that neither runs away however busy the machine is."""
    answers = threading.Semaphore()

    def in_turn(text: str) -> Callable[[Any], str]:
        def reply(_: Any) -> str:
            answers.acquire(timeout=120)
            return text

        return reply

    site.routes = {"/": in_turn(page("home", *[f"/p{n}" for n in range(120)]))}
    site.routes |= {f"/p{n}": in_turn(page(f"p{n}")) for n in range(120)}
    command = [sys.executable, "-c", CRAWLER, knowledge_dsn, site.url, site.host]
    for wanted in (30, 70):
        known, answers = written(conn), threading.Semaphore(4)
        process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
        deadline = time.monotonic() + 180
        while known < wanted:
            assert time.monotonic() < deadline, "what is done is not written before the site goes on"
            time.sleep(0.01)
            before, known = known, written(conn)
            if known > before:
                answers.release(known - before)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        answers.release(1_000)  # to nobody
    outcome = run(conn, site, "run-1")
    assert (outcome.state, outcome.visited, outcome.changed) == ("complete", 121, 121)
    assert {state for state, _ in states(conn, site).values()} == {"fetched"}
    # Each kill costs at most the pages under way: 4 threads, and as many that were done and not written yet.
    pages = [count for path, count in site.requests.items() if path.startswith("/p")]
    assert sum(pages) - 120 <= 2 * (4 + 4)
    assert conn.execute("SELECT count(*) FROM gleaner.page_snapshot").fetchone() == (121,)


def test_tenants_do_not_see_each_other(conn: psycopg.Connection, site: TestWebsite) -> None:
    site.routes = {"/": page("home")}
    run(conn, site)
    request = IngestRequest.from_params({"tenant": "other", "url": site.url}, {"GLEANER_LOCAL_HOSTS": site.host})
    crawl(conn, tenant_id="other", request=request, run_id="run-1")
    rows = conn.execute("SELECT tenant_id, count(DISTINCT page_id) FROM gleaner.website_page GROUP BY 1").fetchall()
    assert sorted(rows) == [("acme", 1), ("other", 1)]
    assert conn.execute("SELECT count(DISTINCT page_id) FROM gleaner.website_page").fetchone() == (2,)


def test_crawls_of_one_source_beside_each_other_do_not_lock_each_other_out(
    knowledge_dsn: str, site: TestWebsite
) -> None:
    names = [f"/p{number}" for number in range(80)]
    chance = random.Random(1)
    site.routes = {"/": page("home", *names)} | {name: page(name, *chance.sample(names, 80)) for name in names}

    def crawl_once(number: int) -> str:
        with psycopg.connect(knowledge_dsn, autocommit=True, prepare_threshold=None) as own:
            return run(own, site, f"run-{number}").state

    for first in (0, 3, 6):
        with ThreadPoolExecutor(3) as pool:
            assert set(pool.map(crawl_once, range(first, first + 3))) <= {"complete", "partial"}
