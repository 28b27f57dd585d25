"""The end of a run: retires what is gone, measures the gap, writes the report, and decides red or green."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from include.gleaner.config import IngestRequest, RunPolicy
from include.gleaner.crawl.crawler import scope_of
from include.gleaner.crawl.frontier import Frontier
from include.gleaner.crawl.traps import is_told
from include.gleaner.sql import queries

log = logging.getLogger(__name__)


def retire(
    conn: psycopg.Connection, *, tenant_id: str, source_id: uuid.UUID, job_id: int, request: IngestRequest
) -> dict[str, Any]:
    """Remove the chunks of pages that are gone, as far as the evidence and the delete brake allow.

    Evidence: two crawls that found no content, a complete crawl that no longer reached the page, or an alias whose
    target has its own chunks. Returns how many pages were retired and how many the brake held back.
    """
    sql = queries("reconcile")
    key: dict[str, Any] = {"tenant_id": tenant_id, "source_id": source_id, "job_id": job_id}
    conn.execute(sql["evidence_of_skipped"], key)
    moved = _ids(conn, "moved_pages", key)
    _delete(conn, tenant_id, moved, "moved")
    gone = _ids(conn, "missing_pages", key)
    if _row(conn, "job_state", key)[0] == "complete":
        scope = scope_of(Frontier(conn, tenant_id=tenant_id, source_id=source_id), request)
        unreached = conn.execute(sql["unreached_pages"], key).fetchall()
        traps = _row(conn, "traps", key)[0]
        gone = sorted(
            {*gone, *(page_id for page_id, url in unreached if scope.allows(url) and not is_told(url, traps))}
        )
    costly = _count(conn, "with_chunks", {**key, "page_ids": gone})
    loaded = _count(conn, "loaded_pages", key)
    if costly > allowed_deletes(loaded, request.run):
        log.warning(
            "delete brake: %d of %d loaded pages seem gone, more than %.0f %%; nothing was deleted. "
            "Look at the site; if it is right, run again with max_delete_share raised.",
            costly, loaded, request.run.max_delete_share * 100,
        )  # fmt: skip
        return {"retired": len(moved), "held_back": costly}
    _delete(conn, tenant_id, gone, "unreached")
    return {"retired": len(moved) + costly, "held_back": 0}


def allowed_deletes(loaded: int, policy: RunPolicy) -> int:
    """How many loaded pages of a source may go at once."""
    return max(policy.min_delete_always, int(loaded * policy.max_delete_share))


def write_report(
    conn: psycopg.Connection, *, tenant_id: str, source_id: uuid.UUID, job_id: int, model: str, retired: dict[str, Any]
) -> dict[str, Any]:
    """What the run found, did and left undone, counted by the database; stored with the job and returned."""
    sql = queries("reconcile")
    key = {"tenant_id": tenant_id, "source_id": source_id, "job_id": job_id, "model": model}
    conn.execute(sql["choose_search_model"], key)
    state, reason = _row(conn, "job_state", key)
    root_url, started_at, crawled_at, planned = _row(conn, "crawl_times", key)
    found, visited = _row(conn, "crawl_counts", key)
    gap_pages, gap_chunks, unexplained = _row(conn, "gap", key)
    totals = ("chunks", "embedded", "reused", "requests", "tokens", "created", "updated", "unchanged", "deleted",
              "stale_pages")  # fmt: skip
    seconds = {stage: round(spent, 2) for stage, spent in conn.execute(sql["stage_seconds"], key)}
    if crawled_at is not None:
        seconds = {"crawl": round((crawled_at - started_at).total_seconds(), 2), **seconds}
    report = {
        "source": root_url,
        "model": model,
        "crawl": {"state": state, "reason": reason, "found": found, "visited": visited},
        "traps": _row(conn, "traps", key)[0],
        "planned_pages": planned,
        "pages": [
            {"state": state, "reason": reason, "pages": pages}
            for state, reason, pages in conn.execute(sql["pages_by_state"], key)
        ],
        "chunks": dict(conn.execute(sql["chunks_by_type"], key).fetchall()),
        "work": dict(zip(totals, _row(conn, "batch_totals", key), strict=True)),
        "seconds": seconds,
        "failures": [
            {"stage": stage, "reason": reason, "count": count}
            for stage, reason, count in conn.execute(sql["failures"], key)
        ],
        "failed_pages": _count(conn, "failed_pages_of_run", key),
        "retired": retired,
        "gap": {"pages_not_chunked": gap_pages, "chunks_without_vector": gap_chunks, "unexplained": unexplained},
    }
    conn.execute(sql["finish_job"], {**key, "report": Jsonb(report)})
    return report


def verdict(report: dict[str, Any], policy: RunPolicy) -> str | None:
    """Why the run is red, or None when it is green: an ordered list of rules over the report."""
    if report["crawl"]["state"] not in ("complete", "partial"):
        return f"the crawl failed: {report['crawl']['reason'] or 'it never finished'}"
    if report["gap"]["unexplained"]:
        return f"{report['gap']['unexplained']} pages with content were not chunked; see the failed mapped tasks"
    base = max(report["planned_pages"], report["crawl"]["visited"], 1)
    if report["failed_pages"] > policy.max_failed_share * base:
        return (
            f"{report['failed_pages']} of {base} pages failed, more than {policy.max_failed_share:.0%}; "
            "dead_letter has each with its reason"
        )
    return None


def _delete(conn: psycopg.Connection, tenant_id: str, page_ids: Sequence[uuid.UUID], reason: str) -> None:
    if not page_ids:
        return
    sql = queries("reconcile")
    key = {"tenant_id": tenant_id, "page_ids": list(page_ids), "reason": reason}
    with conn.transaction():
        conn.execute(sql["raise_fence"], key)
        conn.execute(sql["delete_chunks"], key)
        conn.execute(sql["mark_gone"], key)


def _ids(conn: psycopg.Connection, query: str, key: dict[str, Any]) -> list[uuid.UUID]:
    return [row[0] for row in conn.execute(queries("reconcile")[query], key)]


def _row(conn: psycopg.Connection, query: str, key: dict[str, Any]) -> tuple[Any, ...]:
    row = conn.execute(queries("reconcile")[query], key).fetchone()
    if row is None:
        raise LookupError(f"the job has no row for {query}")
    return row


def _count(conn: psycopg.Connection, query: str, key: dict[str, Any]) -> int:
    return int(_row(conn, query, key)[0])
