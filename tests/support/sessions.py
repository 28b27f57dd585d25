"""Waiting for the sessions of clients that were killed: a server process goes on with the statement that it has."""

from __future__ import annotations

import time

import psycopg


def wait_until_alone(conn: psycopg.Connection, seconds: float = 60) -> None:
    """Until nobody else is connected to the database: what the others had begun is committed by now, or gone."""
    deadline = time.monotonic() + seconds
    others = (
        "SELECT pid, state, query FROM pg_stat_activity WHERE datname = current_database()"
        " AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
    )
    while found := conn.execute(others).fetchall():
        assert time.monotonic() < deadline, found
        time.sleep(0.01)
