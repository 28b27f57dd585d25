"""`verify` finds each thing that can be off, and only that, and says what to do."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest

from include.gleaner.ops.verify import CONSTRAINT, verify
from tests.support.verified import COPY_ONE, DROP, found, other_model


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
    "an index is missing": (statement("DROP INDEX gleaner.tenant_knowledge_by_text"), {"indexes"}),
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


def test_the_page_of_a_chunk_is_looked_for_in_its_own_tenant(whole: psycopg.Connection) -> None:
    whole.execute("ALTER TABLE gleaner.tenant_knowledge DROP CONSTRAINT tenant_knowledge_tenant_id_source_id_fkey")
    whole.execute(
        "UPDATE gleaner.tenant_knowledge SET source_id = (SELECT page_id FROM gleaner.website_page"
        " WHERE tenant_id = 'zeta') WHERE full_text = 'first of /a'"
    )
    told = verify(whole)
    assert found(told)["rows of another tenant's page"] == 1
    assert "foreign keys" in told.off
