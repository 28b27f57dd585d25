"""One run of migrate_knowledge, as asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from include.gleaner import param_checks
from include.gleaner.errors import InvalidParamError, UnknownParamError

MIGRATE_PARAMS: Final = frozenset({"backup_dir", "no_backup", "target_version", "keep_backups"})
BACKUP_DIR: Final = "GLEANER_BACKUP_DIR"


@dataclass(frozen=True, kw_only=True)
class MigrateRequest:
    """Which schema is wanted, and what is kept of the old one."""

    folder: Path | None  # of backups; None: nobody said where
    no_backup: bool = False
    target_version: int | None = None  # None: the newest that this code has
    keep_backups: int | None = None  # None: all

    @classmethod
    def from_params(cls, params: Mapping[str, Any], environ: Mapping[str, str]) -> Self:
        """The request that the Params describe. Backups go where the workers' environment says, or below.

        Raises InvalidParamError or UnknownParamError, naming the Param.
        """
        if unknown := sorted(set(params) - MIGRATE_PARAMS):
            raise UnknownParamError(unknown, sorted(MIGRATE_PARAMS))
        return cls(
            folder=_folder(params.get("backup_dir") or "", environ.get(BACKUP_DIR, "")),
            no_backup=param_checks.flag(params, "no_backup"),
            target_version=param_checks.integer(params, "target_version", 0, 0, 9_999) or None,
            keep_backups=param_checks.integer(params, "keep_backups", 0, 0, 10_000) or None,
        )


def _folder(wanted: Any, of_workers: str) -> Path | None:
    """Whoever may start a run must not thereby write anywhere on a worker."""
    if not isinstance(wanted, str) or "\0" in wanted:
        raise InvalidParamError("backup_dir", "needs the path of a folder")
    root = Path(of_workers) if of_workers else None
    if not wanted:
        return root
    if root is None:
        if not Path(wanted).is_absolute():
            raise InvalidParamError(
                "backup_dir", f"needs an absolute path where {BACKUP_DIR} is not set on the workers"
            )
        return Path(wanted)
    folder = (root / wanted).resolve()
    if not folder.is_relative_to(root.resolve()):
        raise InvalidParamError("backup_dir", f"needs to be a folder below {BACKUP_DIR} of the workers, {root}")
    return folder
