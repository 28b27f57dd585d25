"""What comes out of a backup is what went in, byte for byte; what is damaged or not wanted changes nothing."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from include.gleaner.errors import BackupError
from include.gleaner.load.vector_index import ensure_index
from include.gleaner.ops import restore
from include.gleaner.ops.backup import back_up
from include.gleaner.ops.restore import Restored
from include.gleaner.ops.row_hashes import hash_tables
from tests.integration.test_migrate import dump
from tests.support.tenant import Tenant
from tests.support.website import page

# One row at least in every table that a run of the pipeline leaves empty.
MORE = """
INSERT INTO gleaner.reader_tenant (role_name, tenant_id) VALUES ('some_reader', 'acme');
INSERT INTO gleaner.site_pace (site, delay) VALUES ('https://example.com', 0.1);
INSERT INTO gleaner.site_slot VALUES ('https://example.com', 1, gen_random_uuid(), 'infinity');
INSERT INTO gleaner.token_reservation VALUES ('acme', 'a task', 5, now());
INSERT INTO gleaner.pending_embedding (tenant_id, embedding_model, text_hash, embedding)
    VALUES ('acme', 'm', '\\x00ff', '[0.1, -2e-30, 3]');
INSERT INTO gleaner.dead_letter (tenant_id, stage, page_id, reason, detail)
    SELECT tenant_id, 'load', page_id, 'ValueError', E'tab\\t, line\\n, \\\\.\\n\\\\. and كتاب‌ها'
    FROM gleaner.website_page LIMIT 1;
INSERT INTO gleaner.forgotten (tenant_id, target_id, source_id, url)
    SELECT tenant_id, gen_random_uuid(), source_id, 'x' FROM gleaner.website_source;
INSERT INTO gleaner.knowledge_check (checked_at, report) VALUES (now(), '{"a": 1}');
SELECT gleaner.fold_metrics();
UPDATE gleaner.tenant SET monthly_token_quota = 12;
UPDATE gleaner.website_page SET state = 'completed' WHERE state = 'chunked';
UPDATE gleaner.website_page SET state = 'chunked' WHERE state = 'completed';
"""
FILLED = {
    "batch_report", "crawl_job", "dead_letter", "embedding_usage", "endpoint_state", "forgotten", "knowledge_check",
    "knowledge_generation", "metric_change", "metric_total", "page_document", "page_snapshot", "pending_embedding",
    "reader_tenant", "schema_migration", "site_pace", "site_slot", "tenant", "tenant_knowledge", "token_reservation",
    "vector_index", "website_page", "website_source",
}  # fmt: skip
SEARCH = (
    "SELECT score, similarity, lexical, source_id, page_url, full_text"
    " FROM gleaner.search('acme', 'reindeer in the north', %s::vector, 5)"
)


def sequences(conn: psycopg.Connection) -> list[Any]:
    return conn.execute(
        "SELECT sequencename, last_value FROM pg_sequences WHERE schemaname = 'gleaner' ORDER BY 1"
    ).fetchall()


def test_everything_comes_back_and_works(
    tenant: Tenant, knowledge_dsn: str, empty_dsn: str, restored: psycopg.Connection, folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    texts = [
        "Reindeer live in the north and eat lichen all winter long.",
        "کتاب‌ها در کتابخانهٔ شهر نگه داشته می‌شوند و هر روز خوانده می‌شوند.",
        "A battery of this lamp lasts for ten hours at full light.",
    ]
    pages = {f"/p{number}": page(f"{text} It is told on page {number}.") for number, text in enumerate(texts)}
    tenant.site.routes = {"/": page("Welcome to the home page of the example company.", *pages)} | pages
    tenant.run(embed_tldr=True)
    tenant.conn.execute(MORE)
    ensure_index(tenant.conn, model="text-embedding-3-small", dimensions=1_536, kind="halfvec", least_rows=1)
    tenant.conn.execute("ANALYZE gleaner.tenant_knowledge")
    ((vector,),) = tenant.rows("SELECT embedding::text FROM gleaner.tenant_knowledge ORDER BY full_text LIMIT 1")
    before = hash_tables(tenant.conn)
    assert {name for name, table in before.items() if not table.rows} & FILLED == set()  # not equal for being empty
    assert set(before) >= FILLED

    path, manifest = back_up(knowledge_dsn, folder)
    assert manifest.tables == before
    assert restore.restore(empty_dsn, path) == Restored(
        dump=path.name, made_at=manifest.made_at.isoformat(), schema_version=manifest.origin.schema_version,
        tables=len(before), rows=sum(table.rows for table in before.values()),
    )  # fmt: skip

    assert hash_tables(restored) == before
    assert sequences(restored) == sequences(tenant.conn)
    assert dump(empty_dsn) == dump(knowledge_dsn)  # owners, rights, policies, functions, unlogged tables, indexes
    assert "tenant_knowledge_hnsw_" in dump(empty_dsn)
    as_owner = tenant.conn.execute(SEARCH, (vector,)).fetchall()
    assert len(as_owner) >= len(texts)
    assert restored.execute(SEARCH, (vector,)).fetchall() == as_owner
    name, password = f"app_{secrets.token_hex(4)}", secrets.token_hex(8)
    restored.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{password}' IN ROLE gleaner_reader".encode())
    try:
        with psycopg.connect(make_conninfo(empty_dsn, user=name, password=password), autocommit=True) as reader:
            assert reader.execute(SEARCH, (vector,)).fetchall() == as_owner
            assert reader.execute("SELECT count(*) FROM gleaner.tenant_knowledge").fetchone() == (0,)
            reader.execute("SET gleaner.tenant = 'acme'")
            assert reader.execute("SELECT count(*) > 0 FROM gleaner.tenant_knowledge").fetchone() == (True,)
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                reader.execute("DELETE FROM gleaner.tenant_knowledge")
    finally:
        restored.execute(f"DROP ROLE {name}".encode())

    # The pipeline goes on with the restored database, and finds that all is done.
    parts = conninfo_to_dict(empty_dsn)
    connection = json.loads(os.environ["AIRFLOW_CONN_GLEANER_POSTGRES"])
    monkeypatch.setenv("AIRFLOW_CONN_GLEANER_POSTGRES", json.dumps({**connection, "schema": parts["dbname"]}))
    restored.execute("UPDATE gleaner.tenant SET monthly_token_quota = NULL")
    there = replace(tenant, conn=restored)
    physical, asked = there.physical(), tenant.endpoint.stats().inputs
    report = there.run(embed_tldr=True)
    assert report["gap"]["pages_not_chunked"] == 0
    assert there.physical() == physical
    # As after a kill before the load was recorded: everything is loaded again, and not one row is written.
    restored.execute("UPDATE gleaner.knowledge_generation SET set_hash = '\\x00'")
    restored.execute("UPDATE gleaner.website_page SET state = 'completed' WHERE state = 'chunked'")
    there.run(embed_tldr=True)
    assert there.physical() == physical
    assert tenant.endpoint.stats().inputs == asked
    assert tenant.rows("SELECT count(*) FROM gleaner.crawl_job") == [(1,)]  # the runs were not in the first database


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "is damaged"),
        (lambda path: flip(path), "is damaged"),
        (lambda path: path.unlink(), "cannot be read"),
        (lambda path: path.with_suffix(".json").unlink(), "no .*json beside the backup"),
        (lambda path: path.with_suffix(".json").write_text("{"), "cannot be read as a manifest"),
        (lambda path: rewrite(path, format=2), "another version of Gleaner"),
        (lambda path: rewrite(path, tables={}), "not what went in: table batch_report is not in the backup"),
        (lambda path: rewrite(path, sequences={"content_generation": 8}), "content_generation is at 7 instead of 8"),
        (
            lambda path: rewrite(path, dump_version=99),
            "no pg_dump of version 99 or newer; install postgresql-client-99",
        ),
    ],
)
def test_what_is_damaged_is_not_restored(
    made: Path, folder: Path, empty_dsn: str, restored: psycopg.Connection, damage: Any, told: str
) -> None:
    shutil.copytree(made.parent, folder)
    path = folder / made.name
    damage(path)
    with pytest.raises(BackupError, match=told):
        restore.restore(empty_dsn, path)
    assert restored.execute("SELECT to_regnamespace('gleaner')").fetchone() == (None,)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def rewrite(path: Path, **fields: Any) -> None:
    manifest = path.with_suffix(".json")
    manifest.write_text(json.dumps({**json.loads(manifest.read_text("utf-8")), **fields}), "utf-8")


def test_knowledge_is_replaced_only_when_that_is_said(
    filled: str, folder: Path, conn: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, manifest = back_up(filled, folder)
    conn.execute("INSERT INTO gleaner.tenant (tenant_id) VALUES ('newer')")
    conn.execute("CREATE TABLE gleaner.of_a_newer_version (tenant_id text REFERENCES gleaner.tenant)")
    with pytest.raises(BackupError, match=r"there is knowledge .* db restore .*\.dump --replace"):
        restore.restore(filled, path)
    conn.execute("CREATE VIEW public.names AS SELECT tenant_id FROM gleaner.tenant")
    with pytest.raises(BackupError, match=r"view public\.names would go with the old tables"):
        restore.restore(filled, path, replace=True)
    conn.execute("DROP VIEW public.names")
    monkeypatch.setattr(restore, "SWAP_WAIT", "200ms")
    with psycopg.connect(filled) as reader:
        reader.execute("SELECT count(*) FROM gleaner.tenant")
        with pytest.raises(BackupError, match="pause the DAGs"):
            restore.restore(filled, path, replace=True)
    assert conn.execute("SELECT count(*) FROM gleaner.tenant").fetchone() == (2,)
    restore.restore(filled, path, replace=True)
    assert hash_tables(conn) == manifest.tables


def test_somebody_who_begins_while_an_empty_schema_is_replaced_is_not_lost(
    filled: str, folder: Path, empty_dsn: str, restored: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, _ = back_up(filled, folder)
    restored.execute("CREATE SCHEMA gleaner CREATE TABLE tenant (tenant_id text)")
    real = restore.hash_tables

    def begin(conn: psycopg.Connection) -> Any:
        restored.execute("INSERT INTO gleaner.tenant VALUES ('early')")  # the old table, which is still everybody's
        return real(conn)

    monkeypatch.setattr(restore, "hash_tables", begin)
    with pytest.raises(BackupError, match="there is knowledge"):
        restore.restore(empty_dsn, path)
    assert restored.execute("SELECT * FROM gleaner.tenant").fetchall() == [("early",)]
    monkeypatch.undo()
    restore.restore(empty_dsn, path, replace=True)
    assert restored.execute("SELECT tenant_id FROM gleaner.tenant").fetchall() == [("acme",)]
