"""Work on a table that others use: one at a time, and what needs it for itself in moments in which nobody has it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import psycopg
from psycopg import sql

from include.gleaner.errors import SchemaError
from include.gleaner.ops.old_table import OldTable
from include.gleaner.sql import queries

LOCK_SECONDS: Final = 60.0  # for another adoption of the table to end; a killed one's session may outlive it
MOMENT_SECONDS: Final = 600.0  # to wait for a moment in which nobody holds the table


@contextmanager
def alone(conn: psycopg.Connection, table: OldTable) -> Iterator[None]:
    """While it is open nobody else adopts the table. Raises SchemaError when somebody else goes on doing so."""
    key = {"table": table.label}
    deadline = time.monotonic() + LOCK_SECONDS
    while not (row := conn.execute(queries("adopt")["try_lock"], key).fetchone()) or not row[0]:
        if time.monotonic() > deadline:
            raise SchemaError(f"{table.label} is being adopted by somebody else; wait for it, then run again")
        time.sleep(0.25)
    try:
        yield
    finally:
        if not conn.closed:
            conn.execute(queries("adopt")["unlock"], key)


def at_a_free_moment(conn: psycopg.Connection, table: OldTable, *statements: sql.Composed) -> None:
    """Run what needs the table for itself, in one transaction that gives up its place in the queue soon and often."""
    deadline = time.monotonic() + MOMENT_SECONDS
    pause = 0.2
    while True:
        try:
            with conn.transaction():
                conn.execute(queries("adopt")["short_lock"])
                for statement in statements:
                    conn.execute(statement)
            return
        except psycopg.errors.LockNotAvailable:
            if time.monotonic() > deadline:
                blockers = conn.execute(queries("adopt")["blockers"], {"oid": table.oid}).fetchall()
                told = ", ".join(f"process {pid} for {seconds} s" for pid, seconds in blockers) or "somebody"
                raise SchemaError(
                    f"{table.label} is never free: {told} holds it; end that transaction and run it again, "
                    "it goes on from here"
                ) from None
        time.sleep(pause)
        pause = min(5.0, pause * 1.5)
