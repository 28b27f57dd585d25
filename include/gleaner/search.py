"""Search in one tenant's knowledge: nearness of meaning and words in common, fused by rank."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

import numpy as np
import psycopg
from numpy.typing import NDArray

from include.gleaner.sql import queries
from include.gleaner.text import fold, strip_binary

DEPTH: Final = 50  # best of each half that take part in the fusion
DENSE_WEIGHT: Final = 1.0  # of the two ranks in the fusion
LEXICAL_WEIGHT: Final = 0.2  # lower: it ranks common words as high as rare ones
MAX_QUERY_CHARACTERS: Final = 2_000

_PERSIAN_LETTERS: Final = re.compile("[پچژگکی]")
_WORD: Final = re.compile(r"\w+")


@dataclass(frozen=True, kw_only=True)
class Hit:
    """One chunk that was found."""

    score: float  # comparable within one search only
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
    vector: NDArray[np.float32],
    model: str,
    limit: int = 10,
) -> list[Hit]:
    """The tenant's best chunks for `query`, best first; `vector` is the query's, by `model`.

    Exact over the tenant's rows; rows of other tenants and other models never take part.
    """
    rows = conn.execute(
        queries("search")["hybrid"],
        {
            "tenant_id": tenant_id,
            "model": model,
            "vector": "[" + ",".join(repr(float(value)) for value in vector) + "]",
            "words": any_word(query),
            "depth": max(DEPTH, limit),
            "dense_weight": DENSE_WEIGHT,
            "lexical_weight": LEXICAL_WEIGHT,
            "limit": limit,
        },
    ).fetchall()
    return [
        Hit(
            score=score,
            page_url=page_url or "",
            chunk_type=chunk_type,
            chunk_index=chunk_index,
            section_title=section_title,
            full_text=full_text,
            language=language,
        )
        for score, page_url, chunk_type, chunk_index, section_title, full_text, language in rows
    ]


def any_word(query: str) -> str:
    """The query as a tsquery that any of its words satisfies, folded as the stored text is; "" when it has no word."""
    text = strip_binary(query[:MAX_QUERY_CHARACTERS])[0]
    words = dict.fromkeys(_WORD.findall(fold(text, "fa" if _PERSIAN_LETTERS.search(text) else "und")))
    return " | ".join(f"'{word}'" for word in words)
