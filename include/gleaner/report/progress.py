"""How far a run is, for those who watch it."""

from __future__ import annotations

from dataclasses import dataclass

import psycopg

from include.gleaner.sql import queries


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Counts of one run at one moment. What is not known yet is 0."""

    crawl_state: str = "waiting"  # waiting, running, complete, partial, failed
    found: int = 0  # pages the crawl knows of
    fetched: int = 0  # pages it has asked for
    planned: int | None = None  # pages to process and load; None until the plan is made
    processed: int = 0  # of the planned
    loaded: int = 0  # of the planned
    chunked: int = 0  # chunks cut so far
    embedded: int = 0  # chunks that have their vector, asked for or reused

    @property
    def share(self) -> float:
        """0 to 1, by the work: a third each for crawl, process and load. Never falls while a run goes on."""
        if self.planned is None:
            # The frontier grows while it is worked off, so a crawl alone never claims its whole third.
            return 0.3 * self.fetched / self.found if self.found else 0.0
        return (1 + 2 * self.work) / 3

    @property
    def work(self) -> float:
        """0 to 1: how much of the planned pages' processing and loading is done; 0 while there is no plan."""
        if self.planned is None:
            return 0.0
        if not self.planned:
            return 1.0
        embedding = self.embedded / self.chunked if self.chunked else 0.0
        # Embedding is most of the load: it counts before the pages are in.
        load = max(self.loaded / self.planned, 0.9 * embedding * min(1.0, self.processed / self.planned))
        return (self.processed / self.planned + load) / 2


def read_progress(conn: psycopg.Connection, tenant_id: str, run_id: str) -> Progress:
    """Where the run is now."""
    sql = queries("report")
    job = conn.execute(sql["newest_job"], {"tenant_id": tenant_id, "run_id": run_id}).fetchone()
    if job is None:
        return Progress()
    job_id, source_id, state, planned, _, _ = job
    key = {"tenant_id": tenant_id, "source_id": source_id, "job_id": job_id}
    pages = conn.execute(sql["page_counts"], key).fetchone() or (0, 0, 0, 0)
    chunks = conn.execute(sql["chunk_counts"], key).fetchone() or (0, 0)
    found, fetched, to_process, to_load = pages
    if planned is None:
        return Progress(crawl_state=state, found=found, fetched=fetched)
    return Progress(
        crawl_state=state,
        found=found,
        fetched=fetched,
        planned=planned,
        processed=max(planned - to_process, 0),
        loaded=max(planned - to_process - to_load, 0),
        chunked=chunks[0],
        embedded=chunks[1],
    )
