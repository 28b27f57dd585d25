"""The tree that everything about a page is read from."""

from __future__ import annotations

import gc

import pytest

from include.gleaner.errors import UnreadablePageError
from include.gleaner.process.tree import Node, parse


def find(page: Node, name: str) -> Node:
    return next(tag for tag in page.elements() if tag.name == name)


def test_texts_and_elements_stand_in_their_order() -> None:
    body = find(parse("<body>a &amp; b<p class='x y' id=z>c</p><!-- no --><?no?>d"), "body")
    assert [item if isinstance(item, str) else item.name for item in body.contents] == ["a & b", "p", "d"]
    paragraph = find(body, "p")
    assert (paragraph.attrs["class"], paragraph.attrs["id"], paragraph.contents) == ("x y", "z", ["c"])


def test_a_text_is_one_however_it_arrives() -> None:
    text = "word " * 600_000  # more than one piece of the parser's input
    assert find(parse(f"<p>{text}</p>"), "p").contents == [text]


def test_text_leaves_out_scripts_but_a_script_has_its_own() -> None:
    page = parse("<div>a<script>b</script><style>c</style><template>d</template>e</div>")
    assert page.text() == "ae"
    assert page.text("|") == "a|e"
    assert find(page, "script").text() == "b"


@pytest.mark.parametrize("levels", [10_000, 200_000])
def test_nesting_has_no_limit(levels: int) -> None:
    page = parse("<div>" * levels + "inside" + "</div>" * levels + "<p>after")
    assert page.text("|") == "inside|after"
    assert sum(1 for _ in page.elements()) == levels + 3  # and html, body, p


def test_a_page_of_nothing_but_elements_is_refused_before_it_fills_the_memory() -> None:
    with pytest.raises(UnreadablePageError, match="more than 300,000 elements"):
        parse("<p>a" * 2_000_000)
    assert parse("<p>a" * 290_000).text() == "a" * 290_000


@pytest.mark.parametrize("text", ["", "  \n ", "<!-- nothing -->", "<>", "<!doctype html>"])
def test_what_holds_no_element_is_an_empty_tree_or_text(text: str) -> None:
    assert parse(text).text().strip(" \n<>") == ""


def test_a_page_that_was_read_is_freed_without_the_collector() -> None:
    def nodes() -> int:
        return sum(isinstance(thing, Node) for thing in gc.get_objects())

    gc.collect()
    before = nodes()
    gc.disable()
    try:
        page = parse("<ul>" + "<li><a href=/>one</a>" * 100 + "</ul>")
        assert nodes() > before + 200
        del page
        assert nodes() - before < 3  # the empty page that takes the place of what was given away
    finally:
        gc.enable()
