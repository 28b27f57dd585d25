"""What a crawl knows and what is due, in Postgres: the crawl's memory, which survives any kill.

A page is in the frontier while its `found_job` is this job and its `visited_job` is not. Every write is one small
transaction over pages in the order of their ids, so that crawls beside each other never wait in a circle.
"""

from __future__ import annotations

import uuid
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import psycopg
from psycopg.types.json import Jsonb

from include.gleaner.models import page_id_of
from include.gleaner.sql import queries

KEPT_SNAPSHOTS: Final = 5  # per page
DEADLOCK_ATTEMPTS: Final = 5
COMPRESSION: Final = 4  # zlib; higher costs much time for little

# A page in one of these states, or skipped for one of these reasons, need not be fetched again if it has not changed.
_KEPT_STATES: Final = frozenset({"fetched", "completed", "chunked"})
_LOST_REASONS: Final = frozenset(
    {"robots", "noindex", "content_type", "redirect", "redirect_out_of_scope", "out_of_scope"}
)

Kind = Literal["content", "unchanged", "skipped", "missing", "fault"]


@dataclass(frozen=True, kw_only=True)
class Job:
    """One crawl, which belongs to one DAG run."""

    job_id: int
    state: str
    reasons: frozenset[str]  # why it is not complete, as far as it is known


@dataclass(frozen=True, kw_only=True)
class Due:
    """A page that waits for its visit."""

    page_id: uuid.UUID
    url: str
    depth: int
    hops: int
    etag: str | None
    last_modified: str | None
    content_hash: bytes | None
    is_current: bool  # what is stored of it still stands when the server says "unchanged"
    canonical: str | None = None  # the address that its stored content names as the real one


@dataclass(frozen=True, kw_only=True)
class Visit:
    """What came of one visit."""

    page: Due
    kind: Kind
    reason: str | None = None
    status: int | None = None
    alias_of: str | None = None
    body: bytes = b""
    content_hash: bytes = b""
    content_type: str = ""
    etag: str | None = None
    last_modified: str | None = None
    links: tuple[str, ...] = ()
    truncated: bool = False  # the page has more links than the limit


@dataclass(frozen=True, kw_only=True)
class Found:
    """An address that a visit or a sitemap led to."""

    url: str
    depth: int
    hops: int = 0
    priority: float = 0.5


class Frontier:
    """The pages of one source, seen by one crawl."""

    def __init__(self, conn: psycopg.Connection, *, tenant_id: str, source_id: uuid.UUID) -> None:
        self._conn = conn
        self._sql = queries("crawl")
        self._tenant_id = tenant_id
        self._source_id = source_id
        self._key: dict[str, Any] = {"tenant_id": tenant_id, "source_id": source_id}

    def open_job(self, run_id: str, *, root_url: str, conf: Mapping[str, Any]) -> Job:
        """The crawl of this run, begun or taken up again; tenant and source are made if they are new."""
        with self._conn.transaction():
            self._conn.execute(self._sql["create_tenant"], self._key)
            self._conn.execute(self._sql["create_source"], {**self._key, "root_url": root_url})
            self._conn.execute(self._sql["create_job"], {**self._key, "run_id": run_id, "conf": Jsonb(dict(conf))})
            row = self._conn.execute(self._sql["job"], {**self._key, "run_id": run_id}).fetchone()
        if row is None:
            raise LookupError("the job that was just stored is not there")
        job_id, state, reason = row
        self._key["job_id"] = job_id
        if state in ("failed", "running"):
            with self._conn.transaction():
                self._conn.execute(self._sql["reopen_job"], self._key)
                self._conn.execute(self._sql["revisit_failed"], {**self._key, "urls": list(self.redirects(root_url))})
            state, reason = "running", "" if state == "failed" else reason
        return Job(job_id=job_id, state=state, reasons=frozenset(part for part in reason.split(", ") if part))

    def note(self, reasons: Iterable[str]) -> None:
        """Keep why this crawl will not be complete, so that a second try knows it too."""
        self._conn.execute(self._sql["note_reason"], {**self._key, "reason": ", ".join(sorted(reasons)) or None})

    def close_job(self, state: str, reasons: Iterable[str]) -> None:
        """Write the crawl's last word."""
        self._conn.execute(
            self._sql["close_job"], {**self._key, "state": state, "reason": ", ".join(sorted(reasons)) or None}
        )

    def redirects(self, url: str) -> tuple[str, ...]:
        """The chain of redirects from `url` as it is known, `url` first."""
        chain = [url]
        while len(chain) < 20:
            row = self._conn.execute(self._sql["alias"], {**self._key, "url": chain[-1]}).fetchone()
            if row is None or row[0] in chain:
                break
            chain.append(row[0])
        return tuple(chain)

    def discover(self, found: Sequence[Found]) -> None:
        """Add addresses to the frontier; those that were visited in this job stay visited."""
        best: dict[str, Found] = {}
        for item in found:
            known = best.get(item.url)
            if known is None or (item.depth, item.hops, -item.priority) < (known.depth, known.hops, -known.priority):
                best[item.url] = item
        rows = list(best.values())
        for start in range(0, len(rows), 1_000):
            part = rows[start : start + 1_000]
            self._conn.execute(
                self._sql["discover"],
                {
                    **self._key,
                    "page_ids": [self._id_of(item.url) for item in part],
                    "urls": [item.url for item in part],
                    "depths": [item.depth for item in part],
                    "hops": [item.hops for item in part],
                    "priorities": [item.priority for item in part],
                },
            )

    def any_unknown(self, urls: Sequence[str]) -> bool:
        """Whether this job has not found one of these addresses."""
        row = self._conn.execute(self._sql["count_known"], {**self._key, "urls": list(urls)}).fetchone()
        return row is None or int(row[0]) < len(set(urls))

    def next_wave(self, limit: int) -> list[Due]:
        """At most `limit` pages that are due, all of the smallest depth there is."""
        rows = self._conn.execute(self._sql["next_wave"], {**self._key, "limit": limit}).fetchall()
        return [
            Due(
                page_id=page_id,
                url=url,
                depth=depth,
                hops=hops,
                etag=etag,
                last_modified=last_modified,
                content_hash=content_hash,
                is_current=generation is not None
                and (state in _KEPT_STATES or (state == "skipped" and reason not in _LOST_REASONS)),
                canonical=alias if state == "skipped" and reason == "canonical" else None,
            )
            for page_id, url, depth, hops, state, reason, etag, last_modified, content_hash, generation, alias in rows
        ]

    def store(self, visits: Sequence[Visit], found: Sequence[Found]) -> None:
        """Write visits and what they led to, all or nothing; again when another crawl of the source was in the way."""
        for attempt in range(1, DEADLOCK_ATTEMPTS + 1):
            try:
                with self._conn.transaction():
                    # All rows in one order first: visits and discoveries would else be two orders, and two a deadlock.
                    pages = {visit.page.page_id for visit in visits} | {self._id_of(item.url) for item in found}
                    self._conn.execute(self._sql["lock_pages"], {**self._key, "page_ids": sorted(pages)})
                    for visit in sorted(visits, key=lambda visit: visit.page.page_id):
                        self._store_visit(visit)
                    self.discover(found)
            except psycopg.errors.DeadlockDetected:
                if attempt == DEADLOCK_ATTEMPTS:
                    raise
            else:
                return

    def links_of(self, page: Due) -> tuple[str, ...]:
        """The links of the page's newest stored content."""
        row = self._conn.execute(self._sql["links"], {**self._key, "page_id": page.page_id}).fetchone()
        return tuple(row[0]) if row else ()

    def count_frontier(self) -> int:
        """Pages that are due."""
        return self._count("count_frontier")

    def count_spent(self) -> int:
        """Visits so far that count against the limit of pages."""
        return self._count("count_spent")

    def count_faults(self) -> int:
        """Pages that this crawl could not fetch."""
        return self._count("count_faults")

    def outcome(self) -> tuple[int, int, int, int]:
        """Pages found, visited, changed, unchanged."""
        row = self._conn.execute(self._sql["outcome"], self._key).fetchone() or (0, 0, 0, 0)
        return int(row[0]), int(row[1]), int(row[2]), int(row[3])

    def _store_visit(self, visit: Visit) -> None:
        key = {**self._key, "page_id": visit.page.page_id, "status": visit.status, "reason": visit.reason}
        if visit.kind == "content":
            self._store_content(visit, key)
        elif visit.kind == "unchanged":
            self._conn.execute(
                self._sql["store_unchanged"], {**key, "etag": visit.etag, "last_modified": visit.last_modified}
            )
        elif visit.kind == "skipped":
            self._conn.execute(self._sql["store_skipped"], {**key, "alias_of": visit.alias_of})
        elif visit.kind == "missing":
            self._conn.execute(self._sql["store_missing"], key)
        else:
            self._conn.execute(self._sql["store_fault"], key)
            self._conn.execute(
                queries("load")["write_dead_letter"], {**key, "stage": "crawl", "item": "", "detail": ""}
            )
            return
        self._conn.execute(
            queries("load")["resolve_dead_letters"], {**key, "stages": ["crawl"], "page_ids": [visit.page.page_id]}
        )

    def _store_content(self, visit: Visit, key: Mapping[str, Any]) -> None:
        row = self._conn.execute(
            self._sql["store_fetched"],
            {
                **key,
                "state": "skipped" if visit.alias_of else "fetched",
                "alias_of": visit.alias_of,
                "etag": visit.etag,
                "last_modified": visit.last_modified,
                "content_hash": visit.content_hash,
            },
        ).fetchone()
        if row is None:
            raise LookupError("a page that is in the frontier is not in the table")
        self._conn.execute(
            self._sql["store_snapshot"],
            {
                **key,
                "generation": row[0],
                "body": zlib.compress(visit.body, COMPRESSION),
                "raw_bytes": len(visit.body),
                "content_type": visit.content_type,
                "links": list(visit.links),
            },
        )
        self._conn.execute(self._sql["prune_snapshots"], {**key, "keep": KEPT_SNAPSHOTS})

    def _id_of(self, url: str) -> uuid.UUID:
        return page_id_of(self._tenant_id, self._source_id, url)

    def _count(self, query: str) -> int:
        row = self._conn.execute(self._sql[query], self._key).fetchone()
        return int(row[0]) if row else 0
