"""The same website crawled again: what is unchanged, gone, lost or no longer wanted."""

from __future__ import annotations

from collections.abc import Mapping

import psycopg

from tests.support.crawling import run, states
from tests.support.website import Reply, TestWebsite, page


def test_a_second_crawl_of_an_unchanged_site_stores_nothing(conn: psycopg.Connection, site: TestWebsite) -> None:
    def tagged(headers: Mapping[str, str]) -> Reply:
        if headers.get("If-None-Match") == '"v1"':
            return Reply(status=304)
        return Reply(body=page("home", "/plain"), headers={"ETag": '"v1"'})

    site.routes = {"/": tagged, "/plain": page("plain", "/deep"), "/deep": page("deep")}
    run(conn, site, "run-1")
    before = conn.execute("SELECT page_id, generation, state FROM gleaner.website_page ORDER BY 1").fetchall()
    outcome = run(conn, site, "run-2")
    assert (outcome.changed, outcome.unchanged, outcome.state) == (0, 3, "complete")
    assert conn.execute("SELECT page_id, generation, state FROM gleaner.website_page ORDER BY 1").fetchall() == before
    assert site.seen_headers["/"]["If-None-Match"] == '"v1"'
    site.routes["/deep"] = page("deep, and new")
    outcome = run(conn, site, "run-3")
    assert (outcome.changed, outcome.unchanged) == (1, 2)


def test_missing_pages_need_two_crawls_and_come_back(conn: psycopg.Connection, site: TestWebsite) -> None:
    site.routes = {"/": page("home", "/a", "/never"), "/a": page("a")}
    run(conn, site, "run-1")
    assert states(conn, site)["/never"] == ("gone", "http_404")
    del site.routes["/a"]
    missing = "SELECT state, missing_count FROM gleaner.website_page WHERE url LIKE '%/a'"
    run(conn, site, "run-2")
    run(conn, site, "run-2")  # the same run again is no new evidence
    assert conn.execute(missing).fetchone() == ("fetched", 1)
    run(conn, site, "run-3")
    assert conn.execute(missing).fetchone() == ("fetched", 2)
    site.routes["/a"] = page("a")
    run(conn, site, "run-4")
    assert conn.execute(missing).fetchone() == ("fetched", 0)


def test_the_canonical_page_of_an_unchanged_page_is_found_again(conn: psycopg.Connection, site: TestWebsite) -> None:
    """It is linked from nowhere else: were it not found, a complete crawl would count it as vanished."""
    head = f'<link rel="canonical" href="{site.url}p">'
    site.routes = {"/": page("home", "/p?ref=home"), "/p?ref=home": page("p", head=head), "/p": page("p!", head=head)}
    run(conn, site, "run-1")
    assert run(conn, site, "run-2").state == "complete"
    jobs = "SELECT count(DISTINCT found_job) FROM gleaner.website_page"
    assert conn.execute(jobs).fetchone() == (1,)


def test_an_unchanged_page_that_may_no_longer_be_kept(conn: psycopg.Connection, site: TestWebsite) -> None:
    def answer(headers: Mapping[str, str]) -> Reply:
        if "If-None-Match" in headers:
            return Reply(status=304, headers={"X-Robots-Tag": "noindex"})
        return Reply(body=page("a"), headers={"ETag": '"1"'})

    site.routes = {"/": page("home", "/a"), "/a": answer}
    run(conn, site, "run-1")
    run(conn, site, "run-2")
    assert states(conn, site)["/a"] == ("skipped", "noindex")


def test_a_page_whose_stored_bytes_are_lost_is_fetched_whole(conn: psycopg.Connection, site: TestWebsite) -> None:
    def answer(headers: Mapping[str, str]) -> Reply:
        return Reply(status=304) if "If-None-Match" in headers else Reply(body=page("a"), headers={"ETag": '"1"'})

    site.routes = {"/": page("home", "/a"), "/a": answer}
    run(conn, site, "run-1")
    conn.execute("DELETE FROM gleaner.page_snapshot")
    run(conn, site, "run-2")
    assert conn.execute("SELECT count(*) FROM gleaner.page_snapshot").fetchone() == (2,)


def test_a_server_that_changes_its_etag_each_time_is_found_out(conn: psycopg.Connection, site: TestWebsite) -> None:
    numbers = iter(range(100))
    site.routes = {"/": lambda _: Reply(body=page("home"), headers={"ETag": f'"{next(numbers)}"'})}
    run(conn, site, "run-1")
    outcome = run(conn, site, "run-2")
    assert (outcome.changed, outcome.unchanged) == (0, 1)
    assert conn.execute("SELECT count(*) FROM gleaner.page_snapshot").fetchone() == (1,)
