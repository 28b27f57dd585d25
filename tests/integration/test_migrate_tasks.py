"""The tasks of migrate_knowledge against a real database."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg
import pytest

from include.gleaner import pipeline
from include.gleaner.errors import InvalidParamError, KnowledgeDamagedError, PreflightError, UnknownParamError
from include.gleaner.migrate_request import MIGRATE_PARAMS, MigrateRequest
from include.gleaner.ops.migrate import schema_status
from include.gleaner.ops.migrations import migrations
from include.gleaner.params import MIGRATE_FORM
from tests.integration.test_migration_runner import COLUMN
from tests.support.database_runners import ship
from tests.support.tenant import Tenant
from tests.support.website import page

PARAMS: dict[str, Any] = {name: field["default"] for name, field in MIGRATE_FORM.items()}


@pytest.fixture
def behind(tenant: Tenant, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> psycopg.Connection:
    """A database with knowledge in it, and code that is one migration ahead."""
    ship(monkeypatch, COLUMN)
    monkeypatch.setenv("GLEANER_BACKUP_DIR", str(tmp_path / "backups"))
    tenant.conn.execute("INSERT INTO gleaner.tenant (tenant_id) VALUES ('acme')")
    return tenant.conn


def test_one_after_the_other(behind: psycopg.Connection, tmp_path: Path) -> None:
    told = pipeline.back_up_before_migration(PARAMS)
    assert told is not None
    assert Path(told["path"]).parent == tmp_path / "backups"
    assert told["schema_version"] == migrations()[-1].version
    assert pipeline.check_before_migration(PARAMS)["ok"]
    assert pipeline.apply_migrations(PARAMS) == {"applied": [COLUMN.label], "version": 9001}
    assert pipeline.verify_after_migration(PARAMS)["ok"]
    assert pipeline.back_up_before_migration(PARAMS) is None
    assert pipeline.apply_migrations(PARAMS) == {"applied": [], "version": 9001}


def test_without_a_backup_it_goes_no_further_unless_that_is_asked_for(
    behind: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(PreflightError, match=r"backup: none of this database .* db backup, or give --no-backup"):
        pipeline.check_before_migration(PARAMS)
    asked = {**PARAMS, "no_backup": True}
    assert pipeline.back_up_before_migration(asked) is None
    assert pipeline.check_before_migration(asked)["ok"]
    monkeypatch.delenv("GLEANER_BACKUP_DIR")
    with pytest.raises(InvalidParamError, match="'backup_dir': needs a folder"):
        pipeline.back_up_before_migration(PARAMS)
    behind.execute("DELETE FROM gleaner.tenant")  # nothing to lose, nothing to back up
    assert pipeline.back_up_before_migration(PARAMS) is None
    assert pipeline.check_before_migration(PARAMS)["ok"]


def test_a_version_that_is_behind_is_refused(behind: psycopg.Connection) -> None:
    with pytest.raises(InvalidParamError, match=r"db rollback --to 3"):
        pipeline.check_before_migration({**PARAMS, "target_version": 3, "no_backup": True})
    newest = {**PARAMS, "target_version": migrations()[-1].version}
    assert pipeline.apply_migrations(newest)["applied"] == []
    assert pipeline.verify_after_migration(newest)["off"] == ["schema version"]  # told, and as it was asked for
    with pytest.raises(KnowledgeDamagedError, match="schema version"):
        pipeline.verify_after_migration(PARAMS)
    assert schema_status(behind).missing == (COLUMN.label,)


def test_what_a_migration_can_break_is_red_and_a_gap_is_not(tenant: Tenant) -> None:
    tenant.site.routes = {
        "/": page("Welcome to the home page of the example company, which makes lamps and batteries.")
    }
    tenant.run()
    tenant.conn.execute("UPDATE gleaner.tenant_knowledge SET embedding = NULL")
    assert "gap: chunks without vector" in pipeline.verify_after_migration(PARAMS)["off"]
    tenant.conn.execute("ALTER TABLE gleaner.tenant_knowledge REPLICA IDENTITY DEFAULT")
    tenant.conn.execute("ALTER TABLE gleaner.tenant_knowledge DROP CONSTRAINT unique_chunk_per_source")
    with pytest.raises(KnowledgeDamagedError, match="unique_chunk_per_source"):
        pipeline.verify_after_migration(PARAMS)


def test_backups_go_where_the_workers_say_or_below(tmp_path: Path) -> None:
    workers = {"GLEANER_BACKUP_DIR": str(tmp_path)}

    def folder(backup_dir: str, environ: dict[str, str]) -> Path | None:
        return MigrateRequest.from_params({**PARAMS, "backup_dir": backup_dir}, environ).folder

    assert folder("", {}) is None
    assert folder("", workers) == tmp_path
    assert folder("weekly", workers) == tmp_path / "weekly"
    assert folder(str(tmp_path / "weekly"), workers) == tmp_path / "weekly"
    assert folder("/elsewhere", {}) == Path("/elsewhere")
    for bad, environ in (("/etc", workers), ("../x", workers), ("a\0b", workers), ("relative", {})):
        with pytest.raises(InvalidParamError, match="backup_dir"):
            folder(bad, environ)
    (tmp_path / "link").symlink_to("/")
    with pytest.raises(InvalidParamError, match="backup_dir"):
        folder("link/etc", workers)
    with pytest.raises(UnknownParamError, match="'backup'"):
        MigrateRequest.from_params({"backup": "x"}, {})
    assert set(MIGRATE_FORM) == MIGRATE_PARAMS
