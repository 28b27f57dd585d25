"""The knowledge database for requests: few connections at a time, short statements, errors as answers."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import psycopg
from fastapi import HTTPException

from include.gleaner.config import POSTGRES_CONN_ID
from include.gleaner.errors import SetupError
from include.gleaner.pipeline.connections import knowledge_connection
from include.gleaner.sql import queries

if TYPE_CHECKING:
    from psycopg import Connection

MOST_CONNECTIONS: Final = 8  # of one process of the API server
SECONDS_IN_LINE: Final = 5.0
STATEMENT_TIMEOUT: Final = "5s"
LOCK_TIMEOUT: Final = "2s"
_slots: Final = threading.BoundedSemaphore(MOST_CONNECTIONS)
EXPORTS: Final = threading.BoundedSemaphore(2)  # they take minutes: beside the others, not instead of them


@contextmanager
def knowledge(
    *, statement_timeout: str = STATEMENT_TIMEOUT, slots: threading.BoundedSemaphore = _slots
) -> Iterator[Connection]:
    """The knowledge database, autocommit. For `def` endpoints, which FastAPI runs in threads: it waits.

    Open and close it within the endpoint, not as a dependency: those who wait for a connection would hold the threads
    that those who have one need. Answers 503 when the database cannot be used, is too busy, or a statement takes too
    long; the message says what to do.
    """
    if not slots.acquire(timeout=SECONDS_IN_LINE):
        raise HTTPException(503, "too many requests at once; try again in a moment")
    try:
        with knowledge_connection(statement_timeout=statement_timeout, lock_timeout=LOCK_TIMEOUT) as conn:
            yield conn
    except SetupError as error:
        raise HTTPException(503, str(error)) from None
    except (psycopg.errors.QueryCanceled, psycopg.errors.LockNotAvailable):
        raise HTTPException(503, "the database took too long; try again in a moment") from None
    except psycopg.errors.ReadOnlySqlTransaction:
        raise HTTPException(503, "the knowledge database can only be read now, as a standby can") from None
    except psycopg.errors.InsufficientPrivilege as error:
        said = error.diag.message_primary
        raise HTTPException(503, f"the user of {POSTGRES_CONN_ID} lacks a right: {said}") from None
    except psycopg.OperationalError as error:
        raise HTTPException(503, f"the knowledge database cannot be reached ({type(error).__name__})") from None
    finally:
        slots.release()


def rows(conn: Connection, query: str, key: Mapping[str, Any], names: Sequence[str]) -> list[dict[str, Any]]:
    """What a query of views.sql gives, by column."""
    return [dict(zip(names, row, strict=True)) for row in conn.execute(queries("views")[query], key)]
