"""An upgrade on real Airflow: the others refuse until migrate_knowledge has backed up, migrated and verified."""

from __future__ import annotations

from pathlib import Path

import pytest

from include.gleaner.errors import RequestError
from include.gleaner.ops.manifest import read_manifest
from include.gleaner.ops.migrate import schema_status
from include.gleaner.ops.migrations import migrations
from include.gleaner.ops.rollback import rollback
from tests.acceptance.conftest import DAG, Gleaner
from tests.acceptance.waiting import conf, wait_for

MIGRATE = "migrate_knowledge"
NEWEST = migrations()[-1]


def green(gleaner: Gleaner) -> str:
    """A run of migrate_knowledge that succeeds; its id."""
    run_id = gleaner.api.trigger(MIGRATE, {})
    state = wait_for(gleaner, MIGRATE, run_id)
    tasks = gleaner.api.task_instances(MIGRATE, run_id)
    failed = [task["task_id"] for task in tasks if task["state"] == "failed"]
    assert state == "success", [gleaner.api.log(MIGRATE, run_id, task_id)[-5:] for task_id in failed]
    return run_id


def test_an_upgrade(gleaner: Gleaner) -> None:
    gleaner.api.unpause(MIGRATE)
    with gleaner.connect() as conn:
        conn.execute("INSERT INTO gleaner.tenant (tenant_id) VALUES ('migrated') ON CONFLICT DO NOTHING")
    assert rollback(gleaner.stack.dsn, lose_data=True) == [NEWEST.label]
    try:
        refused = gleaner.ingest(conf(gleaner, "migrated", max_pages=2))
        assert refused.state == "failed"
        (crawl,) = [task for task in refused.tasks if task["task_id"] == "crawl"]
        assert (crawl["state"], crawl["try_number"]) == ("failed", 1)
        log = str(gleaner.api.log(DAG, refused.run_id, "crawl"))
        assert NEWEST.label in log
        assert "migrate_knowledge" in log
        assert "python -m include.gleaner db migrate" in log
        run_id = green(gleaner)
    finally:
        with gleaner.connect() as conn:
            is_current = schema_status(conn).is_current
        if not is_current:  # the tests after this one need it
            from include.gleaner.ops.migrate import migrate

            migrate(gleaner.stack.dsn)
    assert is_current
    assert gleaner.api.xcom(MIGRATE, run_id, "migrate") == {"applied": [NEWEST.label], "version": NEWEST.version}
    backup = Path(gleaner.api.xcom(MIGRATE, run_id, "backup")["path"])
    assert read_manifest(backup).origin.schema_version == NEWEST.version - 1
    assert gleaner.api.xcom(MIGRATE, run_id, "preflight")["ok"]
    checks = gleaner.api.xcom(MIGRATE, run_id, "verify")["checks"]
    assert {check["name"]: check["ok"] for check in checks}["schema version"]
    # Once more there is nothing to do, and nothing to back up.
    run_id = green(gleaner)
    assert gleaner.api.xcom(MIGRATE, run_id, "migrate")["applied"] == []
    assert gleaner.api.xcom(MIGRATE, run_id, "backup") is None


def test_bad_params_are_refused_before_anything_runs(gleaner: Gleaner) -> None:
    for bad in ({"target_version": -1}, {"no_backup": "yes"}, {"keep_backups": 1.5}):
        with pytest.raises(RequestError, match=r"4\d\d"):
            gleaner.api.trigger(MIGRATE, bad)
