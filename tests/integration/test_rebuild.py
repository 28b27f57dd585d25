"""rebuild_knowledge: a day is done again from what is stored, as often as one likes, and newer content always wins."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from include.gleaner import pipeline
from include.gleaner.errors import InvalidParamError, RunFailedError, UnknownParamError
from tests.support.articles import article, website
from tests.support.rework import DAY, damage, fetched_on, rebuild, without_content
from tests.support.tenant import Tenant
from tests.support.website import page

MODEL = "text-embedding-3-large"


@pytest.fixture
def loaded(tenant: Tenant) -> Tenant:
    tenant.site.routes = website("apples", "pears")
    tenant.run()
    fetched_on(tenant, DAY, "/apples")
    fetched_on(tenant, DAY + timedelta(days=1), "/pears")
    return tenant


def test_only_the_day_is_rebuilt_and_no_vector_is_paid_again(loaded: Tenant) -> None:
    before, calls = loaded.knowledge(), loaded.endpoint.stats().calls
    damage(loaded)
    report = rebuild()
    assert (report["work"]["processed"], report["work"]["loaded"], report["work"]["updated"]) == (1, 1, 1)
    after = dict(loaded.knowledge())
    assert after["/apples"] == dict(before)["/apples"] == article("apples")
    assert after["/pears"] == "old"
    rebuild(DAY + timedelta(days=1), "next day")
    assert dict(loaded.knowledge())["/pears"] == article("pears")
    assert loaded.endpoint.stats().calls == calls
    assert loaded.states() == {"/": "chunked", "/apples": "chunked", "/pears": "chunked"}
    stages = loaded.rows("SELECT DISTINCT conf ->> 'stage' FROM gleaner.crawl_job WHERE kind = 'rebuild'")
    assert stages == [("process",)]


def test_the_same_day_again_writes_nothing(loaded: Tenant) -> None:
    rebuild()
    before = loaded.physical()
    report = rebuild()
    assert loaded.physical() == before
    assert report["not_rebuilt"] == 0
    assert rebuild(run_id="another run")["work"]["unchanged"] == 1
    assert loaded.physical() == before


def test_what_is_no_content_by_todays_rules_loses_its_chunks(loaded: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    apples = next(url for url, _ in loaded.knowledge() if url == "/apples")
    without_content(monkeypatch)
    report = rebuild()
    assert (report["work"]["no_content"], report["retired"]) == (1, {"retired": 1, "held_back": 0})
    assert apples not in {url for url, _ in loaded.knowledge()}
    assert len(loaded.knowledge()) == 2
    assert loaded.states()["/apples"] == "skipped"
    fences = loaded.rows(
        "SELECT g.chunk_count, g.generation > p.generation FROM gleaner.knowledge_generation g"
        " JOIN gleaner.website_page p ON p.page_id = g.source_id WHERE p.url LIKE '%%/apples'"
    )
    assert fences == [(0, True)]  # a slower task does not bring them back
    monkeypatch.undo()


def test_newer_content_stays_when_the_old_one_was_none(loaded: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    interval = (DAY, DAY + timedelta(days=1))
    (batch,) = pipeline.find_pages_of_interval({}, "day", interval)
    with monkeypatch.context() as rules:
        without_content(rules)
        pipeline.reprocess_pages({}, interval, batch, 1)
    loaded.site.routes["/apples"] = page(
        "Apples are red since today, and everybody should know what that says about them."
    )
    loaded.run()
    report = pipeline.report_rebuild({}, "day", interval)
    assert report["retired"] == {"retired": 0, "held_back": 0}
    assert "red since today" in dict(loaded.knowledge())["/apples"]


def test_rules_that_find_nearly_everything_empty_delete_nothing(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"fruit{number}" for number in range(8)]
    tenant.site.routes = website(*names)
    tenant.run()
    fetched_on(tenant, DAY, *(f"/{name}" for name in names))
    before = tenant.knowledge()
    without_content(monkeypatch)
    assert rebuild()["retired"] == {"retired": 0, "held_back": 8}
    assert tenant.knowledge() == before


def test_an_empty_day_has_nothing_to_do(loaded: Tenant) -> None:
    before = loaded.physical()
    report = rebuild(DAY - timedelta(days=30))
    assert (report["sources"], report["work"]["loaded"], report["not_rebuilt"]) == (0, 0, 0)
    assert loaded.physical() == before


def test_newer_content_is_never_overwritten(loaded: Tenant) -> None:
    interval = (DAY, DAY + timedelta(days=1))
    (batch,) = pipeline.find_pages_of_interval({}, "day", interval)
    (loads,) = pipeline.find_documents_of_interval({}, "day", interval)
    loaded.site.routes["/apples"] = page(article("quinces"))
    loaded.run()  # meanwhile
    before = loaded.physical()
    assert pipeline.reprocess_pages({}, interval, batch, 1)["pages"] == 0
    assert pipeline.reload_chunks({}, interval, loads, 1)["pages"] == 0
    assert loaded.physical() == before
    assert dict(loaded.knowledge())["/apples"] == article("quinces")
    assert rebuild(run_id="later")["sources"] == 0  # the page belongs to another day now


def test_a_tenant_is_rebuilt_without_the_others(loaded: Tenant) -> None:
    other = Tenant(site=loaded.site, endpoint=loaded.endpoint, conn=loaded.conn, name="other")
    other.run()
    fetched_on(other, DAY, "/apples")
    damage(loaded)
    rebuild(tenant="other", run_id="of other")
    assert dict(other.knowledge())["/apples"] == article("apples")
    assert dict(loaded.knowledge())["/apples"] == "old"
    rebuild(tenant="acme", run_id="of acme")
    assert dict(loaded.knowledge())["/apples"] == article("apples")
    jobs = loaded.rows("SELECT tenant_id, kind, state FROM gleaner.crawl_job WHERE kind <> 'crawl' ORDER BY 1")
    assert jobs == [("acme", "rebuild", "complete"), ("other", "rebuild", "complete")]


def test_two_tenants_at_once_on_the_same_day(loaded: Tenant) -> None:
    """Their tasks are interleaved, with the same run id even, and neither touches the other's rows or reports."""
    other = Tenant(site=loaded.site, endpoint=loaded.endpoint, conn=loaded.conn, name="other")
    other.run()
    fetched_on(other, DAY, "/apples")
    damage(loaded)
    interval = (DAY, DAY + timedelta(days=1))
    both = [{"tenant": name} for name in ("acme", "other")]
    found = [pipeline.find_pages_of_interval(params, "day", interval) for params in both]
    for params, batches in zip(both, found, strict=True):
        for batch in batches:
            assert {part["tenant"] for part in batch["parts"]} == {params["tenant"]}
            pipeline.reprocess_pages(params, interval, batch, 1)
    loads = [pipeline.find_documents_of_interval(params, "day", interval) for params in both]
    for params, batches in zip(both, loads, strict=True):
        for batch in batches:
            pipeline.reload_chunks(params, interval, batch, 1)
    reports = [pipeline.report_rebuild(params, "day", interval) for params in both]
    assert [(report["sources"], report["work"]["loaded"]) for report in reports] == [(1, 1), (1, 1)]
    for tenant in (loaded, other):
        assert dict(tenant.knowledge())["/apples"] == article("apples")


def test_an_incomplete_crawl_before_a_rebuild_is_still_gone_on_with(loaded: Tenant) -> None:
    """A rebuild is no crawl: it must not become the newest one of the source."""
    loaded.conn.execute("UPDATE gleaner.crawl_job SET state = 'partial', goes_on = true")
    rebuild()
    loaded.run()
    assert loaded.rows("SELECT count(*) FROM gleaner.crawl_job WHERE goes_on") == [(0,)]


def day_of(tenant: Tenant, path: str) -> datetime:
    """When the day began on which the newest content of the page was fetched."""
    url = tenant.site.url.rstrip("/") + path
    ((fetched,),) = tenant.rows("SELECT fetched_at FROM gleaner.website_page WHERE url = %s", url)
    return cast("datetime", fetched).astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


@pytest.mark.parametrize("stage", ["process", "chunk", "embed"])
def test_another_model_stands_beside_until_the_connection_names_it(
    loaded: Tenant, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    before = loaded.knowledge()
    for day in (DAY, DAY + timedelta(days=1)):
        rebuild(day, f"{day}", model=MODEL, stage=stage)
    today = day_of(loaded, "/")
    assert rebuild(today, "today", model=MODEL, stage=stage)["model"] == MODEL
    rows = dict(loaded.rows("SELECT embedding_model, count(*) FROM gleaner.tenant_knowledge GROUP BY 1"))
    assert rows == {"text-embedding-3-small": 3, MODEL: 3}
    assert loaded.rows("SELECT search_model FROM gleaner.tenant") == [("text-embedding-3-small",)]
    calls = loaded.endpoint.stats().calls
    assert rebuild(today, "again", model=MODEL, stage=stage)["work"]["embedded"] == 0
    connection = json.loads(os.environ["AIRFLOW_CONN_GLEANER_OPENAI"])
    connection["extra"] = {"model": MODEL}
    monkeypatch.setenv("AIRFLOW_CONN_GLEANER_OPENAI", json.dumps(connection))
    report = loaded.run()
    assert (report["work"]["embedded"], report["pages_behind"]) == (0, 0)
    assert loaded.rows("SELECT search_model FROM gleaner.tenant") == [(MODEL,)]
    assert loaded.rows("SELECT DISTINCT embedding_model FROM gleaner.tenant_knowledge") == [(MODEL,)]
    assert loaded.endpoint.stats().calls == calls
    assert loaded.knowledge() == before


def test_a_run_under_way_loads_its_pages_although_another_model_was_loaded_meanwhile(loaded: Tenant) -> None:
    loaded.site.routes["/apples"] = page(article("quinces"))
    params = loaded.params()
    pipeline.crawl_website(params, "under way")
    for batch in pipeline.plan_batches(params, "under way"):
        pipeline.process_pages(params, "under way", batch, 1)
    batches = pipeline.survey_site(params, "under way")
    today = day_of(loaded, "/apples")
    assert rebuild(today, "today", model=MODEL, stage="chunk")["work"]["created"] > 0
    for batch in batches:
        pipeline.load_chunks(params, "under way", batch, 1)
    assert pipeline.reconcile(params, "under way")["gap"]["pages_not_chunked"] == 0
    texts = dict(loaded.rows(
        "SELECT split_part(metadata->>'page_url', '/', 4), full_text FROM gleaner.tenant_knowledge"
        " WHERE embedding_model = 'text-embedding-3-small'"
    ))  # fmt: skip
    assert texts["apples"] == article("quinces")


def test_what_another_model_takes_says_nothing_of_what_this_one_refused(loaded: Tenant) -> None:
    loaded.endpoint.configure(refuse_marker="about quinces")
    loaded.site.routes["/apples"] = page(article("quinces"))
    loaded.run(max_failed_share=1.0)
    loaded.endpoint.configure(refuse_marker="")
    today = day_of(loaded, "/apples")
    assert rebuild(today, "today", model=MODEL, stage="chunk")["work"]["created"] > 0
    assert loaded.rows("SELECT stage, resolved_at FROM gleaner.dead_letter") == [("embed", None)]


def test_embed_fills_in_what_is_missing_only(loaded: Tenant) -> None:
    assert rebuild(stage="embed")["sources"] == 0
    loaded.conn.execute("UPDATE gleaner.tenant_knowledge SET embedding = NULL, content_hash = '\\x00'")
    loaded.conn.execute("UPDATE gleaner.knowledge_generation SET set_hash = '\\x00'")
    loaded.conn.execute("DELETE FROM gleaner.pending_embedding")
    assert rebuild(stage="embed")["work"]["embedded"] == 1
    assert loaded.rows("SELECT count(*) FROM gleaner.tenant_knowledge WHERE embedding IS NULL") == [(2,)]


def test_a_dry_run_counts_and_asks_for_nothing(loaded: Tenant) -> None:
    before, calls = loaded.physical(), loaded.endpoint.stats().calls
    report = rebuild(model=MODEL, dry_run=True)
    assert (report["work"]["loaded"], report["work"]["embedded"]) == (1, 1)
    assert report["work"]["tokens"] > 10
    assert report["cost"] == round(report["work"]["tokens"] * 0.13 / 1e6, 6)
    assert loaded.physical() == before
    assert loaded.endpoint.stats().calls == calls


def test_what_could_not_be_loaded_is_red(loaded: Tenant) -> None:
    interval = (DAY, DAY + timedelta(days=1))
    pipeline.find_pages_of_interval({"model": MODEL}, "day", interval)
    with pytest.raises(RunFailedError, match=f"1 pages of the interval are not loaded with {MODEL}"):
        pipeline.report_rebuild({"model": MODEL}, "day", interval)


@pytest.mark.parametrize(
    ("params", "told"),
    [
        ({"tennant": "acme"}, "tennant"),
        ({"tenant": "Not A Tenant"}, "tenant"),
        ({"stage": "crawl"}, "stage"),
        ({"since": "yesterday", "until": "2026-03-02"}, "since"),
        ({"since": "2026-03-02"}, "until"),
        ({"since": "2026-03-02", "until": "2026-03-01"}, "since"),
        ({"model": 3}, "model"),
        ({"model": 0}, "model"),
        ({"model": "a\0"}, "model"),
        ({"model": "\ud800"}, "model"),
        ({"tenant": False}, "tenant"),  # not everybody's
        ({"tenant": []}, "tenant"),
        ({"model": "some-model"}, "dimensions"),
        ({"dimensions": 99_999}, "dimensions"),
        ({"dry_run": "yes"}, "dry_run"),
    ],
)
def test_bad_params_are_named(tenant: Tenant, params: dict[str, Any], told: str) -> None:
    with pytest.raises((InvalidParamError, UnknownParamError), match=f"Param '{told}'"):
        rebuild(**params)


def test_a_run_without_an_interval_needs_its_own(loaded: Tenant) -> None:
    with pytest.raises(InvalidParamError, match="since and until"):
        rebuild(None)
    assert rebuild(None, since="2026-03-01", until="2026-03-02")["work"]["loaded"] == 1
