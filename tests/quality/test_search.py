"""The gate on search: what people ask for is found, in two languages, and no worse by both halves than by either."""

from __future__ import annotations

import json
import os
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import psycopg
import pytest
from markdown_it import MarkdownIt

from include.gleaner.chunk.splitter import split
from include.gleaner.config import ChunkPolicy, EmbedPolicy
from include.gleaner.embed import Embedder, open_embedder
from include.gleaner.load.store import KnowledgeStore
from include.gleaner.local.website import SampleWebsite
from include.gleaner.models import Document, PageChunks
from include.gleaner.process.files import read_file
from include.gleaner.search import search
from include.gleaner.text import count_words, set_apart
from tests.support.chunks import DIMENSIONS, MODEL, add_page, page_of
from tests.support.debian_docs import fetch_docs
from tests.support.documents import document, read, text_of

DATA = Path(os.environ.get("GLEANER_TEST_DATA") or Path(__file__).parents[3] / "shared" / "data")
SITE = "https://example.com"
PAGES = 24
DEPTH = 5
LEAST_RECALL = {"en": 0.98, "fa": 0.97}
LEAST_RECALL_OF_THE_SITE, LEAST_FIRST = 0.97, 0.82  # that the best of all chunks is of a page that answers


def english(folder: Path) -> list[Document]:
    html = fetch_docs("postgresql-doc-15", folder) / "usr/share/doc/postgresql-doc-15/html"
    pages = [found for path in sorted(html.glob("*.html"))[::9] if isinstance(found := read_file(path), Document)]
    return [page for page in pages if 600 <= page.word_count <= 2_500][:PAGES]


def persian(folder: Path) -> list[Document]:
    if (DATA / "vue-fa").is_dir():
        parser = MarkdownIt("commonmark").enable("table")
        texts = [parser.render(path.read_text("utf-8")) for path in sorted((DATA / "vue-fa").rglob("*.md"))]
        return [document(f"<html lang=fa><main>{text}</main>".encode()) for text in texts][:PAGES]
    html = fetch_docs("debian-handbook", folder) / "usr/share/doc/debian-handbook/html/fa-IR"
    pages = [found for path in sorted(html.glob("*.html")) if isinstance(found := read_file(path), Document)]
    return [page for page in pages if page.language == "fa" and page.word_count >= 300][:PAGES]


def questions(pages: Sequence[Document]) -> list[tuple[str, int]]:
    """(query, number of the page that answers it): headings, the rarest words of a paragraph, any words of one."""
    chance = random.Random(5)
    known = Counter(word for page in pages for word in set(set_apart(text_of(page).casefold()).split()))
    headings = Counter(section.path[-1] for page in pages for section in page.sections if section.path)
    found: list[tuple[str, int]] = []
    for number, page in enumerate(pages):
        own = sorted({s.path[-1] for s in page.sections if s.path and count_words(s.path[-1]) >= 2})
        own = [heading for heading in own if headings[heading] == 1]
        found += [(heading, number) for heading in chance.sample(own, min(2, len(own)))]
        paragraphs = [
            block.text for section in page.sections for block in section.blocks
            if block.kind == "paragraph" and 15 <= count_words(block.text) <= 80
        ]  # fmt: skip
        for paragraph in chance.sample(paragraphs, min(4, len(paragraphs))):
            words = [word for word in dict.fromkeys(set_apart(paragraph.casefold()).split()) if len(word) > 2]
            rare = len(found) % 2 == 0
            kept = set(
                sorted(words, key=lambda word: (known[word], word))[:4]
                if rare
                else chance.sample(words, min(8, len(words)))
            )
            found.append((" ".join(word for word in words if word in kept), number))
    return found


def sample_pages(language: str | None = None) -> dict[str, Document]:
    """The sample website's pages by their paths, in a language or in all."""
    site = SampleWebsite()
    site.start()
    try:
        found = {
            path: read(site.answer(path)[2])
            for path, page in site.pages.items()
            if language is None or page.language == language
        }
    finally:
        site.stop()
    return {path: page for path, page in found.items() if isinstance(page, Document)}


def sample_questions() -> list[dict[str, Any]]:
    text = files("include.gleaner.local").joinpath("site/questions.json").read_text("utf-8")
    asked: list[dict[str, Any]] = json.loads(text)
    return asked


def sample(language: str) -> tuple[list[Document], list[tuple[str, int]]]:
    """The sample website's pages in a language, and the questions that people would ask of it, in their own words."""
    pages = sample_pages(language)
    paths = list(pages)
    return list(pages.values()), [
        (one["question"], paths.index(one["page"])) for one in sample_questions() if one["language"] == language
    ]


def load(conn: psycopg.Connection, pages: Mapping[str, Document], embedder: Embedder) -> None:
    """As the knowledge of acme, by their addresses."""
    store = KnowledgeStore(conn, tenant_id="acme", model=embedder.model, dimensions=embedder.dimensions)
    for url, page in pages.items():
        chunks = split(page, ChunkPolicy(), url, embedder.limit)
        vectors: dict[int, bytes] = {}
        for batch in embedder.embed([chunk.embedded_text for chunk in chunks]):
            vectors |= {at: vector.tobytes() for at, vector in zip(batch.positions, batch.vectors, strict=True)}
        store.replace_pages(
            [
                PageChunks(
                    page_id=add_page(conn, "acme", url),
                    generation=1,
                    fingerprint="a",
                    chunks=chunks,
                    vectors=tuple(vectors.get(at) for at in range(len(chunks))),
                )
            ]
        )
    conn.execute("UPDATE gleaner.tenant SET search_model = %s WHERE tenant_id = 'acme'", (embedder.model,))


def ask(
    conn: psycopg.Connection, asked: Sequence[tuple[str, set[str]]], embedder: Embedder
) -> tuple[Counter[str], Counter[str]]:
    """How many of (question, addresses that answer) have one among the five best chunks, and as the best; by half."""
    recall, first = Counter[str](), Counter[str]()
    for query, wanted in asked:
        vector = embedder.embed_query(query)
        for half, text, given in (("both", query, vector), ("dense", "", vector), ("lexical", query, None)):
            hits = search(conn, tenant_id="acme", query=text, vector=given, model=embedder.model, limit=DEPTH)
            found = [hit.page_url for hit in hits]
            recall[half] += bool(wanted & set(found))
            first[half] += bool(wanted & set(found[:1]))
    return recall, first


@pytest.mark.parametrize(("language", "pages_of"), [("en", english), ("fa", persian)])
def test_both_halves_together_find_more_than_either(
    language: str, pages_of: Callable[[Path], list[Document]], conn: psycopg.Connection, tmp_path: Path
) -> None:
    """recall@5: the page that answers is among the pages of the five best chunks."""
    pages, asked = sample(language)
    before = len(pages)
    pages += pages_of(tmp_path)
    embedder = open_embedder(EmbedPolicy(), None)
    load(conn, {f"{SITE}/{number}": page for number, page in enumerate(pages)}, embedder)
    conn.execute("ANALYZE gleaner.tenant_knowledge")
    asked += [(query, before + number) for query, number in questions(pages[before:])]
    recall, first = ask(conn, [(query, {f"{SITE}/{number}"}) for query, number in asked], embedder)
    print(f"{language}: {len(asked)} questions, recall@5 {dict(recall)}, first {dict(first)}")
    assert len(asked) >= 100
    assert recall["both"] >= max(recall["dense"], recall["lexical"]), recall
    assert recall["both"] >= LEAST_RECALL[language] * len(asked)


def test_a_small_tenant_needs_no_statistics(conn: psycopg.Connection) -> None:
    """The sample website, as it is after its first run: alone, and beside somebody who speaks of other things."""
    conn.execute("ALTER TABLE gleaner.tenant_knowledge SET (autovacuum_enabled = off)")
    embedder = open_embedder(EmbedPolicy(), None)
    load(conn, {SITE + path: page for path, page in sample_pages().items()}, embedder)
    own = [(one["question"], {SITE + one["page"]}) for one in sample_questions()]
    more = json.loads(Path(__file__).with_name("asked_of_the_site.json").read_text("utf-8"))
    asked = own + [(one["question"], {SITE + path for path in one["pages"]}) for one in more]
    assert len(asked) >= 70
    never = ask(conn, asked, embedder)
    recall, first = never
    print(f"the sample website: {len(asked)} questions, recall@5 {dict(recall)}, first {dict(first)}")
    assert recall["both"] >= max(recall["dense"], recall["lexical"]), recall
    assert recall["both"] >= LEAST_RECALL_OF_THE_SITE * len(asked)
    assert first["both"] >= LEAST_FIRST * len(asked)
    assert ask(conn, own, embedder)[0]["both"] == len(own)
    battery = "how long does the battery last"

    def best() -> list[tuple[str, str, float]]:
        vector = embedder.embed_query(battery)
        hits = search(conn, tenant_id="acme", query=battery, vector=vector, model=embedder.model)
        return [(hit.page_url, hit.full_text, round(hit.score, 9)) for hit in hits]

    hits = best()
    assert hits[0][0] == f"{SITE}/products/root-sensor"
    assert "four years" in hits[0][1]
    # Then statistics of another tenant alone, and at last of both.
    conn.execute("CREATE TEMP TABLE kept AS SELECT * FROM gleaner.tenant_knowledge")
    conn.execute("DELETE FROM gleaner.tenant_knowledge")
    texts = [f"Kapitel {number} handelt von der Verwaltung eines Servers." for number in range(300)]
    other = page_of(add_page(conn, "other", f"{SITE}/other"), texts)
    KnowledgeStore(conn, tenant_id="other", model=MODEL, dimensions=DIMENSIONS).replace_pages([other])
    conn.execute("ANALYZE gleaner.tenant_knowledge")
    conn.execute("INSERT INTO gleaner.tenant_knowledge SELECT * FROM kept")
    assert best() == hits
    assert ask(conn, asked, embedder) == never
    conn.execute("ANALYZE gleaner.tenant_knowledge")
    assert best() == hits
