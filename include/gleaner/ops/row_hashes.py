"""What the tables hold, as a number of rows and a hash each: equal before and after, or something was lost."""

from __future__ import annotations

from dataclasses import dataclass

import psycopg
from psycopg import sql

from include.gleaner.sql import queries

NULL_MARK = b"\xff\xff\xff\xff"  # where a length stands otherwise; none is that long


@dataclass(frozen=True, kw_only=True)
class TableHash:
    """One table."""

    rows: int
    hash: str  # 64 hexadecimal digits, over all rows in whatever order; of zeros when there is none


def hash_tables(conn: psycopg.Connection) -> dict[str, TableHash]:
    """Every table of the schema by its name, as this transaction sees it. Reads all of their bytes."""
    names = [name for (name,) in conn.execute(queries("backup")["tables"]).fetchall()]
    return {name: _hash(conn, name) for name in names}


def difference(expected: dict[str, TableHash], found: dict[str, TableHash]) -> list[str]:
    """What is not equal, as words for people; empty when all is."""
    told = []
    for name in sorted(expected.keys() | found.keys()):
        before, after = expected.get(name), found.get(name)
        if before is None or after is None:
            told.append(f"table {name} is {'missing' if after is None else 'not in the backup'}")
        elif before.rows != after.rows:
            told.append(f"{name} has {after.rows} rows instead of {before.rows}")
        elif before.hash != after.hash:
            told.append(f"{name} has other values in its {after.rows} rows")
    return told


def _hash(conn: psycopg.Connection, table: str) -> TableHash:
    """By the binary form of each column, in the order of their names, which a restore may have changed."""
    columns = conn.execute(queries("backup")["sendable_columns"], {"table_name": table}).fetchall()
    parts = [
        sql.SQL("coalesce(int4send(length({0})) || {0}, {1})").format(
            sql.SQL("{}({})").format(sql.Identifier(schema, function), sql.Identifier("r", column)),
            sql.Literal(NULL_MARK),
        )
        for column, schema, function in columns
    ]
    row = conn.execute(
        sql.SQL(queries("backup")["row_hash"]).format(
            row_bytes=sql.SQL(" || ").join([sql.Literal(b""), *parts]), table_name=sql.Identifier(table)
        )
    ).fetchone()
    rows, bits = row if row is not None else (0, None)
    return TableHash(rows=rows, hash=f"{int(bits or '0', 2):064x}")
