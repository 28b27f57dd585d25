"""The stages, composed: one function per task, and the only way in for the DAGs.

Every function takes the run's Params and id and gives ids and counts: rows stay in Postgres. All are safe to run again
after a kill at any line. Heavy modules are imported inside, so that a DAG file stays cheap to parse.
"""

from __future__ import annotations

from include.gleaner.pipeline.announcing import maintained_websites, rebuilt_websites
from include.gleaner.pipeline.ingest_tasks import (
    crawl_website,
    load_chunks,
    plan_batches,
    process_pages,
    reconcile,
    survey_site,
)
from include.gleaner.pipeline.maintain_tasks import (
    fill_vectors,
    find_missing_vectors,
    find_pages_to_mend,
    look_over_knowledge,
    mend_pages,
)
from include.gleaner.pipeline.migrate_tasks import (
    apply_migrations,
    back_up_before_migration,
    check_before_migration,
    verify_after_migration,
)
from include.gleaner.pipeline.rebuild_tasks import (
    find_documents_of_interval,
    find_pages_of_interval,
    reload_chunks,
    report_rebuild,
    reprocess_pages,
)
from include.gleaner.pipeline.refresh_tasks import find_due_websites

__all__ = [
    "apply_migrations",
    "back_up_before_migration",
    "check_before_migration",
    "crawl_website",
    "fill_vectors",
    "find_documents_of_interval",
    "find_due_websites",
    "find_missing_vectors",
    "find_pages_of_interval",
    "find_pages_to_mend",
    "load_chunks",
    "look_over_knowledge",
    "maintained_websites",
    "mend_pages",
    "plan_batches",
    "process_pages",
    "rebuilt_websites",
    "reconcile",
    "reload_chunks",
    "report_rebuild",
    "reprocess_pages",
    "survey_site",
    "verify_after_migration",
]
