"""What is set for the role or the database changes nothing of what Gleaner does, and what cannot be used is told."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from psycopg.sql import SQL, Identifier

from include.gleaner.crawl.shared_pace import PostgresStore
from include.gleaner.local.postgres import EmbeddedPostgres
from include.gleaner.models import page_id_of
from include.gleaner.ops.migrate import migrate
from include.gleaner.ops.preflight import preflight
from include.gleaner.ops.session import open_session
from include.gleaner.pipeline.connections import knowledge_connection
from include.gleaner.search import search
from tests.support.tenant import Tenant
from tests.support.website import page

TEXTS = {"/": "Welcome to the orchard.", "/pears": "گلابی‌ها در پاییز می‌رسند.", "/apples": "Apples ripen in autumn."}
# An operator that compares as nobody expects, where names are looked up before those of Postgres.
EVIL = """
CREATE SCHEMA evil;
CREATE FUNCTION evil.never(text, text) RETURNS boolean LANGUAGE sql AS 'SELECT false';
CREATE OPERATOR evil.= (leftarg = text, rightarg = text, function = evil.never);
"""


SETTINGS = {
    "an empty search path and what else there is": [
        "search_path = ''",
        "client_encoding = 'LATIN1'",
        "datestyle = 'German'",
        "standard_conforming_strings = off",
        "default_transaction_isolation = 'repeatable read'",
    ],
    "names of others first": ["search_path = evil, pg_catalog, public"],
}


@pytest.fixture(params=SETTINGS)
def set_for_all(request: pytest.FixtureRequest, conn: psycopg.Connection) -> None:
    """Settings of the database, for whoever connects after this."""
    conn.execute(EVIL)
    for setting in SETTINGS[request.param]:
        conn.execute(f"ALTER DATABASE {conn.info.dbname} SET {setting}".encode())


@pytest.mark.usefixtures("set_for_all")
def test_a_run_and_a_search_are_as_without(tenant: Tenant) -> None:
    tenant.site.routes = {path: page(text, *(TEXTS if path == "/" else ())) for path, text in TEXTS.items()}
    report = tenant.run()
    assert (report["pages"], report["failures"]) == ([{"state": "chunked", "reason": "", "pages": 3}], [])
    assert dict(tenant.knowledge()).keys() == TEXTS.keys()
    with knowledge_connection() as conn:
        found = search(conn, tenant_id="acme", query="گلابی", vector=None, model=None)
        assert [hit.full_text for hit in found] == [TEXTS["/pears"]]
        assert conn.execute("SHOW transaction_isolation").fetchone() == ("read committed",)
        beside = PostgresStore.beside(conn, holder=page_id_of("acme", "", ""))
        try:
            assert beside._conn.execute("SHOW transaction_isolation").fetchone() == ("read committed",)
        finally:
            beside.close()


def test_a_search_needs_no_search_path(conn: psycopg.Connection) -> None:
    """Of a reader that is none of Gleaner's own sessions."""
    conn.execute("SET search_path = ''")
    assert search(conn, tenant_id="acme", query="x", vector=None, model=None) == []


def test_a_schema_is_made_whatever_is_set(empty_dsn: str) -> None:
    with psycopg.connect(empty_dsn, autocommit=True) as conn:
        name = conn.info.dbname
        for setting in ("search_path = ''", "standard_conforming_strings = off", "client_encoding = 'LATIN1'"):
            conn.execute(f"ALTER DATABASE {name} SET {setting}".encode())
    assert migrate(empty_dsn)


@pytest.fixture(params=["SQL_ASCII", "LATIN1"])
def other_encoding(request: pytest.FixtureRequest, postgres: EmbeddedPostgres) -> Iterator[str]:
    """The DSN of a database that is not in UTF-8, as a server without a language makes them."""
    with psycopg.connect(postgres.dsn("postgres"), autocommit=True) as conn:
        made = SQL("CREATE DATABASE other_encoding TEMPLATE template0 LOCALE 'C' ENCODING {}")
        conn.execute(made.format(request.param))
    yield make_conninfo(postgres.dsn("postgres"), dbname="other_encoding")
    with psycopg.connect(postgres.dsn("postgres"), autocommit=True) as conn:
        conn.execute(SQL("DROP DATABASE {} WITH (FORCE)").format(Identifier("other_encoding")))


def test_a_database_in_another_encoding_is_refused(other_encoding: str) -> None:
    with open_session(other_encoding) as conn:
        server = preflight(conn, folder=None).checks[0]
    assert (server.name, server.ok) == ("server", False)
    assert "ENCODING 'UTF8'" in server.todo


def test_a_reader_that_reads_backslashes_as_escapes_finds_the_same(tenant: Tenant, conn: psycopg.Connection) -> None:
    tenant.site.routes = {path: page(text, *(TEXTS if path == "/" else ())) for path, text in TEXTS.items()}
    tenant.run()
    query = "SELECT full_text FROM gleaner.search('acme', 'apples it''s a \\ path', NULL)"
    expected = conn.execute(query.encode()).fetchall()
    assert expected[0] == (TEXTS["/apples"],)
    with psycopg.connect(conn.info.dsn, password=conn.info.password, autocommit=True) as other:
        other.execute("SET standard_conforming_strings = off")
        other.execute("SET escape_string_warning = off")
        assert other.execute(query.replace("\\", "\\\\").encode()).fetchall() == expected
