"""Every named query is one that Postgres understands against today's schema, and names its tenant."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.sql import SQL

from include.gleaner.local.postgres import EmbeddedPostgres
from include.gleaner.ops.old_table import OldTable
from include.gleaner.sql import queries
from tests.support.old_table import make_old_table

FOLDER = Path(__file__).parents[2] / "include/gleaner/sql"
FILES = sorted(path.stem for path in FOLDER.glob("*.sql") if path.stem != "schema")
ALL = [(file, name) for file in FILES for name in queries(file)]
# Only statements of these kinds have a plan; the others are run by the tests of their stage.
PLANNED = re.compile(r"^\s*(?:--[^\n]*\n\s*)*(SELECT|INSERT|UPDATE|DELETE|WITH)\b", re.IGNORECASE)
# The schema and its backups belong to nobody, nor does a host, a model or a statistic; metrics are sums over all, and
# an older table has no tenants of Gleaner's.
WITHOUT_TENANT = {
    "migrate", "preflight", "backup", "throttle", "endpoint", "vector_index", "metrics", "adopt", "estimates",
}  # fmt: skip


@pytest.fixture(scope="module")
def planner(postgres: EmbeddedPostgres) -> Iterator[psycopg.Connection]:
    """A connection to a migrated database that nothing is written into."""
    postgres.create_database("planner", template="template_knowledge")
    with psycopg.connect(postgres.dsn("planner"), autocommit=True, prepare_threshold=None) as connection:
        yield connection
    postgres.drop_database("planner")


@pytest.fixture
def conn(planner: psycopg.Connection) -> Iterator[psycopg.Connection]:
    """What a test makes there is gone after it."""
    with planner.transaction(force_rollback=True):
        yield planner


@pytest.mark.parametrize(("file", "name"), ALL, ids=[f"{file}.{name}" for file, name in ALL])
def test_postgres_can_plan_it(conn: psycopg.Connection, file: str, name: str) -> None:
    text = queries(file)[name]
    if file == "load":
        for staging in ("create_staging", "create_vector_staging"):
            conn.execute(queries("load")[staging])
    if file == "adopt" and PLANNED.match(text):  # an older table's names are filled in, and then it has a plan
        make_old_table(conn, 20)
        text = adopted(conn, name)
    names = re.sub(r"\{table\}", "crawl_job", text)  # of erase.sql: any table that has a tenant
    if not PLANNED.match(text) or re.search(r"\{\w+\}", names):  # names are filled in by who runs it
        assert re.match(r"\s*(?:--[^\n]*\n\s*)*(COPY|CREATE|DROP|ANALYZE|EXPLAIN|LOCK|ALTER|DO|SELECT|SET)\b", text), (
            "a kind of statement that this test does not know"
        )
        return
    bound = re.sub(r"%[(][a-z_0-9]+[)][sb]", "NULL", names).replace("%%", "%")
    plan = conn.execute(f"EXPLAIN {bound}".encode()).fetchall()
    assert plan


def adopted(conn: psycopg.Connection, name: str) -> str:
    """The query with the names of an old table in it, which has a table for removed rows beside it."""
    table = OldTable.read(conn, "old.tenant_knowledge")
    conn.execute(table.statement("create_removed"))
    return table.statement(name, index=SQL("x")).as_string(conn)


@pytest.mark.parametrize(("file", "name"), ALL, ids=[f"{file}.{name}" for file, name in ALL])
def test_the_tenant_is_in_every_query_of_a_tenants_rows(file: str, name: str) -> None:
    text = queries(file)[name]
    if file not in WITHOUT_TENANT and re.search(r"\bgleaner\.\w+", text):
        assert "%(tenant_id)s" in text
