"""A user of the pipeline, without a scheduler: its functions in the order of the DAG."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import psycopg

from include.gleaner import pipeline
from tests.support.embedding_server import EmbeddingServer
from tests.support.website import TestWebsite


@dataclass
class Tenant:
    """A user of the pipeline: one tenant, one website, one database."""

    site: TestWebsite
    endpoint: EmbeddingServer
    conn: psycopg.Connection
    name: str = "acme"
    numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def params(self, **more: Any) -> dict[str, Any]:
        return {"tenant": self.name, "url": self.site.url, "delay_seconds": 0.0, **more}

    def run(self, **more: Any) -> dict[str, Any]:
        """A whole run; its report. Raises what a red run's last task raises."""
        params, run_id = self.params(**more), f"run-{next(self.numbers)}"
        pipeline.crawl_website(params, run_id)
        batches = pipeline.plan_batches(params, run_id)
        for batch in batches:
            pipeline.process_pages(params, run_id, batch, 1)
        for batch in pipeline.survey_site(params, run_id) if batches else ():
            pipeline.load_chunks(params, run_id, batch, 1)
        return pipeline.reconcile(params, run_id)

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        return self.conn.execute(query.encode(), values).fetchall()

    def knowledge(self) -> list[tuple[str, str]]:
        """(path, text) of all website chunks."""
        return [
            (url.removeprefix(self.site.url.rstrip("/")), text)
            for url, text in self.rows(
                "SELECT metadata->>'page_url', full_text FROM gleaner.tenant_knowledge WHERE tenant_id = %s"
                " ORDER BY 1, chunk_index",
                self.name,
            )
        ]

    def physical(self) -> list[tuple[Any, ...]]:
        return self.rows(
            "SELECT source_id, chunk_type, chunk_index, ctid::text, xmin::text FROM gleaner.tenant_knowledge"
            " ORDER BY 1, 2, 3"
        )

    def states(self) -> dict[str, str]:
        rows = self.rows("SELECT url, state FROM gleaner.website_page WHERE tenant_id = %s", self.name)
        return {url.removeprefix(self.site.url.rstrip("/")): state for url, state in rows}
