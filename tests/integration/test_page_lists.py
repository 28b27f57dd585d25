"""Lists of the page, read screenful by screenful: each row once, also where rows are alike in all but the key."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient

from include.gleaner.api import content, runs, sources
from include.gleaner.api.app import create_app
from tests.support.page_app import ADMIN, airflow_users
from tests.support.tenant import Tenant

# Two tenants with the same websites; everything at one moment, so that only the rest of the key tells rows apart.
FILL = """
INSERT INTO gleaner.tenant (tenant_id) VALUES ('acme'), ('zeta');
INSERT INTO gleaner.website_source (tenant_id, source_id, root_url)
    SELECT tenant_id, md5(tenant_id || n)::uuid, 'https://example.com/' || n || '/'
    FROM gleaner.tenant, generate_series(1, 5) n;
INSERT INTO gleaner.crawl_job (tenant_id, source_id, run_id, conf, started_at)
    SELECT tenant_id, source_id, 'run', '{}', '2026-01-01' FROM gleaner.website_source;
INSERT INTO gleaner.website_page (tenant_id, page_id, source_id, url, state, depth, found_job)
    SELECT tenant_id, md5(tenant_id || root_url || n)::uuid, source_id, root_url || n,
           CASE WHEN n % 2 = 0 THEN 'failed' ELSE 'completed' END, 1, 1
    FROM gleaner.website_source, generate_series(1, 7) n;
INSERT INTO gleaner.dead_letter (tenant_id, stage, page_id, item, reason, first_at, last_at)
    SELECT tenant_id, stage, page_id, 'website/' || n, 'x', '2026-01-01', '2026-01-01'
    FROM gleaner.website_page, unnest(ARRAY['embed', 'load']) stage, generate_series(1, 3) n
    WHERE url LIKE '%/1/%';
"""
SOURCE = "SELECT source_id::text FROM gleaner.website_source WHERE tenant_id = 'acme' ORDER BY root_url LIMIT 1"
LISTS = {
    "tenants": ({}, ("tenant",), "SELECT tenant_id FROM gleaner.tenant"),
    "sources": ({}, ("tenant", "url"), "SELECT tenant_id, root_url FROM gleaner.website_source"),
    "runs": ({"tenant": "acme"}, ("job",), "SELECT job_id FROM gleaner.crawl_job WHERE tenant_id = 'acme'"),
    "pages": (
        {"tenant": "acme", "source": SOURCE},
        ("url",),
        f"SELECT url FROM gleaner.website_page WHERE source_id = ({SOURCE})::uuid",
    ),
    "pages in a state": (
        {"tenant": "acme", "source": SOURCE, "state": "completed"},
        ("url",),
        f"SELECT url FROM gleaner.website_page WHERE state = 'completed' AND source_id = ({SOURCE})::uuid",
    ),
    "failures": (
        {"tenant": "acme"},
        ("stage", "page", "item"),
        "SELECT stage, page_id::text, item FROM gleaner.dead_letter WHERE tenant_id = 'acme'",
    ),
}


@pytest.fixture
def client(tenant: Tenant) -> Iterator[TestClient]:
    tenant.conn.execute(FILL.encode())
    with airflow_users():
        yield TestClient(create_app(), headers={"Authorization": f"Bearer {ADMIN}"})


@pytest.mark.parametrize("name", LISTS)
@pytest.mark.parametrize("screenful", [1, 3])
def test_a_list_is_whole_and_has_each_row_once(
    client: TestClient, tenant: Tenant, monkeypatch: pytest.MonkeyPatch, name: str, screenful: int
) -> None:
    for module in (content, runs, sources):
        monkeypatch.setattr(module, "SCREENFUL", screenful)
    asked, columns, query = LISTS[name]
    path = name.split(maxsplit=1)[0]
    parameters: dict[str, Any] = {
        key: tenant.rows(value)[0][0] if value is SOURCE else value for key, value in asked.items()
    }
    seen: list[tuple[Any, ...]] = []
    more: Any = {}
    while more is not None:
        answer = client.get(f"/api/{path}", params={**parameters, **more})
        assert answer.status_code == 200, answer.text
        found = answer.json()
        assert len(found[path]) <= screenful
        seen += [tuple(row[column] for column in columns) for row in found[path]]
        more = found["next"] if found["next"] is None or isinstance(found["next"], dict) else {"after": found["next"]}
    there = tenant.rows(query)
    assert len(there) > 1
    assert len(seen) == len(there)
    assert set(seen) == set(there)
