"""The end of a run: retires what is gone, measures the gap, writes the report, and decides red or green."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from include.gleaner.config import EmbedPolicy, IngestRequest, RunPolicy
from include.gleaner.crawl.crawler import scope_of
from include.gleaner.crawl.frontier import Frontier
from include.gleaner.crawl.traps import is_told
from include.gleaner.crawl.urls import canonicalize, origin_of
from include.gleaner.pipeline.indexing import index_model
from include.gleaner.pipeline.switching import switch_model
from include.gleaner.sql import queries

log = logging.getLogger(__name__)


def retire(
    conn: psycopg.Connection, *, tenant_id: str, source_id: uuid.UUID, job_id: int, request: IngestRequest
) -> dict[str, Any]:
    """Remove the chunks of pages that are gone, as far as the evidence and the delete brake allow.

    Evidence: two crawls that found no content, at the page or where it leads to, a complete crawl that no longer
    reached the page, or an alias that leads to a page with its own chunks. Many pages that became one, because a site
    sends everybody to its front door or says "back soon" everywhere, are a loss like any other, and braked; what a site
    that moved to another host says there is none. Returns how many pages were retired and how many were held back.
    """
    sql = queries("reconcile")
    key: dict[str, Any] = {"tenant_id": tenant_id, "source_id": source_id, "job_id": job_id}
    conn.execute(sql["share_verdict"], key)
    conn.execute(sql["evidence_of_skipped"], key)
    aliases = conn.execute(sql["moved_pages"], key).fetchall()
    moved = [page_id for page_id, is_alone in aliases if is_alone]
    merged = [page_id for page_id, is_alone in aliases if not is_alone]
    retired = len(moved)
    _delete(conn, tenant_id, moved, "moved")
    held = _count(conn, "held_pages", key)
    gone = _ids(conn, "missing_pages", key)
    if _row(conn, "job_state", key)[0] == "complete":
        scope = scope_of(Frontier(conn, tenant_id=tenant_id, source_id=source_id), request)
        rows = conn.execute(sql["unreached_pages"], key).fetchall()
        traps = _row(conn, "traps", key)[0]
        unreached = [page_id for page_id, url in rows if scope.allows(url) and not is_told(url, traps)]
        told_elsewhere = _moved_with_the_site(conn, key, unreached, scope.root, request.url)
        retired += _count(conn, "with_chunks", {**key, "page_ids": told_elsewhere})
        _delete(conn, tenant_id, told_elsewhere, "moved", with_copies=True)
        gone = sorted({*gone, *unreached} - set(told_elsewhere))
    costly = _count(conn, "with_chunks", {**key, "page_ids": [*gone, *merged]})
    loaded = _count(conn, "loaded_pages", key)
    if costly > allowed_deletes(loaded, request.run):
        log.warning(
            "delete brake: %d of %d loaded pages seem gone, or became one with others, more than %.0f %%; they stay. "
            "Look at the site; if it is right, run again with max_delete_share raised.",
            costly, loaded, request.run.max_delete_share * 100,
        )  # fmt: skip
        return {"retired": retired, "held_back": costly + held}
    _delete(conn, tenant_id, merged, "moved")
    _delete(conn, tenant_id, gone, "unreached", with_copies=True)
    return {"retired": retired + costly, "held_back": held}


def _moved_with_the_site(
    conn: psycopg.Connection, key: dict[str, Any], unreached: Sequence[uuid.UUID], root: str, asked_for: str
) -> list[uuid.UUID]:
    """Those of the unreached pages that are told at other addresses: a site that moved to another host is no loss."""
    if not unreached:
        return []
    origins = [origin_of(root)] if origin_of(root) != origin_of(canonicalize(asked_for) or root) else []
    values = {**key, "page_ids": list(unreached), "origins": origins}
    return [row[0] for row in conn.execute(queries("reconcile")["moved_with_the_site"], values)]


def allowed_deletes(loaded: int, policy: RunPolicy) -> int:
    """How many loaded pages of a source may go at once."""
    return max(policy.min_delete_always, int(loaded * policy.max_delete_share))


def finish(
    conn: psycopg.Connection,
    *,
    source_id: uuid.UUID,
    job_id: int,
    request: IngestRequest,
    policy: EmbedPolicy,
) -> dict[str, Any]:
    """Retire what is gone, index the run's model, let readers see it if it is complete, and report.

    A dry run only reports.
    """
    model, price = policy.model, policy.price
    tenant_id = request.tenant_id
    retired, behind = {"retired": 0, "held_back": 0}, 0
    if not request.dry_run:
        retired = retire(conn, tenant_id=tenant_id, source_id=source_id, job_id=job_id, request=request)
        index_model(conn, policy)  # before readers come
        behind = switch_model(conn, tenant_id=tenant_id, model=model)
    key = {"tenant_id": tenant_id, "source_id": source_id, "job_id": job_id, "model": model}
    retired["retired"] += _count(conn, "retired_before", key)
    report = {**_report(conn, key, price), "retired": retired, "pages_behind": behind}
    if request.dry_run:
        names = ("pages", "chunks", "vectors", "reused", "tokens")
        estimate = dict(zip(names, _row(conn, "estimate", key), strict=True))
        report["dry_run"] = {**estimate, "cost": _cost(estimate["tokens"], price)}
    conn.execute(queries("reconcile")["finish_job"], {**key, "report": Jsonb(report)})
    return report


def _report(conn: psycopg.Connection, key: dict[str, Any], price: float | None) -> dict[str, Any]:
    """What the run found, did and left undone, counted by the database."""
    sql = queries("reconcile")
    state, reason = _row(conn, "job_state", key)
    root_url, started_at, crawled_at, planned = _row(conn, "crawl_times", key)
    found, visited = _row(conn, "crawl_counts", key)
    gap_pages, gap_chunks, unexplained = _row(conn, "gap", key)
    totals = ("chunks", "embedded", "reused", "requests", "tokens", "created", "updated", "unchanged", "deleted",
              "stale_pages")  # fmt: skip
    seconds = {stage: round(spent, 2) for stage, spent in conn.execute(sql["stage_seconds"], key)}
    if crawled_at is not None:
        seconds = {"crawl": round((crawled_at - started_at).total_seconds(), 2), **seconds}
    work = dict(zip(totals, _row(conn, "batch_totals", key), strict=True))
    withheld, paused = _row(conn, "not_asked", key)
    spent, quota = conn.execute(queries("quota")["month"], key).fetchone() or (0, None)
    return {
        "source": root_url,
        "model": key["model"],
        "crawl": {"state": state, "reason": reason, "found": found, "visited": visited},
        "traps": _row(conn, "traps", key)[0],
        "planned_pages": planned,
        "pages": [
            {"state": state, "reason": reason, "pages": pages}
            for state, reason, pages in conn.execute(sql["pages_by_state"], key)
        ],
        "chunks": dict(conn.execute(sql["chunks_by_type"], key).fetchall()),
        "work": work,
        "cost": _cost(work["tokens"], price),
        "month": {"tokens": spent, "quota": quota, "withheld": withheld},
        "paused": paused,
        "seconds": seconds,
        "failures": [
            {"stage": stage, "reason": reason, "count": count}
            for stage, reason, count in conn.execute(sql["failures"], key)
        ],
        "failed_pages": _count(conn, "failed_pages_of_run", key),
        "gap": {
            "pages_not_chunked": gap_pages,
            "chunks_without_vector": gap_chunks,
            "unexplained": unexplained,
        },
    }


def _cost(tokens: int, price: float | None) -> float | None:
    """US dollars, to a millionth; None when the price is not known."""
    return None if price is None else round(tokens * price / 1_000_000, 6)


def verdict(report: dict[str, Any], policy: RunPolicy) -> str | None:
    """Why the run is red, or None when it is green: an ordered list of rules over the report."""
    if report["crawl"]["state"] not in ("complete", "partial"):
        return f"the crawl failed: {report['crawl']['reason'] or 'it never finished'}"
    if report["gap"]["unexplained"] and "dry_run" not in report:
        return f"{report['gap']['unexplained']} pages with content were not chunked; see the failed mapped tasks"
    base = max(report["planned_pages"], report["crawl"]["visited"], 1)
    if report["failed_pages"] > policy.max_failed_share * base:
        return (
            f"{report['failed_pages']} of {base} pages failed, more than {policy.max_failed_share:.0%}; "
            "dead_letter has each with its reason"
        )
    return None


def _delete(
    conn: psycopg.Connection, tenant_id: str, page_ids: Sequence[uuid.UUID], reason: str, *, with_copies: bool = False
) -> None:
    if not page_ids:
        return
    sql = queries("reconcile")
    key = {"tenant_id": tenant_id, "page_ids": list(page_ids), "reason": reason, "with_copies": with_copies}
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
