"""Whoever migrates, rolls back, backs up or restores may be killed at any moment; run again, the end is the same."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from include.gleaner.local.postgres import EmbeddedPostgres
from include.gleaner.ops.backup import back_up
from include.gleaner.ops.manifest import backups
from include.gleaner.ops.migrations import migrations
from include.gleaner.ops.restore import restore
from include.gleaner.ops.row_hashes import hash_tables
from tests.integration.test_migrate import dump
from tests.integration.test_migration_runner import until
from tests.support.database_runners import Start, runners

KILLS = 5
LEAST_CUT = 2  # of them; on a machine whose load changes some come too late
FILL = """
INSERT INTO gleaner.tenant (tenant_id) SELECT 't' || n FROM generate_series(1, 50) n;
INSERT INTO gleaner.website_source (tenant_id, source_id, root_url)
    SELECT tenant_id, gen_random_uuid(), 'x' FROM gleaner.tenant;
INSERT INTO gleaner.website_page (tenant_id, page_id, source_id, url, depth, found_job)
    SELECT tenant_id, gen_random_uuid(), source_id, 'https://example.com/' || n, 1, 1
    FROM gleaner.website_source, generate_series(1, 60) n;
INSERT INTO gleaner.page_snapshot (tenant_id, page_id, generation, body, raw_bytes, content_type, links)
    SELECT tenant_id, page_id, 1, sha256(page_id::text::bytea), 32, 'text/html', '{}' FROM gleaner.website_page;
"""


@pytest.fixture(scope="module")
def start() -> Iterator[Start]:
    with runners() as begin:
        yield begin


@pytest.fixture(scope="module")
def filled(postgres: EmbeddedPostgres) -> Iterator[str]:
    """Six thousand rows."""
    postgres.create_database("killed", template="template_knowledge")
    with psycopg.connect(postgres.dsn("killed"), autocommit=True) as conn:
        conn.execute(FILL)
    yield postgres.dsn("killed")
    postgres.drop_database("killed")


@dataclass
class Calm:
    """The time that a runner takes whom nobody disturbs; less than it was once one has shown that."""

    seconds: float


def killed(start: Start, name: str, number: int, calm: Calm, **call: Any) -> bool:
    """Whether a runner was killed in its `number`-th part of the time that a calm one takes."""
    pid, ended = start(name, **call)
    seconds = calm.seconds * (number + random.Random(number).random()) / KILLS
    time.sleep(seconds)
    with suppress(ProcessLookupError):  # it was faster
        os.kill(pid, signal.SIGKILL)
    if ended() == -signal.SIGKILL:
        return True
    calm.seconds = seconds  # at most: the machine was busier before
    return False


def calm_time(start: Start, name: str, **call: Any) -> Calm:
    began = time.monotonic()
    assert start(name, **call)[1]() == 0
    return Calm(time.monotonic() - began)


def nobody_runs(dsn: str) -> Callable[[], bool]:
    def gone() -> bool:
        with psycopg.connect(dsn, autocommit=True) as conn:
            return conn.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'gleaner %'"
            ).fetchone() == (0,)

    return gone


def applied(dsn: str) -> list[int]:
    with psycopg.connect(dsn, autocommit=True) as conn:
        if conn.execute("SELECT to_regclass('gleaner.schema_migration')").fetchone() == (None,):
            return []
        return [version for (version,) in conn.execute("SELECT version FROM gleaner.schema_migration ORDER BY 1")]


def test_migrations_and_the_way_back(
    postgres: EmbeddedPostgres, empty_dsn: str, knowledge_dsn: str, start: Start
) -> None:
    """Up from nothing and down again, killed in each fifth of the time; what is applied has no gap and no half."""
    versions = [migration.version for migration in migrations()]
    up = calm_time(start, "migrate", dsn=empty_dsn)
    down = calm_time(start, "rollback", dsn=empty_dsn, to=0)
    cut = 0
    for number in range(KILLS):
        cut += killed(start, "migrate", number, up, dsn=empty_dsn)
        until(nobody_runs(empty_dsn), "the server goes on", 45)
        found = applied(empty_dsn)
        assert found == versions[: len(found)], number
        assert start("migrate", dsn=empty_dsn)[1]() == 0
        assert dump(empty_dsn) == dump(knowledge_dsn), number
        cut += killed(start, "rollback", number, down, dsn=empty_dsn, to=0)
        until(nobody_runs(empty_dsn), "the server goes on", 45)
        found = applied(empty_dsn)
        assert found == versions[: len(found)], number
        if number % 2:  # from where it was left, in one direction and in the other
            assert start("rollback", dsn=empty_dsn, to=0)[1]() == 0
            assert applied(empty_dsn) == []
    assert start("migrate", dsn=empty_dsn)[1]() == 0
    assert dump(empty_dsn) == dump(knowledge_dsn)
    assert cut >= LEAST_CUT


def test_backups(filled: str, start: Start, tmp_path: Path) -> None:
    """Only what was tried stands under its name; files and scratch databases of the dead are gone after the next."""
    calm = calm_time(start, "backup", dsn=filled, folder=tmp_path)
    (first,) = tmp_path.glob("*.dump")
    cut = 0
    for number in range(KILLS):
        cut += killed(start, "backup", number, calm, dsn=filled, folder=tmp_path)
        for path, manifest in backups(tmp_path):
            assert path.stat().st_size == manifest.dump_bytes, number
            assert manifest.checked_at > manifest.made_at
    assert cut >= LEAST_CUT
    until(nobody_runs(filled), "the server goes on", 45)
    path, manifest = back_up(filled, tmp_path)
    with psycopg.connect(filled, autocommit=True) as conn:
        assert hash_tables(conn) == manifest.tables
        assert conn.execute("SELECT datname FROM pg_database WHERE datname LIKE 'gleaner_scratch%'").fetchall() == []
    assert path in tmp_path.iterdir()
    assert {file.suffix for file in tmp_path.iterdir()} == {".dump", ".json"}
    assert first.exists()


def test_restores(filled: str, start: Start, tmp_path: Path, conn: psycopg.Connection, knowledge_dsn: str) -> None:
    """A reader sees the old tables or the new ones, at every moment and after every kill."""
    path, manifest = back_up(filled, tmp_path)
    conn.execute("INSERT INTO gleaner.tenant (tenant_id) VALUES ('old')")
    calm = calm_time(start, "restore", dsn=knowledge_dsn, dump=path)
    assert hash_tables(conn) == manifest.tables
    cut = kept = 0
    for number in range(KILLS):
        conn.execute("TRUNCATE gleaner.tenant CASCADE; INSERT INTO gleaner.tenant (tenant_id) VALUES ('old')")
        old = hash_tables(conn)
        cut += killed(start, "restore", number, calm, dsn=knowledge_dsn, dump=path)
        until(nobody_runs(knowledge_dsn), "the server goes on", 45)
        found = hash_tables(conn)
        assert found in (old, manifest.tables), number
        kept += found == old
    assert kept >= 1
    assert cut >= LEAST_CUT
    restore(knowledge_dsn, path, replace=True)
    assert hash_tables(conn) == manifest.tables
    assert dump(knowledge_dsn) == dump(filled)
    assert conn.execute("SELECT to_regnamespace('gleaner_replaced')").fetchone() == (None,)
