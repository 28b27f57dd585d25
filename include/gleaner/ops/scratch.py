"""A place to try a backup in, where nothing is ever committed.

A scratch database beside the knowledge database, or the one that GLEANER_SCRATCH_DSN names. Where the user may not
make databases, or not put pgvector into them, the knowledge database itself: its schema is set aside in a transaction
that is taken back, which nobody else notices. What a killed trial left behind, the next one drops.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from include.gleaner.errors import BackupError
from include.gleaner.sql import queries

log = logging.getLogger(__name__)

VARIABLE = "GLEANER_SCRATCH_DSN"


@contextmanager
def scratch_transaction(conn: psycopg.Connection, dsn: str) -> Iterator[psycopg.Connection]:
    """A connection in a transaction that is taken back, with no schema `gleaner` in sight.

    `conn` is one to the database of `dsn`, in no transaction. Raises BackupError when the named database is of no use.
    """
    with ExitStack() as cleanup:
        if named := os.environ.get(VARIABLE, ""):
            scratch = cleanup.enter_context(_connect(named))
            if _yes(scratch, "schema_exists", {"schema_name": "gleaner"}):
                raise BackupError(f"the database of {VARIABLE} has a schema gleaner; give an empty one")
        else:
            scratch = cleanup.enter_context(_connect(cleanup.enter_context(_scratch_database(conn, dsn)) or dsn))
        cleanup.enter_context(scratch.transaction(force_rollback=True))
        if _yes(scratch, "schema_exists", {"schema_name": "gleaner"}):
            log.info("the backup is tried beside the tables themselves, for want of a right to make a scratch database")
            scratch.execute(queries("backup")["set_aside"])
        yield scratch


@contextmanager
def _scratch_database(conn: psycopg.Connection, dsn: str) -> Iterator[str | None]:
    """Its connection string, or None where it cannot be made or cannot have pgvector; gone at the end."""
    _drop_abandoned(conn)
    name = f"{_prefix(conn)}{secrets.token_hex(4)}"
    conn.execute(queries("backup")["try_scratch"], {"name": name})
    made = False
    try:
        with contextlib.suppress(psycopg.errors.InsufficientPrivilege, psycopg.errors.ObjectInUse):
            _run(conn, "create_scratch", name)
            made = True
        scratch_dsn = make_conninfo(dsn, dbname=name)
        yield scratch_dsn if made and _may_have_pgvector(scratch_dsn) else None
    finally:
        if not conn.closed:
            if made:
                _run(conn, "drop_scratch", name)
            conn.execute(queries("backup")["release_scratch"], {"name": name})


def _may_have_pgvector(dsn: str) -> bool:
    with _connect(dsn) as scratch:
        has_it = scratch.execute(queries("backup")["extension"]).fetchone() is not None
        row = scratch.execute(queries("preflight")["may_create_extension"]).fetchone()
        return has_it or (row is not None and bool(row[0]))


def _drop_abandoned(conn: psycopg.Connection) -> None:
    """Those whose maker has died: it would hold the lock of their name."""
    names = conn.execute(queries("backup")["scratch_databases"], {"pattern": f"{_prefix(conn)}%"}).fetchall()
    for (name,) in names:
        if _yes(conn, "try_scratch", {"name": name}):
            with contextlib.suppress(psycopg.errors.InsufficientPrivilege):
                _run(conn, "drop_scratch", name)
            conn.execute(queries("backup")["release_scratch"], {"name": name})


def _prefix(conn: psycopg.Connection) -> str:
    row = conn.execute(queries("backup")["scratch_prefix"]).fetchone()
    return str(row[0]) if row else ""


def _yes(conn: psycopg.Connection, query: str, values: dict[str, str]) -> bool:
    row = conn.execute(queries("backup")[query], values).fetchone()
    return row is not None and bool(row[0])


def _run(conn: psycopg.Connection, query: str, name: str) -> None:
    conn.execute(sql.SQL(queries("backup")[query]).format(name=sql.Identifier(name)))


def _connect(dsn: str) -> psycopg.Connection:
    try:
        conn = psycopg.connect(
            dsn, autocommit=True, prepare_threshold=None, client_encoding="utf8", application_name="gleaner trial"
        )
    except (psycopg.OperationalError, psycopg.ProgrammingError) as error:
        raise BackupError(f"the scratch database cannot be reached ({type(error).__name__})") from None
    conn.execute(queries("migrate")["no_timeouts"])
    return conn
