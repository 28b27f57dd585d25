"""The init step of docker-compose.yaml on an older schema with knowledge in it: a backup, then the migration."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import psycopg
import pytest

from include.gleaner.errors import BackupError, GleanerError
from include.gleaner.ops.manifest import backups
from include.gleaner.ops.migrate import schema_status
from include.gleaner.ops.migrations import migrations
from include.gleaner.ops.rollback import rollback
from include.gleaner.ops.row_hashes import hash_tables

NEWEST = migrations()[-1]


@pytest.fixture(scope="module")
def init() -> ModuleType:
    spec = importlib.util.spec_from_file_location("compose_init", Path(__file__).parents[2] / "deploy/compose/init.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def older(conn: psycopg.Connection, knowledge_dsn: str) -> str:
    """A database of the version before, with something in it."""
    conn.execute("INSERT INTO gleaner.tenant (tenant_id) VALUES ('acme')")
    assert rollback(knowledge_dsn, lose_data=True) == [NEWEST.label]
    return knowledge_dsn


def test_what_is_there_is_backed_up_before_it_is_migrated(
    init: ModuleType,
    conn: psycopg.Connection,
    older: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("GLEANER_BACKUP_DIR", str(tmp_path))
    before = hash_tables(conn)
    init.migrate_knowledge(older)
    ((path, manifest),) = backups(tmp_path)
    assert manifest.origin.schema_version == NEWEST.version - 1
    assert manifest.tables == before
    assert capsys.readouterr().out.splitlines() == [
        f"gleaner: knowledge: backed up as {path.name}", f"gleaner: knowledge schema: applied {NEWEST.label}"
    ]  # fmt: skip
    assert schema_status(conn).is_current
    init.migrate_knowledge(older)  # at the next `up`
    assert capsys.readouterr().out == "gleaner: knowledge schema is current\n"
    assert len(list(backups(tmp_path))) == 1


def test_without_a_backup_nothing_is_migrated(
    init: ModuleType, conn: psycopg.Connection, older: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLEANER_BACKUP_DIR", str(tmp_path))

    def broken(*_: object) -> None:
        raise BackupError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr("include.gleaner.ops.upgrade.back_up", broken)
        with pytest.raises(GleanerError, match="the disk is full"):
            init.migrate_knowledge(older)
    assert schema_status(conn).missing == (NEWEST.label,)
    assert conn.execute("SELECT tenant_id FROM gleaner.tenant").fetchall() == [("acme",)]
    init.migrate_knowledge(older)
    assert schema_status(conn).is_current


def test_a_folder_that_cannot_be_written_to_leaves_the_schema_as_it_is(
    init: ModuleType, conn: psycopg.Connection, older: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("", "ascii")
    monkeypatch.setenv("GLEANER_BACKUP_DIR", str(tmp_path / "file" / "backups"))
    with pytest.raises(GleanerError) as caught:
        init.migrate_knowledge(older)
    assert "backups" in str(caught.value)
    assert schema_status(conn).missing == (NEWEST.label,)
