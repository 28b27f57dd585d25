"""A backup is tried before it counts, shows one moment, and what comes out of it is what went in, byte for byte."""

from __future__ import annotations

import errno
import json
import os
import secrets
import shutil
import stat
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from include.gleaner.errors import BackupError, SchemaError
from include.gleaner.load.vector_index import ensure_index
from include.gleaner.local.postgres import EmbeddedPostgres
from include.gleaner.ops import archive, backup, client_tools, restore
from include.gleaner.ops.backup import back_up, prune
from include.gleaner.ops.manifest import read_manifest, write_manifest
from include.gleaner.ops.restore import Restored
from include.gleaner.ops.row_hashes import difference, hash_tables
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


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "backups"


@pytest.fixture
def filled(conn: psycopg.Connection, knowledge_dsn: str) -> str:
    """A small database with a row in two tables; its DSN."""
    conn.execute("INSERT INTO gleaner.tenant (tenant_id) VALUES ('acme')")
    conn.execute(
        "INSERT INTO gleaner.website_source (tenant_id, source_id, root_url) VALUES ('acme', gen_random_uuid(), 'x')"
    )
    conn.execute("SELECT nextval('gleaner.content_generation') FROM generate_series(1, 7)")
    return knowledge_dsn


@pytest.fixture
def restored(empty_dsn: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(empty_dsn, autocommit=True, prepare_threshold=None) as conn:
        yield conn


@pytest.fixture(scope="module")
def made(postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backup of a database that is gone."""
    postgres.create_database("backed_up", template="template_knowledge")
    try:
        with psycopg.connect(postgres.dsn("backed_up"), autocommit=True) as conn:
            conn.execute("INSERT INTO gleaner.tenant (tenant_id) VALUES ('acme')")
            conn.execute("SELECT nextval('gleaner.content_generation') FROM generate_series(1, 7)")
        return back_up(postgres.dsn("backed_up"), tmp_path_factory.mktemp("made"))[0]
    finally:
        postgres.drop_database("backed_up")


def databases(conn: psycopg.Connection) -> set[str]:
    return {name for (name,) in conn.execute("SELECT datname FROM pg_database").fetchall()}


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


def test_it_shows_one_moment_whatever_is_written_meanwhile(
    filled: str, folder: Path, conn: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer that commits between the hashes and the dump, and another one all the time."""
    real, stop = archive.write_dump, threading.Event()
    numbers = iter(range(10_000))

    def write(writer: psycopg.Connection) -> None:
        name = f"t{next(numbers)}"
        with writer.transaction():
            writer.execute("INSERT INTO gleaner.tenant (tenant_id) VALUES (%s)", (name,))
            writer.execute(
                "INSERT INTO gleaner.website_source (tenant_id, source_id, root_url)"
                " VALUES (%s, gen_random_uuid(), 'x')",
                (name,),
            )
            writer.execute("UPDATE gleaner.site_pace SET delay = delay + 1")

    def write_first(*values: Any) -> Any:
        write(conn)
        return real(*values)

    def write_on() -> None:
        with psycopg.connect(filled, autocommit=True) as writer:
            while not stop.is_set():
                write(writer)

    conn.execute("INSERT INTO gleaner.site_pace (site) VALUES ('x')")
    monkeypatch.setattr(backup, "write_dump", write_first)
    thread = threading.Thread(target=write_on)
    thread.start()
    try:
        _, manifest = back_up(filled, folder)  # restores and compares, so nothing may differ
    finally:
        stop.set()
        thread.join()
    assert manifest.tables["tenant"].rows == manifest.tables["website_source"].rows
    assert manifest.tables["tenant"].rows < hash_tables(conn)["tenant"].rows


def test_what_does_not_come_out_as_it_went_in_is_no_backup(
    filled: str, folder: Path, conn: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = backup.hash_tables

    def other(conn: psycopg.Connection) -> Any:
        found = real(conn)
        return {**found, "tenant": replace(found["tenant"], hash="0" * 64)}

    monkeypatch.setattr(backup, "hash_tables", other)
    before = databases(conn)
    with pytest.raises(BackupError, match="not what went in: tenant has other values in its 1 rows"):
        back_up(filled, folder)
    assert list(folder.iterdir()) == []
    assert databases(conn) == before


def test_a_disk_that_is_full_ends_it_and_leaves_nothing(
    filled: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = archive.write_dump

    class Full:
        def write(self, piece: bytes) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(backup, "write_dump", lambda tools, dsn, snapshot, file: real(tools, dsn, snapshot, Full()))  # type: ignore[arg-type]
    with pytest.raises(BackupError, match=r"cannot be written \(No space left on device\); free some space"):
        back_up(filled, folder)
    assert list(folder.iterdir()) == []


def test_a_row_changes_the_hash_of_its_table_alone(filled: str, conn: psycopg.Connection) -> None:
    before = hash_tables(conn)
    assert difference(before, hash_tables(conn)) == []
    conn.execute("UPDATE gleaner.website_source SET params = '{\"a\": null}'")
    assert difference(before, hash_tables(conn)) == ["website_source has other values in its 1 rows"]
    conn.execute("UPDATE gleaner.website_source SET params = NULL")
    assert difference(before, hash_tables(conn)) == []
    conn.execute("INSERT INTO gleaner.tenant (tenant_id) VALUES ('b')")
    assert difference(before, hash_tables(conn)) == ["tenant has 2 rows instead of 1"]
    conn.execute("CREATE TABLE gleaner.more ()")
    conn.execute("DELETE FROM gleaner.tenant WHERE tenant_id = 'b'")
    assert difference(before, hash_tables(conn)) == ["table more is not in the backup"]


def test_the_password_is_on_no_command_line_and_the_files_are_for_their_owner(
    filled: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    password = str(conninfo_to_dict(filled)["password"])
    started: list[tuple[list[str], dict[str, str] | None]] = []
    real = archive.subprocess.Popen

    def popen(command: list[str], **options: Any) -> Any:
        started.append((command, options.get("env")))
        return real(command, **options)

    monkeypatch.setattr(archive.subprocess, "Popen", popen)
    path, _ = back_up(filled, folder)
    assert {Path(command[0]).name for command, _ in started} == {"pg_dump", "pg_restore"}
    assert not any(password in argument for command, _ in started for argument in command)
    assert any(env and env["PGPASSWORD"] == password for _, env in started)
    assert password not in path.with_suffix(".json").read_text("utf-8")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


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


def test_only_as_many_as_are_wanted_are_kept(filled: str, made: Path, folder: Path) -> None:
    shutil.copytree(made.parent, folder)  # of another database: it stays
    older, newest = read_manifest(made), back_up(filled, folder)
    names = []
    for days in (3, 1, 2):
        names.append(f"gleaner-{days}.dump")
        (folder / names[-1]).write_bytes(b"x")
        made_at = newest[1].made_at - timedelta(days=days)
        write_manifest(replace(newest[1], dump=names[-1], made_at=made_at), folder)
    assert prune(folder, newest[1], keep=2) == ["gleaner-2.dump", "gleaner-3.dump"]
    assert {path.name for path in folder.glob("*.dump")} == {older.dump, newest[0].name, "gleaner-1.dump"}
    assert {path.stem for path in folder.glob("*.json")} == {path.stem for path in folder.glob("*.dump")}


def test_there_has_to_be_a_schema_and_a_folder(empty_dsn: str, filled: str, tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match="nothing to back up"):
        back_up(empty_dsn, tmp_path / "a")
    (tmp_path / "file").write_text("x")
    with pytest.raises(BackupError, match="cannot be written"):
        back_up(filled, tmp_path / "file" / "b")


def test_an_owner_with_no_further_rights_can_make_backups(
    filled: str, folder: Path, conn: psycopg.Connection, empty_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, password = f"owner_{secrets.token_hex(4)}", secrets.token_hex(8)
    conn.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{password}' IN ROLE gleaner_writer".encode())
    dsn = make_conninfo(filled, user=name, password=password)
    try:
        with pytest.raises(BackupError, match="the tables belong to another role"):
            back_up(dsn, folder)
        # An owner who is no superuser and makes no databases.
        conn.execute(f"GRANT CREATE ON DATABASE {conninfo_to_dict(filled)['dbname']} TO {name}".encode())
        conn.execute(f"ALTER SCHEMA gleaner OWNER TO {name}".encode())
        for (table,) in conn.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'gleaner'").fetchall():
            conn.execute(f"ALTER TABLE gleaner.{table} OWNER TO {name}".encode())
        conn.execute(f"ALTER SEQUENCE gleaner.content_generation OWNER TO {name}".encode())
        # It is tried beside the tables then, with writers at work on them.
        real = backup.load_and_compare

        def look(scratch: psycopg.Connection, *values: Any) -> None:
            real(scratch, *values)
            (database,) = scratch.execute("SELECT current_database()").fetchone() or ("",)
            assert database == conninfo_to_dict(filled)["dbname"]
            conn.execute("INSERT INTO gleaner.tenant (tenant_id) VALUES ('meanwhile')")

        monkeypatch.setattr(backup, "load_and_compare", look)
        _, manifest = back_up(dsn, folder)
        assert manifest.tables["tenant"].rows == 1
        assert conn.execute("SELECT count(*) FROM gleaner.tenant").fetchone() == (2,)
        assert conn.execute("SELECT to_regnamespace('gleaner_replaced')").fetchone() == (None,)
        monkeypatch.setattr(backup, "load_and_compare", real)
        conn.execute(f"ALTER ROLE {name} CREATEDB".encode())
        back_up(dsn, folder)  # a scratch database, but without pgvector in it
        assert conn.execute("SELECT datname FROM pg_database WHERE datname LIKE 'gleaner_scratch%'").fetchall() == []
        with psycopg.connect(empty_dsn, autocommit=True) as scratch:
            scratch.execute("CREATE EXTENSION vector WITH SCHEMA public")
            scratch.execute(f"GRANT ALL ON DATABASE {conninfo_to_dict(empty_dsn)['dbname']} TO {name}".encode())
            monkeypatch.setenv("GLEANER_SCRATCH_DSN", make_conninfo(empty_dsn, user=name, password=password))
            path, manifest = back_up(dsn, folder)
            assert name in manifest.origin.owners
            assert path.exists()
            assert scratch.execute("SELECT to_regnamespace('gleaner')").fetchone() == (None,)
            monkeypatch.setenv("GLEANER_SCRATCH_DSN", filled)
            with pytest.raises(BackupError, match="has a schema gleaner; give an empty one"):
                back_up(dsn, folder)
    finally:
        conn.execute(f"REASSIGN OWNED BY {name} TO CURRENT_USER".encode())
        conn.execute(f"DROP OWNED BY {name}".encode())
        with psycopg.connect(empty_dsn, autocommit=True) as scratch:
            scratch.execute(f"DROP OWNED BY {name}".encode())
        conn.execute(f"DROP ROLE {name}".encode())


def test_tools_are_never_older_than_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = []
    for major in (14, 16, 17, 19):
        folder = tmp_path / str(major)
        folder.mkdir()
        for name in ("pg_dump", "pg_restore"):
            (folder / name).write_text(f"#!/bin/sh\necho '{name} (PostgreSQL) {major}.2 (Debian {major}.2-1)'\n")
            (folder / name).chmod(0o755)
        folders.append(folder)
    (tmp_path / "17" / "pg_restore").write_text("#!/bin/sh\necho 'pg_restore (PostgreSQL) 13.1'\n")  # not a pair
    monkeypatch.setattr(client_tools, "_folders", lambda: iter([*folders, tmp_path / "none"]))
    assert client_tools.tools_for(14).folder == folders[0]
    assert client_tools.tools_for(15).folder == folders[1]
    assert client_tools.tools_for(17).major == 19
    with pytest.raises(BackupError, match="no pg_dump of version 20 or newer; install postgresql-client-20"):
        client_tools.tools_for(20)


def test_older_servers_are_not_told_what_they_do_not_know() -> None:
    class Connection:
        class info:
            server_version = 160004

    lines = [b"\\restrict abc\n", b"SET statement_timeout = 0;\n", b"SET transaction_timeout = 0;\n"]
    assert list(archive._for_server(Connection(), iter(lines))) == lines[1:2]  # type: ignore[arg-type]
    Connection.info.server_version = 170000
    assert list(archive._for_server(Connection(), iter(lines))) == lines[1:]  # type: ignore[arg-type]


def test_a_manifest_is_read_as_it_was_written(filled: str, folder: Path) -> None:
    path, manifest = back_up(filled, folder)
    assert read_manifest(path) == manifest
    assert manifest.checked_at > manifest.made_at
