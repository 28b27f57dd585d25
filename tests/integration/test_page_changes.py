"""What the page changes: on a real database, loaded by the real pipeline; and who may."""

from __future__ import annotations

import json
import zlib

import pytest
from fastapi.testclient import TestClient

from include.gleaner.api import removal
from tests.support.page_app import VIEWER, Users
from tests.support.page_client import get, ids
from tests.support.tenant import Tenant


def test_failures_are_replayed_and_given_to_maintenance(client: TestClient, tenant: Tenant) -> None:
    _, pears = ids(tenant, "/pears")
    for stage, item, at in (
        ("load", "", "2026-01-02"),
        ("embed", "website/0", "2026-01-03"),
        ("embed", "website/1", "2026-01-01"),
    ):
        tenant.conn.execute(
            "INSERT INTO gleaner.dead_letter (tenant_id, stage, page_id, item, reason, attempts, first_at, last_at)"
            " VALUES ('acme', %s, %s, %s, 'EmbeddingRefusedError', 6, '2026-01-01', %s)",
            (stage, pears, item, at),
        )
    found = get(client, "failures", tenant="acme")["failures"]
    assert [(one["stage"], one["item"]) for one in found] == [
        ("crawl", ""), ("embed", "website/0"), ("load", ""), ("embed", "website/1"),
    ]  # fmt: skip
    assert get(client, "glance", tenant="acme")["given_up"] == 3
    last = found[1]
    after = {"after_at": last["last_at"], "after_stage": last["stage"], "after_id": last["page"]}
    rest = get(client, "failures", tenant="acme", **after, after_item=last["item"])
    assert [(one["stage"], one["item"]) for one in rest["failures"]] == [("load", ""), ("embed", "website/1")]
    answer = client.post("/api/replay", json={"tenant": "acme", "page": pears, "stage": "embed"})
    assert answer.json() == {"failures": 2}
    attempts = tenant.rows("SELECT stage, attempts FROM gleaner.dead_letter WHERE page_id = %s ORDER BY 1, 2", pears)
    assert attempts == [("embed", 1), ("embed", 1), ("load", 6)]
    assert client.post("/api/replay", json={"tenant": "acme"}).json() == {"failures": 3}  # never those of a crawl


def test_pause_and_resume(client: TestClient, tenant: Tenant, users: Users) -> None:
    source, _ = ids(tenant)
    for paused in (True, False):
        answer = client.post("/api/pause", json={"tenant": "acme", "source": source, "paused": paused})
        assert answer.json() == {"paused": paused}
        [website] = get(client, "sources", tenant="acme")["sources"]
        assert website["paused"] is paused
        assert (website["due_at"] is None) is paused
    assert client.post("/api/pause", json={"tenant": "zeta", "source": source, "paused": True}).status_code == 404
    assert [event for event, _ in users.recorded] == ["pause", "resume"]


def test_forget_and_let_in_again(client: TestClient, tenant: Tenant, users: Users) -> None:
    source, pears = ids(tenant, "/pears")
    assert client.post("/api/forget/page", json={"tenant": "acme", "page": pears}).json()["chunks"] == 1
    [note] = get(client, "forgotten", tenant="acme")["forgotten"]
    assert (note["target_id"], note["is_website"]) == (pears, False)
    answer = client.post("/api/forget/page", json={"tenant": "acme", "page": ids(tenant)[1]})
    assert answer.status_code == 400
    assert "forget the website instead" in answer.json()["detail"]
    assert client.post("/api/allow", json={"tenant": "acme", "target": pears}).json() == {"allowed": 1}

    change = {"tenant": "acme", "source": source, "confirm": tenant.site.url}
    assert client.post("/api/forget/source", json={**change, "confirm": "https://else.example/"}).status_code == 400
    users.running = ["manual__1"]
    answer = client.post("/api/forget/source", json=change)
    assert answer.status_code == 409
    assert "manual__1" in answer.json()["detail"]
    assert len(get(client, "sources", tenant="acme")["sources"]) == 1
    users.running = []
    assert client.post("/api/forget/source", json=change).json()["done"]
    assert get(client, "sources", tenant="acme")["sources"] == []
    assert [event for event, _ in users.recorded] == ["forget_page", "allow", "forget_website"]


def test_a_long_removal_is_done_call_by_call(
    client: TestClient, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(removal, "SECONDS_A_CALL", 0.0)
    monkeypatch.setattr("include.gleaner.ops.forget.PAGES_AT_ONCE", 2)
    source, _ = ids(tenant)
    change = {"tenant": "acme", "source": source, "confirm": tenant.site.url}
    answers = [client.post("/api/forget/source", json=change).json() for _ in range(4)]
    assert [(one["done"], one["pages"]) for one in answers] == [(False, 2), (False, 2), (False, 1), (True, 0)]


def test_erase_and_export(client: TestClient, tenant: Tenant, users: Users) -> None:
    answer = client.get("/api/export", params={"tenant": "acme"})
    assert answer.headers["content-type"] == "application/gzip"
    assert "attachment" in answer.headers["content-disposition"]
    lines = [json.loads(line) for line in zlib.decompress(answer.content, 31).splitlines()]
    assert lines[-1]["rows"]["website_page"] == 5
    assert client.get("/api/export", params={"tenant": "nobody"}).status_code == 404
    assert client.post("/api/erase", json={"tenant": "acme", "confirm": "acm"}).status_code == 400
    users.running = ["manual__1"]
    assert client.post("/api/erase", json={"tenant": "acme", "confirm": "acme"}).status_code == 409
    users.running = []
    users.runs = [("ingest_website", "manual__2026-01-02T03:04:05+00:00")]
    while not (told := client.post("/api/erase", json={"tenant": "acme", "confirm": "acme"}).json())["done"]:
        assert "left" not in told
    [run] = told["runs"]
    assert run["delete"] == "DELETE /api/v2/dags/ingest_website/dagRuns/manual__2026-01-02T03%3A04%3A05%2B00%3A00"
    assert run["logs"] == "dag_id=ingest_website/run_id=manual__2026-01-02T03:04:05+00:00/"
    assert "records of 1 runs" in told["left"][0]["what"]
    assert "db clean" in str(told["left"])
    assert "backup --keep 1" in str(told["left"])
    assert get(client, "tenants")["tenants"] == []
    assert [event for event, _ in users.recorded] == ["export", "erase_tenant"]


def test_a_viewer_may_change_nothing_and_who_may_not_read_sees_nothing(
    client: TestClient, tenant: Tenant, users: Users
) -> None:
    source, pears = ids(tenant, "/pears")
    body = {
        "tenant": "acme", "page": pears, "source": source, "target": pears, "paused": True, "confirm": tenant.site.url,
        "stage": "load",
    }  # fmt: skip
    api = [route for route in client.app.routes if getattr(route, "path", "").startswith("/api/")]
    assert len(api) > 15
    viewer = {"Authorization": f"Bearer {VIEWER}"}
    before = tenant.rows("SELECT url, state FROM gleaner.website_page ORDER BY 1")
    changes = 0
    for route in api:
        for method in route.methods:
            if method != "GET" or route.path == "/api/export":
                changes += 1
                answer = client.request(method, route.path, headers=viewer, json={**body}, params={"tenant": "acme"})
                assert answer.status_code == 403, (method, route.path, answer.text)
    assert changes == 7
    assert tenant.rows("SELECT url, state FROM gleaner.website_page ORDER BY 1") == before
    assert users.recorded == []
    assert client.get("/api/me", headers=viewer).json()["may"] == dict.fromkeys(
        ("ingest", "refresh", "maintain", "edit"), False
    )
    assert all(client.get("/api/me").json()["may"].values())
    users.may_read = False
    for route in api:
        if "GET" in route.methods:
            answer = client.get(route.path, headers=viewer, params={"tenant": "acme", "page": pears, "source": source})
            assert answer.status_code == 403, route.path
