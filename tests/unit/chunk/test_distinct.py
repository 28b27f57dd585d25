"""What other chunks of a document say already is not said again."""

from __future__ import annotations

from include.gleaner.chunk.splitter import split
from include.gleaner.config import ChunkPolicy
from include.gleaner.models import Block, Document, Section

URL = "https://example.com/manual"


def test_sections_that_begin_alike_are_told_apart_and_those_inside_others_go() -> None:
    def section(name: str, *texts: str) -> Section:
        return Section(path=("T", name), blocks=tuple(Block(kind="paragraph", text=text) for text in texts))

    long = [f"{word} " * 30 for word in ("apples", "pears", "plums", "figs")]
    texts = [tuple(text.strip() for text in part) for part in (long[:2], long[:3], long[1:3], long[:1], long[2:])]
    doc = Document(title="T", language="en", sections=tuple(section(f"s{n}", *part) for n, part in enumerate(texts)))
    chunks = split(doc, ChunkPolicy(max_tokens=200), URL)
    assert [chunk.metadata["headings"] for chunk in chunks] == [["s0"], ["s1"], ["s2"], ["s3"], ["s4"]]
    assert [chunk.full_text.startswith(f"s{n}") for n, chunk in enumerate(chunks)] == [True, False, True, True, False]
