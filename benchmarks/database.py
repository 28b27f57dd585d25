"""What a backup, a restore and a migration cost, and how long those who read and write meanwhile wait for them."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from include.gleaner.local.postgres import standalone
from include.gleaner.ops.backup import back_up
from include.gleaner.ops.migrate import migrate
from include.gleaner.ops.migrations import Migration
from include.gleaner.ops.restore import restore
from tests.support.database_runners import ship

Row = tuple[str, str, str, bool]

PAGES, CHUNKS, DIMENSIONS = 1_000, 10_000, 1_536
MOST_MS = 1_600.0  # of a migration: its longest try for a table

_FILL = """
INSERT INTO gleaner.tenant (tenant_id) VALUES ('acme');
INSERT INTO gleaner.website_source (tenant_id, source_id, root_url) VALUES ('acme', gen_random_uuid(), 'x');
INSERT INTO gleaner.website_page (tenant_id, page_id, source_id, url, depth, found_job, state)
    SELECT tenant_id, md5(n::text)::uuid, source_id, 'https://example.com/' || n, 1, 1, 'chunked'
    FROM gleaner.website_source, generate_series(1, {pages}) n;
INSERT INTO gleaner.tenant_knowledge (tenant_id, source_id, chunk_type, chunk_index, embedding_model, section_title,
        full_text, language, token_count, word_count, text_hash, content_hash, embedding, search_vector)
    SELECT 'acme', md5((1 + n % {pages})::text)::uuid, 'website', n / {pages}, 'm', 'Title',
           repeat(md5(n::text) || ' ', 40), 'en', 400, 40, sha256(n::text::bytea), sha256(n::text::bytea),
           (SELECT array_agg(sin(n * i)) FROM generate_series(1, {dimensions}) i)::vector,
           to_tsvector('simple', md5(n::text))
    FROM generate_series(0, {chunks} - 1) n;
"""
_NEXT = Migration(
    version=9001,
    name="next",
    up="ALTER TABLE gleaner.tenant_knowledge ADD COLUMN next integer NOT NULL DEFAULT 0",
    down="ALTER TABLE gleaner.tenant_knowledge DROP COLUMN next",
)
_INDEX = Migration(
    version=9002,
    name="next_index",
    up="-- step build --\nCREATE INDEX CONCURRENTLY next_updated ON gleaner.tenant_knowledge (tenant_id, updated_at)",
    down="-- step drop --\nDROP INDEX CONCURRENTLY IF EXISTS gleaner.next_updated",
)


def operations() -> Iterator[Row]:
    """10,000 chunks with 1,536 dimensions; one writer and one reader at work all the time."""
    with tempfile.TemporaryDirectory() as folder:
        server, processes = standalone(Path(folder) / "server")
        try:
            server.start()
            server.create_database("bench")
            server.create_database("other")
            dsn = server.dsn("bench")
            migrate(dsn)
            with psycopg.connect(dsn, autocommit=True) as conn:
                conn.execute(_FILL.format(pages=PAGES, chunks=CHUNKS, dimensions=DIMENSIONS).encode())
                conn.execute("VACUUM ANALYZE")
            with _Users(dsn) as users:
                time.sleep(5)
                yield "Longest wait of a writer and a reader when nothing else is done", users.longest(), "", True
                began = time.monotonic()
                path, manifest = back_up(dsn, Path(folder) / "backups")
                took, size = time.monotonic() - began, manifest.dump_bytes / (1 << 20)
                yield f"Backup of {CHUNKS:,} chunks, tried and compared", f"{took:.1f} s, {size:.0f} MB", "", True
                yield "Longest wait meanwhile", users.longest(), "", True
                with pytest.MonkeyPatch.context() as patch:
                    ship(patch, _NEXT, _INDEX)
                    began = time.monotonic()
                    migrate(dsn)
                    took = time.monotonic() - began
                yield "A column and an index on tenant_knowledge", f"{took:.1f} s", "", True
                slowest = users.slowest
                told = users.longest()
                yield "Longest wait meanwhile", told, f"≤ {MOST_MS:.0f} ms", slowest <= MOST_MS
            began = time.monotonic()
            restore(server.dsn("other"), path)
            yield "Restore into another database, compared", f"{time.monotonic() - began:.1f} s", "", True
        finally:
            processes.close()


class _Users:
    """One that updates chunks and one that reads some, each in transactions of its own; how long each took at most."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._stop = threading.Event()
        self._times = {"writer": 0.0, "reader": 0.0}
        self._threads = [threading.Thread(target=self._use, args=(name,)) for name in self._times]

    def __enter__(self) -> _Users:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    @property
    def slowest(self) -> float:
        """Milliseconds, since it was last told."""
        return max(self._times.values()) * 1_000

    def longest(self) -> str:
        """Of both, since it was last told."""
        told = ", ".join(f"{name} {seconds * 1_000:.0f} ms" for name, seconds in self._times.items())
        self._times = dict.fromkeys(self._times, 0.0)
        return told

    def _use(self, name: str) -> None:
        query = (
            "UPDATE gleaner.tenant_knowledge SET updated_at = clock_timestamp() WHERE tenant_id = 'acme'"
            " AND source_id = md5((1 + %(n)s % %(pages)s)::text)::uuid"
            if name == "writer"
            else "SELECT count(*), min(full_text) FROM gleaner.tenant_knowledge WHERE tenant_id = 'acme'"
            " AND source_id = md5((1 + %(n)s % %(pages)s)::text)::uuid"
        ).replace(" % ", " %% ")
        number = 0
        with psycopg.connect(self._dsn, autocommit=True, prepare_threshold=None) as conn:
            while not self._stop.is_set():
                number += 1
                began = time.monotonic()
                conn.execute(query.encode(), {"n": number, "pages": PAGES})
                self._times[name] = max(self._times[name], time.monotonic() - began)
                time.sleep(0.005)
