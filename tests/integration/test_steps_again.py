"""Each step of a run is run again, as a cleared task is: when it has just ended, and when all have. Nothing doubles.

The second run of a site that has changed in every way: a page with another text, a new one, one whose text the endpoint
refuses, a copy, one that is gone, one that says nothing any more, one that the server fails on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from include.gleaner import pipeline
from tests.support.tenant import Tenant
from tests.support.website import Reply, page

NAMES = ("apples", "pears", "plums", "quiet", "broken", "figs", "copy")
# What a run leaves in other places than these is compared by its report. Without the times of day.
TABLES = {
    "website_page": ("url", "state", "reason", "alias_of", "missing_count", "found_job", "visited_job", "generation"),
    "page_snapshot": ("page_id", "generation", "raw_bytes"),
    "page_document": ("page_id", "generation", "document", "dropped", "spoken_for"),
    "tenant_knowledge": ("source_id", "chunk_type", "chunk_index", "full_text", "embedding", "ctid", "xmin"),
    "knowledge_generation": ("source_id", "embedding_model", "generation", "fingerprint", "chunk_count"),
    "pending_embedding": ("text_hash",),
    "dead_letter": ("stage", "page_id", "item", "reason", "attempts", "job_id", "resolved_at"),
    "embedding_usage": ("embedding_model", "requests", "inputs", "tokens"),
    "token_reservation": ("holder",),
    "crawl_job": ("job_id", "run_id", "state", "reason", "planned_pages", "goes_on"),
}
TOTALS = (
    "SELECT stage, sum(pages), sum(failed), sum(skipped), sum(chunks), sum(embedded), sum(reused), sum(requests),"
    " sum(tokens), sum(created), sum(updated), sum(unchanged), sum(deleted), sum(stale_pages)"
    " FROM gleaner.batch_report WHERE tenant_id = %s GROUP BY 1 ORDER BY 1"
)


def article(name: str) -> str:
    return f"The article about {name} says what everybody should know about {name}, and nothing else."


def publish(tenant: Tenant) -> None:
    links = [f"/{name}" for name in NAMES]
    routes: dict[str, Any] = {f"/{name}": page(article(name)) for name in NAMES if name not in ("figs", "copy")}
    tenant.site.routes = {"/": page("Welcome to the home page of the example company.", *links), **routes}


def change(tenant: Tenant) -> None:
    tenant.site.routes |= {
        "/pears": page(article("quinces")),
        "/figs": page(article("figs")),
        "/copy": page(article("apples")),
        "/plums": Reply(status=404),
        "/quiet": "<!doctype html><html><head><title>Quiet</title></head><body></body></html>",
        "/broken": Reply(status=500),
    }
    tenant.endpoint.configure(refuse_marker="article about figs")


def image(tenant: Tenant) -> dict[str, list[tuple[Any, ...]]]:
    """All that is stored of the tenant, down to the place of each row of the knowledge."""
    return {
        table: tenant.rows(
            f"SELECT {', '.join(f'{column}::text' for column in columns)} FROM gleaner.{table}"
            f" WHERE tenant_id = %s ORDER BY {', '.join(str(at + 1) for at in range(len(columns)))}",
            tenant.name,
        )
        for table, columns in TABLES.items()
    } | {"batch_report": tenant.rows(TOTALS, tenant.name)}


def run(tenant: Tenant, *, again: bool) -> dict[str, Any]:
    """A run, its steps once, or each of them twice in a row and once more when all is done; its report."""
    params = tenant.params(max_failed_share=1.0)
    done: list[tuple[str, Callable[[int], Any]]] = []

    def step(name: str, work: Callable[[int], Any]) -> Any:
        result = work(1)
        done.append((name, work))
        if again:
            repeat(name, work, 2)
        return result

    def repeat(name: str, work: Callable[[int], Any], attempt: int, may_change: frozenset[str] = frozenset()) -> None:
        before = image(tenant)
        work(attempt)
        changed = {table: rows for table, rows in image(tenant).items() if rows != before[table]}
        assert {table: rows for table, rows in changed.items() if table not in may_change} == {}, (name, attempt)

    step("crawl", lambda _: pipeline.crawl_website(params, "second"))
    for batch in step("plan", lambda _: pipeline.plan_batches(params, "second")):
        step("process", lambda attempt, batch=batch: pipeline.process_pages(params, "second", batch, attempt))
    for batch in step("survey", lambda _: pipeline.survey_site(params, "second")):
        step("load", lambda attempt, batch=batch: pipeline.load_chunks(params, "second", batch, attempt))
    step("reconcile", lambda _: pipeline.reconcile(params, "second"))
    if again:
        for name, work in done:
            if name != "plan":
                repeat(name, work, 3)
    report: dict[str, Any] = pipeline.reconcile(params, "second")
    if again:  # last, because it opens a page again whose text has no vector: that is for the next run
        repeat("plan", dict(done)["plan"], 3, frozenset({"website_page"}))
    return report


def test_a_step_that_is_run_again_doubles_nothing(tenant: Tenant) -> None:
    twin = replace(tenant, name="twin")
    publish(tenant)
    for user in (tenant, twin):
        user.run()
    change(tenant)
    twice, once = run(tenant, again=True), run(twin, again=False)
    # The second run did of everything something, so that there was something to double.
    pages = tenant.rows(
        "SELECT split_part(url, '/', 4), state, missing_count FROM gleaner.website_page"
        " WHERE tenant_id = %s AND (state, missing_count) <> ('chunked', 0) ORDER BY 1",
        twin.name,
    )
    assert pages == [("apples", "skipped", 0), ("plums", "chunked", 1), ("quiet", "skipped", 1)]
    assert [failure["stage"] for failure in twice["failures"]] == ["crawl", "embed"]
    assert (twice["crawl"]["visited"], twice["retired"]) == (8, {"retired": 1, "held_back": 0})
    assert (twice["work"]["updated"], twice["work"]["created"], twice["work"]["embedded"]) == (1, 2, 1)
    assert {**twice, "seconds": None} == {**once, "seconds": None}
    for table, columns in {
        "website_page": "url, reason, alias_of, missing_count",
        "dead_letter": "stage, item, reason, attempts, resolved_at IS NULL",
        "embedding_usage": "requests, inputs, tokens",
        "tenant_knowledge": "metadata->>'page_url', chunk_type, chunk_index, full_text, embedding IS NULL",
    }.items():
        query = f"SELECT {columns} FROM gleaner.{table} WHERE tenant_id = %s ORDER BY 1, 2, 3"
        assert tenant.rows(query, tenant.name) == tenant.rows(query, twin.name), table
