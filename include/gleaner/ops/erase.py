"""Everything of one tenant: given out as one stream, or removed for good.

Both go by the catalog of the database: whatever table has a column `tenant_id` is taken in, whoever added it.
Removing is done in steps of some thousand rows, those first that refer to others: it may be stopped anywhere and called
again. The tenant itself goes last.
"""

from __future__ import annotations

import json
import logging
import time
import zlib
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import psycopg
from psycopg import sql

from include.gleaner.errors import InvalidParamError, KnowledgeDamagedError
from include.gleaner.sql import queries

log = logging.getLogger(__name__)

ROWS_AT_ONCE: Final = 2_000
ROWS_IN_MEMORY: Final = 20  # of the export: a row may hold a page of ten megabytes
ROUNDS: Final = 5


@dataclass(frozen=True, kw_only=True)
class Erased:
    """What one call removed."""

    done: bool  # False: the time was over, call it again
    rows: int


def erase_tenant(conn: psycopg.Connection, tenant_id: str, *, seconds: float = float("inf")) -> Erased:
    """Remove every row of the tenant from every table, for as long as `seconds` allow. Again does nothing.

    Runs of the tenant have to be stopped before: one that goes on would begin the tenant anew. Raises
    KnowledgeDamagedError when rows are left that this role may not remove.
    """
    deadline, rows = time.monotonic() + seconds, 0
    tables = _tables(conn)
    for _ in range(ROUNDS):
        before = rows
        try:
            for table, may_delete in tables:
                while may_delete and (removed := _run(conn, "delete_some", table, tenant_id)):
                    rows += removed
                    if time.monotonic() > deadline:
                        return Erased(done=False, rows=rows)
        except (psycopg.errors.ForeignKeyViolation, psycopg.errors.DeadlockDetected) as error:
            log.info("erasing %s: tried again, %s", tenant_id, type(error).__name__)  # a task wrote meanwhile
            continue
        if rows == before:
            break  # a whole round found nothing: also of what triggers write while others are removed
    else:
        return Erased(done=False, rows=rows)
    conn.execute(queries("endpoint")["forget_tenant"], {"tenant_id": tenant_id})
    if left := [table for table, _ in tables if _has_rows(conn, table, tenant_id)]:
        raise KnowledgeDamagedError(
            f"rows of {tenant_id!r} are left in {', '.join(left)}; erase it again as the owner of these tables, "
            "with no run of the tenant under way"
        )
    return Erased(done=True, rows=rows)


def export_tenant(conn: psycopg.Connection, tenant_id: str) -> Generator[bytes]:
    """Everything of the tenant as gzip-compressed lines of JSON, as it is at one moment.

    The first line says what it is, each further one is {"table": ..., "row": {...}}, and the last has the number of
    rows by table: without it the stream was cut off. Bytes are written as \\x and hex digits. `conn` is outside of a
    transaction. Raises InvalidParamError, before the first byte, for a tenant that does not exist.
    """
    packer = zlib.compressobj(6, zlib.DEFLATED, 31)
    for line in _lines(conn, tenant_id):
        if block := packer.compress(line.encode() + b"\n"):
            yield block
    yield packer.flush()


def _lines(conn: psycopg.Connection, tenant_id: str) -> Iterator[str]:
    counts: dict[str, int] = {}
    with conn.transaction():
        conn.execute(queries("erase")["snapshot"])
        tables = _tables(conn)
        if not _has_rows(conn, "tenant", tenant_id):
            raise InvalidParamError("tenant", f"there is no tenant {tenant_id!r}")
        now = datetime.now(UTC).isoformat(timespec="seconds")
        yield json.dumps({"export": "gleaner", "tenant": tenant_id, "at": now})
        for table, _ in reversed(tables):  # what is referred to before what refers to it: as a restore needs it
            counts[table] = 0
            query = sql.SQL(queries("erase")["rows"]).format(table=sql.Identifier(table))
            with conn.cursor(name="export") as cursor:
                cursor.itersize = ROWS_IN_MEMORY
                for (row,) in cursor.execute(query, {"tenant_id": tenant_id}):
                    counts[table] += 1
                    yield f'{{"table": {json.dumps(table)}, "row": {row}}}'
        yield json.dumps({"rows": counts})


def _tables(conn: psycopg.Connection) -> list[tuple[str, bool]]:
    return [(str(name), bool(may_delete)) for name, may_delete in conn.execute(queries("erase")["tables"])]


def _has_rows(conn: psycopg.Connection, table: str, tenant_id: str) -> bool:
    query = sql.SQL(queries("erase")["has_rows"]).format(table=sql.Identifier(table))
    row: tuple[Any, ...] | None = conn.execute(query, {"tenant_id": tenant_id}).fetchone()
    return bool(row and row[0])


def _run(conn: psycopg.Connection, query: str, table: str, tenant_id: str) -> int:
    statement = sql.SQL(queries("erase")[query]).format(table=sql.Identifier(table))
    return conn.execute(statement, {"tenant_id": tenant_id, "most": ROWS_AT_ONCE}).rowcount
