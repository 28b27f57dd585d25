"""Search in one tenant's knowledge: nearness of meaning and words in common, fused by score.

The search itself is the function `gleaner.search` in the database, for any language to call; this is its Python side.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Final

import numpy as np
import psycopg
from numpy.typing import NDArray

from include.gleaner.sql import queries
from include.gleaner.text import strip_binary

MAX_QUERY_CHARACTERS: Final = 2_000


@dataclass(frozen=True, kw_only=True)
class Hit:
    """One chunk that was found."""

    score: float  # of both halves together, 0 to 1; comparable within one search only
    similarity: float | None  # cosine of the vectors, -1 to 1; None when the vector was not near, or was not given
    lexical: float | None  # by words; None when the words did not find it
    source_id: uuid.UUID  # the page
    page_url: str
    chunk_type: str
    chunk_index: int
    section_title: str
    full_text: str
    language: str


def search(
    conn: psycopg.Connection,
    *,
    tenant_id: str,
    query: str,
    vector: NDArray[np.float32] | None,
    model: str | None,
    limit: int = 10,
    language: str | None = None,
) -> list[Hit]:
    """The tenant's best chunks for `query`, best first; rows of other tenants and models never take part.

    `vector` is the query's, by `model`; without it words alone decide, with an empty query the vector alone. Without a
    model the one that the tenant's readers see is searched. `language` is an ISO 639 code; without it Persian is told
    by its letters. `limit` is 1 to 1,000. Raises psycopg.errors.InsufficientPrivilege when the role of the connection
    may not read the tenant, and psycopg.DataError for a vector of the wrong length or a limit out of bounds.
    """
    rows = conn.execute(
        queries("search")["search"],
        {
            "tenant_id": tenant_id,
            "query": strip_binary(query[:MAX_QUERY_CHARACTERS])[0],
            "vector": None if vector is None else "[" + ",".join(repr(float(value)) for value in vector) + "]",
            "limit": limit,
            "language": language,
            "model": model,
        },
    ).fetchall()
    return [
        Hit(
            score=score,
            similarity=similarity,
            lexical=lexical,
            source_id=source_id,
            page_url=page_url or "",
            chunk_type=chunk_type,
            chunk_index=chunk_index,
            section_title=section_title,
            full_text=full_text,
            language=chunk_language,
        )
        for (
            score, similarity, lexical, source_id, page_url, chunk_type, chunk_index, section_title, full_text,
            chunk_language,
        ) in rows
    ]  # fmt: skip
