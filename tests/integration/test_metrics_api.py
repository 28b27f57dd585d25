"""/gleaner/metrics as Prometheus asks for it: who is let in, a database that is dead, and many who ask at once."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest
from fastapi import HTTPException
from fastapi.testclient import TestClient

from include.gleaner.api import metrics
from include.gleaner.api.app import create_app
from include.gleaner.report.metrics import CONTENT_TYPE
from tests.support.articles import NAMES, website
from tests.support.counted import parsed
from tests.support.page_app import ADMIN, VIEWER, Users, airflow_users
from tests.support.tenant import Tenant

TOKEN = "a-token-of-some-length"


@pytest.fixture
def users(monkeypatch: pytest.MonkeyPatch) -> Iterator[Users]:
    """Without Airflow's own database; tests/acceptance has it."""
    monkeypatch.setattr(metrics, "_read_airflow", lambda samples: None)
    monkeypatch.setattr(metrics._scrapes, "_until", float("-inf"))
    monkeypatch.delenv("GLEANER_METRICS_TOKEN", raising=False)
    with airflow_users() as found:
        yield found


@pytest.fixture
def client(users: Users) -> TestClient:
    return TestClient(create_app(), base_url="http://airflow.example")


def get(client: TestClient, token: str = ADMIN) -> Any:
    return client.get("/metrics", headers={"Authorization": f"Bearer {token}"})


def fresh() -> None:
    metrics._scrapes._until = float("-inf")


def test_a_run_is_told(client: TestClient, tenant: Tenant) -> None:
    tenant.site.routes = website(*NAMES)
    tenant.run()
    answer = get(client)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == CONTENT_TYPE
    found = parsed(answer.text)
    assert found["gleaner_up",] == 1
    assert found["gleaner_pages", "chunked"] == 5
    closed = {key[2]: value for key, value in found.items() if key[0] == "gleaner_breaker_state"}
    assert closed == {"closed": 1, "open": 0, "half-open": 0}


def test_an_open_breaker_is_told(client: TestClient, tenant: Tenant) -> None:
    tenant.site.routes = website(*NAMES)
    tenant.endpoint.configure(error_every=1, error_status=503)
    tenant.run()
    found = parsed(get(client).text)
    (endpoint,) = {key[1] for key in found if key[0] == "gleaner_breaker_state"}
    assert endpoint.startswith("127.0.0.1:")
    assert found["gleaner_breaker_state", endpoint, "open"] == 1
    assert found["gleaner_gap", "chunks_without_vector"] == 5


def test_who_is_let_in(client: TestClient, users: Users, tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    assert client.get("/metrics").status_code == 401
    assert get(client, "nobody").status_code == 403  # Airflow's own word for a token that is none
    assert get(client, VIEWER).status_code == 200
    users.may_read = False
    assert get(client, VIEWER).status_code == 403
    assert get(client, TOKEN).status_code == 403
    monkeypatch.setenv("GLEANER_METRICS_TOKEN", f"{TOKEN}\n")
    assert get(client, TOKEN).status_code == 200
    assert client.get("/metrics").status_code == 401
    assert client.get("/metrics", headers={"Authorization": f"Basic {TOKEN}"}).status_code == 401
    assert get(client, TOKEN[:-1]).status_code == 403
    assert client.get("/api/me", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 403  # for nothing else
    assert client.post("/metrics", headers={"Authorization": f"Bearer {TOKEN}"}).status_code in (401, 403, 405)
    client.cookies.set("_token", VIEWER)
    users.may_read = True
    assert client.get("/metrics").status_code == 200


def test_the_token_may_be_in_a_file_that_changes(
    client: TestClient, tenant: Tenant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "token"
    monkeypatch.setenv("GLEANER_METRICS_TOKEN_FILE", str(file))
    assert get(client, TOKEN).status_code == 403
    file.write_text(f"{TOKEN}\n")
    assert get(client, TOKEN).status_code == 200
    file.write_text("another-token-of-some-length")
    assert get(client, TOKEN).status_code == 403
    file.write_text("short")
    assert get(client, "short").status_code == 403
    file.write_text("")
    assert get(client, "").status_code == 401


def connect(monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    found = {"conn_type": "postgres", "host": "127.0.0.1", "port": port, "login": "x", "password": "hunter2",
             "schema": "x", "extra": {"connect_timeout": 2}}  # fmt: skip
    monkeypatch.setenv("AIRFLOW_CONN_GLEANER_POSTGRES", json.dumps(found))


def test_a_database_that_cannot_be_reached_is_told(
    client: TestClient, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        connect(monkeypatch, taken.getsockname()[1])
        answer = get(client)
    assert answer.status_code == 200
    assert answer.text.startswith("# the knowledge database cannot be reached (OperationalError)\n")
    assert "hunter2" not in answer.text
    found = parsed(answer.text)
    assert found["gleaner_up",] == 0
    assert found["gleaner_database_fault", "unreachable"] == 1
    assert ("gleaner_pages", "chunked") not in found


def test_an_old_schema_is_told(client: TestClient, tenant: Tenant) -> None:
    tenant.conn.execute("DELETE FROM gleaner.schema_migration WHERE version = 5")
    answer = get(client)
    assert "0005_endpoint_state" in answer.text.splitlines()[0]
    assert parsed(answer.text)["gleaner_database_fault", "setup"] == 1


def test_a_table_that_is_locked_does_not_hold_up_the_scraper(
    client: TestClient, tenant: Tenant, knowledge_dsn: str
) -> None:
    with psycopg.connect(knowledge_dsn) as other:
        other.execute("LOCK TABLE gleaner.metric_total")
        began = time.monotonic()
        found = parsed(get(client).text)
        assert time.monotonic() - began < 15
    assert found["gleaner_database_fault", "timeout"] == 1
    fresh()
    assert parsed(get(client).text)["gleaner_up",] == 1


def test_many_scrapers_at_once_are_one_to_the_database() -> None:
    asked: list[int] = []
    gate = threading.Event()

    def collect() -> bytes:
        asked.append(1)
        gate.wait(10)
        return b"text"

    scrapes = metrics.Scrapes(collect)
    with ThreadPoolExecutor(12) as pool:
        answers = [pool.submit(scrapes.text) for _ in range(12)]
        time.sleep(0.2)
        gate.set()
        assert {answer.result() for answer in answers} == {b"text"}
    assert len(asked) == 1
    scrapes._until = float("-inf")
    scrapes.text()
    assert len(asked) == 2


def test_who_waits_too_long_for_another_one_s_answer_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "SECONDS_IN_LINE", 0.1)
    begun, gate = threading.Event(), threading.Event()

    def collect() -> bytes:
        begun.set()
        return b"x" if gate.wait(60) else b""

    scrapes = metrics.Scrapes(collect)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(scrapes.text)
        assert begun.wait(60)
        with pytest.raises(HTTPException) as told:
            scrapes.text()
        gate.set()
        assert first.result() == b"x"
    assert told.value.status_code == 503


def test_the_limits_of_the_database_are_told_when_they_are_known(
    client: TestClient, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLEANER_DATABASE_CAPACITY_BYTES", "1000000000")
    found = parsed(get(client).text)
    assert found["gleaner_database_capacity_bytes",] == 1e9
    assert 1e6 < found["gleaner_database_bytes",] < 1e9
