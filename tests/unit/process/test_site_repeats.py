"""Hashes of blocks, and pages that say nearly the same."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.gleaner.models import Block, Document, Fact, Section
from include.gleaner.process.repeats import block_hashes, without_repeats
from include.gleaner.process.similar import are_near_duplicates, bands_of, likeness_of

NAMES = (
    "rose", "lily", "tulip", "poppy", "daisy", "aster", "iris", "peony", "clover", "thistle", "mallow", "sorrel",
    "yarrow", "tansy", "borage", "comfrey", "fennel", "lovage", "mint", "thyme", "sage", "rue", "hyssop", "chervil",
)  # fmt: skip
TEXT = " ".join(f"The {kind} of bed {name} opens when its soil is dry." for kind in ("valve", "tap") for name in NAMES)


def document(*blocks: Block, title: str = "Valves", language: str = "en", facts: tuple[Fact, ...] = ()) -> Document:
    return Document(title=title, language=language, sections=(Section(path=("Valves",), blocks=blocks),), facts=facts)


def paragraph(text: str) -> Block:
    return Block(kind="paragraph", text=text)


def test_blocks_are_known_by_their_words() -> None:
    one = document(paragraph("Order before  noon."), paragraph("order before noon."), paragraph("Note:"))
    assert len(block_hashes(one)) == 1  # case and white space do not matter, and a single word is a label
    assert block_hashes(one) == block_hashes(document(paragraph("Order before noon.")))
    assert not block_hashes(document(Block(kind="code", text="pip install gleaner")))
    fact = Fact(kind="faq", title="When?", text="When?\n\nAt noon.", data={})
    assert len(block_hashes(document(facts=(fact,)))) == 2  # with the heading that has no text


def test_dropping_leaves_the_rest_as_it_is() -> None:
    promise, own = paragraph("Order before noon."), paragraph("The valve opens.")
    fact = Fact(kind="faq", title="When?", text="When?\n\nAt noon.", data={})
    page = Document(
        title="Valves",
        language="en",
        sections=(
            Section(path=("Valves",), blocks=(own, promise)),
            Section(path=("Valves", "Delivery"), blocks=(promise,)),
            Section(path=("Valves", "Pages of others"), blocks=()),
        ),
        facts=(fact,),
    )
    dropped = block_hashes(document(promise)) + block_hashes(document(facts=(fact,)))
    left = without_repeats(page, dropped)
    assert [section.path[-1] for section in left.sections] == ["Valves", "Pages of others"]
    assert left.sections[0].blocks == (own,)
    assert left.facts == ()
    assert without_repeats(page, []) == page


@given(st.lists(st.text(max_size=40), max_size=8))
def test_what_is_dropped_and_what_is_left_are_the_page(texts: list[str]) -> None:
    page = document(*map(paragraph, texts))
    hashes = block_hashes(page)
    half = set(hashes[::2])
    assert (
        set(block_hashes(without_repeats(page, half))) == set(hashes) - half or not without_repeats(page, half).sections
    )


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (document(paragraph(TEXT)), True),
        (document(paragraph(TEXT.replace("tulip", "tulips", 1))), True),
        (document(paragraph(f"{TEXT} Enjoy.")), True),
        (document(paragraph(TEXT), title="Valves, to print"), True),  # not a word of the page is different
        (document(paragraph(TEXT.replace("tulip", "tulips", 1)), title="Taps"), False),
        (document(paragraph(TEXT.replace("bed tulip", "bed 7", 1))), False),
        (document(paragraph(TEXT), language="de"), False),
        (document(paragraph(TEXT), facts=(Fact(kind="product", title="A", text="A: 5 EUR", data={}),)), False),
        (document(paragraph(TEXT.replace("opens", "shuts"))), False),
        (document(paragraph(TEXT[: len(TEXT) // 2])), False),
        (document(), False),
    ],
)
def test_near_duplicates(other: Document, expected: bool) -> None:
    page = document(paragraph(TEXT))
    assert are_near_duplicates(likeness_of(page), likeness_of(other)) == expected
    assert are_near_duplicates(likeness_of(other), likeness_of(page)) == expected
    if expected:
        assert set(bands_of(page)) & set(bands_of(other))


def test_pages_without_text_are_like_nothing() -> None:
    empty = replace(document(), sections=())
    assert bands_of(empty) == []
    assert not are_near_duplicates(likeness_of(empty), likeness_of(empty))


def test_scripts_without_spaces() -> None:
    text = "".join(f"この図書館は毎日{hour}時から開いています。本を借りるには会員証が必要です。" for hour in "八九十")
    page, other = (document(paragraph(part), language="ja") for part in (text, text.replace("毎日", "平日", 1)))
    assert len(likeness_of(page).shingles) > 50
    assert not are_near_duplicates(likeness_of(page), likeness_of(other))
    assert bands_of(page) == bands_of(document(paragraph(text), language="ja"))
