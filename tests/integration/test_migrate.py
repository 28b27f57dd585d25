"""The migrations lead to schema.sql, can be taken back, and stand several runners."""

from __future__ import annotations

import re
import secrets
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from include.gleaner.errors import SchemaError
from include.gleaner.local.postgres import EmbeddedPostgres, binaries
from include.gleaner.ops.migrate import check_schema, migrate
from include.gleaner.ops.migrations import migrations
from include.gleaner.ops.rollback import rollback

ROOT = Path(__file__).parents[2]
ALL = [migration.label for migration in migrations()]


def dump(dsn: str) -> str:
    """The schema as pg_dump tells it, without what differs from run to run."""
    out = subprocess.run(
        [str(binaries() / "pg_dump"), "--schema-only", "--no-owner", dsn], capture_output=True, text=True, check=True
    ).stdout
    return re.sub(r"^\\(un)?restrict .*$", "", out, flags=re.MULTILINE)


def test_schema_sql_is_what_the_migrations_lead_to(
    postgres: EmbeddedPostgres, knowledge_dsn: str, empty_dsn: str
) -> None:
    text = (ROOT / "include/gleaner/sql/schema.sql").read_text("utf-8")
    with psycopg.connect(empty_dsn, autocommit=True) as conn:
        conn.execute(text.encode())
    assert dump(empty_dsn) == dump(knowledge_dsn)
    assert "unique_chunk_per_source" in dump(knowledge_dsn)


def test_up_and_down_leave_nothing_behind(empty_dsn: str) -> None:
    before = dump(empty_dsn)
    assert migrate(empty_dsn) == ALL
    assert migrate(empty_dsn) == []
    full = dump(empty_dsn)
    rollback(empty_dsn, 0)
    with psycopg.connect(empty_dsn) as conn:
        left = conn.execute(
            "SELECT relname FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname = 'gleaner'"
        ).fetchall()
    assert {name for (name,) in left} <= {"schema_migration", "schema_migration_pkey"}
    assert "gleaner" not in before
    assert migrate(empty_dsn) == ALL
    assert dump(empty_dsn) == full


def test_the_newest_way_back_leads_to_what_was_before(empty_dsn: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("include.gleaner.ops.migrate.migrations", lambda: migrations()[:-1])
        assert migrate(empty_dsn) == ALL[:-1]
    before = dump(empty_dsn)
    assert migrate(empty_dsn) == ALL[-1:]
    assert dump(empty_dsn) != before
    assert rollback(empty_dsn, len(ALL) - 1) == ALL[-1:]
    assert dump(empty_dsn) == before


def test_the_owner_of_the_database_needs_no_more_than_the_extension(
    postgres: EmbeddedPostgres, empty_dsn: str, knowledge_dsn: str
) -> None:
    """Not a superuser, as on hosted servers: each migration in a session of its own, as upgrades come."""
    name, password = f"owner_{secrets.token_hex(4)}", secrets.token_hex(8)
    database = psycopg.conninfo.conninfo_to_dict(empty_dsn)["dbname"]
    with psycopg.connect(empty_dsn, autocommit=True) as conn:
        conn.execute("CREATE EXTENSION vector WITH SCHEMA public")
        conn.execute(f"CREATE ROLE {name} LOGIN CREATEROLE PASSWORD '{password}'".encode())
        conn.execute(f"ALTER DATABASE {database} OWNER TO {name}".encode())
    try:
        dsn = psycopg.conninfo.make_conninfo(empty_dsn, user=name, password=password)
        assert migrate(dsn) == ALL
        for version in range(len(ALL) - 1, -1, -1):
            assert rollback(dsn, version) == [ALL[version]]
        for label, migration in zip(ALL, migrations(), strict=True):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("include.gleaner.ops.migrate.migrations", lambda only=migration: (only,))
                assert migrate(dsn) == [label]
        with psycopg.connect(dsn, autocommit=True) as conn:
            check_schema(conn)
            assert conn.execute("SELECT * FROM gleaner.search('acme', 'x', '[1]', 5)").fetchall() == []
    finally:
        postgres.drop_database(str(database))
        with psycopg.connect(knowledge_dsn, autocommit=True) as conn:
            conn.execute(f"DROP ROLE {name}".encode())


def test_several_runners_at_once_apply_each_migration_once(empty_dsn: str) -> None:
    with ThreadPoolExecutor(6) as pool:
        applied = list(pool.map(lambda _: migrate(empty_dsn), range(6)))
    assert sorted(label for labels in applied for label in labels) == ALL


def test_the_constraint_is_in_pg_constraint(conn: psycopg.Connection) -> None:
    row = conn.execute(
        "SELECT pg_get_constraintdef(oid) FROM pg_constraint"
        " WHERE conname = 'unique_chunk_per_source' AND contype = 'u'"
        " AND conrelid = 'gleaner.tenant_knowledge'::regclass"
    ).fetchone()
    assert row == ("UNIQUE (tenant_id, source_id, chunk_type, chunk_index, embedding_model)",)


def test_an_unmigrated_database_is_refused_with_the_command_that_mends_it(empty_dsn: str) -> None:
    with psycopg.connect(empty_dsn, autocommit=True) as conn, pytest.raises(SchemaError, match=r"gleaner db migrate"):
        check_schema(conn)


def test_a_changed_migration_is_refused(knowledge_dsn: str) -> None:
    with psycopg.connect(knowledge_dsn, autocommit=True) as conn:
        conn.execute("UPDATE gleaner.schema_migration SET checksum = 'other' WHERE version = 1")
    with pytest.raises(SchemaError, match="0001_initial"):
        migrate(knowledge_dsn)


def test_workers_of_the_old_version_go_on_while_an_upgrade_rolls_through(knowledge_dsn: str) -> None:
    with psycopg.connect(knowledge_dsn, autocommit=True) as conn:
        conn.execute("INSERT INTO gleaner.schema_migration (version, name, checksum) VALUES (9999, 'x', 'x')")
        check_schema(conn)
        conn.execute("DELETE FROM gleaner.schema_migration WHERE version = 1")
        with pytest.raises(SchemaError, match="0001_initial"):
            check_schema(conn)
