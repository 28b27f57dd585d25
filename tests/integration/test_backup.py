"""A backup is tried before it counts, shows one moment, and gives away no secret."""

from __future__ import annotations

import errno
import secrets
import shutil
import stat
import threading
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from include.gleaner.errors import BackupError, SchemaError
from include.gleaner.ops import archive, backup, client_tools, manifest
from include.gleaner.ops.backup import back_up, prune
from include.gleaner.ops.manifest import read_manifest, write_manifest
from include.gleaner.ops.row_hashes import difference, hash_tables


def databases(conn: psycopg.Connection) -> set[str]:
    return {name for (name,) in conn.execute("SELECT datname FROM pg_database").fetchall()}


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


def test_a_dump_is_never_there_without_its_manifest(filled: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody would ever remove it, and `ls -t *.dump` of the runbook would name it."""

    def full(descriptor: int) -> None:
        if Path(f"/proc/self/fd/{descriptor}").resolve().suffix == ".new":
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(manifest.os, "fsync", full)
        with pytest.raises(BackupError, match=r"cannot be written \(No space left on device\); free some space"):
            back_up(filled, folder)
    assert list(folder.iterdir()) == []

    class Killed(BaseException):
        pass

    def killed(path: Path, **options: Any) -> None:
        unlink(path, **options)
        if path.suffix in (".dump", ".json"):
            raise Killed

    _, newest = back_up(filled, folder)
    (folder / "gleaner-1.dump").write_bytes(b"x")
    write_manifest(replace(newest, dump="gleaner-1.dump", made_at=newest.made_at - timedelta(days=1)), folder)
    unlink = Path.unlink
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", killed)
        with pytest.raises(Killed):
            prune(folder, newest, keep=1)
    assert [path.name for path in folder.glob("*.dump")] == [newest.dump]


def test_the_encoding_of_the_caller_is_nothing_to_it(filled: str, folder: Path, conn: psycopg.Connection) -> None:
    conn.execute('UPDATE gleaner.website_source SET params = \'{"a": "\u0131 \u20ac"}\'')
    for encoding in ("latin1", "sql_ascii"):
        back_up(make_conninfo(filled, client_encoding=encoding), folder)
    assert len(list(folder.glob("*.dump"))) == 2


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

        def look(scratch: psycopg.Connection, *values: Any, **options: Any) -> None:
            real(scratch, *values, **options)
            kinds = (
                "SELECT DISTINCT relpersistence FROM pg_class WHERE relkind = 'r' AND relnamespace = %s::regnamespace"
            )
            assert scratch.execute(kinds, ("gleaner",)).fetchall() == [("u",)]  # past the log, for which writers wait
            assert ("p",) in scratch.execute(kinds, ("gleaner_replaced",)).fetchall()  # what others see is as it was
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
