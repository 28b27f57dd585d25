"""What maintain_knowledge and rebuild_knowledge find to do, and their tasks in their order."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest

from include.gleaner import pipeline
from include.gleaner.models import NotContent
from include.gleaner.pipeline import processing
from tests.support.articles import NAMES, website
from tests.support.tenant import Tenant

DAY: Final = datetime(2026, 3, 1, tzinfo=UTC)


def end_of_pause(tenant: Tenant) -> None:
    tenant.conn.execute(
        "UPDATE gleaner.endpoint_state SET state ="
        " jsonb_set(state::jsonb, '{breaker,open_until}', to_jsonb(extract(epoch FROM clock_timestamp()) - 1))::text"
    )


def without_vectors(tenant: Tenant, names: tuple[str, ...] = NAMES, **more: Any) -> None:
    """A run while the endpoint fails; then the endpoint is well again."""
    tenant.site.routes = website(*names)
    tenant.endpoint.configure(error_every=1, error_status=503)
    assert tenant.run(**more)["gap"]["chunks_without_vector"] > 0
    tenant.endpoint.configure(error_every=0)


def mend(run_id: str = "now") -> list[dict[str, Any]]:
    batches = pipeline.find_pages_to_mend(run_id)
    for batch in batches:
        pipeline.mend_pages(batch, 1)
    return batches


def left_behind(tenant: Tenant, *, processed: bool) -> None:
    """A run that died after its crawl, or after its pages were read."""
    params = tenant.params()
    pipeline.crawl_website(params, "dead")
    if processed:
        for batch in pipeline.plan_batches(params, "dead"):
            pipeline.process_pages(params, "dead", batch, 1)


def later(tenant: Tenant, interval: str) -> None:
    """As if so much time had gone by."""
    tenant.conn.execute("UPDATE gleaner.crawl_job SET started_at = started_at - %s::interval", (interval,))
    tenant.conn.execute("UPDATE gleaner.dead_letter SET last_at = last_at - %s::interval", (interval,))


def fetched_on(tenant: Tenant, day: datetime, *paths: str) -> None:
    """As if the pages had been fetched at noon of that day."""
    for path in paths:
        url = tenant.site.url.rstrip("/") + path
        tenant.conn.execute(
            "UPDATE gleaner.website_page SET fetched_at = %s WHERE tenant_id = %s AND url = %s",
            (day + timedelta(hours=12), tenant.name, url),
        )


def rebuild(day: datetime | None = DAY, run_id: str = "day", **params: Any) -> dict[str, Any]:
    """The tasks of the DAG in their order; the report."""
    interval = (day, day + timedelta(days=1)) if day else (None, None)
    for batch in pipeline.find_pages_of_interval(params, run_id, interval):
        pipeline.reprocess_pages(params, interval, batch, 1)
    for batch in pipeline.find_documents_of_interval(params, run_id, interval):
        pipeline.reload_chunks(params, interval, batch, 1)
    return pipeline.report_rebuild(params, run_id, interval)


def damage(tenant: Tenant) -> None:
    """Chunks and documents as an older version would have left them."""
    tenant.conn.execute("UPDATE gleaner.tenant_knowledge SET full_text = 'old', content_hash = '\\x00'")
    tenant.conn.execute("UPDATE gleaner.knowledge_generation SET fingerprint = 'old', set_hash = '\\x00'")
    tenant.conn.execute("UPDATE gleaner.page_document SET document = jsonb_set(document, '{title}', '\"old\"')")


def without_content(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the rules had changed."""
    verdict = NotContent(reason="empty")
    monkeypatch.setattr(processing, "open_page", lambda page: verdict)
