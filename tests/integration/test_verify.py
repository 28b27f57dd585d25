"""`verify` finds each thing that can be off, and only that; what is whole passes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator

import psycopg
import pytest

from include.gleaner.cli.app import main
from include.gleaner.errors import InvalidParamError, SchemaError
from include.gleaner.load.store import KnowledgeStore
from include.gleaner.load.vector_index import ensure_index
from include.gleaner.ops.migrate import migrate
from include.gleaner.ops.migrations import migrations
from include.gleaner.ops.rollback import rollback
from include.gleaner.ops.verify import CONSTRAINT, Verification, _expected, verify
from tests.support.chunks import DIMENSIONS, MODEL, add_page, page_of

CHUNKS = 6  # two pages of two for acme, one of two for zeta
DROP = "ALTER TABLE gleaner.tenant_knowledge DROP CONSTRAINT unique_chunk_per_source CASCADE"
COPY_ONE = (
    "INSERT INTO gleaner.tenant_knowledge SELECT * FROM gleaner.tenant_knowledge"
    " WHERE tenant_id = 'acme' ORDER BY source_id, chunk_index LIMIT 1"
)


@pytest.fixture
def whole(conn: psycopg.Connection) -> psycopg.Connection:
    """A database with two tenants, in which nothing is off."""
    for tenant, urls in (("acme", ("/a", "/b")), ("zeta", ("/z",))):
        store = KnowledgeStore(conn, tenant_id=tenant, model=MODEL, dimensions=DIMENSIONS)
        for url in urls:
            page_id = add_page(conn, tenant, f"https://example.com{url}")
            store.replace_pages([page_of(page_id, [f"first of {url}", f"second of {url}"])])
    conn.execute("UPDATE gleaner.website_page SET state = 'chunked', generation = 1")
    conn.execute("UPDATE gleaner.tenant SET search_model = %s", (MODEL,))
    ensure_index(conn, model=MODEL, dimensions=DIMENSIONS, kind="vector", least_rows=1)
    return conn


def found(verification: Verification) -> dict[str, str | int]:
    return {check.name: check.found for check in verification.checks}


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


def statement(*texts: str) -> Callable[[psycopg.Connection], None]:
    def run(conn: psycopg.Connection) -> None:
        for text in texts:
            conn.execute(text.encode())

    return run


def invalid_index(conn: psycopg.Connection) -> None:
    """As a build that was cut off leaves it: a unique index over what is not unique."""
    with pytest.raises(psycopg.errors.UniqueViolation):
        conn.execute("CREATE UNIQUE INDEX CONCURRENTLY half_built ON gleaner.tenant_knowledge (tenant_id)")


def orphan(page_of_another: bool) -> Callable[[psycopg.Connection], None]:
    page = (
        "(SELECT page_id FROM gleaner.website_page WHERE tenant_id = 'zeta')"
        if page_of_another
        else "gen_random_uuid()"
    )
    return statement(
        "ALTER TABLE gleaner.page_document DROP CONSTRAINT page_document_tenant_id_page_id_fkey",
        "INSERT INTO gleaner.page_document (tenant_id, page_id, generation, title, language, word_count, content_hash,"
        f" document) VALUES ('acme', {page}, 1, '', 'en', 0, '', '{{}}')",
        # The row stays and the reference comes back, unchecked: only the count can tell.
        "ALTER TABLE gleaner.page_document ADD FOREIGN KEY (tenant_id, page_id) REFERENCES gleaner.website_page"
        " NOT VALID",
        "UPDATE pg_constraint SET convalidated = true WHERE conname = 'page_document_tenant_id_page_id_fkey'",
    )


def other_model(conn: psycopg.Connection) -> None:
    """A model that was given up halfway, long ago."""
    (page_id,) = conn.execute("SELECT page_id FROM gleaner.website_page WHERE tenant_id = 'zeta'").fetchone() or (None,)
    store = KnowledgeStore(conn, tenant_id="zeta", model="given-up", dimensions=DIMENSIONS)
    assert page_id is not None
    store.replace_pages([page_of(page_id, ["first", "second", "third"])])
    conn.execute(
        "UPDATE gleaner.knowledge_generation SET updated_at = now() - interval '31 days'"
        " WHERE embedding_model = 'given-up'"
    )


BROKEN = {
    "an unknown migration is missing": (
        statement("DELETE FROM gleaner.schema_migration WHERE version = 9"), {"schema version"},
    ),
    "a file was changed": (
        statement("UPDATE gleaner.schema_migration SET checksum = 'x' WHERE version = 3"), {"migration checksums"},
    ),
    "the constraint is gone": (
        statement(DROP), {"constraint unique_chunk_per_source"},
    ),
    "the constraint is the origin's, without the index": (
        statement(
            DROP, "DELETE FROM gleaner.tenant_knowledge WHERE chunk_index > 0",
            "UPDATE gleaner.knowledge_generation SET chunk_count = 1",
            "ALTER TABLE gleaner.tenant_knowledge ADD CONSTRAINT unique_chunk_per_source"
            " UNIQUE (tenant_id, source_id, chunk_type)",
        ),
        {"constraint unique_chunk_per_source"},
    ),
    "a chunk is there twice": (
        statement(
            DROP, COPY_ONE, "UPDATE gleaner.knowledge_generation SET chunk_count = (SELECT count(*) FROM"
            " gleaner.tenant_knowledge k WHERE k.tenant_id = knowledge_generation.tenant_id AND k.source_id ="
            " knowledge_generation.source_id)",
        ),
        {"constraint unique_chunk_per_source", "duplicates"},
    ),
    "an index is not valid": (invalid_index, {"indexes"}),
    "an index is missing": (statement("DROP INDEX gleaner.tenant_knowledge_text_hash"), {"indexes"}),
    "the index of a model is missing": (
        statement("DO $$ BEGIN EXECUTE (SELECT 'DROP INDEX gleaner.' || index_name FROM gleaner.vector_index); END $$"),
        {"indexes"},
    ),
    "row-level security is off": (
        statement("ALTER TABLE gleaner.page_snapshot DISABLE ROW LEVEL SECURITY"), {"row-level security"},
    ),
    "a policy is gone": (
        statement("DROP POLICY one_tenant ON gleaner.tenant_knowledge"), {"row-level security"},
    ),
    "a reference is gone": (
        statement("ALTER TABLE gleaner.crawl_job DROP CONSTRAINT crawl_job_tenant_id_source_id_fkey"), {"foreign keys"},
    ),
    "a page was read and not loaded": (
        statement("UPDATE gleaner.website_page SET state = 'completed' WHERE url LIKE '%/a'"),
        {"gap: pages not chunked"},
    ),
    "a chunk has no vector": (
        statement("UPDATE gleaner.tenant_knowledge SET embedding = NULL WHERE full_text = 'first of /a'"),
        {"gap: chunks without vector"},
    ),
    "a gist has no vector": (
        statement("UPDATE gleaner.tenant_knowledge SET tldr_hash = 'x' WHERE full_text = 'first of /a'"),
        {"gap: chunks without vector"},
    ),
    "rows of a model that nobody sees": (other_model, {"stale embeddings: other model"}),
    "rows of the model before, left by a dead removal": (
        statement("UPDATE gleaner.tenant SET search_model = 'new', previous_model = 'test-model'"),
        {"stale embeddings: other model"},
    ),
    "chunks of older content": (
        statement("UPDATE gleaner.website_page SET generation = 2 WHERE url LIKE '%/a'"),
        {"stale embeddings: older content"},
    ),
    "a chunk was deleted by hand": (
        statement("DELETE FROM gleaner.tenant_knowledge WHERE full_text = 'second of /z'"),
        {"pages that disagree with their fence"},
    ),
    "a page is chunked without a fence": (
        statement(
            "DELETE FROM gleaner.tenant_knowledge WHERE tenant_id = 'zeta'",
            "DELETE FROM gleaner.knowledge_generation WHERE tenant_id = 'zeta'",
        ),
        {"pages that disagree with their fence"},
    ),
    "a document without its page": (orphan(page_of_another=False), {"rows without their page"}),
    "a document of another tenant's page": (
        orphan(page_of_another=True), {"rows without their page", "rows of another tenant's page"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_each_thing_that_is_off_is_found_alone_and_says_what_to_do(whole: psycopg.Connection, case: str) -> None:
    breaks, names = BROKEN[case]
    breaks(whole)
    told = verify(whole)
    assert set(told.off) == names
    assert not told.ok
    assert told.as_dict()["off"] == list(told.off)
    assert all(check.advice for check in told.checks if check.ok is False)


def test_a_tenant_s_trouble_is_its_own(whole: psycopg.Connection) -> None:
    whole.execute("UPDATE gleaner.tenant_knowledge SET embedding = NULL WHERE tenant_id = 'zeta'")
    whole.execute("UPDATE gleaner.website_page SET state = 'fetched', generation = 2 WHERE tenant_id = 'zeta'")
    assert verify(whole, "acme").ok
    assert set(verify(whole, "zeta").off) == {"gap: pages not chunked", "gap: chunks without vector"}
    assert set(verify(whole).off) == {"gap: pages not chunked", "gap: chunks without vector"}
    with pytest.raises(InvalidParamError, match="no tenant 'beta'"):
        verify(whole, "beta")


def test_duplicates_are_counted_in_the_table_and_not_in_an_index_that_forgot_them(whole: psycopg.Connection) -> None:
    """Two rows of one key under a constraint whose index knows one: what a crash or a bad collation can leave."""
    whole.execute("CREATE TABLE kept AS SELECT * FROM gleaner.tenant_knowledge ORDER BY source_id LIMIT 1")
    index = "gleaner.unique_chunk_per_source"
    whole.execute(
        f"UPDATE pg_index SET indisready = false, indislive = false WHERE indexrelid = '{index}'::regclass".encode()
    )
    whole.execute("INSERT INTO gleaner.tenant_knowledge SELECT * FROM kept")
    whole.execute(
        f"UPDATE pg_index SET indisready = true, indislive = true WHERE indexrelid = '{index}'::regclass".encode()
    )
    told = found(verify(whole))
    assert told["constraint unique_chunk_per_source"] == CONSTRAINT
    assert told["duplicates"] == 1


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


def test_the_page_of_a_chunk_is_looked_for_in_its_own_tenant(whole: psycopg.Connection) -> None:
    whole.execute("ALTER TABLE gleaner.tenant_knowledge DROP CONSTRAINT tenant_knowledge_tenant_id_source_id_fkey")
    whole.execute(
        "UPDATE gleaner.tenant_knowledge SET source_id = (SELECT page_id FROM gleaner.website_page"
        " WHERE tenant_id = 'zeta') WHERE full_text = 'first of /a'"
    )
    told = verify(whole)
    assert found(told)["rows of another tenant's page"] == 1
    assert "foreign keys" in told.off


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
