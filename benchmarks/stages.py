"""Processing and chunking alone, on one core: real pages, no database, no Airflow."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

from bs4 import BeautifulSoup

from include.gleaner.chunk.splitter import split
from include.gleaner.config import ChunkPolicy
from include.gleaner.models import Document, NotContent, Snapshot
from include.gleaner.process.document import read_document
from tests.support.debian_docs import fetch_docs

Row = tuple[str, str, str, bool]

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("GLEANER_TEST_DATA") or ROOT.parent / "shared" / "data")
PAGE_BYTES = 27_000  # median of the pages
ROUNDS = 3
BATCH = 50
TEXTS, LEAST_TEXTS = 60, 15
LEAST_PAGES, LEAST_TOKENS, MOST_MB = 100, 1_000_000, 250


def stages() -> Iterator[Row]:
    """Pages a CPU-second beside Beautiful Soup's parse alone, tokens a CPU-second, memory of one batch."""
    bodies = _bodies()
    size = f"{len(bodies)} pages, {median(map(len, bodies)) / 1_000:.0f} KB in the median"
    documents = [page for body in bodies if isinstance(page := _read(body), Document)]  # and everything is loaded
    rate = len(bodies) / median(_cpu(lambda: [_read(body) for body in bodies]) for _ in range(ROUNDS))
    peer = len(bodies) / median(_cpu(lambda: [BeautifulSoup(body, "lxml") for body in bodies]) for _ in range(ROUNDS))
    yield f"Process, {size}", f"{rate:.0f} pages/CPU-s", f"≥ {LEAST_PAGES}", rate >= LEAST_PAGES
    yield "Beautiful Soup's parse alone, in the same run", f"{peer:.0f} pages/CPU-s", "", True

    policy = ChunkPolicy()
    total = sum(chunk.token_count for page in documents for chunk in split(page, policy, ""))

    def chunk_all() -> None:
        for page in documents:
            split(page, policy, "")

    speed = total / median(_cpu(chunk_all) for _ in range(3 * ROUNDS))  # a tenth of a second each
    yield "Chunk", f"{speed / 1e6:.2f} M tokens/CPU-s", f"≥ {LEAST_TOKENS / 1e6:.0f} M", speed >= LEAST_TOKENS
    peak = _peak_of_a_batch(bodies[:BATCH])
    yield f"Peak memory of a process that reads {BATCH} pages", f"{peak:.0f} MB", f"≤ {MOST_MB} MB", peak <= MOST_MB


def local_model() -> Iterator[Row]:
    """Texts of about 300 tokens that the local model embeds on one thread."""
    from include.gleaner.config import EmbedPolicy
    from include.gleaner.embed.local import LocalEmbedder

    embedder = LocalEmbedder(EmbedPolicy(), threads=1)
    limit = embedder.limit
    documents = [page for body in _bodies() if isinstance(page := _read(body), Document)]
    found = {
        chunk.embedded_text: tokens
        for page in documents
        for chunk in split(page, ChunkPolicy(), "", limit)
        if 250 <= (tokens := limit.count(chunk.embedded_text)) <= 350
    }
    texts = list(found)[:TEXTS]
    mean = sum(found[text] for text in texts) / len(texts)
    rate = len(texts) / median(_cpu(lambda: [list(embedder.embed(texts))]) for _ in range(ROUNDS))
    yield (
        f"Local model, {len(texts)} texts of {mean:.0f} tokens in the mean, one thread",
        f"{rate:.1f} texts/CPU-s", f"≥ {LEAST_TEXTS}", rate >= LEAST_TEXTS,
    )  # fmt: skip


def _read(body: bytes) -> Document | NotContent:
    return read_document(
        Snapshot(page_id=uuid.UUID(int=0), url="https://example.com/", generation=0, body=body, content_type="")
    )


def _cpu(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def _bodies() -> list[bytes]:
    """Pages around the wanted size: of the data set if it is there, else of PostgreSQL's manual."""
    if (DATA / "wcxb-dev").is_dir():
        found = [gzip.decompress(path.read_bytes()) for path in sorted((DATA / "wcxb-dev" / "html").glob("*.gz"))]
    else:
        with tempfile.TemporaryDirectory() as folder:
            manual = fetch_docs("postgresql-doc-15", Path(folder)) / "usr/share/doc/postgresql-doc-15/html"
            found = [path.read_bytes() for path in sorted(manual.glob("*.html"))]
    # The smallest and the largest page fall away in turns until the median is right.
    found.sort(key=len)
    middle = next((at for at, body in enumerate(found) if len(body) >= PAGE_BYTES), len(found) // 2)
    reach = min(middle, len(found) - 1 - middle, 100)
    return found[middle - reach : middle + reach + 1]


def _peak_of_a_batch(bodies: list[bytes]) -> float:
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for number, body in enumerate(bodies):
            path = Path(folder) / f"{number}.html"
            path.write_bytes(body)
            paths.append(str(path))
        command = [sys.executable, "-m", "include.gleaner.process", *paths]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)  # of this child alone
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
    return usage.ru_maxrss / 1_024
