"""Sessions of Gleaner's own, which do not depend on what is set for the role or the database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from include.gleaner.errors import SetupError
from include.gleaner.sql import queries


def open_session(dsn: str) -> psycopg.Connection:
    """A connection with `pin` of session.sql, autocommit, without prepared plans, its timeouts as they are set."""
    conn = psycopg.connect(dsn, autocommit=True, prepare_threshold=None)
    try:
        conn.execute(queries("session")["pin"], {"statement_timeout": None, "lock_timeout": None})
    except BaseException:
        conn.close()
        raise
    return conn


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
