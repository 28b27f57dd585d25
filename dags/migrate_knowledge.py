"""
### migrate_knowledge

Brings the knowledge database to the schema of the code that is installed, beside the workers that use it. The other
DAGs refuse to run on an older schema; workers of the version before finish on the new one. Trigger it after an upgrade.

| Task | Does |
| --- | --- |
| `backup` | writes a backup and restores it into a scratch database; not when there is nothing to apply or to lose |
| `preflight` | server, pgvector, rights, changed files, disk, a fresh backup; red with all that is missing |
| `migrate` | applies what is missing; big tables get their indexes while they are written to |
| `verify` | constraint, duplicates, indexes, foreign keys; red when one is off. Gaps are told and stay green |

Any task may be killed, cleared and run again, and two runs at once do the work once. On the command line:
`python -m include.gleaner db status`, `db backup`, `db migrate`, `db rollback`, `db restore FILE`, `db verify`.

**Triage notes.** Each red task has the way on in its last line.
- *"needs a folder"*: set `GLEANER_BACKUP_DIR` on the workers, to a folder that all of them share, or give `backup_dir`.
- *BackupError*: no `pg_dump` as new as the server, not the owner of the tables, no space. Nothing was changed.
- *PreflightError*: do what it says for each line, then clear `preflight`.
- *"has been in use for two minutes"*: end the transaction that is named, or wait for it; clear `migrate`.
- *"was changed after it had been applied"*: an installed file was edited; restore it from the release.
- *it does harm*: `python -m include.gleaner db rollback`, or `db restore` with the `path` that `backup` returned.
"""

from datetime import UTC, datetime, timedelta

from airflow.sdk import Param, dag, task

from include.gleaner import pipeline
from include.gleaner.defaults import DEFAULT_ARGS, FIRST
from include.gleaner.params import MIGRATE_FORM


@dag(
    dag_id="migrate_knowledge",
    description="Back up the knowledge database, bring its schema up to date, and verify it",
    doc_md=__doc__,
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=24),
    tags=["gleaner", "operations"],
    params={name: Param(**field) for name, field in MIGRATE_FORM.items()},
    default_args={**DEFAULT_ARGS, **FIRST, "execution_timeout": timedelta(hours=12)},
)
def migrate_knowledge():
    @task
    def backup(params=None):
        return pipeline.back_up_before_migration(params)

    @task
    def preflight(params=None):
        return pipeline.check_before_migration(params)

    @task
    def migrate(params=None):
        return pipeline.apply_migrations(params)

    @task
    def verify(params=None):
        return pipeline.verify_after_migration(params)

    backup() >> preflight() >> migrate() >> verify()


migrate_knowledge()
