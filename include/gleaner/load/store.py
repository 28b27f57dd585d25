"""Replaces the chunks of whole pages, so that readers see all of a page's old chunks or all of its new ones.

One READ COMMITTED transaction of separate statements, in an order that was measured under racing writers:

1. COPY into a temporary table, before any lock: a client that freezes in the middle holds nothing.
2. The fence: each page's generation row is locked and raised, in the order of the ids, unless it is newer already.
3. Upsert of the rows that differ, sorted; then delete of the rows that the new set lacks.

Counts are what the database returns, never what was sent.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import numpy as np
import psycopg

from include.gleaner.load import copy_binary
from include.gleaner.load.rows import PageRows, Refusal, Row
from include.gleaner.load.validate import check_vector
from include.gleaner.models import LoadCounts, PageChunks, Usage
from include.gleaner.sql import queries

# What Postgres says about a row, not about itself: bad values, broken constraints, text too long for its index.
REFUSALS: Final = (psycopg.DataError, psycopg.IntegrityError, psycopg.errors.ProgramLimitExceeded)


@dataclass(frozen=True, kw_only=True)
class LoadOutcome:
    """What one call of `replace_pages` did."""

    counts: LoadCounts
    loaded: tuple[uuid.UUID, ...]  # pages whose newest content is in the table now, whether or not it had to be written
    stale: tuple[uuid.UUID, ...]  # pages that have newer content already, or were retired
    refusals: tuple[Refusal, ...]


class KnowledgeStore:
    """The rows of one tenant under one embedding model.

    `conn` is a psycopg connection outside of a transaction; each method runs its own and commits it.
    """

    def __init__(self, conn: psycopg.Connection, *, tenant_id: str, model: str, dimensions: int) -> None:
        self._conn = conn
        self._sql = queries("load")
        self._key: dict[str, Any] = {"tenant_id": tenant_id, "model": model}
        self._model = model
        self._dimensions = dimensions

    def known_vectors(self, hashes: Iterable[bytes]) -> dict[bytes, bytes]:
        """Vectors the tenant has already, by text hash: float32 little-endian bytes."""
        wanted = sorted(set(hashes))
        known: dict[bytes, bytes] = {}
        with self._conn.transaction(), self._conn.cursor(binary=True) as cursor:
            for start in range(0, len(wanted), 1_000):
                cursor.execute(self._sql["known_vectors"], {**self._key, "hashes": wanted[start : start + 1_000]})
                for found, sent in cursor:
                    # vector_send: two 16-bit numbers (dimensions, unused), then float32 big-endian
                    vector = np.frombuffer(sent, ">f4", offset=4).astype("<f4")
                    if len(vector) == self._dimensions:
                        known[bytes(found)] = vector.tobytes()
        return known

    def keep_vectors(self, vectors: Mapping[bytes, bytes], usage: Usage) -> None:
        """Store paid vectors, by text hash, until their chunks are loaded, and charge the tenant."""
        for vector in vectors.values():
            check_vector(vector, self._dimensions)
        with self._conn.transaction(), self._conn.cursor() as cursor:
            cursor.execute(self._sql["create_vector_staging"])
            with cursor.copy(self._sql["copy_vector_staging"]) as copy:
                for block in copy_binary.stream((key, copy_binary.vector(value)) for key, value in vectors.items()):
                    copy.write(block)
            cursor.execute(self._sql["keep_vectors"], self._key)
            cursor.execute(self._sql["charge"], {**self._key, **asdict(usage)})

    def replace_pages(self, pages: Sequence[PageChunks]) -> LoadOutcome:
        """Make each page's chunks exactly the given set, unless a newer set is there.

        A chunk that Postgres would refuse is left out and reported, as is a page that it refuses all the same.
        Errors of the connection propagate; then nothing of this call is stored.
        """
        refusals: list[Refusal] = []
        prepared = [PageRows.of(page, self._model, self._dimensions, refusals) for page in pages]
        prepared.sort(key=lambda item: item.page.page_id)
        outcome = self._replace(prepared, refusals)
        return replace(outcome, refusals=tuple(refusals))

    def _replace(self, sets: list[PageRows], refusals: list[Refusal]) -> LoadOutcome:
        try:
            with self._conn.transaction():
                return self._replace_in_transaction(sets)
        except REFUSALS as error:
            if len(sets) == 1:
                return self._replace_without_bad_rows(sets[0], refusals, error)
        half = len(sets) // 2
        first, second = self._replace(sets[:half], refusals), self._replace(sets[half:], refusals)
        return LoadOutcome(
            counts=first.counts + second.counts,
            loaded=first.loaded + second.loaded,
            stale=first.stale + second.stale,
            refusals=(),
        )

    def _replace_without_bad_rows(self, item: PageRows, refusals: list[Refusal], error: psycopg.Error) -> LoadOutcome:
        """The page without the chunks that Postgres refuses; without any row if no single chunk is to blame."""
        bad = self._bad_rows(item, item.rows)
        refusals.extend(
            Refusal(page_id=item.page.page_id, item=row.item, reason=f"Postgres refuses it: {state}")
            for row, state in bad.items()
        )
        if bad:
            try:
                with self._conn.transaction():
                    return self._replace_in_transaction([item.without(bad)])
            except REFUSALS as still:
                error = still
        refusals.append(Refusal(page_id=item.page.page_id, item="", reason=f"Postgres refuses it: {error.sqlstate}"))
        return LoadOutcome(counts=LoadCounts(), loaded=(), stale=(), refusals=())

    def _bad_rows(self, item: PageRows, rows: tuple[Row, ...]) -> dict[Row, str | None]:
        """Those of `rows` that Postgres refuses, with its code; each half is tried in a transaction that is undone."""
        try:
            with self._conn.transaction(force_rollback=True):
                self._replace_in_transaction([replace(item, rows=rows)])
        except REFUSALS as error:
            if len(rows) == 1:
                return {rows[0]: error.sqlstate}
            half = len(rows) // 2
            return {**self._bad_rows(item, rows[:half]), **self._bad_rows(item, rows[half:])}
        return {}

    def _replace_in_transaction(self, sets: list[PageRows]) -> LoadOutcome:
        with self._conn.cursor() as cursor:
            there = self._loaded_sets(cursor, sets)
            same = [item for item in sets if there.get(item.page.page_id) == (item.identity, len(item.rows))]
            todo = [item for item in sets if there.get(item.page.page_id) != (item.identity, len(item.rows))]
            unchanged = sum(there[item.page.page_id][1] for item in same)
            if not todo:
                return LoadOutcome(
                    counts=LoadCounts(unchanged=unchanged),
                    loaded=tuple(item.page.page_id for item in same),
                    stale=(),
                    refusals=(),
                )
            cursor.execute(self._sql["create_staging"])
            with cursor.copy(self._sql["copy_staging"]) as copy:
                for block in copy_binary.stream(row.fields for item in todo for row in item.rows):
                    copy.write(block)
            passed = self._pass_fence(cursor, todo)
            key = {**self._key, "page_ids": sorted(passed)}
            cursor.execute(self._sql["upsert_chunks"], key)
            created = [bool(row[0]) for row in cursor]
            current = [item for item in todo if item.page.page_id in passed]
            cursor.execute(self._sql["stored_rows"], key)
            stored, deleted = (cursor.fetchone() or (0,))[0], 0
            if stored > sum(len(item.rows) for item in current):
                cursor.execute(self._sql["delete_tail"], key)
                deleted = cursor.rowcount
            cursor.execute(
                self._sql["drop_pending"],
                {**self._key, "hashes": sorted({h for item in current for row in item.rows for h in row.hashes})},
            )
        return LoadOutcome(
            counts=LoadCounts(
                created=sum(created),
                updated=len(created) - sum(created),
                unchanged=unchanged + stored - deleted - len(created),
                deleted=deleted,
                stale_pages=len(todo) - len(current),
            ),
            loaded=tuple(item.page.page_id for item in (*same, *current)),
            stale=tuple(item.page.page_id for item in todo if item.page.page_id not in passed),
            refusals=(),
        )

    def _loaded_sets(
        self, cursor: psycopg.Cursor[Any], sets: Sequence[PageRows]
    ) -> dict[uuid.UUID, tuple[tuple[int, str, bytes], int]]:
        """Identity and number of rows of what is loaded, by page."""
        cursor.execute(self._sql["loaded_sets"], {**self._key, "page_ids": [item.page.page_id for item in sets]})
        return {
            page_id: ((generation, mark, bytes(digest)), rows) for page_id, generation, mark, digest, rows in cursor
        }

    def _pass_fence(self, cursor: psycopg.Cursor[Any], sets: Sequence[PageRows]) -> set[uuid.UUID]:
        cursor.execute(
            self._sql["pass_fence"],
            {
                **self._key,
                "page_ids": [item.page.page_id for item in sets],
                "generations": [item.page.generation for item in sets],
                "fingerprints": [item.page.fingerprint for item in sets],
                "set_hashes": [item.set_hash for item in sets],
                "chunk_counts": [len(item.rows) for item in sets],
            },
        )
        return {row[0] for row in cursor}
