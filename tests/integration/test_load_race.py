"""Eight processes write overlapping pages for a minute while readers look: none doubled, torn, stale, deadlocked."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from pathlib import Path
from typing import Final

import psycopg

from include.gleaner.load.store import KnowledgeStore
from include.gleaner.models import ChunkType, PageChunks
from include.gleaner.sql import queries
from tests.support.chunks import DIMENSIONS, add_page, chunk, vector_of

ROOT: Final = Path(__file__).parents[2]
SECONDS: Final = 60.0
WRITERS: Final = 8
PAGES: Final = 6
TENANTS: Final = ("acme", "globex")
MODELS: Final = ("old-model", "new-model")
TYPES: Final[tuple[ChunkType, ...]] = ("website", "faq")

Key = tuple[str, int, str]  # tenant, number of the page, model


def texts(number: int, generation: int) -> dict[tuple[str, int], str]:
    """What page `number` says in a generation: of two types, of any length, sometimes nothing."""
    sizes = {"website": generation * 7 % 11, "faq": generation * 5 % 4}
    return {
        (kind, index): f"page {number} generation {generation} {kind} {index}"
        for kind in TYPES
        for index in range(sizes[kind])
    }


def page_set(page: uuid.UUID, number: int, generation: int) -> PageChunks:
    made = texts(number, generation)
    chunks = []
    for (kind, index), text in made.items():
        plain = chunk(index, text)
        chunks.append(type(plain)(**{**vars(plain), "chunk_type": kind}))
    vectors = tuple(vector_of(text) for text in made.values())
    return PageChunks(page_id=page, generation=generation, fingerprint="a", chunks=tuple(chunks), vectors=vectors)


def write(dsn: str, seed: int, pages: dict[str, list[str]], seconds: float) -> None:
    """What each process does: draw generations, dawdle, load; now and then retire. Prints what it loaded last."""
    chance = random.Random(seed)
    newest: dict[str, int] = {}
    counts: Counter[str] = Counter()
    end = time.monotonic() + seconds
    with psycopg.connect(dsn, autocommit=True, prepare_threshold=None) as conn:
        while time.monotonic() < end:
            tenant, model = chance.choice(TENANTS), chance.choice(MODELS)
            chosen = chance.sample(range(PAGES), 4)
            ids = [uuid.UUID(pages[tenant][number]) for number in chosen]
            if chance.random() < 0.05:
                sql, key = queries("reconcile"), {"tenant_id": tenant, "page_ids": ids}
                with conn.transaction():
                    conn.execute(sql["raise_fence"], key)
                    conn.execute(sql["delete_chunks"], key)
                counts["retired"] += 1
                continue
            drawn = [conn.execute("SELECT nextval('gleaner.content_generation')").fetchone() for _ in chosen]
            generations = [int(row[0]) for row in drawn if row]
            time.sleep(chance.random() * 0.02)  # others overtake
            store = KnowledgeStore(conn, tenant_id=tenant, model=model, dimensions=DIMENSIONS)
            made = zip(ids, chosen, generations, strict=True)
            outcome = store.replace_pages([page_set(page, number, generation) for page, number, generation in made])
            assert not outcome.refusals
            counts["loaded"] += len(outcome.loaded)
            counts["stale"] += len(outcome.stale)
            for page, number, generation in zip(ids, chosen, generations, strict=True):
                if page in outcome.loaded:
                    key_ = f"{tenant}/{number}/{model}"
                    newest[key_] = max(newest.get(key_, 0), generation)
    sys.stdout.write(json.dumps({"newest": newest, "counts": counts}))


def seen(conn: psycopg.Connection, tenant: str, page: uuid.UUID, model: str) -> list[tuple[str, int, str]]:
    return conn.execute(
        "SELECT chunk_type, chunk_index, full_text FROM gleaner.tenant_knowledge"
        " WHERE tenant_id = %s AND source_id = %s AND embedding_model = %s ORDER BY 1, 2",
        (tenant, page, model),
    ).fetchall()


def test_a_minute_of_racing_processes(knowledge_dsn: str, conn: psycopg.Connection) -> None:
    pages = {
        tenant: [add_page(conn, tenant, f"https://example.com/{number}") for number in range(PAGES)]
        for tenant in TENANTS
    }
    told = json.dumps({tenant: [str(page) for page in found] for tenant, found in pages.items()})
    command = [sys.executable, "-m", "tests.integration.test_load_race", knowledge_dsn, told]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    processes = [
        subprocess.Popen(
            [*command, str(seed), str(SECONDS)], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
        )
        for seed in range(WRITERS)
    ]
    reads: Counter[str] = Counter()
    over = threading.Event()

    def read(seed: int) -> None:
        chance = random.Random(seed)
        with psycopg.connect(knowledge_dsn, autocommit=True) as own:
            while not over.is_set():
                tenant, model, number = chance.choice(TENANTS), chance.choice(MODELS), chance.randrange(PAGES)
                found = seen(own, tenant, pages[tenant][number], model)
                generations = {int(text.split()[3]) for _, _, text in found}
                whole = not found or (
                    len(generations) == 1
                    and {(kind, index): text for kind, index, text in found} == texts(number, generations.pop())
                )
                reads["whole" if whole else "torn"] += 1

    readers = [threading.Thread(target=read, args=(seed,)) for seed in range(2)]
    for reader in readers:
        reader.start()
    newest: dict[Key, int] = {}
    counts: Counter[str] = Counter()
    try:
        for process in processes:
            out, _ = process.communicate(timeout=SECONDS * 4)
            assert process.returncode == 0, "a writer failed: a deadlock, a broken constraint"
            result = json.loads(out)
            counts.update(result["counts"])
            for name, generation in result["newest"].items():
                tenant, number, model = name.split("/")
                key = (tenant, int(number), model)
                newest[key] = max(newest.get(key, 0), generation)
    finally:
        over.set()
        for reader in readers:
            reader.join()
        for process in processes:
            process.kill()
            process.wait()
    assert reads["torn"] == 0
    assert reads["whole"] > 1_000
    assert min(counts["loaded"], counts["stale"], counts["retired"]) > 20, "the writers did not meet"
    assert len(newest) == len(TENANTS) * PAGES * len(MODELS)
    for (tenant, number, model), generation in newest.items():
        page = pages[tenant][number]
        fence = conn.execute(
            "SELECT generation, chunk_count FROM gleaner.knowledge_generation"
            " WHERE tenant_id = %s AND source_id = %s AND embedding_model = %s",
            (tenant, page, model),
        ).fetchone()
        assert fence is not None
        retired = fence[0] > generation  # after the last load
        expected = {} if retired else texts(number, generation)
        assert fence == (fence[0] if retired else generation, len(expected))
        assert {(kind, index): text for kind, index, text in seen(conn, tenant, page, model)} == expected
    doubled = conn.execute(
        "SELECT count(*) FROM (SELECT 1 FROM gleaner.tenant_knowledge"
        " GROUP BY tenant_id, source_id, chunk_type, chunk_index, embedding_model HAVING count(*) > 1) AS twice"
    ).fetchone()
    assert doubled == (0,)
    deadlocks = conn.execute("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()").fetchone()
    assert deadlocks == (0,)


if __name__ == "__main__":
    write(sys.argv[1], int(sys.argv[3]), json.loads(sys.argv[2]), float(sys.argv[4]))
