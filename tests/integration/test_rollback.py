"""The way back removes no content unless it is told to."""

from __future__ import annotations

import psycopg
import pytest

from include.gleaner.errors import DataLossError, SchemaError
from include.gleaner.ops.migrate import migrate, run_steps, schema_status
from include.gleaner.ops.migrations import Migration, Step, migrations, steps
from include.gleaner.ops.rollback import rollback
from tests.integration.test_migrate import dump
from tests.support.database_runners import ship

NEWEST = migrations()[-1]
NOTE = Migration(
    version=9001,
    name="note",
    up="ALTER TABLE gleaner.tenant ADD COLUMN note text NOT NULL DEFAULT 'none', ADD COLUMN seen boolean;"
    "CREATE TABLE gleaner.remark (tenant_id text PRIMARY KEY); CREATE UNLOGGED TABLE gleaner.pace (site text);",
    down="DROP TABLE gleaner.remark; DROP TABLE gleaner.pace;"
    "ALTER TABLE gleaner.tenant DROP COLUMN note, DROP COLUMN seen;"
    "DELETE FROM gleaner.tenant WHERE tenant_id LIKE 'note-%';",
)
PLAIN = Migration(version=9002, name="plain", up="CREATE TABLE gleaner.plain ()", down="DROP TABLE gleaner.plain")


@pytest.fixture
def noted(knowledge_dsn: str, monkeypatch: pytest.MonkeyPatch) -> str:
    ship(monkeypatch, NOTE, PLAIN)
    assert migrate(knowledge_dsn) == [NOTE.label, PLAIN.label]
    return knowledge_dsn


@pytest.mark.parametrize(
    ("content", "lost"),
    [
        ("INSERT INTO gleaner.remark VALUES ('acme')", "the rows of remark"),
        ("UPDATE gleaner.tenant SET note = 'mine'", "the values of tenant.note"),
        ("UPDATE gleaner.tenant SET seen = false", "the values of tenant.seen"),
        ("INSERT INTO gleaner.tenant (tenant_id) VALUES ('note-1')", "rows of tenant"),
    ],
)
def test_content_is_found_and_kept(conn: psycopg.Connection, noted: str, content: str, lost: str) -> None:
    conn.execute("INSERT INTO gleaner.tenant (tenant_id) VALUES ('acme')")
    conn.execute(content.encode())
    before = conn.execute("SELECT t::text FROM gleaner.tenant t ORDER BY 1").fetchall()
    with pytest.raises(DataLossError, match=lost) as caught:
        rollback(noted, NEWEST.version)
    assert "--lose-data" in str(caught.value)
    assert str(caught.value).count(" of ") == 1  # nothing else is said to be lost
    # Not even the migration above it was taken back: the whole way is looked at first.
    assert schema_status(conn).version == PLAIN.version
    assert conn.execute("SELECT t::text FROM gleaner.tenant t ORDER BY 1").fetchall() == before
    assert rollback(noted) == [PLAIN.label]
    with pytest.raises(DataLossError):
        rollback(noted)
    assert rollback(noted, lose_data=True) == [NOTE.label]
    assert schema_status(conn).version == NEWEST.version


def test_what_says_nothing_may_go(conn: psycopg.Connection, noted: str) -> None:
    """Defaults, empty tables, and what a crash may empty as well."""
    conn.execute("INSERT INTO gleaner.tenant (tenant_id) VALUES ('acme')")
    conn.execute("INSERT INTO gleaner.pace VALUES ('example.com')")
    assert rollback(noted, NEWEST.version) == [PLAIN.label, NOTE.label]
    assert conn.execute("SELECT tenant_id FROM gleaner.tenant").fetchall() == [("acme",)]


def test_everything_may_be_taken_back_from_an_empty_schema(knowledge_dsn: str) -> None:
    assert rollback(knowledge_dsn, 0) == [migration.label for migration in reversed(migrations())]
    assert rollback(knowledge_dsn) == []


def test_what_newer_code_applied_is_left_to_it(conn: psycopg.Connection, knowledge_dsn: str) -> None:
    conn.execute("INSERT INTO gleaner.schema_migration (version, name, checksum) VALUES (9999, 'x', 'x')")
    with pytest.raises(SchemaError, match="9999, which this code does not know"):
        rollback(knowledge_dsn)
    assert schema_status(conn).unknown == ("9999_x",)
    assert schema_status(conn).is_current


def test_a_database_without_a_schema_has_nothing_to_take_back(empty_dsn: str) -> None:
    assert rollback(empty_dsn) == []
    with psycopg.connect(empty_dsn) as conn:
        assert conn.execute("SELECT to_regnamespace('gleaner')").fetchone() == (None,)


INDEXES = migrations()[12]
IN_STEPS = [migration for migration in migrations() if len(steps(migration.up)) > 1]


def cut_after_one_step(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rollback of the migration that is made of steps, killed when its first index is gone."""
    cut_in(INDEXES, dsn, monkeypatch)


def cut_in(migration: Migration, dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rollback of it, killed after its first step."""

    def killed(conn: psycopg.Connection, label: str, parts: tuple[Step, ...]) -> None:
        if label != migration.label:
            return run_steps(conn, label, parts)
        run_steps(conn, label, parts[:1])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("include.gleaner.ops.rollback.run_steps", killed)
        with pytest.raises(KeyboardInterrupt):
            rollback(dsn, migration.version - 1)


def indexes(conn: psycopg.Connection) -> int:
    names = [step.builds for step in steps(INDEXES.up)]
    return len(conn.execute("SELECT 1 FROM pg_indexes WHERE indexname = ANY(%s)", (names,)).fetchall())


def test_steps_that_were_cut_off_on_the_way_back_are_built_again(
    conn: psycopg.Connection, knowledge_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = dump(knowledge_dsn)
    cut_after_one_step(knowledge_dsn, monkeypatch)
    assert indexes(conn) == len(steps(INDEXES.up)) - 1
    assert INDEXES.label in migrate(knowledge_dsn)
    assert dump(knowledge_dsn) == before


@pytest.mark.parametrize("migration", IN_STEPS, ids=lambda migration: migration.label)
def test_any_steps_that_were_cut_off_on_the_way_back_go_on_either_way(
    conn: psycopg.Connection, knowledge_dsn: str, monkeypatch: pytest.MonkeyPatch, migration: Migration
) -> None:
    before = dump(knowledge_dsn)
    rollback(knowledge_dsn, migration.version - 1)
    below = dump(knowledge_dsn)
    migrate(knowledge_dsn)
    cut_in(migration, knowledge_dsn, monkeypatch)
    assert dump(knowledge_dsn) not in (before, below)
    assert rollback(knowledge_dsn) == [migration.label]
    assert dump(knowledge_dsn) == below
    migrate(knowledge_dsn)
    cut_in(migration, knowledge_dsn, monkeypatch)
    assert migration.label in migrate(knowledge_dsn)
    assert dump(knowledge_dsn) == before


def test_steps_that_were_cut_off_on_the_way_back_are_ended_by_the_next_rollback(
    conn: psycopg.Connection, knowledge_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut_after_one_step(knowledge_dsn, monkeypatch)
    assert rollback(knowledge_dsn) == [INDEXES.label]  # and not the one below it
    assert indexes(conn) == 0
    assert schema_status(conn).version == INDEXES.version - 1


def test_steps_that_were_cut_off_on_the_way_up_are_removed_by_a_rollback(
    conn: psycopg.Connection, knowledge_dsn: str
) -> None:
    rollback(knowledge_dsn, INDEXES.version - 1)
    before = dump(knowledge_dsn)
    run_steps(conn, INDEXES.label, steps(INDEXES.up)[:1])
    assert dump(knowledge_dsn) != before
    assert rollback(knowledge_dsn, INDEXES.version - 1) == [INDEXES.label]
    assert dump(knowledge_dsn) == before
