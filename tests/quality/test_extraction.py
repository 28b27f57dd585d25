"""The gate on extraction: floors that a change to the process stage must not fall below, and are only ever raised.

Real pages with ground truth are read from ``../shared/data`` next to the repository or from GLEANER_TEST_DATA; they
belong to their publishers and are no part of this repository. Without them the sample website is held to higher floors.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import mean

import pytest
from bs4 import BeautifulSoup
from markdown_it import MarkdownIt
from markdown_it.token import Token

from include.gleaner.local.website import SampleWebsite
from include.gleaner.models import NotContent
from include.gleaner.text import ZWNJ
from tests.support.documents import blocks_of, document, read, text_of
from tests.support.layouts import LAYOUTS
from tools.train_block_model import Score, cross_validated, examples, labels, score, told

DATA = Path(os.environ.get("GLEANER_TEST_DATA") or Path(__file__).parents[3] / "shared" / "data")
PAGES = DATA / "wcxb-dev"
MANUALS = DATA / "vue-fa"
FLOORS = json.loads(Path(__file__).with_name("floors.json").read_text("utf-8"))


def test_pages() -> None:
    """Each page is judged by a model that has seen no page of its domain, the sample website by the one that ships."""
    if PAGES.is_dir():
        pages = list(examples(PAGES))
        assert len(pages) > 700
        found = told(pages, cross_validated(pages))
        print({name: round(value, 4) for name, value in found.items()})
        for name in ("f1", "article", "documentation"):
            assert found[name] >= FLOORS[name], f"{name} {found[name]:.4f}"
        for name in ("lost", "leaked"):
            assert found[name] <= FLOORS[f"most_{name}"], f"{name} {found[name]:.4f}"
    scores = []
    with SampleWebsite() as site:
        for path, page in site.pages.items():
            result = read(site.answer(path)[2], "")
            text = "" if isinstance(result, NotContent) else text_of(result)
            scores.append(score(text, BeautifulSoup(page.content, "lxml").get_text(" ")).f1)
    assert mean(scores) >= FLOORS["sample_f1"]


@dataclass(frozen=True, kw_only=True)
class Manual:
    content: str  # HTML
    headings: tuple[str, ...]
    code: tuple[str, ...]
    paragraphs: tuple[str, ...]
    items: tuple[str, ...]  # of lists, those of one paragraph
    joiners: int  # ZWNJ outside of raw HTML, such as a sponsor's box, which is no content


def manuals() -> Iterator[tuple[str, Manual]]:
    """Persian documents in a page layout, each with what it has to give."""
    if not MANUALS.is_dir():
        for path, page in SampleWebsite().pages.items():
            if page.language == "fa":
                soup = BeautifulSoup(page.content, "lxml")
                yield (
                    path,
                    Manual(
                        content=page.content,
                        headings=tuple(tag.get_text() for tag in soup.find_all(["h1", "h2", "h3"])),
                        code=tuple(tag.get_text() for tag in soup.find_all("pre")),
                        paragraphs=tuple(" ".join(tag.get_text().split()) for tag in soup.find_all("p")),
                        items=(),
                        joiners=soup.get_text().count(ZWNJ),
                    ),
                )
        return
    parser = MarkdownIt("commonmark").enable("table")
    for path in sorted(MANUALS.rglob("*.md")):
        text = re.sub(r"\A---\n.*?\n---\n", "", path.read_text("utf-8"), flags=re.S)
        # What VitePress adds to Markdown: anchors of headings and boxes.
        text = re.sub(r"[ \t]*\{#[\w-]+\}[ \t]*$|^:::.*$", "", text, flags=re.M)
        tokens = parser.parse(text)
        yield (
            path.name,
            Manual(
                content=parser.render(text),
                headings=tuple(inlines(above_text(tokens), "heading_open")),
                code=tuple(code(token.content) for token in tokens if token.type == "fence" and token.content.strip()),
                paragraphs=tuple(inlines(tokens, "paragraph_open")),
                items=tuple(inlines(items_of(tokens), "paragraph_open")),
                joiners=sum(token.content.count(ZWNJ) for token in tokens if token.type != "html_block"),
            ),
        )


def above_text(tokens: list[Token]) -> list[Token]:
    """The tokens of headings that have text below them: three a heading, then what follows."""
    return [
        token
        for at, opening in enumerate(tokens)
        if opening.type == "heading_open"
        and tokens[at + 3 : at + 4]
        and tokens[at + 3].type.startswith(("para", "fence"))
        for token in tokens[at : at + 3]
    ]


def inlines(tokens: list[Token], after: str) -> Iterator[str]:
    controls = str.maketrans("", "", "\u200b\u200e\u200f\ufeff")  # invisible, and no part of any spelling
    for opening, token in pairwise(tokens):
        children = token.children or []
        if opening.type != after or any(child.type == "html_inline" for child in children):
            continue
        parts = {"softbreak": " ", "hardbreak": "\n", "image": ""}
        text = "".join(parts.get(child.type, child.content) for child in children).translate(controls)
        if text := "\n".join(" ".join(line.split()) for line in text.split("\n")).strip():
            yield text


def code(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.strip("\n").split("\n"))


def items_of(tokens: list[Token]) -> list[Token]:
    """The tokens of the items of lists that are one paragraph each: three an item."""
    return [
        token
        for at, opening in enumerate(tokens)
        if opening.type == "list_item_open" and tokens[at + 4 : at + 5] and tokens[at + 4].type == "list_item_close"
        for token in tokens[at + 1 : at + 4]
    ]


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_persian_manuals(layout: str) -> None:
    scores: dict[str, float] = {}
    for name, manual in manuals():
        page = document(LAYOUTS[layout].replace("CONTENT", manual.content).encode())
        text = text_of(page)
        headings = {heading for section in page.sections for heading in section.path}
        assert page.language == "fa", name
        assert not [heading for heading in manual.headings if heading not in headings], name
        assert tuple(block.text for block in blocks_of(page) if block.kind == "code") == manual.code, name
        flat = re.sub(r"\n +", "\n", text)  # what continues an item of a list is indented
        assert not [paragraph for paragraph in manual.paragraphs if paragraph not in flat], name
        listed = [line for block in blocks_of(page) if block.kind == "list" for line in block.text.split("\n")]
        lines = {re.sub(r"^ *(?:-|\d+\.) ", "", line) for line in listed}
        assert not [item for item in manual.items if item not in lines], name
        wanted = BeautifulSoup(manual.content, "lxml").get_text(" ")
        assert text.count(ZWNJ) >= manual.joiners, name
        scores[name] = score(text, wanted).f1
    assert len(scores) >= 8
    print(f"{layout}: {mean(scores.values()):.4f}")
    assert min(scores.values()) >= FLOORS["layout_f1"], min(scores, key=lambda name: scores[name])


def test_score() -> None:
    assert score("a b b", "A b c d") == Score(precision=2 / 3, recall=0.5)  # a and one b of three found, of four wanted
    assert score("", "") == Score(precision=1.0, recall=1.0)
    assert score("a", "").f1 == 0.0
    assert score("", "a").f1 == 0.0


def test_labels() -> None:
    """A text counts as far as it stands in the truth, and no oftener than it stands there."""
    truth = "The pump starts at six in the morning.\nBuy now"
    found = labels(
        ["The pump starts at six", "the pump starts at noon today", "Buy now", "Buy now", "morning", "x"], truth
    )
    assert found.tolist() == pytest.approx([1.0, 0.0, 1.0, 0.5, 0.25, 0.0])


@pytest.mark.parametrize("name", ["wcxb-dev", "vue-fa"])
def test_the_data_is_whole_where_there_is_any(name: str) -> None:
    folder = DATA / name
    assert not folder.is_dir() or any(folder.rglob("*.md" if name == "vue-fa" else "*.html.gz"))
