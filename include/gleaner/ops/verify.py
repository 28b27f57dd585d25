"""Says whether a knowledge database is what it should be, and of each thing that is not, what to type.

Everything is counted in the tables themselves, at one moment, by a transaction that can write nothing. It reads each
table once or twice: seconds for a million chunks, and no lock that anybody waits for.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Final, LiteralString

import psycopg

from include.gleaner.errors import InvalidParamError, SchemaError
from include.gleaner.ops.migrations import migrations
from include.gleaner.sql import queries

CONSTRAINT: Final = "UNIQUE (tenant_id, source_id, chunk_type, chunk_index, embedding_model)"
REBUILT_WITHIN: Final = "30 days"  # a model that was written to later than that is on its way to the readers

MIGRATE: Final = "python -m include.gleaner db migrate"
MAINTAIN: Final = "airflow dags trigger maintain_knowledge"


@dataclass(frozen=True, kw_only=True)
class Check:
    """One line of the answer."""

    name: str
    found: str | int
    ok: bool | None  # None: told, not judged
    advice: str = ""  # what to do; empty when there is nothing

    def as_dict(self) -> dict[str, Any]:
        return {"name": self.name, "found": self.found, "ok": self.ok, "advice": self.advice}


@dataclass(frozen=True, kw_only=True)
class Verification:
    """All checks of one database, for one tenant or for all."""

    tenant: str | None
    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing is off."""
        return all(check.ok is not False for check in self.checks)

    @property
    def off(self) -> tuple[str, ...]:
        """Names of the checks that failed."""
        return tuple(check.name for check in self.checks if check.ok is False)

    def as_dict(self) -> dict[str, Any]:
        """For JSON: `ok`, `tenant`, `off` (names), `checks`."""
        return {
            "ok": self.ok, "tenant": self.tenant, "off": list(self.off),
            "checks": [check.as_dict() for check in self.checks],
        }  # fmt: skip


def verify(conn: psycopg.Connection, tenant: str | None = None) -> Verification:
    """Check the database that `conn` is connected to; `tenant` narrows what is counted in tables down to one tenant.

    `conn` is outside of a transaction. What the schema is like is told of the whole database. Raises SchemaError when
    there is no schema or the user does not see all rows, InvalidParamError for a tenant that does not exist.
    """
    statements = queries("verify")
    if not _row(conn, queries("migrate")["has_table"])[0]:
        raise SchemaError(f"the database has no Gleaner schema; run: {MIGRATE}")
    with _one_moment(conn):
        checks = list(_schema_checks(conn))
        try:
            sees_all = _row(conn, statements["sees_all"])[0]
        except psycopg.errors.UndefinedTable:
            raise SchemaError(f"the database has no table of chunks; run: {MIGRATE}") from None
        if not sees_all:
            raise SchemaError(
                "the database user sees the rows of one tenant only; let the owner of the tables run: "
                "GRANT gleaner_writer TO the user of the connection"
            )
        if tenant is not None and not _row(conn, statements["has_tenant"], {"tenant_id": tenant})[0]:
            raise InvalidParamError("tenant", f"there is no tenant {tenant!r}")
        checks += _structure_checks(conn)
        for names, check in _COUNTS.items():
            checks += _counted(conn, names, check, {"tenant_id": tenant, "rebuilt_within": REBUILT_WITHIN})
    return Verification(tenant=tenant, checks=tuple(checks))


def _schema_checks(conn: psycopg.Connection) -> Iterator[Check]:
    known = {migration.version: migration for migration in migrations()}
    applied = {version: checksum for version, _, checksum in conn.execute(queries("migrate")["applied"])}
    missing = [migration.label for version, migration in known.items() if version not in applied]
    newer = sum(version not in known for version in applied)
    yield Check(
        name="schema version",
        found=f"{max(applied, default=0):04d}"
        + (f", lacks {', '.join(missing)}" if missing else "")
        + (f", {newer} newer than this code" if newer else ""),
        ok=not missing,
        advice=MIGRATE if missing else "",
    )
    changed = [m.label for version, m in known.items() if applied.get(version, m.checksum) != m.checksum]
    yield Check(
        name="migration checksums",
        found=", ".join(changed) or f"{len(set(applied) & set(known))} equal to their files",
        ok=not changed,
        advice="restore the files as they were released; put the change into a new migration" if changed else "",
    )


def _structure_checks(conn: psycopg.Connection) -> Iterator[Check]:
    statements = queries("verify")
    definition, valid = conn.execute(statements["constraint"]).fetchone() or ("missing", False)
    fits = definition == CONSTRAINT and bool(valid)
    yield Check(
        name="constraint unique_chunk_per_source",
        found=definition if valid or definition == "missing" else f"{definition}, not valid",
        ok=fits,
        advice="" if fits else 'see "The constraint is gone" in docs/runbook.md',
    )
    state = {name: bool(usable) for name, usable in conn.execute(statements["indexes"])}
    relied_on = {name for (name,) in conn.execute(queries("vector_index")["relied_on"])}
    broken = sorted(name for name, usable in state.items() if not usable)
    gone = sorted((_expected().indexes | relied_on) - set(state))
    told = [f"{name} is not valid" for name in broken] + [f"{name} is missing" for name in gone]
    yield Check(
        name="indexes",
        found=", ".join(told) or f"{len(state)} valid",
        ok=not told,
        advice='see "An index is not valid" in docs/runbook.md' if told else "",
    )
    open_tables = [name for (name,) in conn.execute(statements["unprotected"])]
    yield Check(
        name="row-level security",
        found=f"off for {', '.join(open_tables)}" if open_tables else "on",
        ok=not open_tables,
        advice=f"ALTER TABLE gleaner.{open_tables[0]} ENABLE ROW LEVEL SECURITY; policies are in schema.sql"
        if open_tables
        else "",
    )
    there = {name: int(count) for name, count in conn.execute(statements["foreign_keys"])}
    lacking = sorted(name for name, count in _expected().references.items() if there.get(name, 0) < count)
    yield Check(
        name="foreign keys",
        found=f"missing in {', '.join(lacking)}" if lacking else f"{sum(there.values())} valid",
        ok=not lacking,
        advice="add those of schema.sql with NOT VALID, then VALIDATE CONSTRAINT" if lacking else "",
    )


# What is counted by which query: the columns of its one row. (name, whether more than 0 is off, advice)
_COUNTS: Final[Mapping[str, tuple[tuple[str, bool, str], ...]]] = {
    "duplicates": (("duplicates", True, 'see "The constraint is gone" in docs/runbook.md'),),
    "pages": (
        ("completed pages", False, ""),
        ("chunked pages", False, ""),
        ("gap: pages not chunked", True, MAINTAIN),
        ("pages under way", False, ""),
    ),
    "chunks": (("chunks", False, ""), ("gap: chunks without vector", True, MAINTAIN)),
    "stale_models": (
        ("stale embeddings: other model", True, "ingest a website of the tenant: its end removes what no reader sees"),
    ),
    "stale_chunks": (("stale embeddings: older content", True, "ingest the tenant's websites again"),),
    "fences": (("pages that disagree with their fence", True, "ingest the tenant's websites again"),),
    "orphans": (
        ("rows without their page", True, 'see "Rows without their page" in docs/runbook.md'),
        ("rows of another tenant's page", True, 'see "Rows without their page" in docs/runbook.md'),
    ),
}


def _counted(
    conn: psycopg.Connection, query: str, columns: tuple[tuple[str, bool, str], ...], values: Mapping[str, Any]
) -> Iterator[Check]:
    statements = queries("verify")
    try:
        with conn.transaction():  # a savepoint: what an old schema lacks costs this check only
            if query == "duplicates":
                conn.execute(statements["without_indexes"])
            row = _row(conn, statements[query], values)
            if query == "duplicates":
                conn.execute(statements["with_indexes"])
    except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn):
        yield from (
            Check(name=name, found="cannot be told on this schema", ok=False, advice=MIGRATE) for name, *_ in columns
        )
        return
    for (name, none_may_be, advice), count in zip(columns, row, strict=True):
        off = none_may_be and int(count) > 0
        yield Check(name=name, found=int(count), ok=not off if none_may_be else None, advice=advice if off else "")


@dataclass(frozen=True, kw_only=True)
class _Expected:
    indexes: frozenset[str]
    references: Mapping[str, int]  # foreign keys by table


@cache
def _expected() -> _Expected:
    """What schema.sql says there is, beside the keys that a table cannot be without."""
    text = files("include.gleaner.sql").joinpath("schema.sql").read_text("utf-8")
    tables = re.findall(r"^CREATE (?:UNLOGGED )?TABLE gleaner\.(\w+) \((.*?)^\);", text, re.MULTILINE | re.DOTALL)
    return _Expected(
        indexes=frozenset(re.findall(r"^CREATE (?:UNIQUE )?INDEX (\w+) ON gleaner\.", text, re.MULTILINE)),
        references={name: body.count("REFERENCES gleaner.") for name, body in tables},
    )


@contextmanager
def _one_moment(conn: psycopg.Connection) -> Iterator[None]:
    """A transaction that sees one moment and can write nothing."""
    before = conn.isolation_level, conn.read_only
    conn.isolation_level, conn.read_only = psycopg.IsolationLevel.REPEATABLE_READ, True
    try:
        with conn.transaction():
            yield
    finally:
        if not conn.closed:
            conn.isolation_level, conn.read_only = before


def _row(conn: psycopg.Connection, query: LiteralString, values: Mapping[str, Any] | None = None) -> tuple[Any, ...]:
    row = conn.execute(query, values).fetchone()
    if row is None:
        raise AssertionError("the query always has a row")
    return row
