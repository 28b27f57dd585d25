"""An adoption that is given up, two beside each other, and one beside Gleaner's own knowledge."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from include.gleaner.cli.app import main
from include.gleaner.errors import SchemaError
from include.gleaner.load.store import KnowledgeStore
from include.gleaner.models import LoadCounts
from include.gleaner.ops import adopt as adoption
from include.gleaner.ops.adopt import adopt, give_up
from tests.support.chunks import DIMENSIONS, MODEL, add_page, page_of
from tests.support.old_table import TABLE, make_old_table

OTHER = "old.other"
# What is in the catalog besides the table as it was made.
LEFT = f"""
    SELECT tgname FROM pg_trigger WHERE tgrelid = '{TABLE}'::regclass
    UNION ALL SELECT proname FROM pg_proc WHERE pronamespace = 'old'::regnamespace
    UNION ALL SELECT indexname FROM pg_indexes WHERE schemaname = 'old' AND indexname <> 'tenant_knowledge_pkey'
"""


@pytest.fixture
def old(empty_dsn: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(empty_dsn, autocommit=True) as connection:
        make_old_table(connection, 500)
        yield connection


def rows(conn: psycopg.Connection, query: str) -> list[tuple[Any, ...]]:
    return conn.execute(query.encode()).fetchall()


def insert_again(conn: psycopg.Connection, table: str) -> None:
    """A newer row with the key of the first one of the old table."""
    conn.execute(
        f"INSERT INTO {table} (user_id, source_id, chunk_type, chunk_index, full_text)"
        f" SELECT user_id, source_id, chunk_type, chunk_index, 'newer' FROM {TABLE} ORDER BY id LIMIT 1".encode()
    )


def test_given_up_it_leaves_nothing_that_acts(
    old: psycopg.Connection, empty_dsn: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    total = rows(old, f"SELECT count(*) FROM {TABLE}")[0][0]

    def killed(*_: Any) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(adoption, "_make_unique", killed)
    with pytest.raises(KeyboardInterrupt):
        adopt(old, TABLE)
    assert len(rows(old, LEFT)) == 3  # the trigger, its function, the index to look up by
    monkeypatch.setenv("GLEANER_DSN", empty_dsn)
    assert main(["db", "adopt", "--table", TABLE, "--give-up", "--dry-run"]) == 1
    assert "nothing was changed" in capsys.readouterr().err
    assert len(rows(old, LEFT)) == 3

    assert main(["db", "adopt", "--table", TABLE, "--give-up"]) == 0
    told = capsys.readouterr().out
    assert rows(old, LEFT) == []
    kept, removed = (rows(old, f"SELECT count(*) FROM {name}")[0][0] for name in (TABLE, f"{TABLE}_removed"))
    assert kept + removed == total
    assert re.search(rf"^{TABLE}: its trigger, gleaner_adopt_lookup_\d+ taken away$", told, re.MULTILINE)
    assert f"{TABLE}_removed: {removed} rows that were removed are still there" in told
    insert_again(old, TABLE)  # a double, as before it all
    assert rows(old, f"SELECT count(*) FROM {TABLE}") == [(kept + 1,)]

    assert main(["db", "adopt", "--table", TABLE, "--give-up", "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert (again["had_trigger"], again["indexes"], again["removed"], again["adopted"]) == (False, [], removed, False)

    monkeypatch.undo()
    assert adopt(old, TABLE).ok  # and it may be begun again
    assert give_up(old, TABLE).adopted
    with pytest.raises(psycopg.errors.UniqueViolation):
        insert_again(old, TABLE)


def test_two_tables_of_one_schema(old: psycopg.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """The trigger of the one takes doubles from the one, while the other is begun too; one can have the constraint."""
    old.execute(f"CREATE TABLE {OTHER} (LIKE {TABLE} INCLUDING ALL)".encode())
    old.execute(f"INSERT INTO {OTHER} SELECT * FROM {TABLE}".encode())
    total = rows(old, f"SELECT count(*) FROM {TABLE}")[0][0]

    def killed(*_: Any) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(adoption, "remove_doubles", killed)  # the trigger is there, nothing was removed yet
        for table in (TABLE, OTHER):
            with pytest.raises(KeyboardInterrupt):
                adopt(old, table)
    insert_again(old, TABLE)
    assert rows(old, f"SELECT count(*) FROM {OTHER}") == [(total,)]
    assert rows(old, f"SELECT count(*) FROM {OTHER}_removed") == [(0,)]
    assert rows(old, f"SELECT count(*) > 0, bool_and(gleaner_kept_id = {total + 1}) FROM {TABLE}_removed") == [
        (True, True)
    ]
    adopt(old, TABLE)
    for dry_run in (True, False):
        with pytest.raises(SchemaError, match=r"has a unique_chunk_per_source already.*SET SCHEMA"):
            adopt(old, OTHER, dry_run=dry_run)
    assert give_up(old, OTHER).had_trigger
    assert rows(old, f"SELECT count(*) FROM {OTHER}") == [(total,)]
    assert rows(old, "SELECT proname FROM pg_proc WHERE pronamespace = 'old'::regnamespace") == []


def test_gleaner_s_own_table_is_not_for_adoption(conn: psycopg.Connection) -> None:
    """Its constraint has a model in it: under the older one, rows of a second model would be doubles."""
    with pytest.raises(SchemaError, match="Gleaner's own table"):
        adopt(conn, "gleaner.tenant_knowledge")


def fences(conn: psycopg.Connection) -> list[tuple[Any, ...]]:
    return rows(conn, "SELECT source_id, generation, chunk_count FROM gleaner.knowledge_generation ORDER BY 1")


def test_fences_know_nothing_of_an_adopted_table(conn: psycopg.Connection) -> None:
    """The same ids in both: loads after an adoption are let through and refused as if there had been none."""
    make_old_table(conn, 500)
    store = KnowledgeStore(conn, tenant_id="acme", model=MODEL, dimensions=DIMENSIONS)
    known, new = (add_page(conn, "acme", f"https://example.com/{name}") for name in ("known", "new"))
    store.replace_pages([page_of(known, ["one", "two"], generation=5)])
    sources = [one for (one,) in rows(conn, f"SELECT DISTINCT source_id FROM {TABLE} ORDER BY 1 LIMIT 2")]
    for page, source in zip((known, new), sources, strict=True):
        conn.execute(f"UPDATE {TABLE} SET source_id = %s WHERE source_id = %s".encode(), (page, source))
    before = fences(conn)
    adopt(conn, TABLE)
    assert fences(conn) == before == [(known, 5, 2)]
    kept = rows(conn, f"SELECT id, full_text, updated_at FROM {TABLE} ORDER BY id")

    assert store.replace_pages([page_of(known, ["late"], generation=4)]).stale == (known,)
    assert store.replace_pages([page_of(known, ["three"], generation=6)]).counts == LoadCounts(updated=1, deleted=1)
    assert store.replace_pages([page_of(new, ["first"], generation=1)]).counts == LoadCounts(created=1)
    assert rows(conn, f"SELECT id, full_text, updated_at FROM {TABLE} ORDER BY id") == kept


def test_chunks_that_were_copied_in_without_a_fence_are_replaced_by_the_first_load(conn: psycopg.Connection) -> None:
    """Rows put there by hand: whatever they say, they are older than anything that is loaded."""
    page = add_page(conn, "acme", "https://example.com/a")
    store = KnowledgeStore(conn, tenant_id="acme", model=MODEL, dimensions=DIMENSIONS)
    store.replace_pages([page_of(page, ["old one", "old two", "old three"], generation=9)])
    conn.execute("DELETE FROM gleaner.knowledge_generation")
    done = store.replace_pages([page_of(page, ["old one", "new two"], generation=1)])
    assert (done.loaded, done.counts) == ((page,), LoadCounts(updated=1, unchanged=1, deleted=1))
    assert fences(conn) == [(page, 1, 2)]
