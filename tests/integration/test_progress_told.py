"""What a step that is run again says of itself in the log: what is so, and not that nothing is done."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from structlog.testing import capture_logs

from include.gleaner import pipeline
from include.gleaner.pipeline import processing
from tests.support.articles import website
from tests.support.tenant import Tenant

RUN = "told"


def told(work: Callable[..., Any], *arguments: Any) -> list[str]:
    """The lines about its progress."""
    with capture_logs() as lines:
        work(*arguments)
    return [line["event"] for line in lines if "stage" in line]


def planned(tenant: Tenant) -> tuple[dict[str, Any], dict[str, Any]]:
    """A crawled website of four pages, all of them in one batch."""
    tenant.site.routes = website("apples", "pears", "plums")
    params = tenant.params()
    pipeline.crawl_website(params, RUN)
    (batch,) = pipeline.plan_batches(params, RUN)
    assert batch["pages"] == 4
    return params, batch


def test_a_step_with_nothing_left_to_do_says_so(tenant: Tenant) -> None:
    params, batch = planned(tenant)
    first = told(pipeline.process_pages, params, RUN, batch, 1)
    assert re.fullmatch(r"run: 4/4 pages processed, [\d.]+ pages/s", first[-1])
    assert told(pipeline.process_pages, params, RUN, batch, 2) == [
        "batch 1/1 · 4 pages: nothing is left to do, no page of it waits to be processed",
        "run: 4/4 pages processed",
    ]
    (batch,) = pipeline.survey_site(params, RUN)
    first = told(pipeline.load_chunks, params, RUN, batch, 1)
    assert re.fullmatch(r"run: 4/4 pages loaded, [\d.]+ pages/s", first[-1])
    for attempt in (1, 2):  # the same try once more, as after a wait for the endpoint, and a new one
        again = told(pipeline.load_chunks, params, RUN, batch, attempt)
        assert again[0] == "batch 1/1 · 4 pages: nothing is left to do, no page of it waits to be loaded"
        assert again[1].startswith("run: 4/4 pages loaded")


def test_a_try_that_goes_on_counts_what_the_one_before_it_did(tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    params, batch = planned(tenant)
    whole = processing._read

    def two_pages(*arguments: Any) -> Any:
        pages = whole(*arguments)
        if not any(arguments[-1].bytes):
            return pages[:2]
        raise ConnectionError("the database is gone")

    with monkeypatch.context() as broken:
        broken.setattr(processing, "_read", two_pages)
        with pytest.raises(ConnectionError):
            pipeline.process_pages(params, RUN, batch, 1)
    lines = told(pipeline.process_pages, params, RUN, batch, 2)
    assert lines[0].startswith("batch 1/1 · 4 pages: 4/4 pages processed, ")
    assert re.fullmatch(r"run: 4/4 pages processed, [\d.]+ pages/s", lines[1])


def test_a_page_that_failed_and_is_done_again_counts_once(tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    params, batch = planned(tenant)

    def fails(page: Any) -> Any:
        if page.url.endswith(("/", "/pears")):
            raise ValueError("a bad page")
        return opened(page)

    opened = processing.open_page
    with monkeypatch.context() as broken:
        broken.setattr(processing, "open_page", fails)
        pipeline.process_pages(params, RUN, batch, 1)
    tenant.conn.execute("UPDATE gleaner.website_page SET state = 'chunked' WHERE url LIKE '%/pears'")
    # Of the two that failed one is done now, and of the other nobody has heard: it is not among those that are done.
    assert told(pipeline.process_pages, params, RUN, batch, 2)[-1].startswith("run: 3/4 pages processed, ")
