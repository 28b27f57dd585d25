"""The page "Knowledge" in a real Airflow: who is let in, who may change what, and what the audit log says of it."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import requests

from include.gleaner.api.app import create_app
from include.gleaner.api.guard import HEADER, HEADERS
from include.gleaner.local.airflow import ADMIN, VIEWER
from tests.acceptance.conftest import DAG, Gleaner, Run

TENANT = "on-the-page"
CHANGE = {HEADER: "1", "Content-Type": "application/json"}


class Browser(requests.Session):
    """Somebody who is logged in to the stack by the cookie, or nobody."""

    def __init__(self, gleaner: Gleaner, user: str | None = None) -> None:
        super().__init__()
        self.trust_env = False
        self.base = f"{gleaner.stack.airflow.url}/gleaner"
        if user is not None:
            login = {"username": user, "password": gleaner.stack.airflow.password_of(user)}
            token = self.post(f"{gleaner.stack.airflow.url}/auth/token", json=login, timeout=20).json()["access_token"]
            self.cookies.set("_token", token)

    def ask(self, method: str, path: str, **more: Any) -> requests.Response:
        return self.request(method, self.base + path, timeout=30, allow_redirects=False, **more)


@pytest.fixture(scope="module")
def ingested(gleaner: Gleaner) -> Run:
    run = gleaner.ingest({"tenant": TENANT, "url": gleaner.stack.website_url, "max_pages": 3, "delay_seconds": 0})
    assert run.state == "success"
    return run


def routes() -> list[tuple[str, str]]:
    """Every method and path of the app, and of what it has not."""
    found = [
        (method, re.sub(r"\{[^}]+\}", "main.js", route.path))
        for route in create_app().routes
        for method in sorted(getattr(route, "methods", None) or {"GET"})
    ]
    assert len(found) > 25
    return [*found, ("GET", "/docs"), ("GET", "/static/"), ("GET", "/metrics"), ("DELETE", "/api/pages")]


def test_nobody_is_let_in_without_a_login(gleaner: Gleaner) -> None:
    nobody = Browser(gleaner)
    for method, path in routes():
        for headers in ({}, CHANGE, {"Authorization": "Bearer not.a.token"}, {"Cookie": "_token=not.a.token"}):
            answer = nobody.ask(method, path, headers=headers)
            refused = (401, 403) if "token" in str(headers) else (401,)  # Airflow says 403 to a token that is none
            assert answer.status_code in refused, (method, path, headers, answer.status_code)
            assert "knowledge" not in answer.text.lower()


def test_the_admin_sees_the_page_and_what_is_stored(gleaner: Gleaner, ingested: Run) -> None:
    admin = Browser(gleaner, ADMIN)
    answer = admin.ask("GET", "/")
    assert answer.status_code == 200
    assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS
    names = set(re.findall(r'"static/([\w.]+)"', answer.text))
    assert {"boot.js", "style.css"} <= names
    for name in names:
        assert admin.ask("GET", f"/static/{name}").status_code == 200
    assert admin.ask("GET", "/openapi.json").json()["info"]["title"] == "Gleaner"
    [website] = admin.ask("GET", f"/api/sources?tenant={TENANT}").json()["sources"]
    assert website["states"]["chunked"] == 3
    found = admin.ask("GET", f"/api/search?tenant={TENANT}&query=battery").json()
    assert found["hits"]
    assert found["note"] is None
    assert admin.ask("GET", "/api/me").json()["may"] == dict.fromkeys(("ingest", "refresh", "maintain", "edit"), True)


def test_a_viewer_sees_all_of_it_and_changes_nothing(gleaner: Gleaner, ingested: Run) -> None:
    viewer = Browser(gleaner, VIEWER)
    assert viewer.ask("GET", "/").status_code == 200
    assert len(viewer.ask("GET", f"/api/sources?tenant={TENANT}").json()["sources"]) == 1
    before = gleaner.rows("SELECT url, state FROM gleaner.website_page WHERE tenant_id = %s ORDER BY 1", TENANT)
    changes = [(method, path) for method, path in routes() if path.startswith("/api/") and method == "POST"]
    assert len(changes) >= 6
    for method, path in [*changes, ("GET", f"/api/export?tenant={TENANT}")]:
        answer = viewer.ask(method, path, headers=CHANGE, data="{}")
        assert answer.status_code == 403, (path, answer.status_code, answer.text)
    assert gleaner.rows("SELECT url, state FROM gleaner.website_page WHERE tenant_id = %s ORDER BY 1", TENANT) == before


def test_another_website_cannot_make_a_browser_change_anything(gleaner: Gleaner, ingested: Run) -> None:
    admin = Browser(gleaner, ADMIN)
    body = json.dumps({"tenant": TENANT, "confirm": TENANT})
    for headers in (
        {"Content-Type": "application/json"},
        {HEADER: "1", "Content-Type": "text/plain"},
        {**CHANGE, "Origin": "https://elsewhere.example"},
        {**CHANGE, "Sec-Fetch-Site": "cross-site"},
    ):
        assert admin.ask("POST", "/api/erase", headers=headers, data=body).status_code in (403, 415), headers
    assert gleaner.rows("SELECT count(*) FROM gleaner.tenant WHERE tenant_id = %s", TENANT) == [(1,)]


def test_forget_and_erase_wait_for_runs_and_are_in_the_audit_log(gleaner: Gleaner, ingested: Run) -> None:
    admin = Browser(gleaner, ADMIN)
    airflow = f"{gleaner.stack.airflow.url}/api/v2"
    [website] = admin.ask("GET", f"/api/sources?tenant={TENANT}").json()["sources"]
    forget = {"tenant": TENANT, "source": website["source"], "confirm": website["url"]}
    erase = {"tenant": TENANT, "confirm": TENANT}
    conf = {"tenant": TENANT, "url": gleaner.stack.website_url, "max_pages": 3, "delay_seconds": 0}
    dag = f"{airflow}/dags/{DAG}"
    assert admin.patch(dag, json={"is_paused": True}, timeout=20).status_code == 200
    try:  # the run stays queued
        run_id = gleaner.api.trigger(DAG, conf)
        for path, body in (("/api/forget/source", forget), ("/api/erase", erase)):
            answer = admin.ask("POST", path, json=body, headers=CHANGE)
            assert answer.status_code == 409, answer.text
            assert run_id in answer.text
        gleaner.api.fail_run(DAG, run_id)
        assert admin.ask("POST", "/api/forget/source", json=forget, headers=CHANGE).json()["done"]
    finally:
        gleaner.api.unpause(DAG)

    run = gleaner.ingest(conf)  # what was forgotten is not taken in again, and the log says why
    assert run.state == "failed"
    assert gleaner.rows("SELECT count(*) FROM gleaner.website_page WHERE tenant_id = %s", TENANT) == [(0,)]
    assert "let it in again" in json.dumps(gleaner.api.log(DAG, run.run_id, "crawl"))

    while not (told := admin.ask("POST", "/api/erase", json=erase, headers=CHANGE).json())["done"]:
        pass
    ours = {ingested.run_id, run_id, run.run_id}
    assert {one["run_id"] for one in told["runs"]} == ours
    for one in told["runs"]:  # what Airflow keeps goes as the answer says, and only that
        method, path = one["delete"].split()
        assert admin.request(method, gleaner.stack.airflow.url + path, timeout=20).status_code == 204
        assert (gleaner.stack.airflow.password_file.parent / "logs" / one["logs"]).is_dir() or one["run_id"] == run_id
    assert ours & {one["dag_run_id"] for one in gleaner.api.runs(DAG)} == set()
    assert gleaner.rows("SELECT count(*) FROM gleaner.tenant WHERE tenant_id = %s", TENANT) == [(0,)]
    for event in ("gleaner_forget_website", "gleaner_erase_tenant"):
        entries = admin.get(f"{airflow}/eventLogs?event={event}", timeout=20).json()["event_logs"]
        assert [(entry["owner"], json.loads(entry["extra"])["tenant"]) for entry in entries] == [(ADMIN, TENANT)]
