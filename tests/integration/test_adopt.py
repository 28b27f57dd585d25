"""An old table comes under the constraint while it is written to, and no row goes without a line that says why."""

from __future__ import annotations

import io
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from include.gleaner.errors import SchemaError
from include.gleaner.ops import adopt as adoption
from include.gleaner.ops import table_moments
from include.gleaner.ops.adopt import adopt, write_lines
from tests.support.adopted import DEFINITION, KEY, check_whole, constraints, indexes
from tests.support.old_table import CHUNKS_PER_SOURCE, TABLE, Worker, make_old_table, rows

ROOT = Path(__file__).parents[2]


@pytest.fixture
def conn(empty_dsn: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(empty_dsn, autocommit=True) as connection:
        yield connection


def test_of_each_key_the_newest_stays_and_the_others_are_kept_aside(conn: psycopg.Connection) -> None:
    chunks = make_old_table(conn, 2_000)
    total = rows(conn, f"SELECT count(*) FROM {TABLE}")[0][0]
    everything = f"SELECT id, full_text, embedding::text, metadata::text, updated_at FROM {TABLE} ORDER BY id"
    before = dict.fromkeys(one[0] for one in rows(conn, everything))
    before.update({one[0]: one for one in rows(conn, everything)})
    newest = rows(conn, f"SELECT DISTINCT ON ({KEY}) id FROM {TABLE} ORDER BY {KEY}, updated_at DESC, id DESC")
    plan = adopt(conn, TABLE, dry_run=True)
    assert (plan.rows, plan.doubles, plan.removed_older, plan.constraint) == (total, total - chunks, 0, DEFINITION)
    assert {one[0]: one for one in rows(conn, everything)} == before  # it only counted
    assert indexes(conn) == {"tenant_knowledge_pkey"}

    done = adopt(conn, TABLE)
    assert done.ok
    check_whole(conn, set(before))
    assert {one for (one,) in rows(conn, f"SELECT id FROM {TABLE}")} == {one for (one,) in newest}
    aside = {one[0]: one for one in rows(conn, everything.replace(TABLE, f"{TABLE}_removed"))}
    identical = {one for (one,) in rows(conn, f"SELECT id FROM {TABLE}_removed WHERE gleaner_reason = 'identical'")}
    assert {key: one for key, one in aside.items() if key not in identical}.items() <= before.items()
    for key in identical:  # the row that stayed has the vectors
        assert aside[key] == (*before[key][:2], None, *before[key][3:])
    lost = rows(
        conn,
        f"SELECT 1 FROM {TABLE}_removed r JOIN {TABLE} k ON k.id = r.gleaner_kept_id WHERE r.embedding IS NOT NULL",
    )
    assert lost  # and of one that said something else they are kept
    # What the third copy of a chunk says is another text than that of the one that stayed, or the other way round.
    judged = rows(
        conn,
        f"SELECT r.gleaner_reason = 'identical', r.full_text = k.full_text FROM {TABLE}_removed r"
        f" JOIN {TABLE} k ON k.id = r.gleaner_kept_id",
    )
    assert len(judged) == total - chunks == done.removed_identical + done.removed_older
    assert all(told is really for told, really in judged)
    assert {told for told, _ in judged} == {True, False}
    lines = io.StringIO()
    assert write_lines(conn, TABLE, lines) == total - chunks
    told = [json.loads(line) for line in lines.getvalue().splitlines()]
    assert {one["id"] for one in told} == set(before) - {one for (one,) in newest}
    assert {"id", "kept", "reason", "removed_at", "user_id", "source_id", "chunk_type", "chunk_index"} == set(told[0])

    again = adopt(conn, TABLE)
    assert (again.builds, again.doubles, again.removed_older) == (0, 0, done.removed_older)
    with pytest.raises(psycopg.errors.UniqueViolation):
        conn.execute(f"INSERT INTO {TABLE} ({KEY}, full_text) SELECT {KEY}, 'x' FROM {TABLE} LIMIT 1".encode())


@contextmanager
def workers(dsn: str, sources: int, double_share: float) -> Iterator[list[Worker]]:
    """Four that write until the end, each in a session of its own; their accounts are whole when they have ended."""
    stop = threading.Event()
    four = [Worker(number=number, sources=sources, double_share=double_share, pause=0.002) for number in range(4)]
    with ThreadPoolExecutor(4) as pool:
        running = [pool.submit(one.run, dsn, stop.is_set) for one in four]
        try:
            yield four
        finally:
            stop.set()
            for one in running:
                one.result()


def wait_for(is_so: Callable[[], bool]) -> None:
    """As long as a busy machine may take; what has not come by then is missed by what the test asserts."""
    deadline = time.monotonic() + 60
    while not is_so() and time.monotonic() < deadline:
        time.sleep(0.01)


@pytest.mark.parametrize("double_share", [0.1, 0.5])
def test_twenty_thousand_rows_while_four_workers_write(
    conn: psycopg.Connection, empty_dsn: str, double_share: float
) -> None:
    chunks = make_old_table(conn, 20_000)
    before = {one for (one,) in rows(conn, f"SELECT id FROM {TABLE}")}
    with workers(empty_dsn, chunks // CHUNKS_PER_SOURCE, double_share) as done:
        wait_for(lambda: min(one.writes for one in done) > 25)
        told = adopt(conn, TABLE)
        wait_for(lambda: min(one.writes for one in done) > 50 and sum(one.refused for one in done) > 0)
    inserted = set[int]().union(*(one.inserted for one in done))
    deleted = set[int]().union(*(one.deleted for one in done))
    assert min(one.writes for one in done) > 50
    assert told.doubles == 0
    assert sum(one.refused for one in done) > 0  # after the constraint was there
    assert told.removed_older > 0
    assert not deleted & {one for (one,) in rows(conn, f"SELECT id FROM {TABLE}_removed")}
    check_whole(conn, (before | inserted) - deleted)
    # The newest stayed: rows that were removed are older than the one of their key that is there.
    assert (
        rows(
            conn,
            f"SELECT r.id FROM {TABLE}_removed r JOIN {TABLE} k USING ({KEY})"
            " WHERE (k.updated_at, k.id) < (r.updated_at, r.id)"
            f" AND r.gleaner_kept_id NOT IN ({', '.join(map(str, deleted)) or 0})",
        )
        == []
    )


SCRIPT = """
import sys, psycopg
from include.gleaner.ops.adopt import adopt
with psycopg.connect(sys.argv[1], autocommit=True) as conn:
    print("ready", flush=True)
    adopt(conn, "old.tenant_knowledge")
"""


def test_killed_again_and_again_it_goes_on(conn: psycopg.Connection, empty_dsn: str) -> None:
    make_old_table(conn, 3_000, vector_every=50)
    before = {one for (one,) in rows(conn, f"SELECT id FROM {TABLE}")}
    chance, kills = random.Random(7), 0
    while True:
        process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, empty_dsn], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.02 + kills * 0.1 + chance.random() * 0.08)
        os.kill(process.pid, signal.SIGKILL)
        kills += process.wait() == -signal.SIGKILL
        process.stdout.close()
        assert process.returncode in (0, -signal.SIGKILL)
        if constraints(conn) or process.returncode == 0:
            break
        everywhere = f"SELECT id FROM {TABLE}"
        if rows(conn, f"SELECT to_regclass('{TABLE}_removed') IS NOT NULL")[0][0]:
            # In one look: what the killed one had sent to be committed is committed whenever the server comes to it.
            everywhere += f" UNION ALL SELECT id FROM {TABLE}_removed"
        assert sorted(one for (one,) in rows(conn, everywhere)) == sorted(before)  # whenever it is killed
    assert kills >= 2
    adopt(conn, TABLE)
    check_whole(conn, before)


def test_an_index_that_was_cut_off_is_made_again(conn: psycopg.Connection) -> None:
    make_old_table(conn, 500)
    before = {one for (one,) in rows(conn, f"SELECT id FROM {TABLE}")}
    oid = rows(conn, f"SELECT '{TABLE}'::regclass::oid")[0][0]
    with pytest.raises(psycopg.errors.UniqueViolation):
        conn.execute(f"CREATE UNIQUE INDEX CONCURRENTLY gleaner_adopt_unique_{oid} ON {TABLE} ({KEY})".encode())
    with pytest.raises(psycopg.errors.UniqueViolation):  # a lookup index that is not valid, whatever made it so
        conn.execute(f"CREATE UNIQUE INDEX CONCURRENTLY gleaner_adopt_lookup_{oid} ON {TABLE} (user_id)".encode())
    adopt(conn, TABLE)
    check_whole(conn, before)


def test_the_constraint_waits_for_a_moment_and_holds_nobody_up(
    conn: psycopg.Connection, empty_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A transaction that stays open: adoption gives up and names its process; the next try has the last step left."""
    make_old_table(conn, 500)
    monkeypatch.setattr(table_moments, "MOMENT_SECONDS", 0.5)
    taken: list[psycopg.Connection] = []

    def build(*arguments: Any) -> int:
        built = real(*arguments)
        # Ended by the server, should adoption wait for it without an end.
        other = psycopg.connect(empty_dsn, options="-c idle_in_transaction_session_timeout=30s")
        other.execute(f"UPDATE {TABLE} SET tldr = 'x' WHERE id = 2".encode())
        taken.append(other)
        return built

    real = adoption._make_unique
    monkeypatch.setattr(adoption, "_make_unique", build)
    with pytest.raises(SchemaError, match=r"never free.*process \d+ for"):
        adopt(conn, TABLE)
    taken[0].rollback()
    monkeypatch.setattr(adoption, "_make_unique", real)
    assert adopt(conn, TABLE).builds == 0
    taken[0].close()
    assert constraints(conn)


def test_two_at_once_end_as_one(conn: psycopg.Connection, empty_dsn: str) -> None:
    make_old_table(conn, 2_000)
    before = {one for (one,) in rows(conn, f"SELECT id FROM {TABLE}")}

    def run(_: int) -> bool:
        with psycopg.connect(empty_dsn, autocommit=True) as own:
            return adopt(own, TABLE).ok

    with ThreadPoolExecutor(3) as pool:
        assert all(pool.map(run, range(3)))
    check_whole(conn, before)
