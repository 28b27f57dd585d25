"""The page "Knowledge" on a website of 100,000 pages: how long the app takes to answer what each view asks.

The app is asked in its own process, without a network in between: login and permissions are answered by a stand-in, all
else is what Airflow's API server runs, with a connection of its own for each request.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from statistics import median
from typing import Any

import psycopg
import pytest
from fastapi.testclient import TestClient
from psycopg.conninfo import conninfo_to_dict

from benchmarks.server import DATABASE, own_server
from include.gleaner.models import source_id_of
from tests.support.page_app import ADMIN, airflow_users

Row = tuple[str, str, str, bool]

PAGES, CHUNKS_PER_PAGE, RUNS, BATCHES = 100_000, 3, 2_000, 400
MOST_MS, TIMES = 300.0, 15
TENANT, ROOT, MODEL = "acme", "https://large.example/", "bench"
SOURCE = source_id_of(TENANT, ROOT)

FILL = (
    "INSERT INTO gleaner.tenant (tenant_id, search_model) SELECT 'tenant-' || n, NULL FROM generate_series(1, 500) n",
    f"INSERT INTO gleaner.tenant (tenant_id, search_model) VALUES ('{TENANT}', '{MODEL}')",
    "INSERT INTO gleaner.website_source (tenant_id, source_id, root_url)"
    " SELECT 'tenant-' || n, gen_random_uuid(), 'https://small-' || n || '.example/' FROM generate_series(1, 500) n",
    f"INSERT INTO gleaner.website_source (tenant_id, source_id, root_url) VALUES ('{TENANT}', '{SOURCE}', '{ROOT}')",
    "INSERT INTO gleaner.crawl_job (tenant_id, source_id, run_id, conf, state, report, finished_at, crawled_at,"
    f" planned_pages) SELECT '{TENANT}', '{SOURCE}', 'run-' || n, '{{}}', 'complete', '{{}}', now(), now(), {PAGES}"
    f" FROM generate_series(1, {RUNS}) n",
    "INSERT INTO gleaner.batch_report (tenant_id, job_id, stage, batch_index, try_number, pages, started_at, finished_at)"
    f" SELECT '{TENANT}', {RUNS}, stage, n, 1, 250, now() + n * interval '1 s', now() + (n + 9) * interval '1 s'"
    f" FROM generate_series(1, {BATCHES}) n, unnest(ARRAY['process', 'load']) stage",
    "INSERT INTO gleaner.website_page (tenant_id, page_id, source_id, url, state, reason, depth, found_job, visited_job,"
    " generation, http_status, fetched_at, checked_at)"
    f" SELECT '{TENANT}', md5(n::text)::uuid, '{SOURCE}', '{ROOT}' || CASE WHEN n > 1 THEN 'section-' || n %% 97 ||"
    " '/page-' || n ELSE '' END, CASE WHEN n %% 1000 = 7 THEN 'failed' WHEN n %% 50 = 3 THEN 'skipped'"
    f" WHEN n %% 20 = 5 THEN 'completed' ELSE 'chunked' END, NULL, 1, {RUNS}, {RUNS}, n, 200, now(),"
    f" now() + n * interval '4 ms' FROM generate_series(1, {PAGES}) n",
    "INSERT INTO gleaner.page_snapshot (tenant_id, page_id, generation, body, raw_bytes, content_type, links)"
    " SELECT tenant_id, page_id, generation, '\\x789c030000000001', 0, 'text/html', '{}' FROM gleaner.website_page",
    "INSERT INTO gleaner.page_document (tenant_id, page_id, generation, title, language, word_count, content_hash, document)"
    " SELECT tenant_id, page_id, generation, 'Title of ' || url, 'en', 400, '', jsonb_build_object('title', 'T', 'language',"
    " 'en', 'description', '', 'word_count', 400, 'content_hash', '', 'metadata', '{}'::jsonb, 'facts', '[]'::jsonb,"
    " 'sections', jsonb_build_array(jsonb_build_object('path', '[]'::jsonb, 'blocks', jsonb_build_array(jsonb_build_object("
    "'kind', 'paragraph', 'text', repeat('All that is to be said. ', 100)))))) FROM gleaner.website_page",
    "INSERT INTO gleaner.knowledge_generation (tenant_id, source_id, embedding_model, generation, fingerprint, set_hash,"
    f" chunk_count) SELECT tenant_id, page_id, '{MODEL}', generation, '', '', {CHUNKS_PER_PAGE} FROM gleaner.website_page",
    "INSERT INTO gleaner.tenant_knowledge (tenant_id, source_id, chunk_type, chunk_index, embedding_model, section_title,"
    " full_text, language, token_count, word_count, text_hash, content_hash, embedding, search_vector, metadata)"
    f" SELECT tenant_id, page_id, 'website', n, '{MODEL}', 'Title', repeat('All that is to be said. ', 30), 'en', 150, 120,"
    " '', '', CASE WHEN generation %% 100 > 0 THEN '[1,2,3]'::vector END, to_tsvector('simple', 'word' || generation %% 5000"
    " || ' common' || generation %% 40), jsonb_build_object('page_url', url)"
    f" FROM gleaner.website_page, generate_series(0, {CHUNKS_PER_PAGE - 1}) n",
    "INSERT INTO gleaner.dead_letter (tenant_id, stage, page_id, reason, resolved_at, last_at)"
    " SELECT tenant_id, 'load', page_id, 'GleanerError', CASE WHEN generation %% 5 > 0 THEN now() END,"
    " now() - generation * interval '1 s' FROM gleaner.website_page",
    f'UPDATE gleaner.crawl_job SET report = \'{{"crawl": {{"visited": {PAGES}}}}}\' WHERE job_id = {RUNS}',
    "SELECT gleaner.fold_metrics()",
    "VACUUM ANALYZE",
)


def views() -> Iterator[Row]:
    """The slowest of some answers for each view, and the usual one."""
    with own_server(full_page_writes="off") as server:
        with psycopg.connect(server.dsn(DATABASE), autocommit=True) as conn:
            for statement in FILL:
                conn.execute(statement.replace("%%", "%").encode())
        yield from _measure(server.dsn(DATABASE))


def _measure(dsn: str) -> Iterator[Row]:
    from include.gleaner.api.app import create_app

    parts = conninfo_to_dict(dsn)
    connection = {
        "conn_type": "postgres", "host": parts["host"], "port": int(str(parts["port"])), "login": parts["user"],
        "password": parts["password"], "schema": parts["dbname"],
    }  # fmt: skip
    page = str(uuid.UUID("c4ca4238a0b923820dcc509a6f75849b"))  # md5 of 1
    key = {"tenant": TENANT, "source": str(SOURCE)}
    middle = {**key, "after": f"{ROOT}section-50/page-50000"}
    asked: dict[str, tuple[str, dict[str, Any]]] = {
        "at a glance": ("glance", {"tenant": TENANT}),
        "at a glance, all tenants": ("glance", {}),
        "tenants": ("tenants", {}),
        "websites of one tenant": ("sources", {"tenant": TENANT}),
        "websites of all": ("sources", {}),
        "pages, the first": ("pages", key),
        "pages, from the middle": ("pages", middle),
        "pages that failed": ("pages", {**key, "state": "failed"}),
        "pages, chunked, from the middle": ("pages", {**key, "state": "chunked", "after": str(uuid.UUID(int=2**127))}),
        "pages by address, none": ("pages", {**key, "containing": "nowhere"}),
        "one page": ("page", {"tenant": TENANT, "page": page}),
        "what the website sent": ("snapshot", {"tenant": TENANT, "page": page}),
        "failures": ("failures", {"tenant": TENANT}),
        "search by words": ("search", {"tenant": TENANT, "query": "word77 common3", "by": "words"}),
        "runs": ("runs", key),
        "one run": ("run", {"tenant": TENANT, "job": RUNS}),
        "forgotten": ("forgotten", {"tenant": TENANT}),
    }  # fmt: skip
    with pytest.MonkeyPatch.context() as patch, airflow_users():
        patch.setenv("AIRFLOW_CONN_GLEANER_POSTGRES", json.dumps(connection))
        client = TestClient(create_app(), headers={"Authorization": f"Bearer {ADMIN}"})
        client.get("/api/tenants")
        for name, (path, parameters) in asked.items():
            taken = []
            for _ in range(TIMES):
                began = time.perf_counter()
                answer = client.get(f"/api/{path}", params=parameters)
                taken.append((time.perf_counter() - began) * 1_000)
                assert answer.status_code == 200, answer.text
            slowest = max(taken)
            yield (
                f"Page, {name}", f"{median(taken):.0f} ms, slowest of {TIMES} {slowest:.0f} ms", f"<= {MOST_MS:.0f} ms",
                slowest <= MOST_MS,
            )  # fmt: skip
