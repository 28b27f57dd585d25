"""The migrations that ship with this code, as files: one pair of up and down for each step between two schemas.

A file is one transaction, unless it is made of steps. Steps run one by one outside of a transaction, because CREATE
INDEX CONCURRENTLY has to; each must stand being run twice, and the runner sees to it that an index is whole:

    -- step build --
    CREATE INDEX CONCURRENTLY website_page_checked ON gleaner.website_page (checked_at)
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from importlib.resources import files
from typing import Final, LiteralString, cast

COMMAND: Final = "python -m include.gleaner db migrate"

_FILE: Final = re.compile(r"(\d{4})_(\w+)\.(up|down)\.sql")
_STEP: Final = re.compile(r"^-- step (\w+) --\s*$", re.MULTILINE)
_COMMENT: Final = re.compile(r"--[^\n]*")
_BUILD: Final = re.compile(
    r"\bCREATE\s+(?:UNIQUE\s+)?INDEX\s+CONCURRENTLY\s+(?:IF\s+NOT\s+EXISTS\s+)?(\w+)\s+ON\b", re.I
)


@dataclass(frozen=True, kw_only=True)
class Step:
    """One statement outside of a transaction."""

    name: str
    sql: LiteralString

    @property
    def builds(self) -> str | None:
        """The index that it builds, if it does."""
        match = _BUILD.search(_COMMENT.sub("", self.sql))
        return match[1] if match else None


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


def steps(text: LiteralString) -> tuple[Step, ...]:
    """The steps of a file, in their order; none: it is one transaction.

    Raises ValueError when there are statements before the first step: killed in between, they would run twice.
    """
    first, *rest = _STEP.split(text)
    if rest and _COMMENT.sub("", first).strip():
        raise ValueError("a migration made of steps has statements before its first step")
    return tuple(
        Step(name=name, sql=cast(LiteralString, body.strip())) for name, body in zip(rest[::2], rest[1::2], strict=True)
    )
