from __future__ import annotations

import json
from dataclasses import fields, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from include.gleaner.errors import GleanerError
from include.gleaner.models import Block, Document, Fact, Section
from include.gleaner.process.fingerprint import fingerprint_of
from include.gleaner.process.records import document_from_json, document_to_json
from tests.support.documents import document, read

HTML = """<html lang="fa"><title>راهنما</title><h1>راهنما</h1><p>کتاب‌ها را می‌خوانیم.</p>
    <pre class="language-python">a  = 1</pre>
    <table><tr><th>a<th>b<tr><td>1<td>2</table><ul><li>one</ul>
    <script type="application/ld+json">{"@type": "Product", "name": "Drip 4", "offers": {"price": "9"}}</script>"""


def test_round_trip_through_json() -> None:
    page = document(HTML)
    assert page.facts
    record = json.loads(json.dumps(document_to_json(page)))
    assert document_from_json(record) == page


def test_equal_pages_have_equal_hashes() -> None:
    assert document(HTML) == document(HTML)
    assert len(document(HTML).content_hash) == 32
    # What surrounds the content, and how its markup is spelled, does not count.
    other = HTML.replace("<h1>", "<nav><a href=/>Home</a></nav><h1 class='big'>").replace(
        "<ul><li>one", "<ul>\n<li> one"
    )
    assert document(other).content_hash == document(HTML).content_hash


CHANGES = {
    "title": "other",
    "language": "ar",
    "description": "other",
    "word_count": 7,
    "metadata": {"author": "other"},
    "sections": (Section(path=("x",), blocks=(Block(kind="code", text="x", language="c"),)),),
    "facts": (Fact(kind="faq", title="x", text="x", data={"question": "x"}),),
}


@pytest.mark.parametrize("name", [field.name for field in fields(Document) if field.name != "content_hash"])
def test_any_other_content_has_another_hash(name: str) -> None:
    page = document(HTML)
    assert fingerprint_of(replace(page, **{name: CHANGES[name]})) != page.content_hash


def test_the_hash_tells_blocks_apart() -> None:
    code, named = (Block(kind="code", text="x", language=language) for language in (None, "c"))
    pages = [
        Document(title="", language="en", sections=(Section(path=(), blocks=(block,)),)) for block in (code, named)
    ]
    assert fingerprint_of(pages[0]) != fingerprint_of(pages[1])


pieces = st.sampled_from(
    [
        "<div",
        "<p>",
        "</p>",
        "<h1>",
        "<h2>x</h2>",
        "</div>",
        "<table>",
        "<tr>",
        "<td>",
        "</table>",
        "<ul>",
        "<li>",
        "<pre>",
        "</pre>",
        "<!--",
        "-->",
        "<a",
        "href=x>",
        "</a>\n",
        "",
        "",
        "",
        "<br>",
        "<script>",
        "</script>",
        "<nav>",
        "</nav>",
        "<head>",
        "</head>",
        "<body>",
        "<title>",
        "&amp;",
        "&#0;",
        "&#xd800;",
        '"',
        "'",
        "=",
        ">",
        "متن\u200cها",
        "\x00",
        "\x1e",
        "\ufeff",
        "\u202e\n",
        "",
        "",
        "",
        "<dl>",
        "<dt>",
        "<dd>",
        "<span",
        "hidden>",
        "<![CDATA[",
        "]]>",
        "<?xml",
        "<!DOCTYPE",
        "<form>",
        "<button>",
        "<select>",
        "<option>",
        "<math>",
        "<svg>",
        "<img",
        "alt=x>",
    ]
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(pieces, st.text(max_size=8).map(lambda text: f" {text} ")), max_size=40).map("".join))
def test_any_soup_is_read_or_refused(html: str) -> None:
    body = html.encode("utf-8", "surrogatepass")
    try:
        found = read(body, "text/html")
    except GleanerError:
        return
    assert found == read(body, "text/html")
    if isinstance(found, Document):
        text = json.dumps(document_to_json(found), ensure_ascii=False, allow_nan=False)
        text.encode()  # no lone surrogate
        assert "\\u0000" not in text
        assert document_from_json(json.loads(text)) == found


@settings(max_examples=80, deadline=None)
@given(st.binary(max_size=300), st.sampled_from(["", "text/html", "text/plain", "text/html; charset=shift_jis", "x/y"]))
def test_any_bytes_are_read_or_refused(body: bytes, content_type: str) -> None:
    try:
        read(body, content_type)
    except GleanerError as error:
        assert "bytes are no text" in str(error)  # noqa: PT017
