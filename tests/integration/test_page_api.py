"""What the page asks: on a real database, loaded by the real pipeline."""

from __future__ import annotations

import json
import os
import uuid

import psycopg
import pytest
from fastapi.testclient import TestClient

from include.gleaner.api import database
from include.gleaner.sql import queries
from tests.support.page_app import Users
from tests.support.page_client import get, ids
from tests.support.tenant import Tenant


def test_tenants_and_their_websites(client: TestClient, tenant: Tenant) -> None:
    Tenant(tenant.site, tenant.endpoint, tenant.conn, name="zeta").run(max_failed_share=1.0)
    found = get(client, "tenants")["tenants"]
    assert [(one["tenant"], one["websites"], one["model"]) for one in found] == [
        ("acme", 1, "text-embedding-3-small"), ("zeta", 1, "text-embedding-3-small"),
    ]  # fmt: skip
    assert [one["tenant"] for one in get(client, "tenants", containing="et")["tenants"]] == ["zeta"]
    assert [one["tenant"] for one in get(client, "tenants", after="acme")["tenants"]] == ["zeta"]
    assert len(get(client, "sources")["sources"]) == 2
    [website] = get(client, "sources", tenant="acme")["sources"]
    assert website["states"] == {"chunked": 3, "failed": 1, "gone": 1}
    assert (website["url"], website["is_under_way"], website["is_being_forgotten"]) == (tenant.site.url, False, False)
    assert website["due_at"] > website["started_at"]
    assert website["params"]["url"] == tenant.site.url


def test_pages_by_screenfuls(client: TestClient, tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("include.gleaner.api.content.SCREENFUL", 2)
    source, _ = ids(tenant)
    for state, expected in (
        ("", {"/", "/apples", "/broken", "/missing", "/pears"}),
        ("chunked", {"/", "/apples", "/pears"}),
    ):
        seen: list[str] = []
        after = ""
        while True:
            found = get(client, "pages", tenant="acme", source=source, state=state, after=after)
            seen += [one["url"].removeprefix(tenant.site.url.rstrip("/")) for one in found["pages"]]
            if found["next"] is None:
                break
            after = found["next"]
        assert sorted(seen) == sorted(expected)
        if not state:
            assert seen == sorted(seen)
    by_path = {
        one["url"].rpartition("/")[2]: one
        for one in get(client, "pages", tenant="acme", source=source, containing="pears")["pages"]
    }
    assert set(by_path) == {"pears"}
    assert (by_path["pears"]["chunks"], by_path["pears"]["language"], by_path["pears"]["state"]) == (1, "en", "chunked")
    [broken] = get(client, "pages", tenant="acme", source=source, state="failed")["pages"]
    assert (broken["reason"], broken["http_status"]) == ("http_500", 500)
    assert get(client, "pages", tenant="zeta", source=source)["pages"] == []  # the source is another tenant's


def test_a_page_with_its_text_chunks_and_snapshot(client: TestClient, tenant: Tenant) -> None:
    _, pears = ids(tenant, "/pears")
    found = get(client, "page", tenant="acme", page=pears)
    assert "article about pears" in found["text"]
    [chunk] = found["chunks"]
    assert "article about pears" in chunk["text"]
    assert chunk["tokens"] > 5
    assert chunk["has_vector"]
    assert (found["state"], found["model"], found["is_start"]) == ("chunked", "text-embedding-3-small", False)
    assert get(client, "page", tenant="acme", page=ids(tenant)[1])["is_start"]
    assert get(client, "chunks", tenant="acme", page=pears, after_type="website", after_index=0)["chunks"] == []
    sent = get(client, "snapshot", tenant="acme", page=pears)
    assert sent["text"].lower().startswith("<!doctype html>")
    assert sent["bytes"] == len(sent["text"].encode())
    for path in ("page", "snapshot"):
        answer = client.get(f"/api/{path}", params={"tenant": "zeta", "page": pears})
        assert answer.status_code == 404


def test_runs_and_their_charts(client: TestClient, tenant: Tenant) -> None:
    [told] = get(client, "runs", tenant="acme")["runs"]
    assert (told["run_id"], told["kind"], told["state"], told["planned_pages"]) == ("run-1", "crawl", "partial", 3)
    found = get(client, "run", tenant="acme", job=told["job"])
    assert found["report"]["gap"]["unexplained"] == 0
    for stage in ("process", "load"):
        pages = sum(value for _, value in found["pace"][stage]) * found["step"]
        assert pages == pytest.approx(3)
    assert sum(value for _, value in found["pace"]["crawl"]) * found["step"] == pytest.approx(5)
    assert {batch["stage"] for batch in found["batches"]} == {"process", "load"}
    assert get(client, "runs", tenant="acme", after=told["job"])["runs"] == []
    assert client.get("/api/run", params={"tenant": "zeta", "job": told["job"]}).status_code == 404


def test_a_large_crawl_is_drawn_as_if_it_went_evenly(
    client: TestClient, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("include.gleaner.api.runs.MOST_COUNTED", 3)
    [told] = get(client, "runs", tenant="acme")["runs"]
    found = get(client, "run", tenant="acme", job=told["job"])
    assert sum(value for _, value in found["pace"]["crawl"]) * found["step"] == pytest.approx(5)


def test_a_run_that_has_only_begun(client: TestClient, tenant: Tenant) -> None:
    source, _ = ids(tenant)
    [job] = tenant.rows(
        "INSERT INTO gleaner.crawl_job (tenant_id, source_id, run_id, conf) VALUES ('acme', %s, 'begun', '{}')"
        " RETURNING job_id", source,
    )  # fmt: skip
    assert get(client, "run", tenant="acme", job=job[0])["pace"] == {"crawl": []}
    [website] = get(client, "sources", tenant="acme")["sources"]
    assert website["is_under_way"]


def test_the_search_says_what_speaks_for_each_hit(client: TestClient, tenant: Tenant) -> None:
    found = get(client, "search", tenant="acme", query="the article about pears")
    assert found["note"] is None
    best = found["hits"][0]
    assert best["url"].endswith("/pears")
    assert best["dense"] is not None
    assert best["lexical"] is not None
    words = get(client, "search", tenant="acme", query="pears", by="words")
    assert [hit["dense"] for hit in words["hits"]] == [None] * len(words["hits"])
    assert words["hits"]
    assert client.get("/api/search", params={"tenant": "nobody", "query": "x"}).status_code == 404


def test_a_search_goes_on_by_words_when_the_endpoint_is_down(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = {"conn_type": "generic", "host": "http://127.0.0.1:1/v1", "password": "key"}
    extra = {"model": "text-embedding-3-small", "dimensions": 1_536}
    monkeypatch.setenv("AIRFLOW_CONN_GLEANER_OPENAI", json.dumps({**nowhere, "extra": extra}))
    found = get(client, "search", tenant="acme", query="pears")
    assert found["note"].startswith("by words alone")
    assert found["hits"][0]["url"].endswith("/pears")


def test_a_search_goes_on_by_words_when_the_connection_names_another_length(
    client: TestClient, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = json.loads(os.environ["AIRFLOW_CONN_GLEANER_OPENAI"])
    connection["extra"]["dimensions"] = 256
    monkeypatch.setenv("AIRFLOW_CONN_GLEANER_OPENAI", json.dumps(connection))
    tenant.endpoint.reset()
    found = get(client, "search", tenant="acme", query="pears")
    assert found["note"].startswith("by words alone: tenant 'acme' has vectors of text-embedding-3-small with 1536")
    assert found["hits"][0]["url"].endswith("/pears")
    assert tenant.endpoint.stats().calls == 0


def test_the_glance_counts_what_is_missing(client: TestClient, tenant: Tenant) -> None:
    found = get(client, "glance")
    assert (found["pages_not_chunked"], found["chunks_without_vector"], found["failures"]) == (0, 0, 1)
    assert found["endpoint"]["state"] == "closed"
    tenant.conn.execute("UPDATE gleaner.website_page SET state = 'completed' WHERE url LIKE '%%pears'")
    tenant.conn.execute(
        "UPDATE gleaner.tenant_knowledge SET embedding = NULL WHERE metadata->>'page_url' LIKE '%%apples'"
    )
    found = get(client, "glance", tenant="acme")
    assert (found["pages_not_chunked"], found["chunks_without_vector"]) == (1, 1)
    assert get(client, "glance", tenant="nobody")["pages_not_chunked"] == 0


BAD_VALUES = [
    ("pages", {"tenant": "acme", "source": "no-uuid"}),
    ("pages", {"tenant": "acme", "source": str(uuid.UUID(int=1)), "state": "eaten"}),
    ("pages", {"tenant": "acme", "source": str(uuid.UUID(int=1)), "state": "failed", "after": "no-uuid"}),
    ("pages", {"tenant": "acme", "source": str(uuid.UUID(int=1)), "containing": "a\x00b"}),
    ("sources", {"tenant": "a" * 64}),
    ("failures", {"tenant": "acme", "after_at": "yesterday"}),
    ("runs", {"tenant": "acme", "after": "0"}),
    ("run", {"tenant": "acme", "job": str(2**70)}),
    ("search", {"tenant": "acme", "query": ""}),
    ("search", {"tenant": "acme", "query": "x", "limit": "1000"}),
]


def test_bad_values_are_told_as_such(bare: TestClient) -> None:
    for path, parameters in BAD_VALUES:
        answer = bare.get(f"/api/{path}", params=parameters)
        assert answer.status_code in (400, 422), (path, parameters, answer.text)
        assert "Traceback" not in answer.text
        assert "SELECT" not in answer.text


def test_a_database_that_is_not_there_is_told_without_its_secrets(
    bare: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(
        "AIRFLOW_CONN_GLEANER_POSTGRES", "postgresql://gleaner:very-secret@127.0.0.1:1/gleaner?connect_timeout=2"
    )
    answer = bare.get("/api/tenants")
    assert answer.status_code == 503
    assert "cannot be reached" in answer.json()["detail"]
    assert "secret" not in answer.text


@pytest.mark.parametrize("value", ['"\\ud800"', '{"a": "\\udfff"}', "NaN", "-Infinity", "1e999"])
@pytest.mark.parametrize(("path", "name"), [("pause", "source"), ("forget/page", "page"), ("replay", "tenant")])
def test_what_cannot_be_written_as_json_is_refused_without_being_repeated(
    bare: TestClient, users: Users, path: str, name: str, value: str
) -> None:
    answer = bare.post(f"/api/{path}", content=f'{{"tenant": "acme", "paused": true, "{name}": {value}}}')
    assert answer.status_code == 422, answer.text
    assert any(fault["loc"] == ["body", name] and fault["msg"] for fault in answer.json()["detail"])
    assert users.recorded == []


def test_a_database_that_only_lets_read_is_told(bare: TestClient, tenant: Tenant) -> None:
    """As a standby does after a failover."""
    tenant.conn.execute(f"ALTER DATABASE {tenant.conn.info.dbname} SET default_transaction_read_only = on".encode())
    assert bare.get("/api/tenants").json()["tenants"] == []
    for path, more in (("replay", {}), ("erase", {"confirm": "acme"}), ("allow", {"target": str(uuid.uuid4())})):
        answer = bare.post(f"/api/{path}", json={"tenant": "acme", **more})
        assert (answer.status_code, "can only be read now" in answer.text) == (503, True), answer.text


def test_a_user_without_rights_is_told(bare: TestClient, tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    tenant.conn.execute("DROP ROLE IF EXISTS beginner")
    tenant.conn.execute("CREATE ROLE beginner LOGIN PASSWORD 'of-a-beginner'")
    connection = json.loads(os.environ["AIRFLOW_CONN_GLEANER_POSTGRES"])
    monkeypatch.setenv(
        "AIRFLOW_CONN_GLEANER_POSTGRES", json.dumps({**connection, "login": "beginner", "password": "of-a-beginner"})
    )
    try:
        answer = bare.get("/api/tenants")
    finally:
        tenant.conn.execute("DROP ROLE beginner")
    assert answer.status_code == 503
    assert answer.json()["detail"] == "the user of gleaner_postgres lacks a right: permission denied for schema gleaner"


def test_too_many_at_once_wait_and_are_told(bare: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "SECONDS_IN_LINE", 0.05)
    for _ in range(database.MOST_CONNECTIONS):
        assert database._slots.acquire(timeout=1)
    try:
        assert bare.get("/api/tenants").status_code == 503
    finally:
        for _ in range(database.MOST_CONNECTIONS):
            database._slots.release()
    assert bare.get("/api/tenants").status_code == 200


def test_every_list_is_read_by_an_index(client: TestClient, tenant: Tenant) -> None:
    """On 20,000 pages and as many failures no list reads a table from end to end."""
    conn: psycopg.Connection = tenant.conn
    source, _ = ids(tenant)
    conn.execute(
        "INSERT INTO gleaner.website_page (tenant_id, page_id, source_id, url, state, depth, found_job)"
        " SELECT 'acme', gen_random_uuid(), %s, 'https://x.example/' || n, 'chunked', 1, 1"
        " FROM generate_series(1, 20000) n",
        (source,),
    )
    conn.execute(
        "INSERT INTO gleaner.dead_letter (tenant_id, stage, page_id, reason, resolved_at)"
        " SELECT tenant_id, 'load', page_id, 'x', CASE WHEN page_id::text < 'f' THEN now() END"
        " FROM gleaner.website_page"
    )
    conn.execute("ANALYZE gleaner.website_page, gleaner.dead_letter, gleaner.crawl_job")
    key = {
        "tenant_id": "acme", "source_id": source, "page_id": ids(tenant)[1], "state": "chunked", "containing": None,
        "after": "", "after_id": str(uuid.UUID(int=0)), "limit": 50, "after_at": "infinity", "after_stage": "",
        "after_item": "", "after_tenant": "", "after_url": "", "after_type": "", "after_index": -1,
    }  # fmt: skip
    for name in ("pages", "pages_in_state", "page", "chunks", "snapshot", "failures", "sources"):
        plan = "\n".join(row for (row,) in conn.execute(f"EXPLAIN {queries('views')[name]}".encode(), key))
        scanned = [line for line in plan.splitlines() if "Seq Scan on" in line]
        large = [line for line in scanned if "website_page" in line or "dead_letter" in line]
        assert not large, f"{name}\n{plan}"
