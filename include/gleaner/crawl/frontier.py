"""What a crawl knows and what is due, in Postgres: the crawl's memory, which survives any kill.

A page is in the frontier while its `found_job` is this job and its `visited_job` is not. Every write is one small
transaction over pages in the order of their ids, so that crawls beside each other never wait in a circle.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import psycopg
from psycopg.types.json import Jsonb

from include.gleaner.crawl.records import VOUCHED, Due, Found, Job, Kind, Visit
from include.gleaner.models import page_id_of
from include.gleaner.sql import queries

KEPT_SNAPSHOTS: Final = 5  # per page
DEADLOCK_ATTEMPTS: Final = 5

# A page in one of these states, or skipped for one of these reasons, need not be fetched again if it has not changed.
_KEPT_STATES: Final = frozenset({"fetched", "completed", "chunked"})
_LOST_REASONS: Final = frozenset(
    {"robots", "noindex", "content_type", "redirect", "redirect_out_of_scope", "out_of_scope", "no_body", "feed"}
)


class Frontier:
    """The pages of one source, seen by one crawl."""

    def __init__(self, conn: psycopg.Connection, *, tenant_id: str, source_id: uuid.UUID) -> None:
        self._conn = conn
        self._sql = queries("crawl")
        self._tenant_id = tenant_id
        self._source_id = source_id
        self._key: dict[str, Any] = {"tenant_id": tenant_id, "source_id": source_id}

    def open_job(self, run_id: str, *, root_url: str, conf: Mapping[str, Any]) -> Job:
        """The crawl of this run: begun, taken up again after a kill, or gone on with where another run had to stop.

        Tenant and source are made if they are new.
        """
        with self._conn.transaction():
            self._conn.execute(self._sql["create_tenant"], self._key)
            self._conn.execute(self._sql["create_source"], {**self._key, "root_url": root_url})
            row = self._conn.execute(
                self._sql["create_job"], {**self._key, "run_id": run_id, "conf": Jsonb(dict(conf))}
            ).fetchone()
            if row is not None:
                self._key["job_id"] = row[0]
                self._take_over(conf)
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

    def _take_over(self, conf: Mapping[str, Any]) -> None:
        row = self._conn.execute(self._sql["take_over"], {**self._key, "crawl": Jsonb(conf["crawl"])}).fetchone()
        if row is not None:
            last_id, reason = row
            self._conn.execute(self._sql["adopt_pages"], {**self._key, "last_id": last_id})
            lasting = {"max_depth", "max_links_per_page"} & set(reason.split(", "))
            self.note(lasting)

    def note(self, reasons: Iterable[str]) -> None:
        """Keep why this crawl will not be complete, so that a second try knows it too."""
        self._conn.execute(self._sql["note_reason"], {**self._key, "reason": ", ".join(sorted(reasons)) or None})

    def close_job(
        self, state: str, reasons: Iterable[str], *, goes_on: bool = False, traps: Sequence[Mapping[str, Any]] = ()
    ) -> None:
        """Write the crawl's last word; with `goes_on` the next run of the source goes on with it."""
        values = {"state": state, "reason": ", ".join(sorted(reasons)) or None, "goes_on": goes_on}
        with self._conn.transaction():
            self._conn.execute(self._sql["close_job"], {**self._key, **values, "traps": Jsonb(list(traps))})

    def mark_duplicates(self) -> None:
        """Pages with the very same bytes become one page with aliases."""
        with self._conn.transaction():
            self._conn.execute(queries("plan")["release_duplicates"], self._key)
            self._conn.execute(queries("plan")["mark_duplicates"], self._key)

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
        self._discover(self._best_of(found))

    def any_unknown(self, urls: Sequence[str]) -> bool:
        """Whether this job has not found one of these addresses."""
        row = self._conn.execute(self._sql["count_known"], {**self._key, "urls": list(urls)}).fetchone()
        return row is None or int(row[0]) < len(set(urls))

    def linked_urls(self) -> Iterator[tuple[str, int]]:
        """The addresses that this job found by links, not by a sitemap, with their depth."""
        with self._conn.transaction(), self._conn.cursor("linked_urls") as cursor:
            for row in cursor.execute(self._sql["linked_urls"], {**self._key, "vouched": VOUCHED}):
                yield row[0], row[1]

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
                is_current=is_stored
                and (state in _KEPT_STATES or (state == "skipped" and reason not in _LOST_REASONS)),
                canonical=alias if state == "skipped" and reason == "canonical" else None,
            )
            for page_id, url, depth, hops, state, reason, etag, last_modified, content_hash, alias, is_stored in rows
        ]

    def store(self, visits: Sequence[Visit], found: Sequence[Found]) -> None:
        """Write visits and what they led to, all or nothing; again when another crawl of the source was in the way."""
        new = self._best_of(found)
        for attempt in range(1, DEADLOCK_ATTEMPTS + 1):
            try:
                with self._conn.transaction():
                    # All rows in one order first: visits and discoveries would else be two orders, and two a deadlock.
                    pages = new.keys() | {visit.page.page_id for visit in visits}
                    self._conn.execute(self._sql["lock_pages"], {**self._key, "page_ids": sorted(pages)})
                    self._store_visits(visits)
                    self._discover(new)
            except psycopg.errors.DeadlockDetected:
                if attempt == DEADLOCK_ATTEMPTS:
                    raise
            else:
                return

    def links_of(self, pages: Sequence[Due]) -> dict[uuid.UUID, tuple[str, ...]]:
        """The links of the pages' newest stored content."""
        if not pages:
            return {}
        values = {**self._key, "page_ids": [page.page_id for page in pages]}
        return {page_id: tuple(links) for page_id, links in self._conn.execute(self._sql["links"], values)}

    def count_frontier(self) -> int:
        """Pages that are due."""
        return self._count("count_frontier")

    def overtaken_by(self) -> tuple[str, str] | None:
        """Run and state of the newest crawl of the source, if pages are in the frontier of a newer one than this."""
        row = self._conn.execute(self._sql["overtaken_by"], self._key).fetchone()
        return None if row is None else (row[0], row[1])

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

    def _best_of(self, found: Iterable[Found]) -> dict[uuid.UUID, Found]:
        """The shortest way to each address, by the page's id."""
        best: dict[str, Found] = {}
        for item in found:
            known = best.get(item.url)
            if known is None or (item.depth, item.hops, -item.priority) < (known.depth, known.hops, -known.priority):
                best[item.url] = item
        return {page_id_of(self._tenant_id, self._source_id, url): item for url, item in best.items()}

    def _discover(self, best: Mapping[uuid.UUID, Found]) -> None:
        rows = list(best.items())
        for start in range(0, len(rows), 1_000):
            part = rows[start : start + 1_000]
            self._conn.execute(
                self._sql["discover"],
                {
                    **self._key,
                    "page_ids": [page_id for page_id, _ in part],
                    "urls": [item.url for _, item in part],
                    "depths": [item.depth for _, item in part],
                    "hops": [item.hops for _, item in part],
                    "priorities": [item.priority for _, item in part],
                },
            )

    def _store_visits(self, visits: Sequence[Visit]) -> None:
        by_kind: dict[Kind, list[Visit]] = {}
        for visit in visits:
            by_kind.setdefault(visit.kind, []).append(visit)
        for kind, some in by_kind.items():
            if kind == "content":
                self._store_content(some)
            elif kind in _STATEMENTS:
                self._conn.execute(self._sql[_STATEMENTS[kind]], {**self._key, **_columns(some)})
        for visit in by_kind.get("fault", ()):
            letter = {"page_id": visit.page.page_id, "reason": visit.reason, "stage": "crawl", "item": "", "detail": ""}
            self._conn.execute(queries("load")["write_dead_letter"], {**self._key, **letter})
        asked = [visit.page.page_id for visit in visits if visit.kind not in ("fault", "left_out", "not_asked")]
        self._conn.execute(
            queries("load")["resolve_dead_letters"], {**self._key, "stages": ["crawl"], "page_ids": asked}
        )

    def _store_content(self, visits: Sequence[Visit]) -> None:
        columns = _columns(visits)
        self._conn.execute(
            self._sql["store_fetched"],
            {
                **self._key,
                **columns,
                "states": ["skipped" if visit.alias_of else "fetched" for visit in visits],
                "hashes": [visit.content_hash for visit in visits],
                "bodies": [visit.packed for visit in visits],
                "sizes": [visit.raw_bytes for visit in visits],
                "types": [visit.content_type for visit in visits],
                "links": ["\n".join(visit.links) for visit in visits],
            },
        )
        self._conn.execute(
            self._sql["prune_snapshots"], {**self._key, "page_ids": columns["page_ids"], "keep": KEPT_SNAPSHOTS}
        )

    def _count(self, query: str) -> int:
        row = self._conn.execute(self._sql[query], self._key).fetchone()
        return int(row[0]) if row else 0


_STATEMENTS: Final[Mapping[Kind, str]] = {
    "unchanged": "store_unchanged",
    "skipped": "store_skipped",
    "missing": "store_missing",
    "fault": "store_faults",
    "left_out": "store_left_out",
}


def _columns(visits: Sequence[Visit]) -> dict[str, list[Any]]:
    """What all statements about visits take, a list for each value."""
    return {
        "page_ids": [visit.page.page_id for visit in visits],
        "statuses": [visit.status for visit in visits],
        "reasons": [visit.reason for visit in visits],
        "aliases": [visit.alias_of for visit in visits],
        "etags": [visit.etag for visit in visits],
        "dates": [visit.last_modified for visit in visits],
    }
