"""Search among 100,000 chunks with 384 dimensions: how long it takes, what it finds, for tenants of any size.

Vectors lie in clusters, words have the frequencies of a natural language (Zipf). What a search should find is known by
comparing the query with every chunk of the tenant, outside of the database.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median, quantiles

import numpy as np
import psycopg
from numpy.typing import NDArray

from benchmarks.server import DATABASE, own_server
from include.gleaner.load.store import KnowledgeStore
from include.gleaner.load.vector_index import Kind, ensure_index
from include.gleaner.models import Chunk, PageChunks
from include.gleaner.search import search
from tests.support.chunks import add_page

Row = tuple[str, str, str, bool]
Floats = NDArray[np.float32]

MODEL, DIMENSIONS = "multilingual-e5-small", 384
# 0.1, 1, 3 and 30 per cent; the rest belongs to others. In up to 1,000 chunks a search counts its words.
TENANTS = {"tiny": 100, "counted": 1_000, "small": 3_000, "large": 30_000}
ROWS, OTHERS = 100_000, 20
CHUNKS_PER_PAGE, WORDS_PER_CHUNK, VOCABULARY, CLUSTERS = 20, 180, 40_000, 400
QUERIES, K = 150, 10
MOST_MS, LEAST_RECALL = 30.0, 0.95


@dataclass(frozen=True, kw_only=True)
class Tenant:
    name: str
    vectors: Floats  # (rows, dimensions)
    words: NDArray[np.int64]  # (rows, words of a chunk)


def index() -> Iterator[Row]:
    """Times and recall with an index of full vectors, then with one of half precision."""
    random = np.random.default_rng(7)
    tenants = _tenants(random)
    with (
        own_server(shared_buffers="512MB") as server,
        psycopg.connect(server.dsn(DATABASE), autocommit=True, prepare_threshold=None) as conn,
    ):
        yield from _measure(conn, tenants, random)


def _measure(conn: psycopg.Connection, tenants: list[Tenant], random: np.random.Generator) -> Iterator[Row]:
    began = time.monotonic()
    for tenant in tenants:
        load(conn, tenant)
    rate = ROWS / (time.monotonic() - began)
    yield f"Load of {ROWS:,} chunks x {DIMENSIONS}, no HNSW, one client", f"{rate:,.0f} chunks/s", "", True
    conn.execute("VACUUM ANALYZE gleaner.tenant_knowledge")
    kinds: tuple[Kind, ...] = ("vector", "halfvec")
    for kind in kinds:
        began = time.monotonic()
        ensure_index(conn, model=MODEL, dimensions=DIMENSIONS, kind=kind)
        built = time.monotonic() - began
        row = conn.execute(
            "SELECT pg_size_pretty(pg_relation_size(('gleaner.' || index_name)::regclass)) FROM gleaner.vector_index"
        ).fetchone()
        yield (
            f"HNSW of {kind}",
            f"built in {built:.0f} s ({ROWS / built:,.0f} rows/s), {row[0] if row else '?'}",
            "",
            True,
        )
        for tenant in tenants:
            if tenant.name in TENANTS:
                yield from _ask(conn, tenant, kind, random)
    began = time.monotonic()
    load(conn, Tenant(name="more", vectors=tenants[3].vectors[:2_000], words=tenants[3].words[:2_000]))
    rate = 2_000 / (time.monotonic() - began)
    yield "Load into a live index", f"{rate:,.0f} chunks/s", "", True


def _ask(conn: psycopg.Connection, tenant: Tenant, kind: str, random: np.random.Generator) -> Iterator[Row]:
    times: list[float] = []
    found = 0
    for number in range(QUERIES + 10):
        at = int(random.integers(len(tenant.vectors)))
        vector = _unit(tenant.vectors[at] + random.normal(scale=0.02, size=DIMENSIONS).astype(np.float32))
        query = " ".join(f"w{word}" for word in random.choice(tenant.words[at], 8))
        began = time.perf_counter()
        search(conn, tenant_id=tenant.name, query=query, vector=vector, model=MODEL, limit=K)
        if number >= 10:  # after the cache is warm
            times.append((time.perf_counter() - began) * 1_000)
        best = np.argsort(-(tenant.vectors @ vector), kind="stable")[:K]
        hits = search(conn, tenant_id=tenant.name, query="", vector=vector, model=MODEL, limit=K)
        found += len({hit.full_text for hit in hits} & {_text(tenant, int(row)) for row in best}) if number >= 10 else 0
    share, recall, slow = len(tenant.vectors) / ROWS, found / (QUERIES * K), quantiles(times, n=20)[-1]
    yield (
        f"Search, {kind}, tenant with {share:.1%} of the chunks",
        f"p50 {median(times):.1f} ms, p95 {slow:.1f} ms, recall@{K} of the vectors {recall:.3f}",
        f"p95 ≤ {MOST_MS:.0f} ms, recall ≥ {LEAST_RECALL}",
        slow <= MOST_MS and recall >= LEAST_RECALL,
    )


def _tenants(random: np.random.Generator) -> list[Tenant]:
    sizes = {**TENANTS, **{f"other{number}": (ROWS - sum(TENANTS.values())) // OTHERS for number in range(OTHERS)}}
    centres = random.normal(size=(CLUSTERS, DIMENSIONS)).astype(np.float32)
    return [made(random, name, rows, centres) for name, rows in sizes.items()]


def made(random: np.random.Generator, name: str, rows: int, centres: Floats | None = None) -> Tenant:
    """A tenant of so many chunks."""
    if centres is None:
        centres = random.normal(size=(CLUSTERS, DIMENSIONS)).astype(np.float32)
    frequencies = 1 / np.arange(1, VOCABULARY + 1)
    frequencies /= frequencies.sum()
    return Tenant(
        name=name,
        vectors=_unit(
            centres[random.integers(CLUSTERS, size=rows)]
            + random.normal(scale=0.6, size=(rows, DIMENSIONS)).astype(np.float32)
        ),
        words=random.choice(VOCABULARY, size=(rows, WORDS_PER_CHUNK), p=frequencies),
    )


def _unit(vectors: Floats) -> Floats:
    unit: Floats = (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)
    return unit


def _text(tenant: Tenant, row: int) -> str:
    return " ".join(f"w{word}" for word in tenant.words[row])


def load(conn: psycopg.Connection, tenant: Tenant) -> None:
    store = KnowledgeStore(conn, tenant_id=tenant.name, model=MODEL, dimensions=DIMENSIONS)
    pages: list[PageChunks] = []
    with conn.transaction():
        ids = [
            add_page(conn, tenant.name, f"https://example.com/{page}")
            for page in range(-(-len(tenant.vectors) // CHUNKS_PER_PAGE))
        ]
        conn.execute("UPDATE gleaner.tenant SET search_model = %s WHERE tenant_id = %s", (MODEL, tenant.name))
    for page, page_id in enumerate(ids):
        rows = range(page * CHUNKS_PER_PAGE, min((page + 1) * CHUNKS_PER_PAGE, len(tenant.vectors)))
        pages.append(_page(tenant, page_id, rows))
        if len(pages) == 50 or page == len(ids) - 1:
            store.replace_pages(pages)
            pages.clear()


def _page(tenant: Tenant, page_id: uuid.UUID, rows: range) -> PageChunks:
    texts = [_text(tenant, row) for row in rows]
    return PageChunks(
        page_id=page_id,
        generation=1,
        fingerprint="bench",
        chunks=tuple(
            Chunk(
                chunk_type="website",
                chunk_index=number,
                section_title="",
                full_text=text,
                embedded_text=text,
                search_text=text,
                language="en",
                token_count=WORDS_PER_CHUNK,
                word_count=WORDS_PER_CHUNK,
                metadata={"page_url": "https://example.com/"},
            )
            for number, text in enumerate(texts)
        ),
        vectors=tuple(tenant.vectors[row].astype("<f4").tobytes() for row in rows),
    )
