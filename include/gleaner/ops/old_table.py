"""A table of chunks that Gleaner did not make: what it is like, and whether it can be brought under the constraint."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import psycopg
from psycopg import sql

from include.gleaner.errors import InvalidParamError, SchemaError
from include.gleaner.sql import queries

CONSTRAINT: Final = "unique_chunk_per_source"
KEY: Final = (("tenant_id", "user_id"), ("source_id",), ("chunk_type",), ("chunk_index",))  # by any of these names
AGES: Final = ("updated_at", "created_at")
VECTOR: Final = re.compile(r"(?:.+\.)?(?:vector|halfvec|sparsevec)(?:\(\d+\))?")  # a type of pgvector
NO_EQUALITY: Final = {"json", "xml", "point"}  # types whose values are compared as text


@dataclass(frozen=True, kw_only=True)
class OldTable:
    """Where the chunks are, and what its columns are called."""

    oid: int
    schema: str
    name: str
    columns: Mapping[str, str]  # name -> type, in their order
    id: str
    key: tuple[str, ...]
    rows_estimated: int

    @property
    def label(self) -> str:
        return f"{self.schema}.{self.name}"

    @property
    def removed_label(self) -> str:
        return f"{self.schema}.{self.name}_removed"

    @property
    def lookup(self) -> str:
        """Name of the index that doubles are found by; like all that adoption makes, of this table alone."""
        return f"gleaner_adopt_lookup_{self.oid}"

    @property
    def unique(self) -> str:
        """Name of the unique index, until it is the constraint's."""
        return f"gleaner_adopt_unique_{self.oid}"

    @property
    def vectors(self) -> tuple[str, ...]:
        """Columns of pgvector's types."""
        return tuple(name for name, kind in self.columns.items() if VECTOR.fullmatch(kind))

    @property
    def definition(self) -> str:
        """Of the constraint, as Postgres tells it."""
        return f"UNIQUE ({', '.join(self.key)})"

    @classmethod
    def read(cls, conn: psycopg.Connection, label: str) -> OldTable:
        """The table of that name, SCHEMA.TABLE.

        Raises InvalidParamError when there is none, SchemaError when it cannot be adopted, with what to do.
        """
        statements = queries("adopt")
        match = re.fullmatch(r"([^.\"\s]+)\.([^.\"\s]+)", label)
        if match is None:
            raise InvalidParamError("table", "needs the form SCHEMA.TABLE")
        schema, name = match[1], match[2]
        if schema == "gleaner":
            raise SchemaError(f"{label} is Gleaner's own table; `db verify` says what its constraint needs")
        quoted = sql.Identifier(schema, name).as_string(conn)
        found = conn.execute(statements["relation"], {"table": quoted}).fetchone()
        if found is None:
            raise InvalidParamError("table", f"there is no table {label} in the database")
        oid, kind, owned, rows = found
        if kind != "r":
            raise SchemaError(f"{label} is no ordinary table; a partitioned one or a view cannot be adopted")
        if not owned:
            raise SchemaError(f"the database user does not own {label}; connect as its owner")
        columns: dict[str, str] = dict(conn.execute(statements["columns"], {"oid": oid}).fetchall())
        key = tuple(next((one for one in names if one in columns), "") for names in KEY)
        if not all(key):
            lacking = [" or ".join(names) for names, there in zip(KEY, key, strict=True) if not there]
            raise SchemaError(f"{label} has no column {', '.join(lacking)}: without it chunks cannot be told apart")
        primary = [column for (column,) in conn.execute(statements["primary_key"], {"oid": oid})]
        if len(primary) != 1:
            raise SchemaError(f"{label} needs a primary key of one column, by which doubles are told apart")
        if not any(age in columns for age in AGES):
            raise SchemaError(f"{label} has neither updated_at nor created_at: which of two doubles is newer?")
        referring = [one for (one,) in conn.execute(statements["referring"], {"oid": oid})]
        if referring:
            raise SchemaError(
                f"{', '.join(referring)} refers to rows of {label}, which would go or stand in the way with a double; "
                "move those references first"
            )
        table = cls(
            oid=oid, schema=schema, name=name, columns=columns, id=primary[0], key=key, rows_estimated=int(rows)
        )
        present = conn.execute(statements["constraint"], {"oid": oid, "name": CONSTRAINT}).fetchone()
        if present is not None and present[0] != table.definition:
            raise SchemaError(
                f"{label} has {CONSTRAINT} already, as {present[0]}: that keeps chunks out which are no doubles. "
                f"Drop it and run again: ALTER TABLE {label} DROP CONSTRAINT {CONSTRAINT}"
            )
        return table

    def has_constraint(self, conn: psycopg.Connection) -> bool:
        row = conn.execute(queries("adopt")["constraint"], {"oid": self.oid, "name": CONSTRAINT}).fetchone()
        return row is not None

    def refuse_second(self, conn: psycopg.Connection) -> None:
        """Raise SchemaError when another table of the schema has the constraint already."""
        name = sql.Identifier(self.schema, CONSTRAINT).as_string(conn)
        row = conn.execute(queries("adopt")["name_taken_by"], {"name": name, "oid": self.oid}).fetchone()
        if row is not None:
            raise SchemaError(
                f"{row[0]} has a {CONSTRAINT} already, and a schema holds one of that name; give {self.label} a schema "
                f"of its own: ALTER TABLE {self.label} SET SCHEMA ..."
            )

    def statement(self, query: str, **more: sql.Composable) -> sql.Composed:
        """A query of adopt.sql with this table's names in it."""
        content = [name for name in self.columns if name not in (self.id, *self.key, *AGES)]
        parts: dict[str, sql.Composable] = {
            "table": sql.Identifier(self.schema, self.name),
            "removed": sql.Identifier(self.schema, f"{self.name}_removed"),
            "schema": sql.Identifier(self.schema),
            "constraint": sql.Identifier(CONSTRAINT),
            "superseder": sql.Identifier(self.schema, f"gleaner_adopt_supersede_{self.oid}"),
            "id": sql.Identifier(self.id),
            "id_type": _trusted(self.columns[self.id]),
            "key": _listed(self.key),
            "t_key": _listed(self.key, "t"),
            "w_key": _listed(self.key, "w"),
            "present": sql.SQL(" AND ").join(sql.SQL("{} IS NOT NULL").format(sql.Identifier(one)) for one in self.key),
            "age": self._age(None),
            "o_key": _listed(self.key, "o"),
            "o_age": self._age("o"),
            "new_key": _listed(self.key, "new"),
            "new_age": self._age("new"),
            "arrays": sql.SQL(", ").join(
                sql.SQL("{}::{}[]").format(sql.Placeholder(f"key_{number}"), _trusted(self.columns[one]))
                for number, one in enumerate(self.key)
            ),
            "old_content": self._compared(content, "o"),
            "new_content": self._compared(content, "n"),
            "trigger_content": self._compared(content, "new"),
            "kept_values": sql.SQL(", ").join(self._kept_value(name) for name in self.columns),
            "nullable_vectors": sql.SQL(", ").join(
                sql.SQL("ALTER COLUMN {} DROP NOT NULL").format(sql.Identifier(name)) for name in self.vectors
            ),
            "behind": sql.SQL("true"),
            **more,
        }
        return sql.SQL(queries("adopt")[query]).format(**parts)

    def behind(self, last: tuple[Any, ...] | None) -> sql.Composable:
        """The condition that a key comes after `last`, whose parts are bound as last_0 and so on."""
        if last is None:
            return sql.SQL("true")
        values = sql.SQL(", ").join(
            sql.SQL("{}::{}").format(sql.Placeholder(f"last_{number}"), _trusted(self.columns[one]))
            for number, one in enumerate(self.key)
        )
        return sql.SQL("({}) > ({})").format(_listed(self.key), values)

    def _kept_value(self, name: str) -> sql.Composable:
        """Of a removed row `o`, what is kept of a column: nothing of a vector that the row that stays has too."""
        column = sql.Identifier("o", name)
        if name not in self.vectors:
            return column
        return sql.SQL("CASE WHEN o.gleaner_reason = 'older' THEN {} END").format(column)

    def _age(self, alias: str | None) -> sql.Composable:
        ages = tuple(name for name in AGES if name in self.columns)
        return sql.SQL("coalesce({}, '-infinity')").format(_listed(ages, alias))

    def _compared(self, names: list[str], alias: str) -> sql.Composable:
        """What makes two rows say the same: everything but id, key and times."""
        as_text = [self.columns[name] in NO_EQUALITY for name in names]
        values: list[sql.Composable] = [
            sql.SQL("{}.{}::text" if text else "{}.{}").format(sql.Identifier(alias), sql.Identifier(name))
            for name, text in zip(names, as_text, strict=True)
        ]
        return sql.SQL(", ").join(values or [sql.SQL("true")])


def _listed(names: tuple[str, ...], alias: str | None = None) -> sql.Composable:
    return sql.SQL(", ").join(sql.Identifier(alias, name) if alias else sql.Identifier(name) for name in names)


def _trusted(type_name: str) -> sql.SQL:
    """The name of a type as format_type() of the server told it."""
    return sql.SQL(type_name)
