"""Workers of the version before finish on the schema of this one, and this one's on a schema that is newer still."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import psycopg
import pytest

from include.gleaner.ops.migrate import migrate, schema_status
from include.gleaner.ops.migrations import Migration, migrations
from include.gleaner.ops.rollback import rollback
from tests.support.database_runners import ship
from tests.support.tenant import Tenant
from tests.support.website import page
from tools.freeze_version import ARCHIVE

TEXTS = (
    "Reindeer live in the north and eat lichen all winter long.",
    "A battery of this lamp lasts for ten hours at full light.",
    "The shop is open from nine to six on every day but Sunday.",
)

# What the rules of tests/unit/test_migration_files.py allow: more columns everywhere, another table, another index.
NEXT = Migration(
    version=9001,
    name="next",
    up="""
CREATE TABLE gleaner.next (tenant_id text NOT NULL REFERENCES gleaner.tenant, note text, PRIMARY KEY (tenant_id));
CREATE INDEX next_note ON gleaner.next (note);
"""
    + "".join(
        f"ALTER TABLE gleaner.{table} ADD COLUMN a_next text, ADD COLUMN b_next integer NOT NULL DEFAULT 0;\n"
        for table in (
            "tenant", "website_source", "crawl_job", "website_page", "page_snapshot", "page_document",
            "tenant_knowledge", "knowledge_generation", "pending_embedding", "dead_letter", "batch_report",
            "embedding_usage", "token_reservation", "site_pace", "site_slot", "endpoint_state", "vector_index",
        )
    ),
    down="DROP TABLE gleaner.next;",
)  # fmt: skip
INDEX = Migration(
    version=9002,
    name="next_index",
    up="-- step build --\nCREATE INDEX CONCURRENTLY next_checked ON gleaner.website_page (checked_at)",
    down="-- step drop --\nDROP INDEX CONCURRENTLY IF EXISTS gleaner.next_checked",
)

# A worker: the first half of a run before the migration, the second half and the hourly repair after it.
WORKER = """
import json, sys
from include.gleaner import pipeline
params = json.loads(sys.argv[1])
pipeline.crawl_website(params, "old")
batches = pipeline.plan_batches(params, "old")
for batch in batches[:-1]:
    pipeline.process_pages(params, "old", batch, 1)
print("HALF", flush=True)
sys.stdin.readline()
pipeline.process_pages(params, "old", batches[-1], 1)
for batch in pipeline.survey_site(params, "old"):
    pipeline.load_chunks(params, "old", batch, 1)
report = pipeline.reconcile(params, "old")
for batch in pipeline.find_missing_vectors():
    pipeline.fill_vectors(batch, 1)
for batch in pipeline.find_pages_to_mend("old-mend"):
    pipeline.mend_pages(batch, 1)
pipeline.look_over_knowledge()
print("RESULT" + json.dumps(report, default=str), flush=True)
"""


@pytest.fixture
def site(tenant: Tenant) -> Tenant:
    pages = {f"/p{number}": page(f"{text} It is told on page {number}.") for number, text in enumerate(TEXTS)}
    tenant.site.routes = {"/": page("Welcome to the home page of the example company.", *pages)} | pages
    return tenant


@pytest.fixture(scope="module")
def previous(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The version before, unpacked."""
    folder = tmp_path_factory.mktemp("previous")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    return folder


def shipped_by(previous: Path) -> list[str]:
    folder = previous / "include" / "gleaner" / "sql" / "migrations"
    return sorted(path.name.removesuffix(".up.sql") for path in folder.glob("*.up.sql"))


def test_the_version_before_is_before_and_its_migrations_did_not_change(previous: Path) -> None:
    theirs, ours = shipped_by(previous), {migration.label: migration for migration in migrations()}
    assert theirs == list(ours)[: len(theirs)]
    for label in theirs:
        text = (previous / "include" / "gleaner" / "sql" / "migrations" / f"{label}.up.sql").read_text("utf-8")
        assert text == ours[label].up, label


def test_a_worker_of_the_version_before_finishes_on_the_new_schema(
    site: Tenant, previous: Path, knowledge_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its schema, its code, and in the middle of its run the migrations of today and of tomorrow."""
    before = len(shipped_by(previous))
    rollback(knowledge_dsn, before, lose_data=True)
    assert schema_status(site.conn).version == before
    params = site.params(batch_size=1)
    worker = subprocess.Popen(
        [sys.executable, "-c", WORKER, json.dumps(params)], cwd=previous, text=True,
        env={**os.environ, "PYTHONPATH": str(previous)}, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert worker.stdout is not None
        for line in worker.stdout:
            if line.startswith("HALF"):
                break
        else:
            pytest.fail(worker.communicate()[1][-2_000:])
        ship(monkeypatch, NEXT, INDEX)
        newer = [migration.label for migration in migrations()[before:]]
        assert migrate(knowledge_dsn) == [*newer, NEXT.label, INDEX.label]
        out, err = worker.communicate("go on\n", timeout=120)
    finally:
        worker.kill()
    assert "RESULT" in out, err[-3_000:]
    report: dict[str, Any] = json.loads(out.rpartition("RESULT")[2])
    assert report["gap"]["pages_not_chunked"] == report["gap"]["chunks_without_vector"] == 0
    assert {text for _, text in site.knowledge()} >= {f"{text} It is told on page {n}." for n, text in enumerate(TEXTS)}
    # What it wrote is what this version would have written.
    rows = site.physical()
    site.run()
    assert site.physical() == rows


def test_workers_of_this_version_finish_on_the_next_schema(
    site: Tenant, conn: psycopg.Connection, knowledge_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.MonkeyPatch.context() as newer_code:
        ship(newer_code, NEXT, INDEX)
        assert migrate(knowledge_dsn) == [NEXT.label, INDEX.label]
    assert schema_status(conn).unknown == (NEXT.label, INDEX.label)
    report = site.run(embed_tldr=True)
    assert report["gap"]["pages_not_chunked"] == 0
    rows = site.physical()
    site.run(embed_tldr=True)
    assert site.physical() == rows
    assert site.rows("SELECT count(*) FROM gleaner.tenant_knowledge WHERE b_next = 0") == [(len(rows),)]
