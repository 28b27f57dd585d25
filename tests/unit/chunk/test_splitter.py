from __future__ import annotations

import re
from dataclasses import replace
from itertools import count, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from include.gleaner.chunk.splitter import split
from include.gleaner.chunk.tokens import count_tokens
from include.gleaner.config import ChunkPolicy
from include.gleaner.models import Block, Chunk, Document, Fact, Section

URL = "https://example.com/a"
POLICY = ChunkPolicy(max_tokens=100)

words = st.text(alphabet="abcdefgh سلام‌کتاب۱۲é日本😀.,!?\u0301", min_size=1, max_size=12).filter(
    lambda text: text.strip()
)
lines = st.lists(words, min_size=1, max_size=40).map(lambda parts: " ".join(" ".join(parts).split())).filter(bool)
blocks = st.one_of(
    st.builds(Block, kind=st.sampled_from(["paragraph", "quote"]), text=lines),
    st.builds(
        Block,
        kind=st.sampled_from(["code", "list", "definition"]),
        text=st.lists(lines, min_size=1, max_size=6).map("\n".join),
    ),
)
headings = st.text(alphabet="ABC کتاب", min_size=1, max_size=30).filter(lambda text: text.strip())
sections = st.builds(
    Section,
    path=st.lists(headings, max_size=3).map(tuple),
    blocks=st.lists(blocks, max_size=5).map(tuple),
)
documents = st.builds(
    Document,
    title=headings,
    language=st.sampled_from(["en", "fa", "und"]),
    sections=st.lists(sections, max_size=6).map(tuple),
)


def document(*parts: Section, language: str = "en", facts: tuple[Fact, ...] = ()) -> Document:
    return Document(title="Manual", language=language, sections=parts, facts=facts)


def section(*texts: str, path: tuple[str, ...] = ("Manual",), kind: str = "paragraph") -> Section:
    return Section(path=path, blocks=tuple(Block(kind=kind, text=text) for text in texts))  # type: ignore[arg-type]


def sentences(count: int, name: str = "Sentence") -> str:
    return " ".join(f"{name} number {number} says something of its own." for number in range(count))


def letters(text: str) -> str:
    return "".join(text.split())


@settings(max_examples=150, deadline=None)
@given(documents, st.sampled_from([64, 100, 500]), st.sampled_from([0, 20]))
def test_nothing_is_lost_and_no_limit_is_passed(doc: Document, limit: int, overlap: int) -> None:
    policy = ChunkPolicy(max_tokens=limit, overlap_percent=overlap)
    chunks = split(doc, policy, URL)
    assert chunks == split(doc, policy, URL)
    for chunk in chunks:
        assert count_tokens(chunk.embedded_text) == chunk.token_count <= limit
        assert chunk.full_text.strip()
        assert chunk.embedded_text.endswith(chunk.full_text)
    assert [chunk.chunk_index for chunk in chunks] == list(range(len(chunks)))
    if not overlap:
        text = "".join(letters(chunk.full_text) for chunk in chunks)
        missing = [block.text for part in doc.sections for block in part.blocks if letters(block.text) not in text]
        assert not missing


@settings(max_examples=100, deadline=None)
@given(documents, st.sampled_from([64, 100, 500]))
def test_chunks_and_what_stands_between_them_are_the_text(doc: Document, limit: int) -> None:
    """Nothing but white space is between them, and nothing else is in them but the headings, each once."""
    numbers = count()
    parts = tuple(
        replace(
            part,
            path=(f"H{next(numbers)}H",),
            blocks=tuple(replace(block, text=f"{next(numbers)}: {block.text}") for block in part.blocks),
        )
        for part in doc.sections
    )
    chunks = split(replace(doc, sections=parts), ChunkPolicy(max_tokens=limit), URL)
    text = "".join(letters(chunk.full_text) for chunk in chunks)
    for part in parts:
        text = text.replace(part.path[0], "", 1)
    assert text == "".join(letters(block.text) for part in parts for block in part.blocks)


def test_no_section_is_told_twice() -> None:
    note = "Turn off the water before you begin."
    steps = "Open the lid. Take out the filter."
    parts = [
        section(note, steps, path=("Manual", "Filter")),
        section(note, path=("Manual", "Valve")),  # under another heading it says something else
        section(note, steps, path=("Manual", "Filter")),
        section("Take out the filter.", path=("Manual",)),
    ]
    texts = [chunk.full_text for chunk in split(document(*parts), ChunkPolicy(max_tokens=64), URL)]
    assert texts == [f"{note}\n\n{steps}", f"Valve\n\n{note}"]


def test_a_last_crumb_shares_with_the_chunk_before_it() -> None:
    lines = [f"value_{number} = compute({number})" for number in range(30)]
    sizes = {}
    for length in range(6, 30):
        chunks = split(document(section("\n".join(lines[:length]), kind="code")), POLICY, URL)
        assert "\n".join(chunk.full_text for chunk in chunks) == "\n".join(lines[:length])
        sizes[length] = [chunk.token_count for chunk in chunks]
    assert any(len(tokens) == 2 for tokens in sizes.values())
    assert all(min(tokens) > 25 for tokens in sizes.values())


def test_heading_of_an_empty_section_is_kept() -> None:
    chunks = split(document(Section(path=("Manual", "Discontinued models"), blocks=()), section("Text.")), POLICY, URL)
    assert any("Discontinued models" in chunk.full_text for chunk in chunks)


def test_breadcrumb_and_metadata() -> None:
    (chunk,) = split(document(section("Text.", path=("Manual", "Setup", "Wiring"))), POLICY, URL)
    assert chunk.section_title == "Manual > Setup > Wiring"
    assert chunk.embedded_text == "Manual > Setup > Wiring\n\nText."
    assert chunk.metadata == {"page_url": URL, "headings": ["Wiring"]}
    assert (chunk.chunk_type, chunk.language, chunk.word_count) == ("website", "en", 1)


def test_sentences_stay_whole() -> None:
    chunks = split(document(section(sentences(60))), POLICY, URL)
    assert len(chunks) > 5
    assert all(chunk.full_text.endswith("own.") and chunk.full_text.startswith("Sentence") for chunk in chunks)
    assert all(chunk.token_count > 40 for chunk in chunks[:-1])


def test_text_far_away_does_not_move_a_boundary() -> None:
    parts = [section(*(sentences(4, f"S{n}P{m}") for m in range(8)), path=("Manual", f"Part {n}")) for n in range(5)]
    before = {chunk.embedded_text for chunk in split(document(*parts), POLICY, URL)}
    parts[2] = section("A new beginning.", *(block.text for block in parts[2].blocks), path=parts[2].path)
    after = {chunk.embedded_text for chunk in split(document(*parts), POLICY, URL)}
    changed = {text for text in before - after if not text.startswith("Manual > Part 2")}
    assert not changed


def test_boundaries_come_back_into_step_inside_a_long_section() -> None:
    paragraphs = [f"{sentences(2, f'P{n}')}" for n in range(120)]
    before = {chunk.embedded_text for chunk in split(document(section(*paragraphs)), POLICY, URL)}
    paragraphs[3] += " And one more sentence, which was not there before."
    after = {chunk.embedded_text for chunk in split(document(section(*paragraphs)), POLICY, URL)}
    assert len(before - after) < len(before) / 4


def test_code_is_verbatim_and_cut_between_lines() -> None:
    code = "\n".join(f"    if value[{n}]:\n\treturn   {n}  # two  spaces" for n in range(40))
    chunks = split(document(section(code, kind="code")), POLICY, URL)
    assert "\n".join(chunk.full_text for chunk in chunks) == code


def test_a_table_repeats_its_header() -> None:
    rows = [f"| E{n} | The valve number {n} does not open |" for n in range(30)]
    table = "\n".join(["Error codes", "| Code | Meaning |", "| --- | --- |", *rows])
    chunks = split(document(section(table, kind="table")), POLICY, URL)
    assert len(chunks) > 2
    for chunk in chunks:
        assert "| Code | Meaning |\n| --- | --- |\n| E" in chunk.full_text
    assert [row for chunk in chunks for row in re.findall(r"^\| E\d.*$", chunk.full_text, re.MULTILINE)] == rows


@pytest.mark.parametrize(
    "text",
    [
        "a" * 50_000,
        "👨‍👩‍👧‍👦" * 2_000,
        "نمی‌خواهم" * 3_000,
        "e\u0301" * 5_000,
        "日本語" * 5_000,
        "x\u0301" + "\u0301" * 5_000,
        "https://example.com/" + "path/" * 3_000,
        "<|endoftext|>" * 500,
    ],
)
def test_giant_runs_are_cut_between_letters(text: str) -> None:
    chunks = split(document(section(text)), POLICY, URL)
    assert "".join(chunk.full_text for chunk in chunks) == text
    assert all(chunk.token_count <= POLICY.max_tokens for chunk in chunks)
    if "\u0301" * 3 not in text:
        assert not any(chunk.full_text[0] in "\u0301\u200c\u200d" for chunk in chunks)


def test_overlap_repeats_whole_sentences() -> None:
    policy = ChunkPolicy(max_tokens=100, overlap_percent=25)
    chunks = split(document(section(sentences(60))), policy, URL)
    for earlier, later in pairwise(chunks):
        first = later.full_text.split(". ")[0]
        assert first in earlier.full_text
    assert all(chunk.token_count <= 100 for chunk in chunks)


def test_facts_are_chunks_of_their_own_type() -> None:
    facts = (
        Fact(kind="faq", title="How long?", text="How long?\n\nTwo days.", data={"answer": "Two days."}),
        Fact(kind="faq", title="How much?", text="How much?\n\nTen euros.", data={}),
        Fact(kind="product", title="Valve", text="Valve: 10 EUR", data={"price": "10"}),
    )
    chunks = split(document(section("Text."), facts=facts), POLICY, URL)
    assert [(chunk.chunk_type, chunk.chunk_index) for chunk in chunks] == [
        ("website", 0), ("faq", 0), ("faq", 1), ("product", 0),
    ]  # fmt: skip
    assert chunks[1].metadata["data"] == {"answer": "Two days."}
    assert chunks[3].section_title == "Manual > Valve"


def test_huge_texts_of_a_fact_stand_with_its_first_chunk_only() -> None:
    answer = "The controller waters the garden every morning. " * 400
    data = {"question": "When?", "answer": answer}
    fact = Fact(kind="faq", title="When?", text=f"When?\n\n{answer}", data=data)
    first, *others = split(Document(title="Help", language="en", sections=(), facts=(fact,)), POLICY, URL)
    assert first.metadata["data"] == data
    assert len(others) > 10
    assert all(chunk.metadata["data"] == {"question": "When?"} for chunk in others)


def test_small_siblings_share_a_chunk_and_keep_their_headings() -> None:
    parts = [section(f"Short text {n}.", path=("Manual", "Terms", f"Term {n}")) for n in range(8)]
    chunks = split(document(*parts), ChunkPolicy(max_tokens=500), URL)
    assert len(chunks) < 8
    text = "\n".join(chunk.section_title + "\n" + chunk.full_text for chunk in chunks)
    assert all(f"Term {n}" in text and f"Short text {n}." in text for n in range(8))


def test_search_text_is_folded_for_the_language() -> None:
    chunk: Chunk
    (chunk,) = split(replace(document(section("كتاب‌هاي ۱۲")), language="fa"), POLICY, URL)
    assert "کتاب های 12" in chunk.search_text
    assert chunk.full_text == "كتاب‌هاي ۱۲"


def test_a_section_that_a_fact_repeats_is_stored_once() -> None:
    fact = Fact(kind="faq", title="How long?", text="How long?\n\nTwo days.", data={})
    same = section("Two  days.", path=("Manual", "How long?"))
    more = section("Two days. And a night.", path=("Manual", "How long?"))
    assert [chunk.chunk_type for chunk in split(document(same, facts=(fact,)), POLICY, URL)] == ["faq"]
    assert [chunk.chunk_type for chunk in split(document(more, facts=(fact,)), POLICY, URL)] == ["website", "faq"]


def test_no_boundary_falls_inside_a_number() -> None:
    text = " ".join(f"نرخ در سال {number} به ۳.۵ درصد رسید." for number in range(60))
    chunks = split(replace(document(section(text)), language="fa"), POLICY, URL)
    assert sum(chunk.full_text.count("۳.۵ درصد") for chunk in chunks) == 60


def test_sentences_without_spaces_between_them_gain_none() -> None:
    text = "".join(f"これは第{number}の文です。" for number in range(80))
    chunks = split(replace(document(section(text)), language="ja"), POLICY, URL)
    assert "".join(chunk.full_text for chunk in chunks) == text


def test_a_number_with_separators_stays_whole() -> None:
    text = " ".join(f"code {number},{number}00" for number in range(100, 400))
    found = " ".join(chunk.full_text for chunk in split(document(section(text)), POLICY, URL))
    assert found.split() == text.split()


def test_every_heading_of_an_empty_branch_is_kept() -> None:
    empty = Section(path=("Manual", "Parent", "Child"), blocks=())
    text = " ".join(
        f"{chunk.section_title} {chunk.full_text}"
        for chunk in split(document(empty, section("Text.", path=("Manual", "Other"))), POLICY, URL)
    )
    assert "Parent" in text
    assert "Child" in text


def test_a_term_stays_with_its_definition() -> None:
    terms = [f"--option-{number}\n: What option {number} does, in a sentence of some length." for number in range(40)]
    chunks = split(document(section("\n".join(terms), kind="definition")), POLICY, URL)
    assert len(chunks) > 4
    assert all(chunk.full_text.startswith("--option-") for chunk in chunks)
    assert "\n".join(chunk.full_text for chunk in chunks) == "\n".join(terms)


def test_a_first_heading_that_was_kept_or_not_changes_no_chunk() -> None:
    parts = {"NAME": 1, "SYNOPSIS": 2, "OPTIONS": 20, "SEE ALSO": 2}
    without = [section(sentences(count, name), path=(name,)) for name, count in parts.items()]
    below = [section(sentences(count, name), path=("Manual", name)) for name, count in parts.items()]

    assert split(document(*without), POLICY, URL) == split(document(*below), POLICY, URL)
