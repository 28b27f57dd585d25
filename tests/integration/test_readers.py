"""Readers of one tenant try to see another's rows, and workers without ownership see all of them."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from include.gleaner.errors import SchemaError
from include.gleaner.load.store import KnowledgeStore
from include.gleaner.ops.migrate import check_schema
from include.gleaner.search import search
from tests.support.chunks import DIMENSIONS, MODEL, add_page, page_of

Login = Callable[..., psycopg.Connection]


@pytest.fixture
def login(knowledge_dsn: str, conn: psycopg.Connection) -> Iterator[Login]:
    """Connections of new login roles, members of the named one, with rows of two tenants in the database."""
    for tenant in ("acme", "other"):
        page = add_page(conn, tenant, "https://example.com/a")
        store = KnowledgeStore(conn, tenant_id=tenant, model=MODEL, dimensions=DIMENSIONS)
        store.replace_pages([page_of(page, [f"{tenant} says one", f"{tenant} says two"])])
        conn.execute("UPDATE gleaner.tenant SET search_model = %s WHERE tenant_id = %s", (MODEL, tenant))
    made: list[tuple[str, psycopg.Connection]] = []

    def connect(*groups: str, tenant: str | None = None) -> psycopg.Connection:
        name, password = f"reader_{secrets.token_hex(4)}", secrets.token_hex(8)
        role = sql.Identifier(name)
        conn.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(role, sql.Literal(password)))
        for group in groups:
            conn.execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(group), role))
        if tenant is not None:
            conn.execute("INSERT INTO gleaner.reader_tenant (role_name, tenant_id) VALUES (%s, %s)", (name, tenant))
        made.append(
            (name, psycopg.connect(make_conninfo(knowledge_dsn, user=name, password=password), autocommit=True))
        )
        return made[-1][1]

    yield connect
    for name, connection in made:
        connection.close()
        conn.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(name)))
        conn.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))


def tenants_seen(reader: psycopg.Connection, table: str = "tenant_knowledge") -> set[str]:
    query = sql.SQL("SELECT DISTINCT tenant_id FROM gleaner.{}").format(sql.Identifier(table))
    return {row[0] for row in reader.execute(query)}


def test_every_table_with_a_tenant_has_its_policies(conn: psycopg.Connection) -> None:
    """Also those of migrations to come."""
    tables = conn.execute(
        "SELECT c.relname, c.relrowsecurity, array(SELECT polname::text FROM pg_policy p WHERE p.polrelid = c.oid"
        " ORDER BY 1) FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id'"
        " WHERE c.relnamespace = 'gleaner'::regnamespace AND c.relkind IN ('r', 'p') AND c.relname <> 'reader_tenant'"
    ).fetchall()
    assert len(tables) >= 13
    for name, secured, policies in tables:
        assert (secured, policies) == (True, ["every_tenant", "one_tenant"]), name


def test_a_reader_sees_the_tenant_it_names_and_no_row_without(login: Login) -> None:
    reader = login("gleaner_reader")
    assert tenants_seen(reader) == set()
    reader.execute("SET gleaner.tenant = 'acme'")
    for table in ("tenant_knowledge", "website_page", "tenant", "knowledge_generation", "website_source"):
        assert tenants_seen(reader, table) == {"acme"}
    assert reader.execute("SELECT count(*) FROM gleaner.tenant_knowledge WHERE tenant_id = 'other'").fetchone() == (0,)


def test_a_role_that_is_bound_cannot_get_out(login: Login) -> None:
    reader = login("gleaner_reader", tenant="acme")
    for attempt in (
        "SET gleaner.tenant = 'other'",
        "SET SESSION AUTHORIZATION DEFAULT",
        "RESET ALL; SET gleaner.tenant = 'other'",
        "SET row_security = off",
        "SET gleaner.tenant = 'acme'' OR true --'",
    ):
        reader.execute(attempt.encode())
        if "row_security" in attempt:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                tenants_seen(reader)
            reader.execute("RESET row_security")
        else:
            assert tenants_seen(reader) <= {"acme"}
    for forbidden in (
        "SET ROLE gleaner_writer",
        "INSERT INTO gleaner.reader_tenant VALUES (current_user, 'other')",
        "DELETE FROM gleaner.reader_tenant",
        "SELECT * FROM gleaner.reader_tenant",
        "UPDATE gleaner.tenant_knowledge SET full_text = 'x'",
        "ALTER TABLE gleaner.tenant_knowledge DISABLE ROW LEVEL SECURITY",
        "CREATE FUNCTION gleaner.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            reader.execute(forbidden.encode())
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="may not read tenant 'other'"):
        search(reader, tenant_id="other", query="says", vector=None, model=None)
    # A function that looks at each row is asked about no row that the reader may not see.
    reader.execute("SET gleaner.tenant = 'acme'")
    reader.execute(
        "CREATE FUNCTION pg_temp.peek(text) RETURNS boolean LANGUAGE plpgsql COST 0.0001 AS"
        " 'BEGIN IF $1 LIKE ''other%'' THEN RAISE EXCEPTION ''leaked''; END IF; RETURN true; END'"
    )
    assert reader.execute("SELECT count(*) FROM gleaner.tenant_knowledge WHERE pg_temp.peek(full_text)").fetchone() == (
        2,
    )
    hits = search(reader, tenant_id="acme", query="says", vector=None, model=None)
    assert {hit.full_text for hit in hits} == {"acme says one", "acme says two"}


def test_objects_of_a_session_do_not_stand_in_for_those_that_search_uses(login: Login) -> None:
    reader = login("gleaner_reader", tenant="acme")
    reader.execute("CREATE TEMP TABLE tenant_knowledge AS SELECT 'other'::text AS tenant_id")
    reader.execute("CREATE FUNCTION pg_temp.may_read(text) RETURNS boolean LANGUAGE sql AS 'SELECT true'")
    reader.execute("SET search_path = pg_temp, gleaner, public")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        search(reader, tenant_id="other", query="says", vector=None, model=None)


def test_a_role_with_no_part_in_it_gets_nothing(login: Login) -> None:
    stranger = login()
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        tenants_seen(stranger)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        search(stranger, tenant_id="acme", query="says", vector=None, model=None)


def test_a_worker_that_does_not_own_the_tables_writes_all_tenants_or_is_told(login: Login) -> None:
    worker = login("gleaner_writer")
    check_schema(worker)
    assert tenants_seen(worker) == {"acme", "other"}
    page = add_page(worker, "acme", "https://example.com/b")
    store = KnowledgeStore(worker, tenant_id="acme", model=MODEL, dimensions=DIMENSIONS)
    assert store.replace_pages([page_of(page, ["acme says three"])]).counts.created == 1
    with pytest.raises(SchemaError, match="GRANT gleaner_writer"):
        check_schema(login("gleaner_reader"))
