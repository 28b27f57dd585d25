"""What tests of one subject share: of crawls, whole runs, the page, verification, removal and backups."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from include.gleaner.local.postgres import EmbeddedPostgres
from include.gleaner.ops.backup import back_up
from tests.support.embedding_server import API_KEY, EmbeddingServer
from tests.support.orchard import plant
from tests.support.page_app import Users, airflow_users
from tests.support.page_client import five_pages, opened
from tests.support.tenant import Tenant
from tests.support.verified import fill
from tests.support.website import TestWebsite

if TYPE_CHECKING:
    from fastapi.testclient import TestClient


@pytest.fixture
def site() -> Iterator[TestWebsite]:
    with TestWebsite() as website:
        yield website


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


@pytest.fixture
def users() -> Iterator[Users]:
    with airflow_users() as found:
        yield found


@pytest.fixture
def bare(users: Users, tenant: Tenant) -> TestClient:
    """The app of the page, asked by the admin; nothing is stored."""
    return opened()


@pytest.fixture
def client(bare: TestClient, tenant: Tenant) -> TestClient:
    """The same; `tenant` has a website of five pages, one of which is broken and one missing."""
    five_pages(tenant)
    return bare


@pytest.fixture
def whole(conn: psycopg.Connection) -> psycopg.Connection:
    """A database with two tenants, in which nothing is off."""
    fill(conn)
    return conn


@pytest.fixture
def orchard(tenant: Tenant) -> Tenant:
    """A tenant with a website of four pages, loaded; and a neighbour with the same."""
    plant(tenant)
    return tenant


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "backups"


@pytest.fixture
def filled(conn: psycopg.Connection, knowledge_dsn: str) -> str:
    """A small database with a row in two tables; its DSN."""
    conn.execute("INSERT INTO gleaner.tenant (tenant_id) VALUES ('acme')")
    conn.execute(
        "INSERT INTO gleaner.website_source (tenant_id, source_id, root_url) VALUES ('acme', gen_random_uuid(), 'x')"
    )
    conn.execute("SELECT nextval('gleaner.content_generation') FROM generate_series(1, 7)")
    return knowledge_dsn


@pytest.fixture
def restored(empty_dsn: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(empty_dsn, autocommit=True, prepare_threshold=None) as conn:
        yield conn


@pytest.fixture(scope="module")
def made(postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backup of a database that is gone."""
    postgres.create_database("backed_up", template="template_knowledge")
    try:
        with psycopg.connect(postgres.dsn("backed_up"), autocommit=True) as conn:
            conn.execute("INSERT INTO gleaner.tenant (tenant_id) VALUES ('acme')")
            conn.execute("SELECT nextval('gleaner.content_generation') FROM generate_series(1, 7)")
        return back_up(postgres.dsn("backed_up"), tmp_path_factory.mktemp("made"))[0]
    finally:
        postgres.drop_database("backed_up")
