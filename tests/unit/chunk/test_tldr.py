"""The gist of a chunk: whole sentences of it, in its order, within 120 words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.gleaner.chunk.splitter import split
from include.gleaner.chunk.tldr import tldr_of
from include.gleaner.config import ChunkPolicy
from include.gleaner.models import Block, Document, Section
from include.gleaner.text import count_words

MOST_WORDS = 120
ASIDE = "By the way {}, lunch was nice."
CORE = "The pump opens valve {} when the soil in bed {} is dry."


def gist(text: str, language: str = "en") -> str | None:
    return tldr_of(text, language, count_words(text))


def test_a_short_text_is_its_own_gist_without_list_markers() -> None:
    assert gist("Bring:\n- a spade\n- 2 buckets\n1. Dig.") == "Bring:\na spade\n2 buckets\nDig."


def test_sentences_that_the_others_share_words_with_stay_in_their_order() -> None:
    text = " ".join(f"{CORE.format(n, n)} {ASIDE.format('abcdefghijkl'[n])}" for n in range(12))
    found = gist(text)
    assert found is not None
    assert "lunch" not in found
    numbers = [int(part.split()[0]) for part in found.split("valve ")[1:]]
    assert numbers == sorted(numbers)
    assert 80 <= count_words(found) <= MOST_WORDS


@pytest.mark.parametrize("sentences", range(8, 14))
def test_the_limit_is_exact(sentences: int) -> None:
    text = " ".join(CORE.format(n, n) for n in range(sentences))  # thirteen words each
    found = gist(text)
    assert found is not None
    assert (found == text) == (13 * sentences <= 120)
    assert count_words(found) <= 120


def test_labels_are_left_out_but_count() -> None:
    labels = "\n".join(f"Valve number {n}" for n in range(60))
    found = gist(f"{CORE.format(1, 1)}\n{labels}\n{CORE.format(2, 2)}")
    assert found == f"{CORE.format(1, 1)}\n{CORE.format(2, 2)}"


PERSIAN = "این کتاب‌خانه هر روز از ساعت هشت تا شانزده باز است. "
JAPANESE = "この図書館は毎日八時から開いています。"


@pytest.mark.parametrize(("sentence", "language"), [(PERSIAN, "fa"), (JAPANESE, "ja")])
def test_other_scripts(sentence: str, language: str) -> None:
    text = "".join(sentence.replace("روز", f"روز {n}").replace("毎日", f"毎日{n}") for n in range(60))
    found = gist(text, language)
    assert found is not None
    assert len(found) < len(text) / 3
    end = found[-1]
    assert all(part.strip() + end in text for part in found.split(end) if part.strip())
    assert found.endswith((".", "。"))


@given(st.lists(st.text(alphabet="ab .!?\n-|1。؟", max_size=200), max_size=30).map(" ".join))
def test_it_is_never_longer_than_allowed_nor_other_than_the_text(text: str) -> None:
    found = gist(text)
    if found is not None:
        assert count_words(found) <= MOST_WORDS
        assert found.strip() == found != ""
        letters = iter("".join(text.split()))
        assert all(letter in letters for letter in "".join(found.split()))


def test_of_a_chunk_it_tells_no_code_and_no_table() -> None:
    blocks = (
        Block(kind="paragraph", text="Call it like this."),
        Block(kind="code", text="gleaner.run()"),
        Block(kind="table", text="| a | b |\n| --- | --- |\n| 1 | 2 |"),
    )
    section = Section(path=("Manual",), blocks=blocks)
    (chunk,) = split(Document(title="Manual", language="en", sections=(section,)), ChunkPolicy(), "")
    assert chunk.tldr == "Call it like this."
    only_code = Section(path=("Manual",), blocks=blocks[1:])
    (chunk,) = split(Document(title="Manual", language="en", sections=(only_code,)), ChunkPolicy(), "")
    assert chunk.tldr is None
