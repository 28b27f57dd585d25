"""Brings a database to the schema that this code needs, and back.

Several runners may start at once: one works, the others wait and then find nothing to do. Each migration is one
transaction together with its line in `gleaner.schema_migration`: a runner that is killed leaves all of it or nothing.

    python -m include.gleaner.ops.migrate [up | down VERSION | status] [--dsn DSN]
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from typing import LiteralString

import psycopg

from include.gleaner.errors import SchemaError
from include.gleaner.sql import queries

COMMAND = "python -m include.gleaner.ops.migrate up"
LOCK_WAIT_SECONDS = 120.0

_FILE = re.compile(r"(\d{4})_(\w+)\.(up|down)\.sql")


@dataclass(frozen=True, kw_only=True)
class Migration:
    """One step between two schemas."""

    version: int
    name: str
    up: LiteralString
    down: LiteralString

    @property
    def label(self) -> str:
        return f"{self.version:04d}_{self.name}"

    @property
    def checksum(self) -> str:
        """SHA-256 of the way up: an applied file must not change."""
        return hashlib.sha256(self.up.encode()).hexdigest()


def migrations() -> tuple[Migration, ...]:
    """All migrations that ship with this code, oldest first."""
    texts: dict[tuple[int, str], dict[str, str]] = {}
    for entry in files("include.gleaner.sql").joinpath("migrations").iterdir():
        if match := _FILE.fullmatch(entry.name):
            texts.setdefault((int(match[1]), match[2]), {})[match[3]] = entry.read_text("utf-8")
    return tuple(
        Migration(version=version, name=name, up=text["up"], down=text["down"])
        for (version, name), text in sorted(texts.items())
    )


def migrate(dsn: str) -> list[str]:
    """Apply what is missing; the names of what was applied, oldest first.

    Raises SchemaError when an applied file was changed afterwards, when pgvector is not installed on the server, or
    when another runner holds the lock for longer than two minutes.
    """
    done: list[str] = []
    with _locked(dsn) as conn:
        applied = _applied(conn)
        _check_unchanged(applied)
        for migration in migrations():
            if migration.version not in applied:
                _apply(conn, migration)
                done.append(migration.label)
    return done


def rollback(dsn: str, to_version: int) -> list[str]:
    """Undo every migration above `to_version`, newest first; their names. 0 removes all tables with their rows."""
    undone: list[str] = []
    with _locked(dsn) as conn:
        applied = _applied(conn)
        _check_unchanged(applied)
        for migration in reversed(migrations()):
            if migration.version in applied and migration.version > to_version:
                with conn.transaction():
                    conn.execute(migration.down)
                    conn.execute(queries("migrate")["forget"], {"version": migration.version})
                undone.append(migration.label)
    return undone


def check_schema(conn: psycopg.Connection) -> None:
    """Raise SchemaError unless the database has every migration this code knows.

    A newer database is accepted: workers of the old version finish while an upgrade rolls through.
    """
    if not _scalar(conn, "has_table"):
        raise SchemaError(f"the database has no Gleaner schema; run: {COMMAND}")
    applied = _applied(conn)
    missing = [migration for migration in migrations() if migration.version not in applied]
    if missing:
        names = ", ".join(migration.label for migration in missing)
        raise SchemaError(f"the database's schema is old, it lacks {names}; run: {COMMAND}")
    if not _scalar(conn, "may_write"):
        raise SchemaError(
            "the database user sees the rows of one tenant only; let the owner of the tables run: "
            "GRANT gleaner_writer TO the user of the connection"
        )


def _apply(conn: psycopg.Connection, migration: Migration) -> None:
    with conn.transaction():
        try:
            conn.execute(migration.up)
        except psycopg.errors.UndefinedFile:
            raise SchemaError(
                "the Postgres server has no pgvector; install it there (postgresql-17-pgvector or so)"
            ) from None
        except psycopg.errors.InsufficientPrivilege as error:
            raise SchemaError(
                f"the database user may not apply {migration.label}: {error.diag.message_primary}; "
                "let a superuser run CREATE EXTENSION vector, CREATE ROLE gleaner_reader, CREATE ROLE gleaner_writer, "
                "and grant CREATE on the database"
            ) from None
        conn.execute(
            queries("migrate")["record"],
            {"version": migration.version, "name": migration.name, "checksum": migration.checksum},
        )


@contextmanager
def _locked(dsn: str) -> Iterator[psycopg.Connection]:
    """A connection that holds the runners' lock; the tables of the runner exist."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        deadline = time.monotonic() + LOCK_WAIT_SECONDS
        while not _scalar(conn, "try_lock"):
            if time.monotonic() > deadline:
                raise SchemaError("another migration has been running for two minutes; wait for it, then run again")
            time.sleep(0.2)
        try:
            if not _scalar(conn, "has_table"):
                with conn.transaction():
                    conn.execute(queries("migrate")["create_table"])
            yield conn
        finally:
            if not conn.closed:
                conn.execute(queries("migrate")["unlock"])


def _applied(conn: psycopg.Connection) -> dict[int, str]:
    return {version: checksum for version, _, checksum in conn.execute(queries("migrate")["applied"])}


def _check_unchanged(applied: dict[int, str]) -> None:
    for migration in migrations():
        if applied.get(migration.version, migration.checksum) != migration.checksum:
            raise SchemaError(
                f"{migration.label}.up.sql was changed after it had been applied; "
                "restore the file and put the change into a new migration"
            )


def _scalar(conn: psycopg.Connection, query: str) -> object:
    row = conn.execute(queries("migrate")[query]).fetchone()
    return row[0] if row else None


def main(arguments: list[str] | None = None) -> int:
    """The command line; 0 when the database is where it was asked to be."""
    parser = argparse.ArgumentParser(prog="python -m include.gleaner.ops.migrate", description=__doc__.split("\n")[0])
    parser.add_argument("action", choices=["up", "down", "status"], nargs="?", default="up")
    parser.add_argument("version", type=int, nargs="?", help="with down: go back to it; 0 removes everything")
    parser.add_argument("--dsn", default=os.environ.get("GLEANER_DSN", ""), help="default: $GLEANER_DSN or libpq's own")
    options = parser.parse_args(arguments)
    if options.action == "down" and options.version is None:
        parser.error("down needs the version to go back to")
    write = sys.stdout.write
    try:
        if options.action == "up":
            write("".join(f"applied {name}\n" for name in migrate(options.dsn)) or "nothing to do\n")
        elif options.action == "down":
            write("".join(f"removed {name}\n" for name in rollback(options.dsn, options.version)) or "nothing to do\n")
        else:
            with psycopg.connect(options.dsn, autocommit=True) as conn:
                check_schema(conn)
            write("the schema is current\n")
    except (SchemaError, psycopg.OperationalError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
