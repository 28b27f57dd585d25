"""Makes pages, chunks and vectors for tests of the load stage."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Sequence

import numpy as np
import psycopg

from include.gleaner.models import Chunk, PageChunks, page_id_of, source_id_of

MODEL = "test-model"
DIMENSIONS = 8
ROOT_URL = "https://example.com/"


def add_page(conn: psycopg.Connection, tenant_id: str, url: str) -> uuid.UUID:
    """A row of website_page, with all that it refers to; its id."""
    source_id = source_id_of(tenant_id, ROOT_URL)
    page_id = page_id_of(tenant_id, source_id, url)
    conn.execute("INSERT INTO gleaner.tenant (tenant_id) VALUES (%s) ON CONFLICT DO NOTHING", (tenant_id,))
    conn.execute(
        "INSERT INTO gleaner.website_source (tenant_id, source_id, root_url) VALUES (%s, %s, %s)"
        " ON CONFLICT DO NOTHING",
        (tenant_id, source_id, ROOT_URL),
    )
    conn.execute(
        "INSERT INTO gleaner.website_page (tenant_id, page_id, source_id, url, depth, found_job)"
        " VALUES (%s, %s, %s, %s, 0, 1) ON CONFLICT DO NOTHING",
        (tenant_id, page_id, source_id, url),
    )
    return page_id


def chunk(index: int, text: str) -> Chunk:
    """A chunk of the type `website`."""
    return Chunk(
        chunk_type="website",
        chunk_index=index,
        section_title="Title > Part",
        full_text=text,
        embedded_text=f"Title > Part\n\n{text}",
        search_text=text.lower(),
        language="en",
        token_count=len(text.split()),
        word_count=len(text.split()),
        metadata={"page_url": ROOT_URL, "headings": ["Part"]},
    )


def vector_of(text: str, dimensions: int = DIMENSIONS) -> bytes:
    """A vector of norm 1 that depends on the text alone."""
    seed = int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:4], "big")
    values = np.random.default_rng(seed).normal(size=dimensions).astype("<f4")
    return bytes((values / np.linalg.norm(values)).astype("<f4").tobytes())


def page_of(page_id: uuid.UUID, texts: Sequence[str], *, generation: int = 1, fingerprint: str = "a") -> PageChunks:
    """A page with one chunk per text, each with its vector."""
    return PageChunks(
        page_id=page_id,
        generation=generation,
        fingerprint=fingerprint,
        chunks=tuple(chunk(index, text) for index, text in enumerate(texts)),
        vectors=tuple(vector_of(text) for text in texts),
    )
