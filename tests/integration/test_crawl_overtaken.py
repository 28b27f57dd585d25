"""Two runs of one website whose crawls overlap, or come in the wrong order: the older one judges no page unseen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from include.gleaner import pipeline
from include.gleaner.crawl import crawler
from include.gleaner.errors import CrawlError, StartPageError
from tests.support.articles import article, website
from tests.support.tenant import Tenant
from tests.support.website import Reply, page

NAMES = ("apples", "pears", "plums", "figs", "quinces", "grapes")
OVERTAKEN = "a newer run crawls the website"


class Killed(Exception):
    """As if the worker had died."""


def chain(tenant: Tenant) -> None:
    """Each page links the next one only, so that a crawl has a wave for each."""
    links = dict(zip(("", *NAMES), NAMES, strict=False))
    tenant.site.routes = {
        f"/{name}": page(article(name or "fruit"), *[f"/{links[name]}"] if name in links else [])
        for name in ("", *NAMES)
    }


def killed_after(waves: int, monkeypatch: pytest.MonkeyPatch, work: Callable[[], Any]) -> None:
    usual = crawler._Crawl._next_wave
    begun = 0

    def next_wave(self: Any) -> Any:
        nonlocal begun
        begun += 1
        if begun > waves:
            raise Killed
        return usual(self)

    with monkeypatch.context() as patch:
        patch.setattr(crawler._Crawl, "_next_wave", next_wave)
        with pytest.raises(Killed):
            work()


def rest_of(tenant: Tenant, run_id: str) -> dict[str, Any]:
    """All tasks after the crawl; the report."""
    params = tenant.params()
    for batch in pipeline.plan_batches(params, run_id):
        pipeline.process_pages(params, run_id, batch, 1)
    for batch in pipeline.survey_site(params, run_id):
        pipeline.load_chunks(params, run_id, batch, 1)
    return pipeline.reconcile(params, run_id)


def test_an_overtaken_crawl_deletes_nothing(tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    chain(tenant)
    tenant.run()
    before = tenant.physical()
    for run_id in ("older", "newer"):
        killed_after(3, monkeypatch, lambda run_id=run_id: pipeline.crawl_website(tenant.params(), run_id))
    assert pipeline.crawl_website(tenant.params(), "older")["state"] == "partial"
    report = rest_of(tenant, "older")
    assert (report["crawl"]["reason"], report["retired"]["retired"]) == (OVERTAKEN, 0)
    assert tenant.physical() == before
    assert pipeline.crawl_website(tenant.params(), "newer")["state"] == "complete"
    assert rest_of(tenant, "newer")["crawl"]["visited"] == 1 + len(NAMES)
    assert tenant.physical() == before


@pytest.mark.parametrize("is_well", [True, False])
def test_an_old_failed_run_that_is_cleared_after_a_newer_one(tenant: Tenant, is_well: bool) -> None:
    tenant.site.routes = website(*NAMES)
    tenant.run()
    before, routes = tenant.physical(), tenant.site.routes
    tenant.site.routes = {"/": Reply(status=404)}
    with pytest.raises(StartPageError):
        pipeline.crawl_website(tenant.params(), "old")
    if is_well:
        tenant.site.routes = routes
        tenant.run(max_pages=2)
        assert pipeline.crawl_website(tenant.params(), "old")["state"] == "partial"
        report = rest_of(tenant, "old")
        assert (report["crawl"]["reason"], report["retired"]["retired"]) == (OVERTAKEN, 0)
    else:  # nobody has crawled the website since: a green run would say that somebody had
        with pytest.raises(StartPageError):
            pipeline.crawl_website(tenant.params(), "newer")
        tenant.site.routes = routes
        with pytest.raises(
            CrawlError, match=r"^the newer run newer of this website failed; clear that one, or trigger"
        ):
            pipeline.crawl_website(tenant.params(), "old")
        assert pipeline.crawl_website(tenant.params(), "newer")["state"] == "complete"
    assert tenant.physical() == before
