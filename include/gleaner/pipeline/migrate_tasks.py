"""The tasks of migrate_knowledge, in their order."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import Any, Final

from include.gleaner.migrate_request import BACKUP_DIR, MigrateRequest

log = logging.getLogger(__name__)

# What websites and endpoints bring about, and no migration: it is told, and does not make the run red.
OF_CONTENT: Final = ("gap", "stale", "pages that disagree")


def back_up_before_migration(params: Mapping[str, Any]) -> dict[str, Any] | None:
    """Make and try a backup, if there is a migration to apply and anything to lose; what it is.

    Raises InvalidParamError when nobody said where backups go, BackupError when none could be made.
    """
    from include.gleaner.errors import InvalidParamError
    from include.gleaner.ops.backup import back_up
    from include.gleaner.ops.migrate import schema_status
    from include.gleaner.ops.preflight import has_knowledge
    from include.gleaner.ops.session import open_session
    from include.gleaner.pipeline.connections import knowledge_dsn

    request, dsn = MigrateRequest.from_params(params, os.environ), knowledge_dsn()
    with open_session(dsn) as conn:
        needed = bool(schema_status(conn).missing) and has_knowledge(conn)
    if request.no_backup or not needed:
        log.info("no backup: %s", "as asked" if request.no_backup else "nothing to apply, or nothing to lose")
        return None
    if request.folder is None:
        raise InvalidParamError("backup_dir", f"needs a folder, because {BACKUP_DIR} is not set on the workers")
    dump, manifest = back_up(dsn, request.folder, keep=request.keep_backups)
    return {
        "path": str(dump), "bytes": manifest.dump_bytes, "schema_version": manifest.origin.schema_version,
        "tables": len(manifest.tables), "rows": sum(table.rows for table in manifest.tables.values()),
    }  # fmt: skip


def check_before_migration(params: Mapping[str, Any]) -> dict[str, Any]:
    """What a migration needs; raises PreflightError with all that is missing, or InvalidParamError for the version."""
    from include.gleaner.errors import InvalidParamError
    from include.gleaner.ops.migrate import schema_status
    from include.gleaner.ops.preflight import preflight
    from include.gleaner.ops.session import open_session
    from include.gleaner.pipeline.connections import knowledge_dsn

    request = MigrateRequest.from_params(params, os.environ)
    with open_session(knowledge_dsn()) as conn:
        looked = preflight(conn, folder=request.folder, no_backup=request.no_backup)
        status = schema_status(conn)
    for check in looked.checks:
        log.info("%s: %s", check.name, check.found)
    target = request.target_version
    if target is not None and target < status.version:
        raise InvalidParamError(
            "target_version", f"is behind the database, which is at {status.version}; back goes: "
            f"python -m include.gleaner db rollback --to {target}"
        )  # fmt: skip
    looked.refuse()
    return looked.as_dict()


def apply_migrations(params: Mapping[str, Any]) -> dict[str, Any]:
    """Apply what is missing, beside the workers; which migrations, and the schema's version now."""
    from include.gleaner.ops.migrate import migrate, schema_status
    from include.gleaner.ops.session import open_session
    from include.gleaner.pipeline.connections import knowledge_dsn

    request, dsn = MigrateRequest.from_params(params, os.environ), knowledge_dsn()
    applied = migrate(dsn, to_version=request.target_version)
    with open_session(dsn) as conn:
        return {"applied": applied, "version": schema_status(conn).version}


def verify_after_migration(params: Mapping[str, Any]) -> dict[str, Any]:
    """Look the whole database over; raises KnowledgeDamagedError when something is off that a migration can break."""
    from include.gleaner.errors import KnowledgeDamagedError
    from include.gleaner.ops.session import open_session
    from include.gleaner.ops.verify import verify
    from include.gleaner.pipeline.connections import knowledge_dsn

    request = MigrateRequest.from_params(params, os.environ)
    with open_session(knowledge_dsn()) as conn:
        found = verify(conn)
    passed_by = OF_CONTENT if request.target_version is None else (*OF_CONTENT, "schema version")
    broken = []
    for check in found.checks:
        log.log(logging.INFO if check.ok is not False else logging.WARNING, "%s: %s", check.name, check.found)
        if check.ok is False and not check.name.startswith(passed_by):
            broken.append(f"{check.name}: {check.found}; {check.advice}")
    if broken:
        raise KnowledgeDamagedError("; ".join(broken))
    return found.as_dict()
