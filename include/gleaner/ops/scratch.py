"""A database of one's own for a moment, to try a backup on.

It lies beside the knowledge database, unless GLEANER_SCRATCH_DSN names another one, where the user may not make
databases or not put pgvector into them. Nothing is ever committed there. What a killed trial left behind, the next one
drops.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from include.gleaner.errors import BackupError
from include.gleaner.sql import queries

VARIABLE = "GLEANER_SCRATCH_DSN"


@contextmanager
def scratch_database(conn: psycopg.Connection, dsn: str) -> Iterator[psycopg.Connection]:
    """A connection to an empty database, gone at the end. `conn` is one to the database of `dsn`, in no transaction.

    Raises BackupError when none can be made.
    """
    named = os.environ.get(VARIABLE, "")
    if named:
        with _connect(named) as scratch:
            row = scratch.execute(queries("backup")["schema_exists"], {"schema_name": "gleaner"}).fetchone()
            if row is None or row[0]:
                raise BackupError(f"the database of {VARIABLE} has a schema gleaner; give an empty one")
            yield scratch
        return
    _drop_abandoned(conn)
    name = f"{_prefix(conn)}{secrets.token_hex(4)}"
    conn.execute(queries("backup")["try_scratch"], {"name": name})
    try:
        try:
            _run(conn, "create_scratch", name)
        except (psycopg.errors.InsufficientPrivilege, psycopg.errors.ObjectInUse) as error:
            raise BackupError(
                f"no scratch database can be made to try the backup on ({error.diag.message_primary}); "
                f"grant CREATEDB, or name an empty database with pgvector in {VARIABLE}"
            ) from None
        with _connect(make_conninfo(dsn, dbname=name)) as scratch:
            yield scratch
    finally:
        if not conn.closed:
            _run(conn, "drop_scratch", name)
            conn.execute(queries("backup")["release_scratch"], {"name": name})


def _drop_abandoned(conn: psycopg.Connection) -> None:
    """Those whose maker has died: it would hold the lock of their name."""
    names = conn.execute(queries("backup")["scratch_databases"], {"pattern": f"{_prefix(conn)}%"}).fetchall()
    for (name,) in names:
        row = conn.execute(queries("backup")["try_scratch"], {"name": name}).fetchone()
        if row is not None and row[0]:
            with contextlib.suppress(psycopg.errors.InsufficientPrivilege):
                _run(conn, "drop_scratch", name)
            conn.execute(queries("backup")["release_scratch"], {"name": name})


def _prefix(conn: psycopg.Connection) -> str:
    row = conn.execute(queries("backup")["scratch_prefix"]).fetchone()
    return str(row[0]) if row else ""


def _run(conn: psycopg.Connection, query: str, name: str) -> None:
    conn.execute(sql.SQL(queries("backup")[query]).format(name=sql.Identifier(name)))


def _connect(dsn: str) -> psycopg.Connection:
    try:
        return psycopg.connect(
            dsn, autocommit=True, prepare_threshold=None, client_encoding="utf8", application_name="gleaner trial"
        )
    except (psycopg.OperationalError, psycopg.ProgrammingError) as error:
        raise BackupError(f"the scratch database cannot be reached ({type(error).__name__})") from None
