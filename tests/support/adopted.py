"""What an old table has of the constraint, and of the work towards it."""

from __future__ import annotations

import psycopg

from tests.support.old_table import TABLE, rows

KEY = "user_id, source_id, chunk_type, chunk_index"
DEFINITION = f"UNIQUE ({KEY})"


def constraints(conn: psycopg.Connection) -> dict[str, str]:
    return dict(
        rows(
            conn,
            "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint"
            f" WHERE conrelid = '{TABLE}'::regclass AND contype = 'u' AND convalidated",
        )
    )


def indexes(conn: psycopg.Connection) -> set[str]:
    return {name for (name,) in rows(conn, "SELECT indexname FROM pg_indexes WHERE schemaname = 'old'")}


def check_whole(conn: psycopg.Connection, before: set[int]) -> None:
    """Under the constraint, nothing of the work left over, and every row accounted for."""
    assert constraints(conn) == {"unique_chunk_per_source": DEFINITION}
    assert indexes(conn) == {"tenant_knowledge_pkey", "unique_chunk_per_source"}
    assert rows(conn, f"SELECT tgname FROM pg_trigger WHERE tgrelid = '{TABLE}'::regclass") == []
    assert rows(conn, "SELECT proname FROM pg_proc WHERE pronamespace = 'old'::regnamespace") == []
    assert rows(conn, f"SELECT 1 FROM {TABLE} GROUP BY {KEY} HAVING count(*) > 1") == []
    kept = {one for (one,) in rows(conn, f"SELECT id FROM {TABLE}")}
    removed = [one for (one,) in rows(conn, f"SELECT id FROM {TABLE}_removed")]
    assert len(removed) == len(set(removed))
    assert not kept & set(removed)
    assert kept | set(removed) == before
