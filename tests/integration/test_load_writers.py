"""Writers of the same pages that race or are killed: readers see the old or the new set, whole."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg

from tests.support.chunks import add_page, page_of
from tests.support.stored import store_on, stored

ROOT = Path(__file__).parents[2]


def test_racing_writers_leave_exactly_the_newest_set(knowledge_dsn: str, conn: psycopg.Connection) -> None:
    """8 writers load random generations of 6 pages in random order while a reader looks: no torn set, no deadlock."""
    pages = [add_page(conn, "acme", f"https://example.com/{number}") for number in range(6)]

    def texts(number: int, generation: int) -> list[str]:
        return [f"page {number} generation {generation} chunk {index}" for index in range(3 + (generation * 7) % 9)]

    def write(seed: int) -> None:
        chance = random.Random(seed)
        with psycopg.connect(knowledge_dsn, autocommit=True, prepare_threshold=None) as own:
            store = store_on(own)
            for _ in range(25):
                chosen = chance.sample(range(6), 4)
                store.replace_pages(
                    [
                        page_of(pages[number], texts(number, generation), generation=generation)
                        for number in chosen
                        for generation in [chance.randint(1, 100)]
                    ]
                )

    torn: list[set[str]] = []
    done = threading.Event()

    def read() -> None:
        with psycopg.connect(knowledge_dsn, autocommit=True) as own:
            while not done.is_set():
                for number, page in enumerate(pages):
                    found = stored(own, page)
                    generations = {text.split()[3] for text in found}
                    if len(generations) > 1 or (found and found != texts(number, int(generations.pop()))):
                        torn.append(set(found))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(write, range(8)))
    finally:
        done.set()
        reader.join()
    assert not torn
    for number, page in enumerate(pages):
        row = conn.execute(
            "SELECT generation FROM gleaner.knowledge_generation WHERE source_id = %s", (page,)
        ).fetchone()
        assert row is not None
        assert stored(conn, page) == texts(number, row[0])
        assert row[0] > 50  # of 100 random draws per page the newest is far up: the fence lets newer ones pass


WRITER = """
import sys, uuid, psycopg
from include.gleaner.load.store import KnowledgeStore
from tests.support.chunks import DIMENSIONS, MODEL, page_of
dsn, generation, *pages = sys.argv[1:]
with psycopg.connect(dsn, autocommit=True) as conn:
    store = KnowledgeStore(conn, tenant_id="acme", model=MODEL, dimensions=DIMENSIONS)
    number = int(generation)
    print("ready", flush=True)
    while True:
        texts = [f"generation {number} chunk {index}" for index in range(200 + number % 50)]
        store.replace_pages([page_of(uuid.UUID(page), texts, generation=number) for page in pages])
        number += 1
"""


def test_a_writer_that_is_killed_leaves_the_old_or_the_new_set(knowledge_dsn: str, conn: psycopg.Connection) -> None:
    pages = [add_page(conn, "acme", f"https://example.com/{number}") for number in range(4)]
    generation = 1
    for round_ in range(16):
        if round_ >= 6 and generation > 1:
            break
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, knowledge_dsn, str(generation), *map(str, pages)],
            cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.15 + 0.037 * round_ + 0.5 * max(0, round_ - 5))  # a slow machine is given more
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        wait_until(lambda: not others(conn))
        found = [stored(conn, page) for page in pages]
        assert found[0] == found[1] == found[2] == found[3]  # one call, one transaction
        if found[0]:
            number = int(found[0][0].split()[1])
            assert found[0] == [f"generation {number} chunk {index}" for index in range(200 + number % 50)]
            generation = number + 1
    assert generation > 1, "no writer ever finished a set; the test has shown nothing"


def others(conn: psycopg.Connection) -> int:
    """Sessions beside ours that are doing something: the server needs a moment to notice a dead client."""
    row = conn.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    ).fetchone()
    return int(row[0]) if row else 0


def wait_until(condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
