"""Brings a database to the schema that this code needs, beside the workers that use it.

Several runners may start at once: one works, the others wait and then find nothing to do. A migration is one
transaction together with its line in `gleaner.schema_migration`: a runner that is killed leaves all of it or nothing.
One that is made of steps (`migrations.py`) is gone on with: what was built halfway is built again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial

import psycopg
from psycopg import sql

from include.gleaner.errors import SchemaError
from include.gleaner.ops.migrations import COMMAND, Migration, Step, migrations, steps
from include.gleaner.ops.runner import only_runner, patiently, scalar
from include.gleaner.sql import queries


@dataclass(frozen=True, kw_only=True)
class SchemaStatus:
    """What a database has of the migrations of this code."""

    version: int  # the highest that is applied; 0: none
    known: int  # the highest that ships with this code
    missing: tuple[str, ...]  # labels
    changed: tuple[str, ...]  # applied, and their files say something else by now
    unknown: tuple[str, ...]  # applied by newer code

    @property
    def is_current(self) -> bool:
        """Whether this code can work on it. A newer schema is fine."""
        return not self.missing and not self.changed

    def as_dict(self) -> dict[str, object]:
        return {**asdict(self), "current": self.is_current}


def schema_status(conn: psycopg.Connection) -> SchemaStatus:
    """Compare the database with the migrations of this code; changes nothing."""
    rows = conn.execute(queries("migrate")["applied"]).fetchall() if scalar(conn, "has_table") else []
    applied = {version: (name, checksum) for version, name, checksum in rows}
    shipped = migrations()
    known = {migration.version for migration in shipped}
    return SchemaStatus(
        version=max(applied, default=0),
        known=max(known, default=0),
        missing=tuple(m.label for m in shipped if m.version not in applied),
        changed=tuple(m.label for m in shipped if applied.get(m.version, ("", m.checksum))[1] != m.checksum),
        unknown=tuple(f"{version:04d}_{name}" for version, (name, _) in applied.items() if version not in known),
    )


def migrate(dsn: str, *, to_version: int | None = None) -> list[str]:
    """Apply what is missing, up to `to_version`; the names of what was applied, oldest first.

    Raises SchemaError with what to do: an applied file was changed afterwards, the server has no pgvector, the user may
    not, another runner or a long transaction is in the way for two minutes, or Postgres refuses a statement.
    """
    done: list[str] = []
    with only_runner(dsn, "migrate") as conn:
        if not scalar(conn, "has_table"):
            with conn.transaction(), explained("the table of migrations"):
                conn.execute(queries("migrate")["create_table"])
        applied = applied_versions(conn)
        for migration in migrations():
            if migration.version not in applied and (to_version is None or migration.version <= to_version):
                with explained(migration.label):
                    if steps(migration.up):
                        run_steps(conn, migration.label, steps(migration.up))
                        _record(conn, migration)
                    else:
                        patiently(conn, migration.label, partial(_apply, conn, migration))
                done.append(migration.label)
    return done


def check_schema(conn: psycopg.Connection) -> None:
    """Raise SchemaError unless the database has every migration this code knows.

    A newer database is accepted: workers of the old version finish while an upgrade rolls through.
    """
    if not scalar(conn, "has_table"):
        raise SchemaError(f"the database has no Gleaner schema; run: {COMMAND}")
    applied = {version for version, _, _ in conn.execute(queries("migrate")["applied"])}
    missing = [migration for migration in migrations() if migration.version not in applied]
    if missing:
        names = ", ".join(migration.label for migration in missing)
        raise SchemaError(
            f"the database's schema is old, it lacks {names}; trigger migrate_knowledge, or run: {COMMAND}"
        )
    if not scalar(conn, "may_write"):
        raise SchemaError(
            "the database user sees the rows of one tenant only; let the owner of the tables run: "
            "GRANT gleaner_writer TO the user of the connection"
        )


def applied_versions(conn: psycopg.Connection) -> set[int]:
    """What is applied. Raises SchemaError when one of the files was changed since."""
    found = schema_status(conn)
    if found.changed:
        raise SchemaError(
            f"{found.changed[0]}.up.sql was changed after it had been applied; "
            "restore the file and put the change into a new migration"
        )
    return {version for version, _, _ in conn.execute(queries("migrate")["applied"])}


def run_steps(conn: psycopg.Connection, label: str, parts: tuple[Step, ...]) -> None:
    """Run the statements of a migration one by one. An index that is whole is left, one that is not is built again."""
    for step in parts:
        patiently(conn, f"{label}, step {step.name}", partial(_run_step, conn, label, step))


def _run_step(conn: psycopg.Connection, label: str, step: Step, _: str) -> None:
    """Waits as long as it takes: nobody but other changes of the schema queues up behind it."""
    index = step.builds
    if index is not None:
        if _is_valid(conn, index):
            return
        conn.execute(sql.SQL(queries("migrate")["drop_index"]).format(index_name=sql.Identifier(index)))
    try:
        conn.execute(step.sql)
    except psycopg.errors.UniqueViolation:
        # What is left of the index would slow down every write, and refuse some.
        conn.execute(sql.SQL(queries("migrate")["drop_index"]).format(index_name=sql.Identifier(index or step.name)))
        raise SchemaError(
            f"{label}, step {step.name}: there are rows that the new unique index forbids; "
            f"remove the duplicates, then run again: {COMMAND}"
        ) from None
    if index is not None and not _is_valid(conn, index):
        raise SchemaError(f"{label}, step {step.name}: the index {index} is not valid after its build; run again")


def _is_valid(conn: psycopg.Connection, index: str) -> bool:
    row = conn.execute(queries("migrate")["index_is_valid"], {"index_name": index}).fetchone()
    return row is not None and bool(row[0])


def _apply(conn: psycopg.Connection, migration: Migration, wait: str) -> None:
    with conn.transaction():
        conn.execute(queries("migrate")["lock_timeout"], {"wait": wait})
        conn.execute(migration.up)
        _record(conn, migration)


def _record(conn: psycopg.Connection, migration: Migration) -> None:
    conn.execute(
        queries("migrate")["record"],
        {"version": migration.version, "name": migration.name, "checksum": migration.checksum},
    )


@contextmanager
def explained(label: str) -> Iterator[None]:
    """Turns what Postgres says of a migration into one line about what to do."""
    try:
        yield
    except (psycopg.errors.UndefinedFile, psycopg.errors.FeatureNotSupported) as error:
        said = error.diag.message_primary or ""
        if '"vector"' not in said:
            raise SchemaError(f"{label} failed: {said}") from None
        raise SchemaError(
            "the Postgres server has no pgvector; install it there (postgresql-17-pgvector or so)"
        ) from None
    except psycopg.errors.InsufficientPrivilege as error:
        raise SchemaError(
            f"the database user may not apply {label}: {error.diag.message_primary}; "
            "let a superuser run CREATE EXTENSION vector, CREATE ROLE gleaner_reader, CREATE ROLE gleaner_writer, "
            "and grant CREATE on the database"
        ) from None
    except psycopg.Error as error:
        said = error.diag.message_primary or "the connection was lost"
        raise SchemaError(
            f"{label} failed: {said}; what is finished stays, nothing is half done: mend it, then run again: {COMMAND}"
        ) from None
