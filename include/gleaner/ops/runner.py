"""One runner at a time works on the schema, and it never makes a live table wait for it.

The runners' lock is polled, because a blocking lock would deadlock with CREATE INDEX CONCURRENTLY. It belongs to the
session: it ends with its holder, whose statements the server gives up two seconds after the client has died.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

import psycopg
from psycopg.rows import TupleRow

from include.gleaner.errors import SchemaError
from include.gleaner.ops.session import check_session
from include.gleaner.sql import queries

log = logging.getLogger(__name__)

LOCK_WAIT_SECONDS: Final = 120.0  # for another runner
# For a table, one try after the other: so long at most do others queue up behind the runner. Every third try is longer
# than deadlock_timeout, after which the server ends an autovacuum that is in the way, and nobody else.
TABLE_WAITS: Final = ("200ms", "200ms", "1500ms")
TABLE_PATIENCE_SECONDS: Final = 120.0  # for a table, in all
FIRST_PAUSE_SECONDS: Final = 0.25  # between two tries for a table; doubles
LONGEST_PAUSE_SECONDS: Final = 10.0

T = TypeVar("T")


@contextmanager
def only_runner(dsn: str, name: str) -> Iterator[psycopg.Connection]:
    """A connection that holds the runners' lock, known to the server by `name`.

    Raises SchemaError when another runner holds it for more than two minutes; the message says which.
    """
    with psycopg.connect(
        dsn, autocommit=True, prepare_threshold=None, application_name=f"gleaner {name}", client_encoding="utf8"
    ) as conn:
        with contextlib.suppress(psycopg.errors.InvalidParameterValue):  # a server that cannot see its clients die
            conn.execute(queries("migrate")["watch_client"])
        conn.execute(queries("session")["pin"], {"statement_timeout": "0", "lock_timeout": "0"})
        check_session(conn)
        conn.execute(queries("migrate")["no_timeouts"])
        deadline = time.monotonic() + LOCK_WAIT_SECONDS
        while not (row := conn.execute(queries("migrate")["try_lock"]).fetchone()) or not row[0]:
            if time.monotonic() > deadline:
                raise SchemaError(f"another runner has been at work for two minutes{_holder(conn)}; wait for it, "
                                  "then run again")  # fmt: skip
            time.sleep(0.2)
        try:
            yield conn
        finally:
            if not conn.closed and conn.info.transaction_status == psycopg.pq.TransactionStatus.IDLE:
                conn.execute(queries("migrate")["unlock"])


def patiently(conn: psycopg.Connection, what: str, attempt: Callable[[str], T]) -> T:
    """`attempt`, again while somebody holds a table that it needs. It is given how long it may wait for one.

    Raises SchemaError after two minutes, naming who has had a transaction open.
    """
    deadline = time.monotonic() + TABLE_PATIENCE_SECONDS
    pause = FIRST_PAUSE_SECONDS
    for wait in itertools.cycle(TABLE_WAITS):
        try:
            return attempt(wait)
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
            if time.monotonic() + pause > deadline:
                raise SchemaError(
                    f"{what} was not done: a table it needs has been in use for two minutes{_users(conn)}; "
                    "let these end, then run again"
                ) from None
            log.info("%s: a table is in use; the next try is in %.1f s", what, pause)
            time.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
    raise AssertionError("a cycle has no end")


def scalar(conn: psycopg.Connection, query: str) -> object:
    """The only value of a query of migrate.sql; None when it has no row."""
    row = conn.execute(queries("migrate")[query]).fetchone()
    return row[0] if row else None


def _holder(conn: psycopg.Connection) -> str:
    return _told(conn.execute(queries("migrate")["lock_holder"]).fetchall())


def _users(conn: psycopg.Connection) -> str:
    return _told(conn.execute(queries("migrate")["table_users"]).fetchall())


def _told(rows: list[TupleRow]) -> str:
    found = [f"server process {pid}, {name or 'without a name'}, since {began:%H:%M:%S}" for pid, name, began in rows]
    return f" ({'; '.join(found)})" if found else ""
