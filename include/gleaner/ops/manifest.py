"""What a backup is of, in a JSON file beside it: enough to find the right one, and to prove what came out of it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import psycopg

from include.gleaner.errors import BackupError
from include.gleaner.ops.row_hashes import TableHash
from include.gleaner.sql import queries

FORMAT: Final = 1
SUFFIX: Final = ".dump"


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Which database it is of, and in which state its schema was."""

    database: str
    system_identifier: str | None  # of the cluster, where the server tells it
    server_version: int  # 180003
    history: tuple[tuple[int, str, str, str], ...]  # version, name, checksum and time of each applied migration
    owners: tuple[str, ...]  # of the schema and what is in it
    extension_version: str  # of pgvector
    extension_schema: str

    @property
    def schema_version(self) -> int:
        return max((version for version, *_ in self.history), default=0)

    def came_before(self, other: Origin) -> bool:
        """Whether it is the same database, with the same schema or with some migrations less.

        A migration that was interrupted goes on with the backup that it began with.
        """
        same_cluster = None in (self.system_identifier, other.system_identifier) or (
            self.system_identifier == other.system_identifier
        )
        return same_cluster and self.database == other.database and set(self.history) <= set(other.history)


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """One backup."""

    made_at: datetime  # the moment that it shows
    origin: Origin
    dump: str  # file name, beside the manifest
    dump_bytes: int
    dump_sha256: str
    dump_version: int  # major version of the pg_dump that wrote it
    tables: dict[str, TableHash]
    sequences: dict[str, int | None]
    checked_at: datetime  # when it was restored into a scratch database and found equal

    def as_dict(self) -> dict[str, Any]:
        return {"format": FORMAT, **asdict(self), "schema_version": self.origin.schema_version}


def origin_of(conn: psycopg.Connection) -> Origin:
    """Of the connection's database, which has the schema."""
    statements = queries("backup")
    database, server_version = conn.execute(statements["server"]).fetchone() or ("", 0)
    try:
        with conn.transaction():
            identifier = conn.execute(statements["system_identifier"]).fetchone()
    except psycopg.errors.InsufficientPrivilege:
        identifier = None
    version, schema = conn.execute(statements["extension"]).fetchone() or ("", "public")
    return Origin(
        database=database,
        system_identifier=identifier[0] if identifier else None,
        server_version=server_version,
        history=tuple(
            (number, name, checksum, applied.astimezone(UTC).isoformat())
            for number, name, checksum, applied in conn.execute(statements["history"]).fetchall()
        ),
        owners=tuple(name for (name,) in conn.execute(statements["owners"]).fetchall()),
        extension_version=version,
        extension_schema=schema,
    )


def write_manifest(manifest: Manifest, folder: Path) -> Path:
    """Under its final name at once or not at all. Raises BackupError when the disk is full."""
    path = folder / manifest.dump.replace(SUFFIX, ".json")
    unfinished = path.with_suffix(".json.new")
    try:
        with unfinished.open("w", encoding="utf-8") as file:
            json.dump(manifest.as_dict(), file, indent=2, default=lambda value: value.isoformat())
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise BackupError(f"the backup cannot be written ({error.strerror}); free some space, then again") from None
    return path


def read_manifest(dump: Path) -> Manifest:
    """Of a dump, from beside it. Raises BackupError when there is none that can be read."""
    if not dump.name:
        raise BackupError(f"{dump} is no backup: give the .dump file")
    path = dump.with_suffix(".json")
    try:
        raw = json.loads(path.read_text("utf-8"))
        if raw.pop("format") != FORMAT:
            raise BackupError(f"{path.name} was written by another version of Gleaner; restore with that one")
        del raw["schema_version"]
        origin = raw.pop("origin")
        owners = tuple(origin.pop("owners"))
        history = tuple((int(version), name, checksum, at) for version, name, checksum, at in origin.pop("history"))
        return Manifest(
            origin=Origin(history=history, owners=owners, **origin),
            tables={name: TableHash(**table) for name, table in raw.pop("tables").items()},
            made_at=datetime.fromisoformat(raw.pop("made_at")),
            checked_at=datetime.fromisoformat(raw.pop("checked_at")),
            **raw,
        )
    except FileNotFoundError:
        raise BackupError(f"there is no {path.name} beside the backup: without it nothing can be checked") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BackupError(f"{path.name} cannot be read as a manifest ({type(error).__name__})") from None


def backups(folder: Path) -> Iterator[tuple[Path, Manifest]]:
    """The finished backups of a folder, the newest first; what cannot be read is passed by."""
    found = []
    for path in folder.glob(f"*{SUFFIX}"):
        try:
            found.append((path, read_manifest(path)))
        except BackupError:
            continue
    yield from sorted(found, key=lambda pair: pair[1].made_at, reverse=True)


def check_file(dump: Path, manifest: Manifest) -> None:
    """Raise BackupError when the dump is not, byte for byte, what the manifest is about."""
    try:
        with dump.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BackupError(f"the backup {dump} cannot be read ({error.strerror})") from None
    if digest != manifest.dump_sha256:
        raise BackupError(f"the backup {dump.name} is damaged: it is not what its manifest was written for")
