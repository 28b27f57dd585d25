"""What a migration needs, looked at before it begins: versions, rights, disk, and a fresh backup.

Used by `gleaner db status`, `gleaner db migrate` and the DAG migrate_knowledge, so that all three say the same.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

import psycopg
from psycopg import sql

from include.gleaner.errors import PreflightError
from include.gleaner.ops.manifest import backups, origin_of
from include.gleaner.ops.migrate import schema_status
from include.gleaner.sql import queries

LEAST_SERVER: Final = 15
LEAST_PGVECTOR: Final = (0, 8)
MOST_AGE: Final = timedelta(hours=24)
LEAST_FREE_BYTES: Final = 200 * 1024 * 1024
BACKUP: Final = "python -m include.gleaner db backup"


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that was looked at."""

    name: str
    ok: bool | None  # None: this user, or this machine, cannot see it
    found: str
    todo: str = ""  # what mends it


@dataclass(frozen=True, kw_only=True)
class Preflight:
    """All of them, in the order in which they are told."""

    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing is known to be in the way."""
        return all(check.ok is not False for check in self.checks)

    def as_dict(self) -> dict[str, Any]:
        return {"ok": self.ok, "checks": [asdict(check) for check in self.checks]}

    def refuse(self) -> None:
        """Raise PreflightError when something is in the way; the message has all of it."""
        bad = [f"{check.name}: {check.found}; {check.todo}" for check in self.checks if check.ok is False]
        if bad:
            raise PreflightError("; ".join(bad))


def preflight(conn: psycopg.Connection, *, folder: Path | None, no_backup: bool = False) -> Preflight:
    """Look at everything that the migrations of this code need. `folder` is where backups lie; changes nothing."""
    return Preflight(
        checks=(
            _server(conn),
            _pgvector(conn),
            _rights(conn),
            _files(conn),
            _server_disk(conn),
            _backup(conn, folder, no_backup=no_backup),
        )
    )


def has_knowledge(conn: psycopg.Connection) -> bool:
    """Whether there is anything to lose: everything that is stored hangs on a tenant."""
    row = conn.execute(queries("backup")["tenant_table"], {"schema_name": "gleaner"}).fetchone()
    if row is None or not row[0]:
        return False
    query = sql.SQL(queries("backup")["has_tenants"]).format(schema_name=sql.Identifier("gleaner"))
    row = conn.execute(query).fetchone()
    return row is not None and bool(row[0])


def _server(conn: psycopg.Connection) -> Check:
    version, in_recovery, encoding = conn.execute(queries("preflight")["server"]).fetchone() or (0, False, "")
    major = version // 10_000
    if in_recovery:
        return Check(name="server", ok=False, found="this is a standby", todo="give the address of the primary")
    if encoding != "UTF8":  # as `initdb` makes them where no language is set; most languages' texts are none there
        return Check(name="server", ok=False, found=f"the database's encoding is {encoding}",
                     todo="make one with: CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0")  # fmt: skip
    return Check(
        name="server", ok=major >= LEAST_SERVER, found=f"Postgres {major}.{version % 10_000}",
        todo="" if major >= LEAST_SERVER else f"upgrade it to {LEAST_SERVER} or newer",
    )  # fmt: skip


def _pgvector(conn: psycopg.Connection) -> Check:
    installed, available = conn.execute(queries("preflight")["pgvector"]).fetchone() or (None, None)
    version = installed or available
    if version is None:
        return Check(
            name="pgvector", ok=False, found="not on the server", todo="install it there (postgresql-17-pgvector or so)"
        )
    new_enough = _numbers(version) >= LEAST_PGVECTOR
    found = f"{version}, {'installed' if installed else 'not installed yet'}"
    if not new_enough:
        known = available is not None and _numbers(available) >= LEAST_PGVECTOR
        todo = (
            "run: ALTER EXTENSION vector UPDATE"
            if known
            else "install 0.8 or newer, then ALTER EXTENSION vector UPDATE"
        )
        return Check(name="pgvector", ok=False, found=found, todo=todo)
    if installed is None and not _yes(conn, "may_create_extension"):
        return Check(name="pgvector", ok=False, found=found, todo="let a superuser run: CREATE EXTENSION vector")
    return Check(name="pgvector", ok=True, found=found)


def _rights(conn: psycopg.Connection) -> Check:
    row = conn.execute(queries("preflight")["owns_schema"]).fetchone()
    owns = row[0] if row else None
    if owns is False:
        return Check(name="rights", ok=False, found="the tables belong to another role",
                     todo="connect as their owner, or let it grant you its role")  # fmt: skip
    if owns is None and not _yes(conn, "may_create_schema"):
        return Check(name="rights", ok=False, found="no schema may be made here",
                     todo="let the owner run: GRANT CREATE ON DATABASE ... TO this user")  # fmt: skip
    if not _yes(conn, "may_create_roles"):
        return Check(
            name="rights", ok=False, found="the roles gleaner_reader and gleaner_writer may not be made",
            todo="let a superuser run: CREATE ROLE gleaner_reader; CREATE ROLE gleaner_writer",
        )  # fmt: skip
    return Check(name="rights", ok=True, found="of an owner" if owns else "to make a schema")


def _files(conn: psycopg.Connection) -> Check:
    found = schema_status(conn)
    if found.changed:
        return Check(
            name="migrations", ok=False, found=f"{found.changed[0]}.up.sql was changed after it had been applied",
            todo="restore the file and put the change into a new migration",
        )  # fmt: skip
    return Check(name="migrations", ok=True, found=f"version {found.version}, {len(found.missing)} to apply")


def _server_disk(conn: psycopg.Connection) -> Check:
    """What is free where the data lies, if the server is on this machine; the largest table must fit in once more."""
    row = conn.execute(queries("preflight")["largest_table"]).fetchone()
    needed = LEAST_FREE_BYTES + int(row[0] if row else 0)
    row = conn.execute(queries("preflight")["data_directory"]).fetchone()
    place = Path(row[0]) if row and row[0] else None
    try:
        free = shutil.disk_usage(place).free if place is not None and _is_here(conn) else None
    except OSError:
        free = None
    if free is None:
        return Check(name="disk", ok=None, found=f"cannot be seen from here; {_mb(needed)} may be needed on the server")
    return Check(
        name="disk", ok=free >= needed, found=f"{_mb(free)} free, {_mb(needed)} may be needed",
        todo="" if free >= needed else "free some space on the server",
    )  # fmt: skip


def _backup(conn: psycopg.Connection, folder: Path | None, *, no_backup: bool) -> Check:
    if not schema_status(conn).missing:
        return Check(name="backup", ok=True, found="not needed: there is nothing to apply")
    return fresh_backup(conn, folder, no_backup=no_backup)


def fresh_backup(conn: psycopg.Connection, folder: Path | None, *, no_backup: bool) -> Check:
    """Whether there is a way back. Fresh is: of this database with this schema, checked, and not older than a day."""
    if not has_knowledge(conn):
        return Check(name="backup", ok=True, found="not needed: there is no knowledge yet")
    if no_backup:
        return Check(name="backup", ok=True, found="done without, as asked")
    todo = f"run: {BACKUP}, or give --no-backup"
    if folder is None:
        return Check(name="backup", ok=False, found="GLEANER_BACKUP_DIR does not say where backups are", todo=todo)
    here = origin_of(conn)
    of_it = [manifest for _, manifest in backups(folder) if manifest.origin.came_before(here)]
    if not of_it:
        return Check(name="backup", ok=False, found=f"none of this database and schema in {folder}", todo=todo)
    age = datetime.now(UTC) - of_it[0].made_at
    found = f"{of_it[0].dump}, {age.total_seconds() / 3600:.1f} hours old"
    return Check(name="backup", ok=age <= MOST_AGE, found=found, todo="" if age <= MOST_AGE else todo)


def _is_here(conn: psycopg.Connection) -> bool:
    row = conn.execute(queries("preflight")["server_address"]).fetchone()
    return row is not None and (row[0] is None or ip_address(row[0]).is_loopback)


def _yes(conn: psycopg.Connection, query: str) -> bool:
    row = conn.execute(queries("preflight")[query]).fetchone()
    return row is not None and bool(row[0])


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3])


def _mb(count: int) -> str:
    return f"{count / (1 << 20):,.0f} MB"
