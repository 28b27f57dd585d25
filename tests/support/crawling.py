"""Crawls of a test's website into a test's database."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import psycopg

from include.gleaner.config import IngestRequest
from include.gleaner.crawl.crawler import CrawlOutcome, crawl
from tests.support.website import TestWebsite


def run(
    conn: psycopg.Connection, site: TestWebsite, run_id: str = "run-1", path: str = "", **params: Any
) -> CrawlOutcome:
    request = IngestRequest.from_params(
        {"tenant": "acme", "url": site.url + path, "delay_seconds": 0.0, **params},
        {"GLEANER_LOCAL_HOSTS": site.host},
    )
    return crawl(conn, tenant_id="acme", request=impatient(request), run_id=run_id)


def impatient(request: IngestRequest, **policy: Any) -> IngestRequest:
    """The same request with waits that a test can bear."""
    return replace(request, crawl=replace(request.crawl, backoff_seconds=0.02, **policy))


def states(conn: psycopg.Connection, site: TestWebsite) -> dict[str, tuple[str, str | None]]:
    rows = conn.execute("SELECT url, state, reason FROM gleaner.website_page ORDER BY url").fetchall()
    return {url.removeprefix(site.url.rstrip("/")): (state, reason) for url, state, reason in rows}


def job_row(conn: psycopg.Connection) -> tuple[str, str | None]:
    row = conn.execute("SELECT state, reason FROM gleaner.crawl_job ORDER BY job_id DESC LIMIT 1").fetchone()
    assert row is not None
    return row[0], row[1]
