"""Sessions of Gleaner's own, which do not depend on what is set for the role or the database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import psycopg
from psycopg.conninfo import make_conninfo

from include.gleaner.errors import SetupError
from include.gleaner.sql import queries

_LOOKS: Final = 3  # a pooler that deals sessions out in turns may give the same one by chance


def open_session(dsn: str) -> psycopg.Connection:
    """A connection with `pin` of session.sql, autocommit, without prepared plans, its timeouts as they are set."""
    conn = psycopg.connect(dsn, autocommit=True, prepare_threshold=None)
    try:
        conn.execute(queries("session")["pin"], {"statement_timeout": None, "lock_timeout": None})
        check_session(conn)
    except BaseException:
        conn.close()
        raise
    return conn


def check_session(conn: psycopg.Connection) -> None:
    """Raise SetupError where a pooler gives each transaction another session of the server.

    Settings, temporary tables and locks of a session would be those of whoever comes next. `conn` is outside of a
    transaction. A pooler in between is known by its process number, which is none of the server's; it keeps sessions
    apart if what it gives to somebody else meanwhile is another one.
    """
    if _backend(conn) == conn.info.backend_pid:
        return
    info = conn.info
    beside = make_conninfo("", **info.get_parameters(), password=info.password or None)
    with psycopg.connect(beside, autocommit=True) as other:
        for _ in range(_LOOKS):
            mine = _backend(conn)
            with other.transaction():
                if mine == _backend(other) or mine != _backend(conn):
                    raise SetupError(
                        "the database is reached through a pooler that gives each transaction another session, as "
                        "PgBouncer does with pool_mode=transaction; Gleaner needs sessions of its own: set "
                        "pool_mode=session for its database, or name Postgres itself"
                    )


def _backend(conn: psycopg.Connection) -> int:
    row = conn.execute(queries("session")["backend"]).fetchone()
    return int(row[0]) if row else 0


@contextmanager
def explained() -> Iterator[None]:
    """Turns what the database of GLEANER_DSN refused, or died of, into one line without what is secret in it."""
    try:
        yield
    except psycopg.Error as error:
        said = error.diag.message_primary
        if said is None:
            raise SetupError(f"the database of GLEANER_DSN cannot be reached ({type(error).__name__})") from None
        raise SetupError(f"the database refused it: {said}") from None
    except UnicodeEncodeError:  # what a shell sent stands there as half a surrogate pair
        raise SetupError("GLEANER_DSN or an argument holds bytes that are no UTF-8") from None
