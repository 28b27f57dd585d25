"""The gates on chunking: the budget, boundaries that stay where they are, and chunks that are found."""

from __future__ import annotations

import json
import os
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean

import numpy as np
import pytest
from markdown_it import MarkdownIt

from include.gleaner.chunk.splitter import split
from include.gleaner.config import ChunkPolicy, EmbedPolicy
from include.gleaner.embed import open_embedder
from include.gleaner.models import Block, BlockKind, Document, Section
from include.gleaner.process.files import read_file
from include.gleaner.text import count_words, set_apart
from tests.support.debian_docs import fetch_docs
from tests.support.documents import document, text_of
from tests.support.embedding_answers import reference_encoding

DATA = Path(os.environ.get("GLEANER_TEST_DATA") or Path(__file__).parents[3] / "shared" / "data")
FLOORS = json.loads(Path(__file__).with_name("floors.json").read_text("utf-8"))
GENERATED = 10_000
LONG_WORDS = 1_500
LONG_DOCUMENTS = 100

SCRIPTS = (
    "the pump opens a valve when soil is dry and reports what it did",
    "این کتاب‌خانه هر روز از ساعت هشت باز است و کسی را بی‌پاسخ نمی‌گذارد",
    "هذا الكتاب يتحدث عن الحدائق والمياه في المدينة القديمة",
    "この図書館は毎日八時から開いています",
    "👩‍🌾 🌱 👨‍👩‍👧‍👦 🏳️‍🌈 é ﷺ ① ½",
    "def f(x): return x[0] + 0x7f3a9b // {} <|endoftext|> &amp; \\n\\t",
)
SIGNS = (".", ".", "?", "؟", "。", "!", ",", ";", " ", "")


def generated(chance: random.Random) -> Document:
    """Any document at all: every kind of block in every script, giant words, empty sections, deep headings."""

    def text(words: int) -> str:
        own = chance.choice(SCRIPTS).split()
        parts = [chance.choice(own) + (chance.choice(SIGNS) if chance.random() < 0.2 else "") for _ in range(words)]
        if chance.random() < 0.01:
            parts.append(chance.choice(own) * chance.randint(20, 200))
        return " ".join(parts)

    def block() -> Block:
        kind: BlockKind = chance.choice(("paragraph", "paragraph", "list", "table", "code", "quote", "definition"))
        lines = [text(chance.randint(1, 15)) for _ in range(chance.randint(1, 4))]
        if kind == "table":
            rows = [f"| {line} | {text(3)} |" for line in lines]
            return Block(kind=kind, text="\n".join([rows[0], "| --- | --- |", *rows]))
        if kind in ("paragraph", "quote"):
            return Block(kind=kind, text=text(chance.choice((3, 10, 20, 60))))
        return Block(kind=kind, text="\n".join(f"- {line}" for line in lines) if kind == "list" else "\n".join(lines))

    sections = [
        Section(
            path=tuple(text(chance.choice((1, 4, 4, 20))) for _ in range(chance.randint(0, 4))),
            blocks=tuple(block() for _ in range(chance.choice((0, 1, 1, 2)))),
        )
        for _ in range(chance.randint(1, 2))
    ]
    return Document(title=text(4), language=chance.choice(("en", "fa", "ja", "und")), sections=tuple(sections))


def test_no_chunk_of_ten_thousand_documents_is_above_its_budget() -> None:
    chance = random.Random(20_240_501)
    count = reference_encoding().encode_ordinary
    chunks = fullest = 0
    for _ in range(GENERATED):
        policy = ChunkPolicy(max_tokens=chance.choice((64, 64, 100, 250)), overlap_percent=chance.choice((0, 0, 25)))
        for chunk in split(generated(chance), policy, ""):
            tokens = len(count(chunk.embedded_text))
            assert tokens == chunk.token_count <= policy.max_tokens, chunk
            assert "\ufffd" not in chunk.full_text
            chunks += 1
            fullest += tokens > 0.9 * policy.max_tokens
    print(f"{chunks} chunks, {fullest} of them nearly full")
    assert chunks > 2 * GENERATED
    assert fullest > chunks / 20


@pytest.fixture(scope="module")
def manual(tmp_path_factory: pytest.TempPathFactory) -> list[Document]:
    """PostgreSQL's manual: real documents in English, of all lengths."""
    folder = tmp_path_factory.mktemp("manual")
    pages = sorted((fetch_docs("postgresql-doc-15", folder) / "usr/share/doc/postgresql-doc-15/html").glob("*.html"))
    return [found for path in pages if isinstance(found := read_file(path), Document)]


def changed(document: Document, chance: random.Random, change: str) -> Document | None:
    """`document` with one paragraph edited, inserted or removed; None where it has no paragraph of some length."""
    places = [
        (number, at)
        for number, section in enumerate(document.sections)
        for at, block in enumerate(section.blocks)
        if block.kind == "paragraph" and count_words(block.text) > 15
    ]
    if not places:
        return None
    number, at = chance.choice(places)
    section = document.sections[number]
    blocks = list(section.blocks)
    if change == "edited":
        blocks[at] = replace(blocks[at], text=f"{blocks[at].text} One more thing was found out and written down here.")
    elif change == "inserted":
        words = [word for block in blocks for word in block.text.split()]
        blocks.insert(at, Block(kind="paragraph", text=f"This is new. {' '.join(chance.choices(words, k=50))}."))
    else:
        del blocks[at]
    sections = [*document.sections[:number], replace(section, blocks=tuple(blocks)), *document.sections[number + 1 :]]
    return replace(document, sections=tuple(sections))


@pytest.mark.parametrize("change", ["edited", "inserted", "removed"])
def test_a_change_stays_where_it_is(manual: list[Document], change: str) -> None:
    """How many chunks of a long document are others than before, when one of its paragraphs changes."""
    chance = random.Random(7)
    long = [page for page in manual if page.word_count >= LONG_WORDS][:LONG_DOCUMENTS]
    assert len(long) == LONG_DOCUMENTS
    counts: list[int] = []
    for page in long:
        other = changed(page, chance, change)
        if other is not None:
            before, after = (
                Counter(chunk.embedded_text for chunk in split(one, ChunkPolicy(), "")) for one in (page, other)
            )
            counts.append(max((after - before).total(), (before - after).total()))
    print(f"{change}: {mean(counts):.2f} chunks of {len(counts)} documents, {max(counts)} at most")
    assert len(counts) > 0.9 * LONG_DOCUMENTS
    assert mean(counts) <= FLOORS["most_changed_chunks"]


def fixed_size(page: Document) -> list[str]:
    """500 tokens, then the next 500, as splitters without a model of the page do it."""
    model = reference_encoding()
    tokens = model.encode_ordinary(f"{page.title}\n{text_of(page)}")
    return [model.decode(tokens[start : start + 500]) for start in range(0, len(tokens), 500)]


def ours(page: Document) -> list[str]:
    return [chunk.embedded_text for chunk in split(page, ChunkPolicy(), "", open_embedder(EmbedPolicy(), None).limit)]


@pytest.fixture(scope="module")
def persian(tmp_path_factory: pytest.TempPathFactory) -> list[Document]:
    """Manuals in Persian: of a JavaScript framework where they are there, else the Debian handbook as far as it is."""
    if (DATA / "vue-fa").is_dir():
        parser = MarkdownIt("commonmark").enable("table")
        texts = [parser.render(path.read_text("utf-8")) for path in sorted((DATA / "vue-fa").rglob("*.md"))]
        return [document(f"<html lang=fa><main>{text}</main>".encode()) for text in texts]
    folder = fetch_docs("debian-handbook", tmp_path_factory.mktemp("handbook"))
    found = [read_file(path) for path in sorted((folder / "usr/share/doc/debian-handbook/html/fa-IR").glob("*.html"))]
    return [page for page in found if isinstance(page, Document) and page.language == "fa" and page.word_count >= 300]


def questions(pages: Sequence[Document], many: int) -> list[tuple[str, str]]:
    """(query, letters of the paragraph that answers it): what is rarest in a paragraph, as people type it."""
    chance = random.Random(11)
    known = Counter(word for page in pages for word in set(set_apart(text_of(page).casefold()).split()))
    found: list[tuple[str, str]] = []
    for page in pages:
        paragraphs = [
            block.text for section in page.sections for block in section.blocks
            if block.kind == "paragraph" and 15 <= count_words(block.text) <= 80
        ]  # fmt: skip
        for paragraph in chance.sample(paragraphs, min(many, len(paragraphs))):
            words = [word for word in dict.fromkeys(set_apart(paragraph.casefold()).split()) if len(word) > 2]
            rare = set(sorted(words, key=lambda word: (known[word], word))[:5])
            found.append((" ".join(word for word in words if word in rare), letters(paragraph)))
    return found


def letters(text: str) -> str:
    return "".join(text.split())


def ndcg(
    pages: Sequence[Document], asked: Sequence[tuple[str, str]], chunked: Callable[[Document], list[str]]
) -> float:
    """nDCG@10 of a search by the local model alone, over the chunks of all pages; an answer may stand in several."""
    embedder = open_embedder(EmbedPolicy(), None)
    texts = [text for page in pages for text in chunked(page)]
    vectors = np.zeros((len(texts), embedder.dimensions), np.float32)
    for batch in embedder.embed(texts):
        vectors[list(batch.positions)] = batch.vectors
    squeezed = [letters(text) for text in texts]
    gains: list[float] = []
    for query, answer in asked:
        half = len(answer) // 2
        # An answer that was cut in two is half an answer.
        relevant = [
            1.0 if answer in text else 0.5 if answer[:half] in text or answer[half:] in text else 0.0
            for text in squeezed
        ]
        order = np.argsort(-(vectors @ embedder.embed_query(query)), kind="stable")[:10]
        gain = sum(relevant[at] / np.log2(place + 2) for place, at in enumerate(order))
        best = sum(value / np.log2(place + 2) for place, value in enumerate(sorted(relevant, reverse=True)[:10]))
        gains.append(float(gain / best) if best else 0.0)
    return mean(gains)


@pytest.mark.parametrize("language", ["en", "fa"])
def test_chunks_are_found_at_least_as_well_as_those_of_a_fixed_size(
    language: str, request: pytest.FixtureRequest
) -> None:
    if language == "en":
        manual = request.getfixturevalue("manual")
        pages = [page for page in manual if 600 <= page.word_count <= 2_500][::12][:24]
    else:
        pages = request.getfixturevalue("persian")[:24]
    asked = questions(pages, 3)
    own, fixed = ndcg(pages, asked, ours), ndcg(pages, asked, fixed_size)
    print(f"{language}: nDCG@10 {own:.3f} of {len(asked)} questions, {fixed:.3f} with chunks of a fixed size")
    assert len(asked) >= 15
    assert own >= fixed
