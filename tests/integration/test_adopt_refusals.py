"""What cannot be adopted is refused with what to do, and the command says it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from include.gleaner.cli.app import main
from include.gleaner.errors import InvalidParamError, SchemaError
from include.gleaner.ops.adopt import adopt
from tests.support.adopted import constraints, indexes
from tests.support.old_table import TABLE, make_old_table, rows


@pytest.fixture
def conn(empty_dsn: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(empty_dsn, autocommit=True) as connection:
        yield connection


def test_rows_that_lack_a_part_of_the_key_are_nobody_s_double(conn: psycopg.Connection) -> None:
    make_old_table(conn, 500)
    conn.execute(f"UPDATE {TABLE} SET chunk_index = NULL WHERE id <= 20".encode())
    told = adopt(conn, TABLE)
    assert (told.ok, told.rows_without_key) == (True, 20)
    assert rows(conn, f"SELECT count(*) FROM {TABLE} WHERE chunk_index IS NULL") == [(20,)]


@pytest.mark.parametrize(
    ("change", "error", "told"),
    [
        ("DROP TABLE old.tenant_knowledge", InvalidParamError, "there is no table"),
        ("ALTER TABLE old.tenant_knowledge DROP COLUMN source_id", SchemaError, "no column source_id"),
        ("ALTER TABLE old.tenant_knowledge DROP CONSTRAINT tenant_knowledge_pkey", SchemaError, "primary key"),
        (
            "ALTER TABLE old.tenant_knowledge DROP COLUMN updated_at, DROP COLUMN created_at",
            SchemaError, "neither updated_at",
        ),
        (
            "CREATE TABLE old.feedback (chunk bigint REFERENCES old.tenant_knowledge ON DELETE CASCADE)",
            SchemaError, "old.feedback refers to rows",
        ),
        (
            "DELETE FROM old.tenant_knowledge WHERE id > 1; ALTER TABLE old.tenant_knowledge ADD CONSTRAINT"
            " unique_chunk_per_source UNIQUE (user_id, source_id, chunk_type)",
            SchemaError, "DROP CONSTRAINT unique_chunk_per_source",
        ),
        ("CREATE TABLE old.tenant_knowledge_removed (id bigint)", SchemaError, "something else"),
        (
            "ALTER TABLE old.tenant_knowledge RENAME TO t; CREATE VIEW old.tenant_knowledge AS SELECT * FROM old.t",
            SchemaError, "no ordinary table",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_adopted_is_refused_with_what_to_do(
    conn: psycopg.Connection, change: str, error: type[Exception], told: str
) -> None:
    make_old_table(conn, 100)
    conn.execute(change.encode())
    with pytest.raises(error, match=told):
        adopt(conn, TABLE)
    assert not {name for name in indexes(conn) if name.startswith("gleaner")}


@pytest.mark.parametrize("label", ["tenant_knowledge", 'old."; DROP TABLE x; --', "a.b.c", ""])
def test_a_name_that_is_none_is_refused(conn: psycopg.Connection, label: str) -> None:
    with pytest.raises(InvalidParamError, match=r"SCHEMA\.TABLE"):
        adopt(conn, label)


def test_the_command(
    conn: psycopg.Connection,
    empty_dsn: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    make_old_table(conn, 200)
    monkeypatch.setenv("GLEANER_DSN", empty_dsn)
    assert main(["db", "adopt", "--table", TABLE, "--dry-run"]) == 0
    assert re.search(r"^old\.tenant_knowledge: (\d+) rows, \d+ of them too many$", capsys.readouterr().out.strip())
    assert main(["db", "adopt", "--table", TABLE, "--lines", str(tmp_path / "nowhere" / "x.jsonl")]) == 1
    assert "name a file that can be written" in capsys.readouterr().err
    assert constraints(conn) == {}  # said before anything is changed
    lines = tmp_path / "removed.jsonl"
    assert main(["db", "adopt", "--table", TABLE, "--lines", str(lines), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert len(lines.read_text("utf-8").splitlines()) == told["removed_identical"] + told["removed_older"] > 0
    assert constraints(conn)
    assert main(["db", "adopt", "--table", TABLE, "--lines", "/dev/full"]) == 1
    assert "--lines /dev/full: No space left on device" in capsys.readouterr().err
    assert main(["db", "adopt", "--table", "old.nothing"]) == 1
    assert "there is no table old.nothing" in capsys.readouterr().err
    monkeypatch.setenv("GLEANER_DSN", "host=127.0.0.1 port=1 password=hunter2")
    assert main(["db", "adopt", "--table", TABLE]) == 1
    assert "hunter2" not in capsys.readouterr().err
