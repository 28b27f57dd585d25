"""Puts a backup in the place of what is there, at once or not at all.

Everything is one transaction: the old schema is set aside, the backup is loaded, its rows are compared with the
manifest, the old schema is dropped. Readers see the old tables until it is committed; a restore that is killed has done
nothing.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psycopg
from psycopg import sql

from include.gleaner.errors import BackupError
from include.gleaner.ops.archive import load_dump
from include.gleaner.ops.client_tools import ClientTools, tools_for
from include.gleaner.ops.manifest import Manifest, check_file, read_manifest
from include.gleaner.ops.row_hashes import difference, hash_tables
from include.gleaner.ops.runner import only_runner
from include.gleaner.sql import queries

log = logging.getLogger(__name__)

OLDEST_SERVER: Final = 150000
SWAP_WAIT: Final = "60s"  # for those who still read or write the old tables
REPLACED: Final = "gleaner_replaced"


@dataclass(frozen=True, kw_only=True)
class Restored:
    """What was put there."""

    dump: str
    made_at: str
    schema_version: int
    tables: int
    rows: int


def restore(dsn: str, dump: Path, *, replace: bool = False) -> Restored:
    """Restore a backup into the database of `dsn`, which may be another one than it was made of.

    `replace` is needed where there is anybody's knowledge. Raises BackupError, with the database as it was before.
    """
    manifest = read_manifest(dump)
    check_file(dump, manifest)
    with only_runner(dsn, "restore") as conn:
        tools = tools_for(max(conn.info.server_version // 10_000, manifest.dump_version))
        with conn.transaction():
            there = _exists(conn, "gleaner")
            if there:
                _refuse_dependents(conn)
                if not replace:
                    _refuse_knowledge(conn, "gleaner", dump)  # now, and not only after everything was loaded
                conn.execute(queries("backup")["set_aside"])
            load_and_compare(conn, tools, dump, manifest)
            if there:
                _drop_replaced(conn, dump, replace=replace)
            for table in manifest.tables:
                conn.execute(sql.SQL(queries("backup")["analyze"]).format(table_name=sql.Identifier(table)))
    return Restored(
        dump=dump.name,
        made_at=manifest.made_at.isoformat(),
        schema_version=manifest.origin.schema_version,
        tables=len(manifest.tables),
        rows=sum(table.rows for table in manifest.tables.values()),
    )


def load_and_compare(
    conn: psycopg.Connection, tools: ClientTools, dump: Path, manifest: Manifest, *, trial: bool = False
) -> None:
    """Load the backup inside the open transaction, and compare every table and sequence with the manifest.

    A `trial` is always taken back: its tables need to outlive no crash.
    Raises BackupError when the server cannot take it, or when anything is not as it was.
    """
    if conn.info.server_version < OLDEST_SERVER:
        raise BackupError(f"the server is Postgres {conn.info.server_version // 10_000}; Gleaner needs 15 or newer")
    try:
        _prepare(conn, manifest)
        conn.execute(queries("backup")["build_settings"])
        conn.execute(queries("backup")["create_roles"])
        row = conn.execute(queries("backup")["may_own"], {"owners": list(manifest.origin.owners)}).fetchone()
        load_dump(conn, tools, dump, keep_owner=row is not None and bool(row[0]), trial=trial)
    except psycopg.Error as error:
        said = error.diag.message_primary or "the connection was lost"
        raise BackupError(f"the backup cannot be restored here: {said}; nothing was changed") from None
    different = difference(manifest.tables, hash_tables(conn))
    found: dict[str, int | None] = dict(conn.execute(queries("backup")["sequences"]).fetchall())
    different += [
        f"sequence {name} is at {found.get(name)} instead of {value}"
        for name, value in manifest.sequences.items()
        if name not in found or (found[name] or 0) < (value or 0)
    ]
    if different:
        raise BackupError(f"what came out of the backup is not what went in: {'; '.join(different[:5])}")


def _prepare(conn: psycopg.Connection, manifest: Manifest) -> None:
    """pgvector where the backup looks for it."""
    wanted = manifest.origin.extension_schema
    name = sql.Identifier(wanted)
    row = conn.execute(queries("backup")["extension"]).fetchone()
    if row is None:
        conn.execute(sql.SQL(queries("backup")["create_extension_schema"]).format(schema_name=name))
        conn.execute(sql.SQL(queries("backup")["create_extension"]).format(schema_name=name))
    elif row[1] != wanted:
        raise BackupError(
            f"pgvector is in schema {row[1]} here and was in {wanted} when the backup was made; "
            f"run: ALTER EXTENSION vector SET SCHEMA {wanted}"
        )
    conn.execute(sql.SQL(queries("backup")["load_extension"]).format(schema_name=name))


def _refuse_dependents(conn: psycopg.Connection) -> None:
    rows = conn.execute(queries("backup")["dependents"], {"schema_name": "gleaner"}).fetchall()
    if rows:
        names = ", ".join(name for (name,) in rows[:5])
        raise BackupError(
            f"{names} would go with the old tables; drop what hangs on them, and make it again afterwards"
        )


def _refuse_knowledge(conn: psycopg.Connection, schema: str, dump: Path) -> None:
    row = conn.execute(queries("backup")["tenant_table"], {"schema_name": schema}).fetchone()
    if row is None or not row[0]:
        return
    row = conn.execute(sql.SQL(queries("backup")["has_tenants"]).format(schema_name=sql.Identifier(schema))).fetchone()
    if row is not None and row[0]:
        raise BackupError(
            "there is knowledge in this database, which the backup would replace; nothing was changed. "
            f"If that is meant, run: python -m include.gleaner db restore {dump.name} --replace"
        )


def _drop_replaced(conn: psycopg.Connection, dump: Path, *, replace: bool) -> None:
    try:
        conn.execute(queries("backup")["swap_patience"], {"wait": SWAP_WAIT})
        if not replace:
            conn.execute(queries("backup")["lock_replaced"])  # somebody may have begun meanwhile
            _refuse_knowledge(conn, REPLACED, dump)
        conn.execute(queries("backup")["drop_replaced"])
    except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
        raise BackupError(
            "the old tables have been in use for a minute; pause the DAGs, let what reads them end, then run again"
        ) from None


def _exists(conn: psycopg.Connection, schema: str) -> bool:
    row = conn.execute(queries("backup")["schema_exists"], {"schema_name": schema}).fetchone()
    return row is not None and bool(row[0])
