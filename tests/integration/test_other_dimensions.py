"""A connection that was given other dimensions: nothing is written that could not be compared with what is there."""

from __future__ import annotations

import json

import pytest

from include.gleaner import pipeline
from include.gleaner.errors import SetupError
from tests.support.articles import NAMES, website
from tests.support.embedding_server import API_KEY
from tests.support.rework import left_behind, mend
from tests.support.tenant import Tenant


def shorter_vectors(tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    extra = {"model": "text-embedding-3-small", "dimensions": 512}
    connection = {"conn_type": "generic", "host": tenant.endpoint.url, "password": API_KEY, "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_GLEANER_OPENAI", json.dumps(connection))


def test_what_is_missing_is_not_filled_in_with_them(tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    tenant.site.routes = website(*NAMES)
    tenant.run()
    tenant.conn.execute(
        "UPDATE gleaner.tenant_knowledge SET embedding = NULL, content_hash = ''"
        " WHERE source_id = (SELECT min(source_id::text)::uuid FROM gleaner.tenant_knowledge)"
    )
    tenant.conn.execute("UPDATE gleaner.knowledge_generation SET set_hash = ''")
    shorter_vectors(tenant, monkeypatch)
    calls = tenant.endpoint.stats().calls
    (batch,) = pipeline.find_missing_vectors()
    with pytest.raises(SetupError, match="with 1536 dimensions"):
        pipeline.fill_vectors(batch, 1)
    assert tenant.endpoint.stats().calls == calls


def test_pages_that_a_dead_run_left_are_not_loaded_with_them(tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    tenant.site.routes = website(*NAMES)
    tenant.run()
    tenant.site.routes = website(*NAMES, "quince")
    left_behind(tenant, processed=True)
    tenant.conn.execute("UPDATE gleaner.crawl_job SET finished_at = now()")
    shorter_vectors(tenant, monkeypatch)
    with pytest.raises(SetupError, match="with 1536 dimensions"):
        mend()
    assert tenant.rows("SELECT DISTINCT vector_dims(embedding) FROM gleaner.tenant_knowledge") == [(1536,)]


def test_another_tenant_is_told_before_it_pays_for_what_the_index_refuses(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant.site.routes = website(*NAMES)
    tenant.run()
    tenant.conn.execute(
        "INSERT INTO gleaner.vector_index (embedding_model, dimensions, kind, index_name, built_at)"
        " VALUES ('text-embedding-3-small', 1536, 'vector', 'of_all_tenants', now())"
    )
    shorter_vectors(tenant, monkeypatch)
    tenant.name = "globex"
    calls = tenant.endpoint.stats().calls
    with pytest.raises(SetupError, match="has an index over 1536 dimensions"):
        tenant.run()
    assert tenant.endpoint.stats().calls == calls
