"""The block model: its trees, its choice, and how its choice becomes content."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.gleaner.process.block_model import MODEL, BlockModel, best_choice, block_model
from include.gleaner.process.choose import main_content, main_contents
from include.gleaner.process.extract import opinions_of
from include.gleaner.process.features import Seen, features_of
from include.gleaner.process.leaves import Outline
from include.gleaner.process.metadata import Head
from include.gleaner.process.outline import outline_of
from include.gleaner.process.tree import parse

SENTENCE = "The pump starts at six in the morning and waters each bed for a quarter of an hour. "
MENU = "".join(f"<li><a href=/{name}>{name}</a></li>" for name in ("home", "shop", "news", "help", "about", "jobs"))


def page_of(*parts: str, before: str = "", after: str = "") -> Outline:
    """A page with a frame around its content."""
    return outline_of(
        parse(
            f"<body><div class=top><ul>{MENU}</ul></div>{before}<div class=content><h1>Watering</h1>"
            f"{''.join(parts)}</div>"
            f"{after}<div class=bottom><ul>{MENU}</ul><p>© 2026 Meadow</p></div></body>"
        )
    )


def kept(outline: Outline, head: Head | None = None) -> list[str]:
    return [outline.leaves[index].text for index in main_content(outline, head or Head(title="Watering"))]


def seen(number: int, outline: Outline) -> Seen:
    head = Head(title=f"Watering {number}", is_article=number % 2 == 1)
    return Seen(outline=outline, head=head, opinions=opinions_of(outline))


def by_hand(model: BlockModel, row: Any) -> int:
    """The sum of the leaves' values, tree after tree, split after split."""
    total = 0
    for tree, start in enumerate(model.starts):
        end = model.starts[tree + 1] if tree + 1 < len(model.starts) else len(model.feature)
        left = 0xFFFF
        for split in range(start, end):
            if row[model.feature[split]] > model.threshold[split]:
                left &= int(model.masks[split])
        leaf = next(number for number in range(16) if left >> number & 1)
        total += int(model.values[model.offsets[tree] + leaf])
    return total


def test_chances_are_the_sums_of_the_trees() -> None:
    model = block_model()
    outline = page_of(*(f"<p>{SENTENCE * (count % 40)}Bed {count}.</p>" for count in range(300)))
    features = features_of([seen(0, outline)])
    chances = model.chances(features)
    rows = np.stack([features.of_leaves(name) for name in model.names], axis=1)
    assert len(chances) == len(rows) == len(outline.leaves) > 300  # more than one part
    for at in (0, 5, 63, 64, 255, 256, len(rows) - 1):
        assert chances[at] == pytest.approx(1 / (1 + np.exp(-by_hand(model, rows[at]) * model.scale)), abs=1e-6)


def test_the_model_is_small_and_comes_back_as_it_was_stored(tmp_path: Path) -> None:
    assert MODEL.stat().st_size <= 50_000
    model = block_model()
    model.save(tmp_path / "again.npz")
    again = BlockModel.load(tmp_path / "again.npz")
    assert (again.names, again.scale) == (model.names, model.scale)
    for name in ("feature", "threshold", "masks", "starts", "values", "offsets"):
        assert np.array_equal(getattr(again, name), getattr(model, name)), name


@given(st.lists(st.tuples(st.floats(0.01, 0.99), st.integers(1, 50)), min_size=1, max_size=7))
def test_no_other_choice_is_expected_to_be_better(leaves: list[tuple[float, int]]) -> None:
    chances, words = np.array([p for p, _ in leaves]), np.array([float(w) for _, w in leaves])
    chosen, expected = best_choice(chances, words)

    def value(some: Any) -> float:
        return float(2 * (chances * words)[some].sum() / (words[some].sum() + (chances * words).sum() + 1e-9))

    assert value(chosen) == pytest.approx(expected)
    for bits in itertools.product([False, True], repeat=len(leaves)):
        assert value(np.array(bits)) <= expected + 1e-9


def test_features_are_finite_and_one_for_each_leaf_or_for_all() -> None:
    pages = [page_of(), page_of("<p>x"), page_of("<table><tr><td>a<td>b</table>"), outline_of(parse("<p>alone"))]
    for outline in pages:
        features = features_of([seen(0, outline)])
        assert set(block_model().names) <= {*features.leaves, *features.pages}
        for values, count in ((features.leaves, len(outline.leaves)), (features.pages, 1)):
            for name, column in values.items():
                assert column.shape == (count,), name
                assert np.isfinite(column).all(), name


def test_pages_beside_a_page_change_nothing_on_it() -> None:
    """Whatever they have that it has not: headings, lists, links, traits, equal texts, deeper elements."""
    pages = [
        page_of(*(f"<p>{SENTENCE}Bed {number}.</p>" for number in range(12))),
        outline_of(parse("<p>alone" + "<div class=sidebar>" * 9 + "<h1>Watering</h1><h1>Watering</h1><p>x")),
        outline_of(parse("".join(f"<p>{SENTENCE}<p>{SENTENCE}{number}" for number in range(20)))),
        page_of("<nav><a href=/>all</a></nav><h2>Beds</h2>", f"<p>{SENTENCE * 9}", after=f"<footer>{MENU}</footer>"),
        outline_of(parse("<table><tr><td>Watering<td>1</table><p>Watering")),
    ]
    model = block_model()
    together = features_of([seen(number, outline) for number, outline in enumerate(pages)])
    chances = model.chances(together)
    first = 0
    for number, outline in enumerate(pages):
        alone = features_of([seen(number, outline)])
        here = slice(first, first + len(outline.leaves))
        first = here.stop
        assert (together.page[here] == number).all()
        for name in model.names:
            assert together.of_leaves(name)[here].tolist() == alone.of_leaves(name).tolist(), name
        assert chances[here].tolist() == model.chances(alone).tolist()
    assert first == len(chances)
    heads = [Head(title="Watering")] * len(pages)
    found = main_contents(list(zip(pages, heads, strict=True)))
    assert found == [main_content(outline, head) for outline, head in zip(pages, heads, strict=True)]
    assert [bool(chosen) for chosen in found] == [True] * len(pages)


def test_content_is_kept_and_its_frame_dropped() -> None:
    found = kept(page_of(*(f"<p>{SENTENCE}Bed {number}.</p>" for number in range(12))))
    assert found == ["Watering", *(f"{SENTENCE}Bed {number}." for number in range(12))]


def test_without_any_telling_name_too() -> None:
    links = "".join(f"<div><a href=/x{number}>Offer {number} of the week</a></div>" for number in range(15))
    text = "".join(f"<div><div>{SENTENCE * 2}Bed {number}.</div></div>" for number in range(12))
    outline = outline_of(parse(f"<body><div>{links}</div><div><h1>Watering</h1>{text}</div><div>{links}</div></body>"))
    found = kept(outline)
    assert len(found) >= 12
    assert not [line for line in found if line.startswith("Offer")]


class Told:
    """A model that is told what it thinks of each leaf."""

    def __init__(self, outline: Outline, doubted: Callable[[str], bool]) -> None:
        self.values = [0.05 if doubted(leaf.text) or leaf.link_weight else 0.95 for leaf in outline.leaves]

    def chances(self, _: object) -> Any:
        return np.array(self.values)


def kept_but(outline: Outline, doubted: Callable[[str], bool]) -> list[str]:
    model: Any = Told(outline, doubted)
    return [outline.leaves[index].text for index in main_content(outline, Head(), model)]


TEXT = [f"<p>{SENTENCE}Bed {number}.</p>" for number in range(12)]


def test_a_short_line_between_two_kept_ones_is_kept() -> None:
    """A line that means nothing alone means something where it stands."""
    outline = page_of(*TEXT[:6], "<p>Note</p>", "<p>well</p>", *TEXT[6:])
    found = kept_but(outline, lambda text: text in ("Note", "well"))
    assert found[7:9] == ["Note", "well"]


def test_a_line_in_doubt_is_kept_wherever_it_stands_between_kept_ones() -> None:
    """Titles of boxes in the text are in boxes of their own."""
    box = f"<div><div><div><p>Note</p></div></div><div><div>{TEXT[0]}{TEXT[1]}</div></div></div>"
    outline = page_of(*TEXT[:6], box, *TEXT[6:])
    assert "Note" not in kept_but(outline, lambda text: text == "Note")
    model: Any = Told(outline, lambda text: text == "Note")
    model.values[[leaf.text for leaf in outline.leaves].index("Note")] = 0.25
    assert "Note" in [outline.leaves[index].text for index in main_content(outline, Head(), model)]


@pytest.mark.parametrize(
    "between",
    [
        "<p>1</p><p>2</p><p>3</p><p>4</p><p>5</p><p>6</p>",  # too many
        "<div class=related><p>1</p></div>",  # the rules do not want them
    ],
)
def test_what_is_no_gap_stays_out(between: str) -> None:
    found = kept_but(page_of(*TEXT[:6], between, *TEXT[6:]), str.isdigit)
    assert not [line for line in found if line.isdigit()]


def test_what_lies_between_two_parts_of_the_page_is_no_gap() -> None:
    text = "".join(TEXT)
    outline = outline_of(
        parse(
            f"<body><div><div><div><div>{text}</div></div></div></div><p>1</p>"
            f"<div><div><div><div>{text}</div></div></div></div></body>"
        )
    )
    assert "1" not in kept_but(outline, str.isdigit)


def test_lists_and_tables_are_whole() -> None:
    rows = "".join(f"<tr><td>Bed {number}<td>{number} l</tr>" for number in range(9))
    items = "".join(f"<li>{number if number % 2 else SENTENCE}</li>" for number in range(9))
    outline = page_of(*TEXT[:6], f"<table><tr><th>Bed<th>Water</tr>{rows}</table>", f"<ul>{items}</ul>", *TEXT[6:])
    found = kept_but(outline, lambda text: text.isdigit() or text.startswith(("| Bed 3", "| Bed 8")))
    assert len([line for line in found if line.startswith("| Bed")]) == 10
    assert [line for line in found if line.isdigit()] == ["1", "3", "5", "7"]
    # One row that it likes does not make the table content.
    found = kept_but(outline, lambda text: text.startswith("| ") and "Bed 3" not in text)
    assert not [line for line in found if line.startswith("| ")]


def test_a_text_keeps_the_headings_right_above_it() -> None:
    text = "".join(f"<h2>Part {part}</h2><h3>Short {part}</h3><p>{SENTENCE}Bed {part}.</p>" for part in range(8))
    outline = page_of(text, "<h2>Lonely</h2>", "<h3>Alone</h3>", "<p>9</p>")
    found = kept_but(outline, lambda text: text.startswith(("Part", "Short", "Lonely", "Alone", "Watering", "9")))
    assert [line for line in found if line.startswith("Part")] == [f"Part {part}" for part in range(8)]
    assert [line for line in found if line.startswith("Short")] == [f"Short {part}" for part in range(8)]
    assert found[0] == "Watering"
    assert not {"Lonely", "Alone", "9"} & set(found)


def test_a_snippet_is_left_to_the_rules() -> None:
    assert kept(outline_of(parse("<p>one</p><p>two</p><footer><p>three</p></footer>"))) == ["one", "two"]
