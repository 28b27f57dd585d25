"""The gate on extraction: floors that a change to the process stage must not fall below.

Real pages with ground truth are read from ``../shared/data`` next to the repository or from GLEANER_TEST_DATA; they
belong to their publishers and are no part of this repository. Without them the sample website is held to higher floors.
"""

from __future__ import annotations

import gzip
import json
import os
import re
from collections import Counter
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
from tests.support.documents import blocks_of, document, read, text_of

DATA = Path(os.environ.get("GLEANER_TEST_DATA") or Path(__file__).parents[3] / "shared" / "data")
PAGES = DATA / "wcxb-dev"
MANUALS = DATA / "vue-fa"
EVERY = 3  # pages; all of them take a minute

WORD = re.compile(r"\w+")
LEAST_F1 = 0.855
MOST_LOST = 0.025
LOST = 0.3  # recall below which a page counts as lost
LEAST_F1_OF_SAMPLE = 0.97


@dataclass(frozen=True, kw_only=True)
class Score:
    precision: float
    recall: float

    @property
    def f1(self) -> float:
        return 2 * self.precision * self.recall / (self.precision + self.recall or 1.0)


def score(found: str, truth: str) -> Score:
    """Over the words as a multiset, lower case; of an empty truth nothing may be found."""
    words, wanted = (Counter(WORD.findall(text.lower())) for text in (found, truth))
    if not wanted:
        return Score(precision=float(not words), recall=float(not words))
    common = (words & wanted).total()
    return Score(precision=common / (words.total() or 1), recall=common / wanted.total())


def sample_pages() -> Iterator[tuple[str, bytes, str]]:
    """(name, page, its main text) of the sample website."""
    with SampleWebsite() as site:
        for path, page in site.pages.items():
            yield path, site.answer(path)[2], BeautifulSoup(page.content, "lxml").get_text(" ")


def real_pages() -> Iterator[tuple[str, bytes, str]]:
    """(name, page, its main text) of every third page, all types alike: the lines are in no order of type."""
    with (PAGES / "truth.jsonl").open(encoding="utf-8", newline="\n") as lines:
        for number, line in enumerate(lines):
            if number % EVERY == 0:
                truth = json.loads(line)
                body = gzip.decompress((PAGES / "html" / f"{truth['id']}.html.gz").read_bytes())
                yield truth["id"], body, truth["main_content"]


def test_pages() -> None:
    scores: dict[str, Score] = {}
    real = PAGES.is_dir()
    for name, body, truth in real_pages() if real else sample_pages():
        found = read(body, "")
        scores[name] = score("" if isinstance(found, NotContent) else text_of(found), truth)
    assert scores
    f1 = mean(one.f1 for one in scores.values())
    lost = [name for name, one in scores.items() if one.recall < LOST]
    print(f"{len(scores)} pages: F1 {f1:.3f}, lost {', '.join(lost) or 'none'}")
    assert f1 >= (LEAST_F1 if real else LEAST_F1_OF_SAMPLE), f"macro F1 {f1:.3f}"
    assert len(lost) <= MOST_LOST * len(scores), f"lost: {', '.join(lost)}"


@dataclass(frozen=True, kw_only=True)
class Manual:
    html: bytes
    headings: tuple[str, ...]
    code: tuple[str, ...]
    paragraphs: tuple[str, ...]


def layout() -> tuple[str, str]:
    """What stands before and after the content of a Persian page of the sample website."""
    with SampleWebsite() as site:
        page = site.answer("/fa/about")[2].decode()
        before, after = page.split(site.pages["/fa/about"].content)
    return before, after


def manuals() -> Iterator[tuple[str, Manual]]:
    """Persian documents in a page layout, each with what it has to give."""
    before, after = layout()
    if not MANUALS.is_dir():
        for path, page in SampleWebsite().pages.items():
            if page.language == "fa":
                soup = BeautifulSoup(page.content, "lxml")
                yield (
                    path,
                    Manual(
                        html=f"{before}{page.content}{after}".encode(),
                        headings=tuple(tag.get_text() for tag in soup.find_all(["h1", "h2", "h3"])),
                        code=tuple(tag.get_text() for tag in soup.find_all("pre")),
                        paragraphs=tuple(" ".join(tag.get_text().split()) for tag in soup.find_all("p")),
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
                html=f"{before}{parser.render(text)}{after}".encode(),
                headings=tuple(inlines(above_text(tokens), "heading_open")),
                code=tuple(code(token.content) for token in tokens if token.type == "fence" and token.content.strip()),
                paragraphs=tuple(inlines(tokens, "paragraph_open")),
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
        if children and children[0].type == "link_open" and children[-1].type == "link_close":
            continue  # "see also": runs of nothing but links are taken for menus
        parts = {"softbreak": " ", "hardbreak": "\n", "image": ""}
        text = "".join(parts.get(child.type, child.content) for child in children).translate(controls)
        if text := "\n".join(" ".join(line.split()) for line in text.split("\n")).strip():
            yield text


def code(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.strip("\n").split("\n"))


def test_persian_manuals() -> None:
    seen = 0
    for name, manual in manuals():
        page = document(manual.html)
        text = text_of(page)
        headings = {heading for section in page.sections for heading in section.path}
        assert page.language == "fa", name
        assert not [heading for heading in manual.headings if heading not in headings], name
        assert tuple(block.text for block in blocks_of(page) if block.kind == "code") == manual.code, name
        flat = re.sub(r"\n +", "\n", text)  # what continues an item of a list is indented
        assert not [paragraph for paragraph in manual.paragraphs if paragraph not in flat], name
        assert "ما از کوکی‌ها برای نگه داشتن" not in text, name
        seen += 1
    assert seen >= 8


def test_score() -> None:
    assert score("a b b", "A b c d") == Score(precision=2 / 3, recall=0.5)  # a and one b of three found, of four wanted
    assert score("", "") == Score(precision=1.0, recall=1.0)
    assert score("a", "").f1 == 0.0
    assert score("", "a").f1 == 0.0


@pytest.mark.parametrize("name", ["wcxb-dev", "vue-fa"])
def test_the_data_is_whole_where_there_is_any(name: str) -> None:
    folder = DATA / name
    assert not folder.is_dir() or any(folder.rglob("*.md" if name == "vue-fa" else "*.html.gz"))
