"""A migration as operators do it: backup, preflight, migrate."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from include.gleaner.ops.backup import back_up
from include.gleaner.ops.migrate import migrate, schema_status
from include.gleaner.ops.preflight import Preflight, has_knowledge, preflight
from include.gleaner.ops.session import open_session


@dataclass(frozen=True, kw_only=True)
class Upgraded:
    """What was done."""

    applied: tuple[str, ...]  # labels, oldest first
    backup: str | None  # file name of the one that was made for it


def upgrade(
    dsn: str,
    *,
    folder: Path | None,
    no_backup: bool = False,
    first_back_up: bool = False,
    to_version: int | None = None,
) -> Upgraded:
    """Apply what is missing, up to `to_version`, if the preflight finds nothing in the way.

    With `first_back_up` a backup into `folder` is made before, unless there is a fresh one or nothing to lose.
    Raises PreflightError, BackupError or SchemaError.
    """
    made = None
    with open_session(dsn) as conn:
        looked = preflight(conn, folder=folder, no_backup=no_backup)
        if first_back_up and folder is not None and not no_backup and _lacks_backup(looked):
            made = back_up(dsn, folder)[0].name
            looked = preflight(conn, folder=folder)
    looked.refuse()
    return Upgraded(applied=tuple(migrate(dsn, to_version=to_version)), backup=made)


def back_up_if_needed(dsn: str, folder: Path) -> str | None:
    """Make a backup when there is a migration to apply and something to lose; its file name."""
    with open_session(dsn) as conn:
        if not schema_status(conn).missing or not has_knowledge(conn):
            return None
    return back_up(dsn, folder)[0].name


def _lacks_backup(looked: Preflight) -> bool:
    return any(check.name == "backup" and check.ok is False for check in looked.checks)
