"""`verify` of what is whole, of one tenant, under way, by a reader, and by the command."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import psycopg
import pytest

from include.gleaner.cli.app import main
from include.gleaner.errors import InvalidParamError, SchemaError
from include.gleaner.ops.migrate import migrate
from include.gleaner.ops.migrations import migrations
from include.gleaner.ops.rollback import rollback
from include.gleaner.ops.verify import CONSTRAINT, _expected, verify
from tests.support.verified import CHUNKS, found, other_model


def test_what_is_whole_passes_with_its_counts(whole: psycopg.Connection) -> None:
    told = verify(whole)
    assert told.off == ()
    assert told.ok
    counts = found(told)
    assert counts["constraint unique_chunk_per_source"] == CONSTRAINT
    assert counts["schema version"] == f"{migrations()[-1].version:04d}"
    assert (counts["chunks"], counts["completed pages"], counts["chunked pages"]) == (CHUNKS, 3, 3)
    assert (counts["duplicates"], counts["gap: pages not chunked"], counts["gap: chunks without vector"]) == (0, 0, 0)
    assert all(check.advice == "" for check in told.checks)
    acme = found(verify(whole, "acme"))
    assert (acme["chunks"], acme["chunked pages"]) == (4, 2)
    assert told.as_dict()["ok"] is True
    assert not whole.read_only


def test_what_schema_sql_is_read_for_is_all_that_there_is(whole: psycopg.Connection) -> None:
    """Else a missing index or reference could pass unseen."""
    plain = whole.execute(
        "SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid"
        " WHERE c.relnamespace = 'gleaner'::regnamespace AND c.relname NOT LIKE '%_hnsw_%'"
        " AND NOT EXISTS (SELECT 1 FROM pg_constraint o WHERE o.conindid = c.oid AND o.contype IN ('p', 'u'))"
    ).fetchall()
    assert _expected().indexes == {name for (name,) in plain}
    keys = whole.execute(
        "SELECT c.relname, count(*) FROM pg_constraint JOIN pg_class c ON c.oid = conrelid"
        " WHERE contype = 'f' AND connamespace = 'gleaner'::regnamespace GROUP BY 1"
    ).fetchall()
    assert {name: count for name, count in _expected().references.items() if count} == dict(keys)


def test_a_tenant_s_trouble_is_its_own(whole: psycopg.Connection) -> None:
    whole.execute("UPDATE gleaner.tenant_knowledge SET embedding = NULL WHERE tenant_id = 'zeta'")
    whole.execute("UPDATE gleaner.website_page SET state = 'fetched', generation = 2 WHERE tenant_id = 'zeta'")
    assert verify(whole, "acme").ok
    assert set(verify(whole, "zeta").off) == {"gap: pages not chunked", "gap: chunks without vector"}
    assert set(verify(whole).off) == {"gap: pages not chunked", "gap: chunks without vector"}
    with pytest.raises(InvalidParamError, match="no tenant 'beta'"):
        verify(whole, "beta")


@pytest.mark.parametrize(
    ("conf", "ended", "started", "gap"),
    [
        ("{}", "NULL", "now()", 0),  # a run of the website is under way
        ("{}", "now()", "now()", 1),  # it ended and left the page behind
        ("{}", "NULL", "now() - interval '13 hours'", 1),  # it died
        ('{"dry_run": true}', "now()", "now()", 0),  # only counted; a real run will load it
    ],
)
def test_what_a_run_has_still_to_do_is_no_gap(
    whole: psycopg.Connection, conf: str, ended: str, started: str, gap: int
) -> None:
    whole.execute("UPDATE gleaner.website_page SET state = 'completed' WHERE url LIKE '%/a'")
    whole.execute(
        "INSERT INTO gleaner.crawl_job (tenant_id, source_id, run_id, conf, started_at, finished_at)"
        f" SELECT tenant_id, source_id, 'r', '{conf}', {started}, {ended} FROM gleaner.website_source"
        " WHERE tenant_id = 'acme'".encode()
    )
    told = found(verify(whole))
    assert (told["gap: pages not chunked"], told["pages under way"]) == (gap, 1 - gap)
    assert (told["completed pages"], told["chunked pages"]) == (3, 2)


def test_a_model_that_is_being_built_is_not_stale(whole: psycopg.Connection) -> None:
    other_model(whole)
    whole.execute("UPDATE gleaner.knowledge_generation SET updated_at = now()")
    assert verify(whole).ok


def test_an_old_schema_is_told_and_a_missing_one_refused(whole: psycopg.Connection, empty_dsn: str) -> None:
    whole.execute("DELETE FROM gleaner.schema_migration WHERE version = 4")
    whole.execute("ALTER TABLE gleaner.tenant_knowledge DROP COLUMN tldr_hash CASCADE")
    told = verify(whole)
    assert {"schema version", "gap: chunks without vector"} <= set(told.off)
    assert found(told)["chunks"] == "cannot be told on this schema"
    assert found(told)["duplicates"] == 0  # the others are told all the same
    with psycopg.connect(empty_dsn, autocommit=True) as empty:
        with pytest.raises(SchemaError, match="db migrate"):
            verify(empty)
        migrate(empty_dsn)
        rollback(empty_dsn, 0)
        with pytest.raises(SchemaError, match="no table of chunks"):
            verify(empty)
        assert not empty.read_only


@pytest.fixture
def reader(whole: psycopg.Connection) -> Iterator[psycopg.Connection]:
    name = whole.info.dbname
    whole.execute(f"CREATE ROLE reader_{name} LOGIN PASSWORD 'x' IN ROLE gleaner_reader".encode())
    dsn = psycopg.conninfo.make_conninfo(
        host=whole.info.host, port=whole.info.port, dbname=name, user=f"reader_{name}", password="x"
    )
    with psycopg.connect(dsn, autocommit=True) as conn:
        yield conn
    whole.execute(f"DROP ROLE reader_{name}".encode())


def test_a_user_who_sees_one_tenant_only_gets_no_false_all_clear(reader: psycopg.Connection) -> None:
    with pytest.raises(SchemaError, match="gleaner_writer"):
        verify(reader)


def test_it_writes_nothing_and_waits_for_nobody(whole: psycopg.Connection, knowledge_dsn: str) -> None:
    """A writer that holds its locks, and a table that is just being changed by it."""
    with psycopg.connect(knowledge_dsn) as writer:
        writer.execute("UPDATE gleaner.tenant_knowledge SET tldr = 'x'")
        whole.execute("SET statement_timeout = '5s'")
        assert verify(whole).ok
        writer.rollback()


def test_the_command_says_it_in_lines_and_as_json(
    whole: psycopg.Connection, knowledge_dsn: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GLEANER_DSN", knowledge_dsn)
    assert main(["db", "verify"]) == 0
    told = capsys.readouterr().out
    assert re.search(rf"^ok +constraint unique_chunk_per_source +{re.escape(CONSTRAINT)}$", told, re.MULTILINE)
    assert re.search(r"^ +chunks +6$", told, re.MULTILINE)
    assert told.endswith("nothing is off\n")
    whole.execute("UPDATE gleaner.tenant_knowledge SET embedding = NULL WHERE tenant_id = 'zeta'")
    assert main(["db", "verify", "--json"]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert (answer["ok"], answer["off"], answer["tenant"]) == (False, ["gap: chunks without vector"], None)
    assert main(["db", "verify", "--tenant", "acme", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["tenant"] == "acme"
    assert main(["db", "verify", "-t", "zeta"]) == 1
    assert "OFF  gap: chunks without vector" in (out := capsys.readouterr().out)
    assert out.endswith("1 checks of zeta are off\n")
    assert main(["db", "verify", "-t", "nobody"]) == 1
    assert "no tenant 'nobody'" in capsys.readouterr().err
