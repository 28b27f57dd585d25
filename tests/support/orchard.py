"""A tenant with a website of four pages, and every row that the database has of it."""

from __future__ import annotations

import uuid

import psycopg
from psycopg import sql

from include.gleaner.models import page_id_of, source_id_of
from tests.support.tenant import Tenant
from tests.support.website import page

NAMES = ("apples", "pears", "quinces")


def plant(tenant: Tenant) -> None:
    """Its website of four pages is loaded; a neighbour has the same."""
    tenant.site.routes = {"/": page("Welcome to the orchard.", *[f"/{name}" for name in NAMES])} | {
        f"/{name}": page(f"The article about {name} tells of {name} and of nothing else.") for name in NAMES
    }
    tenant.run()
    Tenant(tenant.site, tenant.endpoint, tenant.conn, name="neighbour").run()


def source_of(tenant: Tenant) -> uuid.UUID:
    return source_id_of(tenant.name, tenant.site.url)


def page_of(tenant: Tenant, path: str) -> uuid.UUID:
    return page_id_of(tenant.name, source_of(tenant), tenant.site.url.rstrip("/") + path)


def tables(conn: psycopg.Connection) -> list[str]:
    """Every table of the schema, by the catalog: one that is added later is in it."""
    found = conn.execute(
        "SELECT relname FROM pg_class WHERE relnamespace = 'gleaner'::regnamespace AND relkind IN ('r', 'p')"
    ).fetchall()
    assert len(found) > 15
    return sorted(name for (name,) in found)


def rows_with(conn: psycopg.Connection, text: str) -> dict[str, int]:
    """In which tables some column of some row holds the text, and in how many rows."""
    query = "SELECT count(*) FROM gleaner.{} AS t WHERE position(%s IN t::text) > 0"
    counts = {
        name: conn.execute(sql.SQL(query).format(sql.Identifier(name)), (text,)).fetchone() for name in tables(conn)
    }
    return {name: row[0] for name, row in counts.items() if row and row[0]}


def rows_of(conn: psycopg.Connection, tenant: str) -> dict[str, list[str]]:
    """All rows of a tenant, by table."""
    query = "SELECT t::text FROM gleaner.{} AS t WHERE to_jsonb(t) ->> 'tenant_id' = %s ORDER BY 1"
    return {
        name: [row for (row,) in conn.execute(sql.SQL(query).format(sql.Identifier(name)), (tenant,))]
        for name in tables(conn)
    }
