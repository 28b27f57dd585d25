"""The report of a run as `reconcile` stored it, in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, cast

import psycopg

from include.gleaner.sql import queries

STAGES: Final = ("crawl", "process", "load")


def read_report(conn: psycopg.Connection, tenant_id: str, run_id: str) -> dict[str, Any] | None:
    """The stored report, or None when the run did not get as far."""
    job = conn.execute(queries("report")["newest_job"], {"tenant_id": tenant_id, "run_id": run_id}).fetchone()
    return None if job is None else cast("dict[str, Any] | None", job[5])


def gap_of(report: Mapping[str, Any]) -> int:
    """Pages with content that are not chunked, and chunks without a vector: 0 when all of it is searchable."""
    return int(report["gap"]["pages_not_chunked"]) + int(report["gap"]["chunks_without_vector"])


def lines(report: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The report as pairs of a label and a text, for any screen."""
    crawl, work = report["crawl"], report["work"]
    reason = f" ({crawl['reason']})" if crawl["reason"] else ""
    yield "Crawl", f"{crawl['state']}{reason}: {crawl['found']} pages found, {crawl['visited']} asked for"
    yield (
        "Pages",
        ", ".join(
            f"{entry['pages']} {entry['state']}{' (' + entry['reason'] + ')' if entry['reason'] else ''}"
            for entry in report["pages"]
        ),
    )
    for trap in report.get("traps", ()):
        yield "Not followed", f"{trap['left_out']} of {trap['pattern']} ({trap['kind']}; {trap['followed']} followed)"
    yield "Chunks stored", ", ".join(f"{count} {kind}" for kind, count in report["chunks"].items()) or "none"
    yield (
        "This run",
        (
            f"{work['created']} chunks created, {work['updated']} updated, "
            f"{work['unchanged']} unchanged, {work['deleted']} deleted"
            + (f"; {work['stale_pages']} pages refused as stale" if work.get("stale_pages") else "")
        ),
    )
    yield (
        "Vectors",
        (
            f"{work['embedded']} computed with {report['model']} in {work['requests']} calls, {work['reused']} reused; "
            f"{work['tokens']:,} tokens{_dollars(report.get('cost'))}"
        ),
    )
    seconds = report["seconds"]
    yield "Seconds", ", ".join(f"{stage} {seconds[stage]:.1f}" for stage in STAGES if stage in seconds)
    if report["retired"]["retired"] or report["retired"]["held_back"]:
        retired = report["retired"]
        yield "Retired", f"{retired['retired']} pages, {retired['held_back']} held back by the delete brake"
    yield (
        "Failures",
        (", ".join(f"{item['count']} x {item['stage']}: {item['reason']}" for item in report["failures"]) or "none"),
    )
    if planned := report.get("dry_run"):
        yield (
            "Dry run",
            (
                f"{planned['pages']} pages would give {planned['chunks']} chunks, {planned['vectors']} vectors for "
                f"{planned['tokens']:,} tokens{_dollars(planned['cost'])}; {planned['reused']} reused; none loaded"
            ),
        )
    gap = report["gap"]
    if (month := report.get("month", {})) and month["withheld"]:
        yield (
            "Quota",
            (
                f"{month['tokens']:,} of {month['quota'] or 0:,} tokens of this month are spent; "
                f"{month['withheld']} texts were not embedded"
            ),
        )
    if paused := report.get("paused"):
        yield "Endpoint", f"failed again and again: {paused} texts wait for their vectors (maintain_knowledge)"
    yield "Gap", f"{gap['pages_not_chunked']} pages not chunked, {gap['chunks_without_vector']} chunks without a vector"


def _dollars(cost: float | None) -> str:
    return f", ${cost:.6f}" if cost else ""
