"""Migrations beside live tables: steps outside of a transaction, tables in use, two runners, and kills."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from include.gleaner.errors import SchemaError
from include.gleaner.ops import migrate as runner
from include.gleaner.ops import runner as lock
from include.gleaner.ops.migrate import migrate, schema_status
from include.gleaner.ops.migrations import Migration, migrations, steps
from include.gleaner.ops.rollback import rollback
from tests.support.database_runners import Start, runners, ship

INDEX = Migration(
    version=9001,
    name="page_checked",
    up="-- Found by when it was checked.\n-- step build --\n"
    "CREATE INDEX CONCURRENTLY website_page_checked ON gleaner.website_page (checked_at)\n"
    "-- step build_again --\n"
    "CREATE UNIQUE INDEX CONCURRENTLY website_page_once ON gleaner.website_page (url)\n",
    down="-- step drop --\nDROP INDEX CONCURRENTLY IF EXISTS gleaner.website_page_once\n"
    "-- step drop_first --\nDROP INDEX CONCURRENTLY IF EXISTS gleaner.website_page_checked\n",
)
COLUMN = Migration(
    version=9001,
    name="page_note",
    up="ALTER TABLE gleaner.website_page ADD COLUMN note text",
    down="ALTER TABLE gleaner.website_page DROP COLUMN note",
)
SLOW = Migration(
    version=9002,
    name="slow",
    up="CREATE TABLE gleaner.slow (); SELECT pg_sleep(max(seconds)) FROM public.pause",
    down="DROP TABLE gleaner.slow",
)


def indexes(conn: psycopg.Connection) -> dict[str, bool]:
    rows = conn.execute(
        "SELECT c.relname, i.indisvalid FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid"
        " WHERE i.indrelid = 'gleaner.website_page'::regclass"
        " AND c.relname IN ('website_page_checked', 'website_page_once')"
    ).fetchall()
    return dict(rows)


def until(condition: Callable[[], object], what: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def sessions(conn: psycopg.Connection, name: str) -> list[tuple[str, str | None]]:
    """(query, what it waits for) of the server processes of runners."""
    return conn.execute(
        "SELECT query, wait_event FROM pg_stat_activity WHERE application_name = %s AND datname = current_database()",
        (f"gleaner {name}",),
    ).fetchall()


@pytest.fixture(scope="module")
def start() -> Iterator[Start]:
    with runners() as begin:
        yield begin


def test_steps_are_statements_of_their_own_and_know_what_they_build() -> None:
    first, second = steps(INDEX.up)
    assert (first.name, first.builds, second.builds) == ("build", "website_page_checked", "website_page_once")
    assert steps(COLUMN.up) == ()
    assert steps("-- step a --\n-- CREATE INDEX CONCURRENTLY x ON y\nDROP INDEX CONCURRENTLY z")[0].builds is None
    with pytest.raises(ValueError, match="before its first step"):
        steps("SELECT 1;\n" + INDEX.up)


def test_an_index_is_built_beside_writers_and_can_be_taken_back(
    conn: psycopg.Connection, knowledge_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ship(monkeypatch, INDEX)
    assert migrate(knowledge_dsn) == [INDEX.label]
    assert indexes(conn) == {"website_page_checked": True, "website_page_once": True}
    assert schema_status(conn).is_current
    assert rollback(knowledge_dsn) == [INDEX.label]
    assert indexes(conn) == {}
    assert not schema_status(conn).is_current


def test_an_index_that_a_kill_left_invalid_is_built_again(
    conn: psycopg.Connection, knowledge_dsn: str, monkeypatch: pytest.MonkeyPatch, start: Start
) -> None:
    with psycopg.connect(knowledge_dsn) as reader:
        reader.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        reader.execute("SELECT count(*) FROM gleaner.website_page")  # the build has to wait for this one's end
        pid, ended = start("migrate", (INDEX,), dsn=knowledge_dsn)
        until(lambda: any(wait == "virtualxid" for _, wait in sessions(conn, "migrate")), "the build does not wait")
        os.kill(pid, signal.SIGKILL)
        assert ended() == -signal.SIGKILL
        until(lambda: not sessions(conn, "migrate"), "the server goes on for a client that is dead", 10)
        assert indexes(conn) == {"website_page_checked": False}  # what IF NOT EXISTS would take for an index
    assert schema_status(conn).missing == ()
    ship(monkeypatch, INDEX)
    assert schema_status(conn).missing == (INDEX.label,)
    assert migrate(knowledge_dsn) == [INDEX.label]
    assert indexes(conn) == {"website_page_checked": True, "website_page_once": True}


def test_duplicates_leave_no_index_behind_and_are_named(
    conn: psycopg.Connection, knowledge_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ship(monkeypatch, INDEX)
    conn.execute("INSERT INTO gleaner.tenant (tenant_id) VALUES ('acme'), ('other')")
    conn.execute(
        "INSERT INTO gleaner.website_source (tenant_id, source_id, root_url)"
        " SELECT tenant_id, gen_random_uuid(), 'x' FROM gleaner.tenant"
    )
    conn.execute(
        "INSERT INTO gleaner.website_page (tenant_id, page_id, source_id, url, depth, found_job)"
        " SELECT tenant_id, gen_random_uuid(), source_id, 'secret', 0, 1 FROM gleaner.website_source"
    )
    with pytest.raises(
        SchemaError, match="step build_again: there are rows that the new unique index forbids"
    ) as caught:
        migrate(knowledge_dsn)
    assert "secret" not in str(caught.value)
    assert indexes(conn) == {"website_page_checked": True}
    conn.execute("DELETE FROM gleaner.website_page WHERE tenant_id = 'other'")
    (before,) = conn.execute("SELECT 'gleaner.website_page_checked'::regclass::oid").fetchone() or (None,)
    assert migrate(knowledge_dsn) == [INDEX.label]
    assert conn.execute("SELECT 'gleaner.website_page_checked'::regclass::oid").fetchone() == (
        before,
    )  # not built twice


def test_a_table_in_use_is_waited_for_without_holding_up_others(
    conn: psycopg.Connection, knowledge_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ship(monkeypatch, COLUMN)
    conn.execute("SET statement_timeout = '10s'")
    tries: list[float] = []
    real = runner._apply
    monkeypatch.setattr(runner, "_apply", lambda *values: (tries.append(time.monotonic()), real(*values))[1])
    with psycopg.connect(knowledge_dsn) as reader, ThreadPoolExecutor(1) as pool:
        reader.execute("SELECT count(*) FROM gleaner.website_page")
        migrating = pool.submit(migrate, knowledge_dsn)
        longest = 0.0
        try:
            while len(tries) < 3:
                began = time.monotonic()
                conn.execute("SELECT count(*) FROM gleaner.website_page")  # queues up behind the runner, if it waits
                longest = max(longest, time.monotonic() - began)
                time.sleep(0.02)
            assert not migrating.done()
        finally:
            reader.rollback()
        assert migrating.result(60) == [COLUMN.label]
    assert longest < 6  # a try takes a second; without its limit this would be the transaction's whole length


def test_every_third_try_is_long_enough_to_end_an_autovacuum(
    conn: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "FIRST_PAUSE_SECONDS", 0.001)
    waits: list[str] = []

    def attempt(wait: str) -> str:
        waits.append(wait)
        if len(waits) < 5:
            raise psycopg.errors.LockNotAvailable
        return "done"

    assert lock.patiently(conn, "x", attempt) == "done"
    row = conn.execute("SELECT extract(epoch FROM current_setting('deadlock_timeout')::interval)").fetchone()
    deadlock_timeout = float(row[0]) if row else 9.0
    seconds = [float(wait.removesuffix("ms")) / 1_000 for wait in waits]
    assert [second > deadlock_timeout for second in seconds] == [False, False, True, False, False]


def test_a_table_that_is_never_free_is_told_with_its_user(
    conn: psycopg.Connection, knowledge_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ship(monkeypatch, COLUMN)
    monkeypatch.setattr(lock, "TABLE_PATIENCE_SECONDS", 2.5)
    with psycopg.connect(knowledge_dsn, application_name="a long report") as reader:
        reader.execute("SELECT count(*) FROM gleaner.website_page")
        with pytest.raises(SchemaError, match=rf"{COLUMN.label} was not done: .*process \d+, a long report, since"):
            migrate(knowledge_dsn)
    assert schema_status(conn).missing == (COLUMN.label,)
    assert migrate(knowledge_dsn) == [COLUMN.label]


def test_the_second_runner_says_who_the_first_one_is(knowledge_dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "LOCK_WAIT_SECONDS", 0.3)
    with lock.only_runner(knowledge_dsn, "backup"), pytest.raises(SchemaError, match=r"process \d+, gleaner backup"):
        migrate(knowledge_dsn)
    assert migrate(knowledge_dsn) == []


def test_runners_at_once_do_steps_and_transactions_once(knowledge_dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ship(monkeypatch, INDEX, Migration(version=9002, name="x", up="CREATE TABLE gleaner.x ()", down=""))
    with ThreadPoolExecutor(4) as pool:
        applied = list(pool.map(lambda _: migrate(knowledge_dsn), range(4)))
    assert sorted(label for labels in applied for label in labels) == ["9001_page_checked", "9002_x"]


def test_killed_in_the_middle_of_a_transaction(
    conn: psycopg.Connection, knowledge_dsn: str, monkeypatch: pytest.MonkeyPatch, start: Start
) -> None:
    conn.execute("CREATE TABLE public.pause AS SELECT 60 AS seconds")
    pid, ended = start("migrate", (COLUMN, SLOW), dsn=knowledge_dsn)
    until(lambda: any(wait == "PgSleep" for _, wait in sessions(conn, "migrate")), "it does not get there")
    os.kill(pid, signal.SIGKILL)
    assert ended() == -signal.SIGKILL
    ship(monkeypatch, COLUMN, SLOW)
    assert schema_status(conn).missing == (SLOW.label,)
    conn.execute("UPDATE public.pause SET seconds = 0")
    began = time.monotonic()
    assert migrate(knowledge_dsn) == [SLOW.label]
    assert time.monotonic() - began < 20  # the dead one's minute is not waited for
    assert conn.execute("SELECT to_regclass('gleaner.slow') IS NOT NULL").fetchone() == (True,)


def test_a_migration_and_its_record_are_one_transaction(
    conn: psycopg.Connection, knowledge_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ship(monkeypatch, COLUMN)

    def die(*values: object) -> None:
        raise psycopg.OperationalError("the server went away")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "_record", die)
        with pytest.raises(SchemaError, match="9001_page_note failed: the connection was lost"):
            migrate(knowledge_dsn)
    assert migrate(knowledge_dsn) == [COLUMN.label]  # which a column from before would forbid


def test_what_postgres_refuses_is_one_line_with_the_way_on(
    conn: psycopg.Connection, knowledge_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = Migration(version=9002, name="bad", up="CREATE TABLE gleaner.y (); SELECT 1 / 0", down="")
    ship(monkeypatch, COLUMN, bad)
    with pytest.raises(SchemaError, match=r"9002_bad failed: division by zero; .*db migrate$"):
        migrate(knowledge_dsn)
    assert schema_status(conn).missing == ("9002_bad",)
    assert conn.execute("SELECT to_regclass('gleaner.y')").fetchone() == (None,)
    conn.execute("UPDATE gleaner.schema_migration SET checksum = 'other' WHERE version = 1")
    with pytest.raises(SchemaError, match=r"^0001_initial\.up\.sql was changed"):
        rollback(knowledge_dsn)


def test_up_to_a_version(empty_dsn: str) -> None:
    labels = [migration.label for migration in migrations()]
    assert migrate(empty_dsn, to_version=3) == labels[:3]
    with psycopg.connect(empty_dsn, autocommit=True) as empty:
        assert schema_status(empty).version == 3
    assert migrate(empty_dsn) == labels[3:]
