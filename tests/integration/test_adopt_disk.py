"""What an adoption writes to the disk: no vector twice, and no more at once than others can wait for."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from include.gleaner.ops import write_pace
from include.gleaner.ops.adopt import adopt
from include.gleaner.sql import queries
from tests.support.old_table import TABLE, make_old_table, rows


@pytest.fixture
def conn(empty_dsn: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(empty_dsn, autocommit=True) as connection:
        yield connection


def test_the_log_of_a_transaction_is_on_the_disk_before_the_next_and_what_it_wrote_is_rested_for(
    conn: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    rests: list[float] = []
    monkeypatch.setattr(write_pace.time, "sleep", rests.append)
    conn.execute(queries("adopt")["settings"])
    with write_pace.WritePace(conn).transaction():
        conn.execute(
            "CREATE TABLE public.much AS SELECT repeat(md5(n::text), 60) AS text FROM generate_series(1, 5000) n"
        )
        ((end,),) = rows(conn, "SELECT pg_current_wal_insert_lsn()")
    assert rows(conn, f"SELECT pg_current_wal_flush_lsn() >= '{end}', current_setting('synchronous_commit')") == [
        (True, "off")  # its own transactions go on holding their locks no longer than they work
    ]
    assert len(rests) == 1
    assert rests[0] > 5_000 * 32 * 60 / write_pace.LOG_PER_SECOND / 2


def test_pages_go_to_the_disk_as_they_are_written(conn: psycopg.Connection) -> None:
    """And not all at once at the next checkpoint, with everybody's log behind them."""
    conn.execute(queries("adopt")["settings"])
    assert rows(conn, "SHOW backend_flush_after") == [("256kB",)]


def test_a_row_that_says_the_same_leaves_its_vectors_to_the_one_that_stays(conn: psycopg.Connection) -> None:
    make_old_table(conn, 60, vector_every=1)
    conn.execute(f"ALTER TABLE {TABLE} ALTER COLUMN embedding SET NOT NULL, ALTER COLUMN tldr_embedding SET NOT NULL")
    conn.execute(f"ALTER TABLE {TABLE} ADD COLUMN kept integer, ADD COLUMN reason text DEFAULT 'mine'")  # names of ours
    assert adopt(conn, TABLE).ok
    found = rows(
        conn, "SELECT gleaner_reason, embedding IS NULL, tldr_embedding IS NULL, reason, count(*) > 0"
        f" FROM {TABLE}_removed GROUP BY 1, 2, 3, 4 ORDER BY 1"
    )  # fmt: skip
    assert found == [("identical", True, True, "mine", True), ("older", False, False, "mine", True)]
