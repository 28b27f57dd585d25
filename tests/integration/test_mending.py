"""maintain_knowledge: what a dead run left behind is loaded, failures are tried again, what is old goes."""

from __future__ import annotations

from typing import Any

import pytest

from include.gleaner import pipeline
from include.gleaner.pipeline import processing
from include.gleaner.process.document import open_page
from tests.support.articles import article, website
from tests.support.rework import later, left_behind, mend
from tests.support.tenant import Tenant
from tests.support.website import page


@pytest.mark.parametrize("processed", [False, True])
def test_what_a_dead_run_left_behind_is_loaded_once_nobody_is_at_it(tenant: Tenant, processed: bool) -> None:
    tenant.site.routes = website("apples", "pears")
    left_behind(tenant, processed=processed)
    assert mend() == []  # the run may be alive
    later(tenant, "13 hours")
    (batch,) = mend()
    assert (batch["label"], tenant.states()) == (
        "batch 1/1 · acme · 3 pages", {"/": "chunked", "/apples": "chunked", "/pears": "chunked"},
    )  # fmt: skip
    assert len(tenant.knowledge()) == 3
    before = tenant.physical()
    assert mend("next") == []
    tenant.run()
    assert tenant.physical() == before
    assert tenant.endpoint.stats().inputs == 3


def test_a_finished_run_leaves_its_pages_to_maintenance_at_once(tenant: Tenant) -> None:
    tenant.site.routes = website("apples")
    left_behind(tenant, processed=True)
    tenant.conn.execute("UPDATE gleaner.crawl_job SET finished_at = now()")
    assert len(mend()) == 1
    assert article("apples") in dict(tenant.knowledge())["/apples"]


def test_what_only_a_dry_run_fetched_is_not_loaded(tenant: Tenant) -> None:
    tenant.site.routes = website("apples")
    tenant.run(dry_run=True)
    later(tenant, "13 hours")
    assert mend() == []
    assert tenant.knowledge() == []


def test_failures_are_tried_again_after_growing_delays_and_then_no_more(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant.site.routes = website(*[f"page{number}" for number in range(8)], "broken")
    tries = []

    def fails(snapshot: Any) -> Any:
        if snapshot.url.endswith("/broken"):
            tries.append(snapshot.url)
            raise ValueError("oops")
        return open_page(snapshot)

    monkeypatch.setattr(processing, "open_page", fails)
    tenant.run()
    assert (tenant.states()["/broken"], len(tries)) == ("failed", 1)
    assert mend("at once") == []
    for number, hours in enumerate((1, 4, 16, 64, 256), start=2):
        later(tenant, f"{hours * 60 - 5} minutes")
        assert mend(f"early {number}") == [], hours
        later(tenant, "6 minutes")
        assert len(mend(f"due {number}")) == 1, hours
        assert len(tries) == number
    later(tenant, "1000 days")
    assert mend("for ever") == []
    assert tenant.rows("SELECT attempts FROM gleaner.dead_letter WHERE resolved_at IS NULL") == [(6,)]
    assert pipeline.look_over_knowledge()["given_up"] == 1


def test_a_failure_that_is_mended_is_resolved_and_begins_anew(tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    tenant.site.routes = website(*[f"page{number}" for number in range(8)], "broken")

    def fails(snapshot: Any) -> Any:
        if snapshot.url.endswith("/broken"):
            raise ValueError("oops")
        return open_page(snapshot)

    with monkeypatch.context() as broken:
        broken.setattr(processing, "open_page", fails)
        tenant.run()
        later(tenant, "61 minutes")
        mend("still broken")
    later(tenant, "5 hours")
    assert len(mend("well")) == 1
    assert tenant.states()["/broken"] == "chunked"
    assert article("broken") in dict(tenant.knowledge())["/broken"]
    assert tenant.rows("SELECT count(*) FROM gleaner.dead_letter WHERE resolved_at IS NULL") == [(0,)]
    monkeypatch.setattr(processing, "open_page", fails)
    tenant.site.routes["/broken"] = page(article("quinces"))
    tenant.run()
    assert tenant.rows("SELECT attempts FROM gleaner.dead_letter WHERE resolved_at IS NULL") == [(1,)]


def test_a_refused_text_is_asked_for_again_when_it_is_due(tenant: Tenant) -> None:
    tenant.site.routes = website("apples", "figs", "pears")
    tenant.endpoint.configure(refuse_marker="article about figs")
    tenant.run(max_failed_share=1.0)
    calls = tenant.endpoint.stats().calls
    assert pipeline.find_missing_vectors() == []
    tenant.endpoint.configure(refuse_marker="")
    later(tenant, "61 minutes")
    (batch,) = pipeline.find_missing_vectors()
    pipeline.fill_vectors(batch, 1)
    assert tenant.endpoint.stats().calls == calls + 1
    assert tenant.rows("SELECT count(*) FROM gleaner.tenant_knowledge WHERE embedding IS NULL") == [(0,)]
    assert tenant.rows("SELECT count(*) FROM gleaner.dead_letter WHERE resolved_at IS NULL") == [(0,)]


def test_tenants_take_fair_turns(tenant: Tenant) -> None:
    tenant.site.routes = website(*[f"page{number}" for number in range(120)])
    other = Tenant(site=tenant.site, endpoint=tenant.endpoint, conn=tenant.conn, name="zulu")
    for one in (tenant, other):
        left_behind(one, processed=False)
    later(tenant, "13 hours")
    found = [part["tenant"] for batch in pipeline.find_pages_to_mend("now") for part in batch["parts"]]
    assert found == ["acme", "zulu", "acme", "zulu", "acme", "zulu"]


def test_old_versions_and_names_of_gone_pages_are_removed_and_nothing_else(tenant: Tenant) -> None:
    names = [f"page{number}" for number in range(6)]
    tenant.site.routes = website(*names, "apples")
    tenant.run()
    tenant.site.routes["/page1"] = page(article("changed"))
    del tenant.site.routes["/apples"]
    tenant.run()
    tenant.run()
    assert tenant.states()["/apples"] == "gone"
    before = tenant.knowledge()
    kept = tenant.rows("SELECT count(*) FROM gleaner.page_snapshot")
    report = pipeline.look_over_knowledge()
    assert (report["pruned_snapshots"], report["pruned_tombstones"]) == (0, 0)
    tenant.conn.execute("UPDATE gleaner.page_snapshot SET fetched_at = fetched_at - interval '91 days'")
    tenant.conn.execute("UPDATE gleaner.website_page SET checked_at = checked_at - interval '91 days'")
    report = pipeline.look_over_knowledge()
    assert (report["pruned_snapshots"], report["pruned_tombstones"]) == (1, 1)
    assert "/apples" not in tenant.states()
    assert tenant.rows("SELECT count(*) FROM gleaner.page_snapshot") == [(kept[0][0] - 2,)]  # its own went with it
    assert tenant.knowledge() == before
    tenant.site.routes["/apples"] = page(article("apples"))
    tenant.run()
    assert article("apples") in dict(tenant.knowledge())["/apples"]
