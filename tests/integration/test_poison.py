"""Contents that something in Postgres, Python or the binary format minds: each costs only itself."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import numpy as np
import psycopg
import pytest

from include.gleaner.load.store import KnowledgeStore
from include.gleaner.models import Chunk, PageChunks
from tests.support.chunks import DIMENSIONS, MODEL, add_page, chunk, page_of, vector_of

GOOD: Final = ["before", "poison", "after"]


def floats(*values: float) -> bytes:
    return bytes(np.array(values, "<f4").tobytes())


def nested(depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(depth):
        value = {"a": value}
    return value


WORDS: Final = " ".join(f"word{number:x}" for number in range(200_000))  # more than a tsvector can hold

# Chunks that cannot be stored: the row is missing, and reported.
REFUSED: Final[Mapping[str, dict[str, Any]]] = {
    "NUL in the text": {"full_text": "a\x00b"},
    "NUL in the breadcrumb": {"section_title": "a\x00b"},
    "NUL in the embedded text": {"embedded_text": "a\x00b"},
    "NUL in the search text": {"search_text": "a\x00b"},
    "NUL in the gist": {"tldr": "a\x00b"},
    "NUL in the gist's embedded text": {"embedded_tldr": "a\x00b"},
    "NUL in the language": {"language": "e\x00n"},
    "NUL in a value of the metadata": {"metadata": {"page_url": "u", "a": [{"b": "\x00"}]}},
    "NUL in a key of the metadata": {"metadata": {"page_url": "u", "a\x00": 1}},
    "high surrogate": {"full_text": "a \ud800 b"},
    "low surrogate": {"full_text": "a \udfff b"},
    "surrogates the wrong way round": {"full_text": "\udc00\ud800"},
    "surrogate in the metadata": {"metadata": {"a": "\ud83d"}},
    "empty": {"full_text": ""},
    "blank": {"full_text": " \n\t\u00a0\u2003"},
    "NaN in the metadata": {"metadata": {"price": float("nan")}},
    "infinity in the metadata": {"metadata": {"price": float("inf")}},
    "no JSON in the metadata": {"metadata": {"when": object()}},
    "bytes in the metadata": {"metadata": {"raw": b"abc"}},
    "metadata nested without end": {"metadata": nested(100_000)},
    "metadata nested deeper than the server goes": {"metadata": nested(20_000)},
    "negative index": {"chunk_index": -1},
    "index over 32 bits": {"chunk_index": 1 << 31},
    "tokens over 32 bits": {"token_count": 1 << 40},
    "negative words": {"word_count": -5},
    "unknown type": {"chunk_type": "recipe"},
    "the key of its neighbour": {"chunk_index": 0},
    "more words than a search text can hold": {"search_text": WORDS},
    "10 MB of different words": {"full_text": WORDS * 7, "search_text": WORDS * 7},
}

# Strange, but text: it is stored as it is.
KEPT: Final[Mapping[str, dict[str, Any]]] = {
    "10 MB of one word": {"full_text": "same " * 2_000_000, "search_text": "same " * 2_000_000},
    "10 MB without a space": {"full_text": "x" * 10_000_000, "search_text": "x" * 10_000_000},
    "the escape of NUL, spelled out": {"full_text": "\\u0000 \\x00 \\0", "metadata": {"a": "\\u0000"}},
    "byte order mark alone": {"full_text": "\ufeff"},
    "noncharacters": {"full_text": "\uffff\ufffe\U0010ffff"},
    "overrides of direction": {"full_text": "\u202eevil\u202c \u2066x\u2069"},
    "COPY's end": {"full_text": "\\.\n\\N\t\r\n"},
    "quotes and placeholders": {"full_text": '\'; DROP TABLE gleaner.tenant; -- %s %(tenant_id)s {} $1 ""'},
    "tsquery signs": {"search_text": "a & | ! ( ) : * <-> 'b' \\"},
    "a number beyond any column": {"metadata": {"n": 10**4_000}},
    "emoji of many parts": {"full_text": "\U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f1ee\U0001f1f7"},
    "combining marks": {"full_text": "a" + "\u0301" * 10_000},
}

VECTORS: Final[Mapping[str, bytes]] = {
    "NaN": floats(*[1.0] * 7, float("nan")),
    "infinity": floats(*[1.0] * 7, float("inf")),
    "minus infinity": floats(float("-inf"), *[1.0] * 7),
    "zeros": floats(*[0.0] * 8),
    "one too few": floats(*[1.0] * 7),
    "one too many": floats(*[1.0] * 9),
    "more than pgvector takes": floats(*[1.0] * 17_000),
    "half a number": b"123",
    "nothing": b"",
}


@pytest.fixture
def pages(conn: psycopg.Connection) -> tuple[uuid.UUID, uuid.UUID]:
    return add_page(conn, "acme", "https://example.com/a"), add_page(conn, "acme", "https://example.com/b")


def load(
    conn: psycopg.Connection, pages: tuple[uuid.UUID, uuid.UUID], poison: Chunk, vector: bytes
) -> tuple[list[tuple[uuid.UUID, str]], list[tuple[int, str]]]:
    """Load a page with the poison between two good chunks, and a good page; refusals, and what the first page has."""
    made = page_of(pages[0], GOOD)
    poisoned = PageChunks(
        page_id=pages[0],
        generation=1,
        fingerprint="a",
        chunks=(made.chunks[0], poison, made.chunks[2]),
        vectors=(made.vectors[0], vector, made.vectors[2]),
    )
    store = KnowledgeStore(conn, tenant_id="acme", model=MODEL, dimensions=DIMENSIONS)
    outcome = store.replace_pages([poisoned, page_of(pages[1], ["neighbour"])])
    assert set(outcome.loaded) == set(pages)
    neighbour = conn.execute("SELECT full_text FROM gleaner.tenant_knowledge WHERE source_id = %s", (pages[1],))
    assert neighbour.fetchall() == [("neighbour",)]
    rows = conn.execute(
        "SELECT chunk_index, full_text FROM gleaner.tenant_knowledge WHERE source_id = %s ORDER BY 1", (pages[0],)
    ).fetchall()
    assert outcome.counts.created == len(rows) + 1
    again = store.replace_pages([poisoned, page_of(pages[1], ["neighbour"])])  # a retry finds the same, writes nothing
    assert (again.counts.unchanged, again.counts.created) == (len(rows) + 1, 0)
    assert [refusal.reason for refusal in again.refusals] == [refusal.reason for refusal in outcome.refusals]
    for refusal in outcome.refusals:
        assert len(refusal.reason) < 100
        assert "\x00" not in refusal.reason
    return [(refusal.page_id, refusal.item) for refusal in outcome.refusals], rows


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_stored_costs_itself_alone(
    conn: psycopg.Connection, pages: tuple[uuid.UUID, uuid.UUID], name: str
) -> None:
    poison = replace(chunk(1, "poison"), **REFUSED[name])
    refused, rows = load(conn, pages, poison, vector_of("poison"))
    assert refused == [(pages[0], f"{poison.chunk_type}/{poison.chunk_index}")]
    assert rows == [(0, "before"), (2, "after")]


@pytest.mark.parametrize("name", KEPT)
def test_what_is_strange_and_storable_is_stored(
    conn: psycopg.Connection, pages: tuple[uuid.UUID, uuid.UUID], name: str
) -> None:
    poison = replace(chunk(1, "poison"), **KEPT[name])
    refused, rows = load(conn, pages, poison, vector_of("poison"))
    assert refused == []
    assert rows == [(0, "before"), (1, poison.full_text), (2, "after")]


@pytest.mark.parametrize("name", VECTORS)
def test_a_vector_that_is_none_costs_itself_alone(
    conn: psycopg.Connection, pages: tuple[uuid.UUID, uuid.UUID], name: str
) -> None:
    refused, rows = load(conn, pages, chunk(1, "poison"), VECTORS[name])
    assert refused == [(pages[0], "website/1")]
    assert [text for _, text in rows] == GOOD
    without = conn.execute("SELECT chunk_index FROM gleaner.tenant_knowledge WHERE embedding IS NULL").fetchall()
    assert without == [(1,)]
