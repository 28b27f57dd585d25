"""What the tests of whole runs share."""

from __future__ import annotations

import json
from collections.abc import Iterator

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from tests.support.embedding_server import API_KEY, EmbeddingServer
from tests.support.tenant import Tenant
from tests.support.website import TestWebsite


@pytest.fixture
def endpoint() -> Iterator[EmbeddingServer]:
    with EmbeddingServer() as server:
        yield server


@pytest.fixture
def tenant(
    knowledge_dsn: str, conn: psycopg.Connection, endpoint: EmbeddingServer, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Tenant]:
    parts = conninfo_to_dict(knowledge_dsn)
    connection = {
        "conn_type": "postgres", "host": parts["host"], "port": int(str(parts["port"])), "login": parts["user"],
        "password": parts["password"], "schema": parts["dbname"],
    }  # fmt: skip
    extra = {"model": "text-embedding-3-small", "dimensions": 1_536}
    monkeypatch.setenv("AIRFLOW_CONN_GLEANER_POSTGRES", json.dumps(connection))
    monkeypatch.setenv(
        "AIRFLOW_CONN_GLEANER_OPENAI",
        json.dumps({"conn_type": "generic", "host": endpoint.url, "password": API_KEY, "extra": extra}),
    )
    with TestWebsite() as site:
        monkeypatch.setenv("GLEANER_LOCAL_HOSTS", site.host)
        yield Tenant(site=site, endpoint=endpoint, conn=conn)
