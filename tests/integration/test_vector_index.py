"""The index of a model: when there is one, and that an interrupted build is never taken for one."""

from __future__ import annotations

import threading
import time

import psycopg
import pytest

from include.gleaner.load import vector_index
from include.gleaner.load.store import KnowledgeStore
from include.gleaner.load.vector_index import Kind, defer_index, drop_unused, ensure_index, index_name, kind_for
from tests.support.chunks import DIMENSIONS, MODEL, add_page, page_of

NAME = index_name(MODEL, DIMENSIONS, "vector")


def load(conn: psycopg.Connection, rows: int) -> None:
    page = add_page(conn, "acme", "https://example.com/a")
    store = KnowledgeStore(conn, tenant_id="acme", model=MODEL, dimensions=DIMENSIONS)
    store.replace_pages([page_of(page, [f"text {number}" for number in range(rows)])])


def ensure(conn: psycopg.Connection, least_rows: int = 100, kind: Kind | None = "vector") -> str:
    return ensure_index(conn, model=MODEL, dimensions=DIMENSIONS, kind=kind, least_rows=least_rows)


def state(conn: psycopg.Connection) -> list[tuple[str, bool, bool]]:
    """(name, valid, used by searches) of each index there is or is said to be."""
    return conn.execute(
        "SELECT coalesce(c.relname, v.index_name), coalesce(i.indisvalid, false), v.built_at IS NOT NULL"
        " FROM gleaner.vector_index v FULL JOIN (pg_class c JOIN pg_index i ON i.indexrelid = c.oid"
        "   AND c.relname LIKE 'tenant_knowledge_hnsw_%') ON c.relname = v.index_name ORDER BY 1"
    ).fetchall()


@pytest.mark.parametrize(
    ("dimensions", "wanted", "kind"),
    [
        (384, None, "vector"), (2_000, None, "vector"), (2_001, None, "halfvec"), (4_000, "vector", "halfvec"),
        (384, "halfvec", "halfvec"), (384, "none", None), (4_001, None, None),
    ],
)  # fmt: skip
def test_the_kind_fits_the_dimensions(dimensions: int, wanted: str | None, kind: str | None) -> None:
    assert kind_for(dimensions, wanted) == kind


def test_it_is_built_once_there_are_enough_rows(conn: psycopg.Connection) -> None:
    load(conn, 99)
    assert ensure(conn) == "too small"
    assert state(conn) == []
    load(conn, 100)
    assert ensure(conn, kind=None) == "no index"
    assert ensure(conn) == "built"
    assert state(conn) == [(NAME, True, True)]
    assert ensure(conn) == "there"
    assert conn.execute("SHOW statement_timeout").fetchone() == ("0",)


def test_another_kind_replaces_it(conn: psycopg.Connection) -> None:
    load(conn, 100)
    ensure(conn)
    assert ensure(conn, kind="halfvec") == "built"
    assert state(conn) == [(index_name(MODEL, DIMENSIONS, "halfvec"), True, True)]


def test_a_build_that_was_killed_is_not_used_and_done_again(knowledge_dsn: str, conn: psycopg.Connection) -> None:
    """The first phase of a concurrent build leaves an invalid index, when it is ended while it waits for others."""
    load(conn, 100)
    with psycopg.connect(knowledge_dsn) as reader:
        pids: list[int] = []

        def build() -> None:
            with psycopg.connect(knowledge_dsn, autocommit=True) as other:
                pids.append(other.info.backend_pid)
                with pytest.raises(psycopg.OperationalError):
                    ensure(other)

        # A transaction that has written, which the build waits for.
        reader.execute("LOCK TABLE gleaner.tenant_knowledge IN ROW EXCLUSIVE MODE")
        thread = threading.Thread(target=build)
        thread.start()
        deadline = time.monotonic() + 90
        while not state(conn) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert state(conn) == [(NAME, False, False)]
        conn.execute("SELECT pg_terminate_backend(%s)", (pids[0],))
        thread.join(20)
        assert not thread.is_alive()
    assert state(conn) == [(NAME, False, False)]
    assert ensure(conn) == "built"
    assert state(conn) == [(NAME, True, True)]


def test_one_builder_at_a_time(knowledge_dsn: str, conn: psycopg.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    load(conn, 100)
    monkeypatch.setattr(vector_index, "LOCK_SECONDS", 0.3)
    with psycopg.connect(knowledge_dsn, autocommit=True) as other:
        other.execute("SELECT pg_advisory_lock(hashtext('gleaner.vector_index'))")
        assert ensure(conn) == "busy"
    assert ensure(conn) == "built"


def test_a_load_that_multiplies_a_small_table_takes_it_away(
    conn: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(conn, 100)
    assert not defer_index(conn, model=MODEL, new_rows=10**6)  # there is none
    ensure(conn)
    assert not defer_index(conn, model=MODEL, new_rows=2_500)  # a quarter of the least that gets an index
    assert defer_index(conn, model=MODEL, new_rows=2_501)
    assert state(conn) == [(NAME, False, False)]
    assert ensure(conn) == "built"
    monkeypatch.setattr(vector_index, "DEFER_MOST_ROWS", 99)
    assert not defer_index(conn, model=MODEL, new_rows=10**6)  # searches need it
    assert state(conn) == [(NAME, True, True)]


def test_without_rows_it_goes(conn: psycopg.Connection) -> None:
    load(conn, 100)
    ensure(conn)
    assert drop_unused(conn) == []
    load(conn, 0)
    assert drop_unused(conn) == [MODEL]
    assert state(conn) == []


def test_vectors_of_another_length_do_not_get_in(conn: psycopg.Connection) -> None:
    load(conn, 100)
    ensure(conn)
    with pytest.raises(psycopg.DataError, match="dimensions"):
        conn.execute("UPDATE gleaner.tenant_knowledge SET embedding = '[1,2]' WHERE chunk_index = 0")
