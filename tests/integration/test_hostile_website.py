"""One crawl of a website that does all that websites do to crawlers: each case says what its row must be."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import psycopg
import pytest

from include.gleaner.config import IngestRequest
from include.gleaner.crawl.crawler import CrawlOutcome, crawl
from include.gleaner.crawl.traps import SAME_CONTENT_PAGES
from include.gleaner.crawl.wave import MOST_AHEAD
from include.gleaner.local.postgres import EmbeddedPostgres
from tests.support.hostile_website import DEADLINE, MAX_BYTES, MAX_LINKS, TRAPS, Case, cases, install
from tests.support.website import TestWebsite

CASES = list(cases(TestWebsite.named("127.0.0.1:1")))
assert len(CASES) > 120
Row = tuple[str, str | None, str | None]


@dataclass(frozen=True)
class Crawled:
    """The hostile website after one crawl."""

    site: TestWebsite
    rows: dict[str, Row]  # path -> state, reason, path of the alias
    outcome: CrawlOutcome
    reason: str
    traps: list[dict[str, Any]]
    letters: dict[str, tuple[str, str]]  # path -> reason, detail


@pytest.fixture(scope="module")
def crawled(postgres: EmbeddedPostgres) -> Iterator[Crawled]:
    postgres.create_database("hostile", template="template_knowledge")
    with TestWebsite() as site, psycopg.connect(postgres.dsn("hostile"), autocommit=True) as conn:
        install(site)
        request = IngestRequest.from_params(
            {"tenant": "acme", "url": site.url, "delay_seconds": 0.0, "max_pages": 5_000, "max_depth": 100},
            {"GLEANER_LOCAL_HOSTS": site.host},
        )
        policy = replace(
            request.crawl, backoff_seconds=0.02, max_body_bytes=MAX_BYTES, deadline_seconds=DEADLINE,
            max_links_per_page=MAX_LINKS,
        )  # fmt: skip
        outcome = crawl(conn, tenant_id="acme", request=replace(request, crawl=policy), run_id="run-1")
        root = site.url.rstrip("/")
        rows = conn.execute("SELECT url, state, reason, alias_of FROM gleaner.website_page").fetchall()
        job = conn.execute("SELECT coalesce(reason, ''), traps FROM gleaner.crawl_job").fetchone()
        letters = conn.execute(
            "SELECT url, l.reason, detail FROM gleaner.dead_letter l "
            "JOIN gleaner.website_page p USING (tenant_id, page_id)"
        ).fetchall()
        assert job is not None
        yield Crawled(
            site=site,
            rows={
                url.removeprefix(root): (state, reason, alias and alias.removeprefix(root))
                for url, state, reason, alias in rows
            },
            outcome=outcome,
            reason=job[0],
            traps=job[1],
            letters={url.removeprefix(root): (reason, detail) for url, reason, detail in letters},
        )
    postgres.drop_database("hostile")


@pytest.mark.parametrize("case", CASES, ids=[case.path[:40] for case in CASES])
def test_each_case_is_the_row_that_it_must_be(crawled: Crawled, case: Case) -> None:
    if case.state:
        assert crawled.rows[case.path] == (case.state, case.reason, case.alias)
    assert set(case.finds) <= crawled.rows.keys()
    assert not set(case.hides) & crawled.rows.keys()
    if case.state == "failed":
        assert crawled.letters[case.path] == (case.reason, "")
    else:
        assert case.path not in crawled.letters


def test_nothing_but_the_cases_and_their_families_is_in_the_table(crawled: Crawled) -> None:
    known = {"/"} | {path for case in CASES for path in (case.path, *case.finds)}
    families = ("/calendar/", "/shop?", "/same?", "/many/", "/q?n=", "/%D8%", "/%D9%", "/%DA%", "/nul-", "/by-", "/z")
    assert [path for path in crawled.rows if path not in known and not path.startswith(families)] == []


def test_each_address_was_asked_for_once_or_as_often_as_it_failed(crawled: Crawled) -> None:
    more = {path: count for path, count in crawled.site.requests.items() if count > 3}
    # Silence on a connection that had been open before says nothing: each of the three is asked again on a new one.
    assert more.pop("/silence", 4) <= 6
    assert more == {}
    twice = {path for path, count in crawled.site.requests.items() if count > 1}
    assert "/304" in twice  # once more without conditions
    assert twice <= {path for path, (state, _, _) in crawled.rows.items() if state == "failed"} | {"/304"}


def test_what_robots_forbids_was_never_asked_for(crawled: Crawled) -> None:
    assert crawled.site.requests["/private/x"] == 0


def test_cookies_are_never_sent(crawled: Crawled) -> None:
    assert not any("Cookie" in headers for headers in crawled.site.seen_headers.values())


def test_the_families_are_named_and_bounded(crawled: Crawled) -> None:
    root = crawled.site.url.rstrip("/")
    told = {(trap["kind"], trap["pattern"].removeprefix(root)): trap for trap in crawled.traps}
    assert set(told) == TRAPS
    assert told["calendar", "/calendar/<date>"]["followed"] == 366
    assert told["facets", "/shop?..."]["followed"] <= 60
    same = sum(count for path, count in crawled.site.requests.items() if path.startswith("/same?"))
    assert same <= SAME_CONTENT_PAGES + MOST_AHEAD
    assert all(trap["left_out"] > 0 for trap in crawled.traps)


def test_the_crawl_says_why_it_is_not_complete(crawled: Crawled) -> None:
    failed = sum(1 for state, _, _ in crawled.rows.values() if state == "failed")
    assert crawled.outcome.state == "partial"
    assert crawled.reason == f"{failed} pages could not be fetched, max_links_per_page"
    assert crawled.outcome.failed == failed == len(crawled.letters)


def test_no_secret_is_stored(postgres: EmbeddedPostgres, crawled: Crawled) -> None:
    assert not any("secret" in f"{path}{row}" for path, row in crawled.rows.items())
