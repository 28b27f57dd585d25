"""The way back to an older schema, by the down files; it removes no content unless that is asked for.

What a down file would take with it is not declared but measured: it is run in a transaction that is taken back, and
what is gone in it, tables, columns and rows, is looked at for content. The tables are locked then, so that nothing is
written between the look and the removal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import LiteralString

import psycopg
from psycopg import sql

from include.gleaner.errors import DataLossError, SchemaError
from include.gleaner.ops.migrate import applied_versions, explained, run_steps
from include.gleaner.ops.migrations import Migration, migrations, steps
from include.gleaner.ops.runner import only_runner, patiently, scalar
from include.gleaner.sql import queries

COMMAND = "python -m include.gleaner db rollback"


@dataclass(frozen=True, kw_only=True)
class _Removed:
    """What a down file takes away."""

    tables: frozenset[str]
    columns: dict[tuple[str, str], str | None]  # of tables that stay, with the default
    rows: frozenset[str]  # tables that stay, of which it deletes or changes rows


def rollback(dsn: str, to_version: int | None = None, *, lose_data: bool = False) -> list[str]:
    """Undo every migration above `to_version`, newest first; their names. 0 removes all tables with their rows.

    Without a version the newest one is undone. Each is a transaction: a runner that is killed leaves all of it or
    nothing. One made of steps is forgotten before its first step; what a killed runner left of it, on the way up or
    down, is removed by the next rollback or built again by the next `migrate`.

    Raises DataLossError before anything is changed where content would go and `lose_data` is not set, SchemaError when
    the database has migrations that this code does not know, or for the reasons of `migrate`.
    """
    undone: list[str] = []
    with only_runner(dsn, "rollback") as conn:
        if not scalar(conn, "has_table"):
            return undone
        known = {migration.version: migration for migration in migrations()}
        applied = applied_versions(conn)
        unfinished = [version for version in known if version not in applied and _has_indexes(conn, known[version])]
        if to_version is None:
            to_version = sorted({0, *applied})[-1 if unfinished else -2] if applied else 0
        above = sorted((version for version in applied if version > to_version), reverse=True)
        if strangers := [version for version in above if version not in known]:
            raise SchemaError(
                f"the database has migration {strangers[0]:04d}, which this code does not know; "
                f"roll back with the newer code that brought it"
            )
        if not lose_data and len(above) > 1:
            with explained(f"the way back to {to_version:04d}"):
                patiently(conn, "the rollback", partial(_look_ahead, conn, [known[version] for version in above]))
        for version in sorted({*above, *unfinished}, reverse=True):
            if version <= to_version:
                continue
            migration = known[version]
            with explained(f"the way back from {migration.label}"):
                if parts := steps(migration.down):
                    conn.execute(queries("migrate")["forget"], {"version": version})
                    run_steps(conn, migration.label, parts)
                else:
                    patiently(conn, migration.label, partial(_undo, conn, migration, lose_data))
            undone.append(migration.label)
    return undone


def _has_indexes(conn: psycopg.Connection, migration: Migration) -> bool:
    """Whether there is an index that its steps build, whole or not."""
    names = [step.builds for step in steps(migration.up) if step.builds]
    query = queries("migrate")["index_is_valid"]
    return any(conn.execute(query, {"index_name": name}).fetchone() for name in names)


def _undo(conn: psycopg.Connection, migration: Migration, lose_data: bool, wait: str) -> None:
    with conn.transaction():
        conn.execute(queries("migrate")["lock_timeout"], {"wait": wait})
        if not lose_data:
            _refuse_loss(conn, [migration])
        conn.execute(migration.down)
        conn.execute(queries("migrate")["forget"], {"version": migration.version})


def _look_ahead(conn: psycopg.Connection, path: Sequence[Migration], wait: str) -> None:
    with conn.transaction(force_rollback=True):
        conn.execute(queries("migrate")["lock_timeout"], {"wait": wait})
        _refuse_loss(conn, path)


def _refuse_loss(conn: psycopg.Connection, path: Sequence[Migration]) -> None:
    """Raise DataLossError when the way back by these, newest first, would remove content."""
    if lost := _content(conn, _what_goes(conn, [migration.down for migration in path])):
        raise DataLossError(
            f"the way back from {', '.join(migration.label for migration in path)} would lose {', '.join(lost)}; "
            f"nothing was changed. To lose it all the same, make a backup, and give --lose-data"
        )


def _what_goes(conn: psycopg.Connection, downs: Sequence[LiteralString]) -> _Removed:
    """By trying it: the inner transaction is always taken back, and its locks with it. Steps remove indexes only."""
    before, rows_before = _columns(conn), _changed_rows(conn)
    with conn.transaction(force_rollback=True):
        for down in downs:
            if not steps(down):
                conn.execute(down)
        after, rows_after = _columns(conn), _changed_rows(conn)
    tables = {table for table, _ in before} - {table for table, _ in after}
    return _Removed(
        tables=frozenset(tables),
        columns={
            (table, column): default
            for (table, column), default in before.items()
            if (table, column) not in after and table not in tables
        },
        rows=frozenset(
            table for table, count in rows_after.items() if count > rows_before.get(table, 0) and table not in tables
        ),
    )


def _content(conn: psycopg.Connection, removed: _Removed) -> Sequence[str]:
    """What of it holds something, as words for people. Locks the tables for the rest of the transaction."""
    statements = queries("migrate")
    found: list[str] = []
    for table in sorted(removed.tables | {table for table, _ in removed.columns}):
        conn.execute(sql.SQL(statements["lock_table"]).format(table_name=sql.Identifier(table)))
    for table in sorted(removed.tables):
        if _says_yes(conn, statements["has_rows"], table_name=sql.Identifier(table)):
            found.append(f"the rows of {table}")
    for (table, column), default in sorted(removed.columns.items()):
        if _says_yes(
            conn,
            statements["has_values"],
            table_name=sql.Identifier(table),
            column_name=sql.Identifier(column),
            default_value=sql.SQL(default or "NULL"),  # as the catalogue gives it
        ):
            found.append(f"the values of {table}.{column}")
    found += [f"rows of {table}" for table in sorted(removed.rows)]
    return found


def _says_yes(conn: psycopg.Connection, query: LiteralString, **parts: sql.Composable) -> bool:
    row = conn.execute(sql.SQL(query).format(**parts)).fetchone()
    return row is not None and bool(row[0])


def _columns(conn: psycopg.Connection) -> dict[tuple[str, str], str | None]:
    rows = conn.execute(queries("migrate")["columns"]).fetchall()
    return {(table, column): default for table, column, default in rows}


def _changed_rows(conn: psycopg.Connection) -> dict[str, int]:
    return dict(conn.execute(queries("migrate")["changed_rows"]).fetchall())
