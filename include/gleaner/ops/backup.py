"""Makes a backup that is known to be one: written, listed, restored into a scratch database, and found equal.

All of it shows one moment, whatever is written meanwhile. Under its final name stands only what passed every check; a
backup that is killed leaves a file that the next one removes.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Final

import psycopg

from include.gleaner.errors import BackupError, SchemaError
from include.gleaner.ops.archive import Dumped, list_dump, write_dump
from include.gleaner.ops.client_tools import ClientTools, tools_for
from include.gleaner.ops.manifest import SUFFIX, Manifest, backups, origin_of, write_manifest
from include.gleaner.ops.restore import load_and_compare
from include.gleaner.ops.row_hashes import TableHash, hash_tables
from include.gleaner.ops.runner import only_runner, scalar
from include.gleaner.ops.scratch import scratch_transaction
from include.gleaner.sql import queries

log = logging.getLogger(__name__)

PARTIAL: Final = ".partial"


def back_up(dsn: str, folder: Path, *, keep: int | None = None) -> tuple[Path, Manifest]:
    """Back up the schema into `folder`; the dump and its manifest. Of this database's backups the newest `keep` stay.

    Raises BackupError, with the folder as it was: no tool, no right, no space, or a trial that failed.
    Raises SchemaError when there is nothing to back up, or when another runner is at work.
    """
    _usable(folder)
    with only_runner(dsn, "backup") as conn:
        if not scalar(conn, "has_table"):
            raise SchemaError("the database has no Gleaner schema: there is nothing to back up")
        _refuse_stranger(conn)
        with _unfinished(folder) as (partial, file):
            tools = tools_for(conn.info.server_version // 10_000)
            manifest = _dump(conn, dsn, tools, file)
            _check(conn, dsn, tools, partial, manifest)
            manifest = replace(manifest, checked_at=datetime.now(UTC))
            final = folder / manifest.dump
            write_manifest(manifest, folder)
            partial.replace(final)  # last: a dump that is there has its manifest
            _sync(folder)
    log.info("backup %s: %d bytes, restored into a scratch database and found equal", final.name, manifest.dump_bytes)
    if keep is not None:
        prune(folder, manifest, keep)
    return final, manifest


def prune(folder: Path, newest: Manifest, keep: int) -> list[str]:
    """Remove all but the newest `keep` backups of the database that `newest` is of; their names."""
    of_it = [
        path
        for path, manifest in backups(folder)
        if (manifest.origin.database, manifest.origin.system_identifier)
        == (newest.origin.database, newest.origin.system_identifier)
    ]
    for path in of_it[max(keep, 1) :]:
        path.unlink(missing_ok=True)  # first: nobody would remove a dump without its manifest
        path.with_suffix(".json").unlink(missing_ok=True)
    return [path.name for path in of_it[max(keep, 1) :]]


def _dump(conn: psycopg.Connection, dsn: str, tools: ClientTools, file: IO[bytes]) -> Manifest:
    """Dump and hash the same moment, at the same time."""
    conn.isolation_level, conn.read_only = psycopg.IsolationLevel.REPEATABLE_READ, True
    try:
        with conn.transaction(), ThreadPoolExecutor(1) as beside:
            row = conn.execute(queries("backup")["export_snapshot"]).fetchone()
            made_at = datetime.now(UTC)
            sequences: dict[str, int | None] = dict(conn.execute(queries("backup")["sequences"]).fetchall())
            origin = origin_of(conn)
            dumping = beside.submit(write_dump, tools, dsn, row[0] if row else "", file)
            tables: dict[str, TableHash] = hash_tables(conn)
            dumped: Dumped = dumping.result()
    except psycopg.errors.InsufficientPrivilege as error:
        raise BackupError(f"the database user may not read everything: {error.diag.message_primary}") from None
    finally:
        conn.isolation_level, conn.read_only = None, None
    return Manifest(
        made_at=made_at,
        origin=origin,
        dump=f"gleaner-{made_at:%Y%m%dT%H%M%S}{made_at.microsecond // 1000:03d}Z-v{origin.schema_version:04d}{SUFFIX}",
        dump_bytes=dumped.bytes,
        dump_sha256=dumped.sha256,
        dump_version=tools.major,
        tables=tables,
        sequences=sequences,
        checked_at=made_at,
    )


def _refuse_stranger(conn: psycopg.Connection) -> None:
    row = conn.execute(queries("preflight")["owns_schema"]).fetchone()
    if row is None or not row[0]:
        raise BackupError(
            "the tables belong to another role, and only their owner sees all of them; connect as the owner"
        )


def _check(conn: psycopg.Connection, dsn: str, tools: ClientTools, dump: Path, manifest: Manifest) -> None:
    """Raise BackupError unless the dump lists every table and gives every row back."""
    listed = "\n".join(list_dump(tools, dump))
    for table in manifest.tables:
        if f" TABLE DATA gleaner {table} " not in listed:
            raise BackupError(f"the backup does not list the rows of {table}")
    with scratch_transaction(conn, dsn) as scratch:
        load_and_compare(scratch, tools, dump, manifest, trial=True)


@contextmanager
def _unfinished(folder: Path) -> Iterator[tuple[Path, IO[bytes]]]:
    """A file that is a backup only after it was renamed. Its lock says that its writer lives."""
    for left in folder.glob(f"*{PARTIAL}"):
        with contextlib.suppress(OSError), left.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            left.unlink()
    path = folder / f"gleaner-{os.getpid()}-{datetime.now(UTC):%H%M%S%f}{SUFFIX}{PARTIAL}"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        if not path.exists():  # taken for a dead writer's in the moment before it was locked
            raise BackupError("another backup into the same folder got in the way; run again")
        try:
            yield path, file
        finally:
            path.unlink(missing_ok=True)


def _usable(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        probe = folder / f".probe-{os.getpid()}"
        probe.write_bytes(b"x")
        probe.unlink()
    except OSError as error:
        raise BackupError(f"backups cannot be written to {folder} ({error.strerror})") from None


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
