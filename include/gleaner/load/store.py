"""Replaces the chunks of whole pages, so that readers see all of a page's old chunks or all of its new ones.

One READ COMMITTED transaction of separate statements, in an order that was measured under racing writers:

1. COPY into a temporary table, before any lock: a client that freezes in the middle holds nothing.
2. The fence: each page's generation row is locked and raised, in the order of the ids, unless it is newer already.
3. Upsert of the rows that differ, sorted; then delete of the rows that the new set lacks.

Counts are what the database returns, never what was sent.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import psycopg

from include.gleaner.errors import InvalidChunkError
from include.gleaner.load import copy_binary
from include.gleaner.load.validate import check_chunk, check_vector
from include.gleaner.models import Chunk, LoadCounts, PageChunks, Usage
from include.gleaner.sql import queries


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """A chunk, or a whole page when `item` is empty, that could not be stored."""

    page_id: uuid.UUID
    item: str  # "website/3", or "" for the page
    reason: str


@dataclass(frozen=True, kw_only=True)
class LoadOutcome:
    """What one call of `replace_pages` did."""

    counts: LoadCounts
    loaded: tuple[uuid.UUID, ...]  # pages whose newest content is in the table now, whether or not it had to be written
    stale: tuple[uuid.UUID, ...]  # pages that have newer content already, or were retired
    refusals: tuple[Refusal, ...]


def text_hash(chunk: Chunk) -> bytes:
    """SHA-256 of what is embedded: equal hash and model, equal vector."""
    return _hash(chunk.embedded_text)


def tldr_hash(chunk: Chunk) -> bytes | None:
    """The same of the chunk's gist; None when it gets no vector."""
    return None if chunk.embedded_tldr is None else _hash(chunk.embedded_tldr)


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


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
        prepared = [_Set.of(page, self._model, self._dimensions, refusals) for page in pages]
        prepared.sort(key=lambda item: item.page.page_id)
        outcome = self._replace(prepared, refusals)
        return replace(outcome, refusals=tuple(refusals))

    def _replace(self, sets: list[_Set], refusals: list[Refusal]) -> LoadOutcome:
        try:
            with self._conn.transaction():
                return self._replace_in_transaction(sets)
        except psycopg.DataError as error:
            if len(sets) == 1:
                refusals.append(
                    Refusal(page_id=sets[0].page.page_id, item="", reason=f"Postgres refuses it: {error.sqlstate}")
                )
                return LoadOutcome(counts=LoadCounts(), loaded=(), stale=(), refusals=())
        half = len(sets) // 2
        first, second = self._replace(sets[:half], refusals), self._replace(sets[half:], refusals)
        return LoadOutcome(
            counts=first.counts + second.counts,
            loaded=first.loaded + second.loaded,
            stale=first.stale + second.stale,
            refusals=(),
        )

    def _replace_in_transaction(self, sets: list[_Set]) -> LoadOutcome:
        with self._conn.cursor() as cursor:
            there = self._loaded_sets(cursor, sets)
            same = [item for item in sets if there.get(item.page.page_id) == item.identity]
            todo = [item for item in sets if there.get(item.page.page_id) != item.identity]
            unchanged = sum(len(item.rows) for item in same)
            if not todo:
                return LoadOutcome(
                    counts=LoadCounts(unchanged=unchanged),
                    loaded=tuple(item.page.page_id for item in same),
                    stale=(),
                    refusals=(),
                )
            cursor.execute(self._sql["create_staging"])
            with cursor.copy(self._sql["copy_staging"]) as copy:
                for block in copy_binary.stream(row for item in todo for row in item.rows):
                    copy.write(block)
            passed = self._pass_fence(cursor, todo)
            key = {**self._key, "page_ids": sorted(passed)}
            cursor.execute(self._sql["upsert_chunks"], key)
            created = [bool(row[0]) for row in cursor]
            cursor.execute(self._sql["delete_tail"], key)
            deleted = cursor.rowcount
            current = [item for item in todo if item.page.page_id in passed]
            cursor.execute(
                self._sql["drop_pending"], {**self._key, "hashes": sorted({h for item in current for h in item.hashes})}
            )
        rows = sum(len(item.rows) for item in current)
        return LoadOutcome(
            counts=LoadCounts(
                created=sum(created),
                updated=len(created) - sum(created),
                unchanged=unchanged + rows - len(created),
                deleted=deleted,
                stale_pages=len(todo) - len(current),
            ),
            loaded=tuple(item.page.page_id for item in (*same, *current)),
            stale=tuple(item.page.page_id for item in todo if item.page.page_id not in passed),
            refusals=(),
        )

    def _loaded_sets(
        self, cursor: psycopg.Cursor[Any], sets: Sequence[_Set]
    ) -> dict[uuid.UUID, tuple[int, str, bytes]]:
        cursor.execute(self._sql["loaded_sets"], {**self._key, "page_ids": [item.page.page_id for item in sets]})
        return {page_id: (generation, mark, bytes(digest)) for page_id, generation, mark, digest in cursor}

    def _pass_fence(self, cursor: psycopg.Cursor[Any], sets: Sequence[_Set]) -> set[uuid.UUID]:
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


@dataclass(frozen=True, kw_only=True)
class _Set:
    """A page's chunks as rows, with the hash that says whether anything changed."""

    page: PageChunks
    rows: tuple[tuple[copy_binary.Field, ...], ...]
    hashes: tuple[bytes, ...]  # text hashes of the rows that have a vector
    set_hash: bytes

    @property
    def identity(self) -> tuple[int, str, bytes]:
        return self.page.generation, self.page.fingerprint, self.set_hash

    @classmethod
    def of(cls, page: PageChunks, model: str, dimensions: int, refusals: list[Refusal]) -> _Set:
        rows: list[tuple[copy_binary.Field, ...]] = []
        hashes: list[bytes] = []
        digest = hashlib.sha256()
        for chunk, vector, gist in _valid(page, dimensions, refusals):
            content_hash = _content_hash(chunk, model, vector is not None, gist is not None)
            digest.update(content_hash)
            rows.append(_row(page.page_id, chunk, content_hash, vector, gist))
            if vector is not None:
                hashes.append(text_hash(chunk))
            if gist is not None and (key := tldr_hash(chunk)) is not None:
                hashes.append(key)
        return cls(page=page, rows=tuple(rows), hashes=tuple(hashes), set_hash=digest.digest())


def _valid(
    page: PageChunks, dimensions: int, refusals: list[Refusal]
) -> Iterator[tuple[Chunk, bytes | None, bytes | None]]:
    """The chunks that can be stored, ordered by key, each key once; a bad vector costs only itself."""
    seen: set[tuple[str, int]] = set()
    gists = page.tldr_vectors or (None,) * len(page.chunks)
    found = zip(page.chunks, page.vectors, gists, strict=True)
    for chunk, vector, gist in sorted(found, key=lambda item: (item[0].chunk_type, item[0].chunk_index)):
        item = f"{chunk.chunk_type}/{chunk.chunk_index}"
        try:
            check_chunk(chunk)
            if (chunk.chunk_type, chunk.chunk_index) in seen:
                raise InvalidChunkError("two chunks of the page have this type and index")
        except InvalidChunkError as error:
            refusals.append(Refusal(page_id=page.page_id, item=item, reason=str(error)))
            continue
        seen.add((chunk.chunk_type, chunk.chunk_index))
        checked: list[bytes | None] = []
        for value in (vector, gist):
            try:
                if value is not None:
                    check_vector(value, dimensions)
            except InvalidChunkError as error:
                refusals.append(Refusal(page_id=page.page_id, item=item, reason=str(error)))
                value = None
            checked.append(value)
        yield chunk, checked[0], checked[1]


def _content_hash(chunk: Chunk, model: str, has_vector: bool, has_gist: bool) -> bytes:
    """SHA-256 over every stored column of the row, the model, and which vectors there are."""
    columns = [
        chunk.chunk_type,
        chunk.chunk_index,
        model,
        chunk.section_title,
        chunk.full_text,
        chunk.embedded_text,
        chunk.search_text,
        chunk.tldr,
        chunk.language,
        chunk.token_count,
        chunk.word_count,
        dict(chunk.metadata),
        has_vector,
        chunk.embedded_tldr,
        has_gist,
    ]
    return hashlib.sha256(json.dumps(columns, ensure_ascii=False, sort_keys=True).encode()).digest()


def _row(
    page_id: uuid.UUID, chunk: Chunk, content_hash: bytes, vector: bytes | None, gist: bytes | None
) -> tuple[copy_binary.Field, ...]:
    """The columns of `copy_staging`, in its order."""
    return (
        copy_binary.uuid_(page_id),
        copy_binary.text(chunk.chunk_type),
        copy_binary.integer(chunk.chunk_index),
        copy_binary.text(chunk.section_title),
        copy_binary.text(chunk.full_text),
        copy_binary.text(chunk.tldr),
        copy_binary.text(chunk.language),
        copy_binary.integer(chunk.token_count),
        copy_binary.integer(chunk.word_count),
        text_hash(chunk),
        content_hash,
        copy_binary.vector(vector),
        copy_binary.text(chunk.search_text),
        copy_binary.jsonb(chunk.metadata),
        tldr_hash(chunk),
        copy_binary.vector(gist),
    )
