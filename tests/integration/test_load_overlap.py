"""While the endpoint is asked for the vectors of some groups of pages, others are cut and stored: in one task."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowRescheduleException

from include.gleaner import pipeline
from include.gleaner.config import EmbedPolicy
from include.gleaner.embed.client import EndpointEmbedder
from include.gleaner.errors import ConnectionMissingError
from include.gleaner.load.store import KnowledgeStore
from include.gleaner.models import LoadCounts, PageChunks
from include.gleaner.pipeline import grouping, loading
from include.gleaner.pipeline.accounting import BatchTally
from include.gleaner.pipeline.grouping import Group, Page
from include.gleaner.pipeline.quota import Quota
from include.gleaner.pipeline.vectors import GroupVectors, VectorFlow
from tests.integration.test_load_kills import ROWS, prepared, unload
from tests.support.chunks import add_page, chunk
from tests.support.embedding_server import API_KEY
from tests.support.rework import end_of_pause
from tests.support.tenant import Tenant

GROUPS = 8  # at least, with CHUNKS_PER_GROUP


@pytest.fixture
def small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grouping, "CHUNKS_PER_GROUP", 10)


def connect(tenant: Tenant, monkeypatch: pytest.MonkeyPatch, **extra: Any) -> None:
    told = {"model": "text-embedding-3-small", "dimensions": 1_536, **extra}
    entry = {"conn_type": "generic", "host": tenant.endpoint.url, "password": API_KEY, "extra": told}
    monkeypatch.setenv("AIRFLOW_CONN_GLEANER_OPENAI", json.dumps(entry))


@pytest.mark.usefixtures("small_groups")
def test_groups_are_asked_for_together_and_never_more_than_the_cap(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    params, batch = prepared(tenant)
    found = {}
    for cap in (1, 4, 8):
        unload(tenant)
        tenant.endpoint.reset()
        tenant.endpoint.configure(together=cap, latency_ms=20)
        connect(tenant, monkeypatch, concurrency=cap)
        pipeline.load_chunks(params, "run-x", batch, cap)
        stats = tenant.endpoint.stats()
        assert stats.calls >= GROUPS
        assert (stats.most_under_way, stats.repeated) == (cap, 0)
        found[cap] = tenant.rows(ROWS)
    assert found[1] == found[4] == found[8]
    assert len(found[1]) == tenant.endpoint.stats().inputs


@pytest.mark.usefixtures("small_groups")
def test_no_more_groups_are_held_than_requests_may_be_under_way(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    params, batch = prepared(tenant)
    connect(tenant, monkeypatch, concurrency=3)
    tenant.endpoint.configure(latency_ms=150, rate_limit_every=4, retry_after="0.05")
    held, most = 0, 0
    cut, replace = loading.next_group, KnowledgeStore.replace_pages

    def counted(*values: Any) -> Group:
        nonlocal held, most
        group = cut(*values)
        held += group.last is not None
        most = max(most, held)
        return group

    def stored(self: KnowledgeStore, pages: list[PageChunks]) -> Any:
        nonlocal held
        held -= 1
        return replace(self, pages)

    monkeypatch.setattr(loading, "next_group", counted)
    monkeypatch.setattr(KnowledgeStore, "replace_pages", stored)
    pipeline.load_chunks(params, "run-x", batch, 1)
    assert held == 0
    assert 2 <= most <= 3 + 1  # those under way, and the one that is being stored
    assert tenant.endpoint.stats().repeated == 0


@pytest.mark.usefixtures("small_groups")
def test_patience_midway_keeps_what_was_answered_and_pays_for_nothing_twice(tenant: Tenant) -> None:
    params, batch = prepared(tenant)
    tenant.endpoint.configure(latency_ms=20, rate_limit_every=7, retry_after="600")
    with pytest.raises(AirflowRescheduleException):
        pipeline.load_chunks(params, "run-x", batch, 1)
    states = set(tenant.states().values())
    assert states == {"chunked", "completed"}  # whole groups are stored, also before the end
    answered = tenant.endpoint.stats().inputs
    kept = tenant.rows("SELECT count(*) FROM gleaner.tenant_knowledge WHERE embedding IS NOT NULL")[0][0]
    pending = tenant.rows("SELECT count(*) FROM gleaner.pending_embedding")[0][0]
    assert kept + pending == answered > 0
    tenant.endpoint.configure(rate_limit_every=0)
    counts = pipeline.load_chunks(params, "run-x", batch, 1)
    stats = tenant.endpoint.stats()
    total = tenant.rows("SELECT count(*) FROM gleaner.tenant_knowledge WHERE embedding IS NOT NULL")[0][0]
    assert (stats.repeated, stats.inputs) == (0, total)
    assert set(tenant.states().values()) == {"chunked"}
    told = tenant.rows("SELECT chunks, embedded, reused, requests FROM gleaner.batch_report WHERE stage = 'load'")
    assert told == [(total, total, 0, stats.answered)]
    assert counts["chunks"] == counts["created"] == total


@pytest.mark.usefixtures("small_groups")
def test_a_probe_opens_the_way_for_all_groups(tenant: Tenant) -> None:
    params, batch = prepared(tenant)
    tenant.endpoint.configure(error_every=1, error_status=503)
    pipeline.load_chunks(params, "run-x", batch, 1)
    assert tenant.rows("SELECT count(*) FROM gleaner.tenant_knowledge WHERE embedding IS NOT NULL") == [(0,)]
    unload(tenant)
    tenant.endpoint.configure(error_every=0, latency_ms=100)
    end_of_pause(tenant)
    pipeline.load_chunks(params, "run-x", batch, 2)
    assert tenant.rows("SELECT count(*) FROM gleaner.tenant_knowledge WHERE embedding IS NULL") == [(0,)]
    assert tenant.rows("SELECT paused FROM gleaner.batch_report WHERE try_number = 2") == [(0,)]


def test_a_text_that_is_under_way_for_one_group_is_not_asked_for_by_another(tenant: Tenant) -> None:
    tenant.endpoint.configure(latency_ms=200, refuse_marker="forbidden")
    texts = [["one", "both", "forbidden"], ["both", "two"], ["forbidden", "two"], ["both", "one"]]
    pages = [add_page(tenant.conn, "acme", f"https://example.com/{number}") for number in range(len(texts))]
    groups = [
        Group(
            pages=(
                Page(page_id=page, generation=1, chunks=tuple(chunk(at, text) for at, text in enumerate(own))),
            ),
            failed=frozenset(),
            last=page,
        )
        for page, own in zip(pages, texts, strict=True)
    ]  # fmt: skip
    policy = EmbedPolicy(model="text-embedding-3-small", dimensions=64, base_url=tenant.endpoint.url)
    done = flow_of(tenant, EndpointEmbedder(policy, API_KEY), groups)
    stats = tenant.endpoint.stats()
    assert (stats.inputs, stats.repeated) == (3, 0)  # one, both, two
    for item in done:
        (page,) = item.group.pages
        keys = {c.full_text: key for c in page.chunks for key in [grouping.text_hash(c)]}
        assert {text for text, key in keys.items() if key in item.vectors} == set(keys) - {"forbidden"}
        assert set(item.refused) == {keys[text] for text in keys if text == "forbidden"}
    assert sum(item.known for item in done) == 5  # of nine inputs four were asked for
    assert tenant.rows("SELECT count(*) FROM gleaner.pending_embedding") == [(3,)]


def flow_of(tenant: Tenant, embedder: EndpointEmbedder, groups: list[Group]) -> list[GroupVectors]:
    (job,) = tenant.rows(
        "INSERT INTO gleaner.crawl_job (tenant_id, source_id, run_id, conf)"
        " SELECT tenant_id, source_id, 'run-x', '{}' FROM gleaner.website_source RETURNING job_id"
    )[0]
    tally = BatchTally(tenant_id="acme", job_id=job, stage="load", batch_index=1, try_number=1)
    tally.start(tenant.conn)
    store = KnowledgeStore(tenant.conn, tenant_id="acme", model=embedder.model, dimensions=embedder.dimensions)
    flow = VectorFlow(tenant.conn, store, embedder, tally, Quota(tenant.conn, tenant_id="acme", holder="x"),
                      has_counts=False)  # fmt: skip
    done = list(flow.of(groups))
    assert sorted(item.group.last or uuid.UUID(int=0) for item in done) == sorted(group.last for group in groups)
    assert tally.stored == LoadCounts()
    return done


@pytest.mark.parametrize(("name", "most"), [("concurrency", 32), ("max_inputs", 2_048)])
@pytest.mark.parametrize("value", [0, 2_049, True, "4"])
def test_a_number_out_of_bounds_is_told(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch, name: str, most: int, value: Any
) -> None:
    connect(tenant, monkeypatch, **{name: value})
    with pytest.raises(ConnectionMissingError, match=f"{name} in the extra must be a whole number from 1 to {most}"):
        tenant.run()


def test_no_request_has_more_texts_than_the_connection_says(tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    params, batch = prepared(tenant)
    connect(tenant, monkeypatch, max_inputs=7)
    pipeline.load_chunks(params, "run-x", batch, 1)
    assert (tenant.endpoint.stats().most_inputs, tenant.endpoint.stats().repeated) == (7, 0)
