"""Brings an old table of chunks, doubles and all, under the constraint `unique_chunk_per_source` while it is in use.

1. An index to find doubles by, built beside the writers.
2. A trigger: a new row takes the place of older ones with its key, which go to a table beside the old one. Without it
   busy writers would be faster with new doubles than any index is built.
3. Of each key all rows but the newest go there too, in short transactions that wait for nobody.
4. A unique index, built beside the writers; once more where two of them made the same new key at one moment.
5. The index becomes the constraint and the trigger goes, under a lock that gives up after 40 ms and tries again.

Killed anywhere, it goes on from what is in the catalog; `give_up` takes that away. Afterwards writers get a unique
violation for a double.
"""

from __future__ import annotations

import json
import logging
import time
from dataclasses import asdict, dataclass
from typing import IO, Any, Final

import psycopg
from psycopg import sql

from include.gleaner.errors import SchemaError
from include.gleaner.ops.old_table import OldTable
from include.gleaner.ops.table_moments import alone, at_a_free_moment
from include.gleaner.ops.write_pace import WritePace
from include.gleaner.sql import queries

log = logging.getLogger(__name__)

ATTEMPTS: Final = 20
FEWEST_KEYS, FIRST_KEYS, MOST_KEYS = 4, 20, 400  # that one transaction looks at
AIM_SECONDS: Final = 0.015  # that it should take: so long a writer may wait for a row of it


@dataclass(frozen=True, kw_only=True)
class Adoption:
    """What was done, or what would be. Counts of removed rows are of all tries together."""

    table: str
    removed_table: str
    constraint: str
    dry_run: bool
    rows: int
    doubles: int  # rows that are still too many
    rows_without_key: int  # lack a part of the key: the constraint does not know them
    removed_identical: int
    removed_older: int
    builds: int  # of the unique index, in this try

    @property
    def ok(self) -> bool:
        return self.dry_run or self.doubles == 0

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def adopt(conn: psycopg.Connection, label: str, *, dry_run: bool = False) -> Adoption:
    """Bring the table `label`, SCHEMA.TABLE, under the constraint; a dry run only counts.

    `conn` is outside of a transaction and in autocommit; its settings are changed. Raises InvalidParamError or
    SchemaError when the table cannot be adopted, with what to do; what was done is gone on with by the next try.
    """
    table = OldTable.read(conn, label)
    table.refuse_second(conn)
    if dry_run:
        return _counted(conn, table, dry_run=True, builds=0)
    with alone(conn, table):
        conn.execute(queries("adopt")["settings"])
        builds = 0
        if not table.has_constraint(conn):
            _make_removed(conn, table)
            _make_lookup(conn, table)
            conn.execute(table.statement("create_superseder"))
            at_a_free_moment(conn, table, table.statement("create_trigger"))
            remove_doubles(conn, table)
            builds = _make_unique(conn, table)
            constrain = table.statement("add_constraint", index=sql.Identifier(table.unique))
            at_a_free_moment(conn, table, constrain, table.statement("drop_trigger"))
        for name in _own_indexes(conn, table):
            _drop(conn, table, name)
        conn.execute(table.statement("drop_superseder"))
        return _counted(conn, table, dry_run=False, builds=builds)


@dataclass(frozen=True, kw_only=True)
class GivenUp:
    """What an adoption that is given up leaves behind: the rows it removed, beside the table."""

    table: str
    removed_table: str
    adopted: bool  # it was over before: the constraint stays
    had_trigger: bool
    indexes: tuple[str, ...]  # that were taken away
    removed: int  # rows that are in the table of removed rows

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def give_up(conn: psycopg.Connection, label: str) -> GivenUp:
    """Take away what an adoption that did not end works with, its trigger first; again does nothing.

    Rows that were removed stay where they are. `conn` as for `adopt`, and so the errors.
    """
    table = OldTable.read(conn, label)
    with alone(conn, table):
        conn.execute(queries("adopt")["settings"])
        row = conn.execute(queries("adopt")["has_trigger"], {"oid": table.oid}).fetchone()
        had_trigger = row is not None and bool(row[0])
        if had_trigger:
            at_a_free_moment(conn, table, table.statement("drop_trigger"))
        conn.execute(table.statement("drop_superseder"))
        dropped = tuple(_own_indexes(conn, table))
        for name in dropped:
            _drop(conn, table, name)
        identical, older = _removed(conn, table)
        return GivenUp(
            table=table.label, removed_table=table.removed_label, adopted=table.has_constraint(conn),
            had_trigger=had_trigger, indexes=dropped, removed=identical + older,
        )  # fmt: skip


def write_lines(conn: psycopg.Connection, label: str, file: IO[str]) -> int:
    """A JSON line for each row that was ever removed from the table: its id, key, the row kept, and why; how many."""
    table = OldTable.read(conn, label)
    count = 0
    if not _has_removed(conn, table):
        return count
    with conn.transaction(), conn.cursor(name="gleaner_removed") as cursor:
        cursor.execute(table.statement("removed_lines"))
        for removed, kept, reason, at, *key in cursor:
            line = {"id": removed, "kept": kept, "reason": reason, "removed_at": at.isoformat()}
            file.write(json.dumps({**line, **dict(zip(table.key, key, strict=True))}, default=str) + "\n")
            count += 1
    return count


def remove_doubles(conn: psycopg.Connection, table: OldTable) -> int:
    """One pass over all keys in their order; how many rows went. Rows that a writer holds are left as they are."""
    removed, size, pace = 0, FIRST_KEYS, WritePace(conn)
    last: tuple[Any, ...] | None = None
    while True:
        place = {f"last_{number}": part for number, part in enumerate(last or ())}
        find = table.statement("duplicated_keys", behind=table.behind(last))
        keys = conn.execute(find, {**place, "limit": size}).fetchall()
        if not keys:
            return removed
        arrays = {f"key_{number}": list(parts) for number, parts in enumerate(zip(*keys, strict=True))}
        with pace.transaction():
            began = time.monotonic()
            removed += len(conn.execute(table.statement("remove"), arrays).fetchall())
            spent = time.monotonic() - began
        size = max(FEWEST_KEYS, min(MOST_KEYS, int(size * min(2.0, AIM_SECONDS / max(spent, 0.001)))))
        last = keys[-1]


def _make_unique(conn: psycopg.Connection, table: OldTable) -> int:
    """Build the unique index over the key; how many builds it took."""
    for number in range(ATTEMPTS):
        valid = _own_indexes(conn, table).get(table.unique)
        if valid:
            return number
        if valid is False:
            _drop(conn, table, table.unique)
        try:
            conn.execute(table.statement("create_unique", index=sql.Identifier(table.unique)))
        except psycopg.errors.UniqueViolation:
            log.info("%s: writers made a double while the unique index was built; once more", table.label)
            remove_doubles(conn, table)
    raise SchemaError(
        f"{table.label}: in {ATTEMPTS} tries some writer was always faster with a new double; "
        "pause whoever writes the same chunks again and again, and run it again"
    )


def _make_removed(conn: psycopg.Connection, table: OldTable) -> None:
    conn.execute(table.statement("create_removed"))
    if not _has_removed(conn, table):
        raise SchemaError(f"{table.removed_label} is there and is something else; rename it and run again")
    values = {"removed": _removed_name(conn, table), "vectors": list(table.vectors)}
    if conn.execute(queries("adopt")["needed_vectors"], values).fetchall():  # as it was just made: nobody waits for it
        conn.execute(table.statement("let_vectors_go"))


def _has_removed(conn: psycopg.Connection, table: OldTable) -> bool:
    row = conn.execute(queries("adopt")["is_ours"], {"removed": _removed_name(conn, table)}).fetchone()
    return row is not None and bool(row[0])


def _removed_name(conn: psycopg.Connection, table: OldTable) -> str:
    """As SQL has it."""
    return sql.Identifier(table.schema, f"{table.name}_removed").as_string(conn)


def _make_lookup(conn: psycopg.Connection, table: OldTable) -> None:
    valid = _own_indexes(conn, table).get(table.lookup)
    if valid is False:  # an earlier build was cut off
        _drop(conn, table, table.lookup)
    if not valid:
        conn.execute(table.statement("create_lookup", index=sql.Identifier(table.lookup)))


def _own_indexes(conn: psycopg.Connection, table: OldTable) -> dict[str, bool]:
    """Those of adoption, and whether they are valid."""
    return dict(conn.execute(queries("adopt")["own_indexes"], {"oid": table.oid}).fetchall())


def _drop(conn: psycopg.Connection, table: OldTable, index: str) -> None:
    conn.execute(table.statement("drop_index", index=sql.Identifier(index)))


def _counted(conn: psycopg.Connection, table: OldTable, *, dry_run: bool, builds: int) -> Adoption:
    rows, doubles, without_key = conn.execute(table.statement("count_rows")).fetchone() or (0, 0, 0)
    identical, older = _removed(conn, table)
    return Adoption(
        table=table.label, removed_table=table.removed_label, constraint=table.definition, dry_run=dry_run, rows=rows,
        doubles=doubles, rows_without_key=without_key, removed_identical=identical, removed_older=older, builds=builds,
    )  # fmt: skip


def _removed(conn: psycopg.Connection, table: OldTable) -> tuple[int, int]:
    """How many rows were removed in all tries: those that said the same, and older ones."""
    if not _has_removed(conn, table):
        return 0, 0
    identical, older = conn.execute(table.statement("count_removed")).fetchone() or (0, 0)
    return identical, older
