"""Pages of a batch are processed together: each comes out as it does alone, and a bad one costs itself only."""

from __future__ import annotations

import uuid
import zlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from include.gleaner.models import Document, NotContent, Snapshot
from include.gleaner.pipeline import processing
from include.gleaner.pipeline.processing import _process, _Read
from include.gleaner.process.choose import main_contents
from include.gleaner.process.document import read_document

MENU = "".join(f"<li><a href=/{name}>{name}</a></li>" for name in ("home", "shop", "news", "help", "about", "jobs"))
SENTENCE = "The pump starts at six in the morning and waters each bed for a quarter of an hour."


def snapshot(name: str, body: bytes) -> Snapshot:
    return Snapshot(
        page_id=uuid.uuid5(uuid.NAMESPACE_URL, name), url=f"https://meadow.example/{name}", generation=1, body=body,
        content_type="text/html",
    )  # fmt: skip


def page(name: str, beds: int) -> Snapshot:
    text = "".join(f"<p>{SENTENCE} Bed {number} of {name}.</p>" for number in range(beds))
    return snapshot(name, f"<body><ul>{MENU}</ul><h1>{name}</h1>{text}<footer>{MENU}</footer>".encode())


PAGES = [
    page("roses", 30), page("empty", 0), page("tulips", 12), snapshot("a PDF", b"%PDF-1.7"), page("short", 1),
    page("lilies", 80), page("beans", 20),
]  # fmt: skip


def packed(pages: Sequence[Snapshot]) -> list[Snapshot]:
    return [replace(each, body=zlib.compress(each.body)) for each in pages]


@pytest.mark.parametrize("characters", [1, 5_000, processing.CHARACTERS_AT_ONCE])
def test_pages_together_are_what_they_are_alone(monkeypatch: pytest.MonkeyPatch, characters: int) -> None:
    """However many of them are in memory at once."""
    sizes = []

    def chosen(pages: Sequence[Any]) -> list[list[int]]:
        sizes.append(len(pages))
        return main_contents(pages)

    monkeypatch.setattr(processing, "main_contents", chosen)
    monkeypatch.setattr(processing, "CHARACTERS_AT_ONCE", characters)
    results = _process(packed(PAGES))
    found = [result.document if isinstance(result, _Read) else result for result in results]
    assert found == [read_document(each) for each in PAGES]
    assert sum(isinstance(each, Document) for each in found) == 6
    assert isinstance(found[3], NotContent)
    assert sum(sizes) == 6
    assert max(sizes) == {1: 1, 5_000: 3}.get(characters, 6)


def test_a_bad_page_costs_itself_only(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(pages: Sequence[Any]) -> list[list[int]]:
        if any(leaf.text == "tulips" for outline, _ in pages for leaf in outline.leaves):
            raise ValueError("a bad page")
        return main_contents(pages)

    monkeypatch.setattr(processing, "main_contents", fails)
    pages = packed(PAGES)
    pages[0] = replace(pages[0], body=b"no zlib")
    results = _process(pages)
    assert [type(result).__name__ for result in results] == [
        "IsalError", "_Read", "ValueError", "NotContent", "_Read", "_Read", "_Read",
    ]  # fmt: skip
    assert _process([pages[2]])[0].args == ("a bad page",)  # type: ignore[union-attr]
    assert _process([]) == []
