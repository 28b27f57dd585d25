from __future__ import annotations

import pytest

from tests.support.documents import blocks_of, document, text_of


def paths(html: str) -> list[tuple[str, ...]]:
    return [section.path for section in document(html).sections]


@pytest.mark.parametrize(
    ("html", "expected"),
    [
        ("<h1>A</h1><p>a</p><h2>B</h2><p>b</p><h3>C</h3><p>c</p>", [("A",), ("A", "B"), ("A", "B", "C")]),
        ("<h1>A</h1><p>a</p><h2>B</h2><p>b</p><h2>C</h2><p>c</p>", [("A",), ("A", "B"), ("A", "C")]),
        # A skipped level is no level: h4 stands directly below h1, and the h2 after it is its sibling.
        ("<h1>A</h1><p>a</p><h4>B</h4><p>b</p><h2>C</h2><p>c</p>", [("A",), ("A", "B"), ("A", "C")]),
        ("<h1>A</h1><p>a</p><h2>B</h2><p>b</p><h1>C</h1><p>c</p>", [("A",), ("A", "B"), ("C",)]),
        ("<h3>A</h3><p>a</p><h1>B</h1><p>b</p>", [("A",), ("B",)]),
        ("<p>before</p><h2>A</h2><p>a</p>", [(), ("A",)]),
        # Above sections a heading is in their paths; alone, it is a section of its own.
        ("<h1>A</h1><h2>B</h2><p>b</p>", [("A", "B")]),
        ("<h1>A</h1><p>a</p><h2>B</h2><h2>C</h2><p>c</p>", [("A",), ("A", "B"), ("A", "C")]),
        ("<div role=heading aria-level=1>A</div><p>a</p><h2>B<br>b</h2><p>b</p>", [("A",), ("A", "B b")]),
    ],
)
def test_section_paths(html: str, expected: list[tuple[str, ...]]) -> None:
    assert paths(html) == expected


def test_lists() -> None:
    html = """<ul><li>one<li>two <b>bold</b><ul><li>inner</li></ul></li><li><p>three</p><p>more of three</p></ul>
        <p>between</p><ol start=3><li>c</li><li value=7>g</li><li>h</li></ol>"""
    assert [(block.kind, block.text) for block in blocks_of(document(html))] == [
        ("list", "- one\n- two bold\n  - inner\n- three\n  more of three"),
        ("paragraph", "between"),
        ("list", "3. c\n7. g\n8. h"),
    ]


def test_definition_list() -> None:
    html = "<dl><dt>Hose</dt><dd>Carries <i>water</i>.</dd><dd>Is long.</dd><dt>Valve</dt><dd>Stops it.</dd></dl>"
    blocks = [block.text for block in blocks_of(document(html)) if block.kind == "definition"]
    assert "\n".join(blocks) == "Hose\n: Carries water.\n: Is long.\nValve\n: Stops it."


def test_table_with_caption_header_and_spans() -> None:
    html = """<table><caption>Prices</caption><thead><tr><th>Model<th colspan=2>Price</thead>
        <tr><td rowspan=2>Drip | 4<td>€ 129<td>new</tr><tr><td>€ 99<td>used</tr></table>"""
    assert [(block.kind, block.text) for block in blocks_of(document(html))] == [
        ("paragraph", "Prices"),
        (
            "table",
            "| Model | Price |  |\n| --- | --- | --- |\n| Drip \\| 4 | € 129 | new |\n| Drip \\| 4 | € 99 | used |",
        ),
    ]


@pytest.mark.parametrize(
    "html",
    [
        "<table role=presentation><tr><td>left text</td><td>right text</td></tr></table>",
        "<table><tr><td>left text<td><table><tr><td>right text</table></table>",
        "<table><tr><td><h2>Head</h2><p>left text</p></td><td>right text</td></tr></table>",
        "<table><tr><td>left text</td></tr><tr><td>right text</td></tr></table>",
    ],
)
def test_layout_tables_are_no_tables(html: str) -> None:
    blocks = blocks_of(document(html))
    assert {block.kind for block in blocks} == {"paragraph"}
    assert [block.text for block in blocks] == ["left text", "right text"]


@pytest.mark.parametrize(
    ("html", "language"),
    [
        ('<pre><code class="language-python">{}</code></pre>', "python"),
        ('<pre class="brush: Python">{}</pre>', "python"),
        ('<div class="highlight-python notranslate"><div class="highlight"><pre>{}</pre></div></div>', "python"),
        ('<pre data-lang="c++"><code>{}</code></pre>', "c++"),
        ('<pre class="language-none">{}</pre>', None),
        ("<pre>{}</pre>", None),
    ],
)
def test_code_is_verbatim(html: str, language: str | None) -> None:
    code = "def f(x):\n\tif x &lt; 1:\n\n        return  {}\n    return x"
    page = document("<h1>Code</h1><p>Look at this:</p>" + html.replace("{}", code + "\n"))
    block = blocks_of(page)[1]
    assert block.kind == "code"
    assert block.text == code.replace("&lt;", "<")
    assert block.language == language


def test_code_of_highlighters() -> None:
    html = """<p>Look:</p><pre><code><span class="line-numbers-rows"><span>1</span></span
        ><div class="line"><span>if</span> a:</div><div
        class="line">    b()</div></code><button class="copy">Copy</button></pre>"""
    assert blocks_of(document(html))[1].text == "if a:\n    b()"


@pytest.mark.parametrize(
    "html",
    [
        "<table><tr><td><pre><span>1</span><br><span>2</span><br></pre><td><pre>if a:<br>    b()</pre></table>",
        "<table><tr><td><pre><code><span class=lnt>1\n</span><span class=lnt>2\n</span></code></pre>"
        "<td><pre><code>if a:\n    b()</code></pre></table>",
        "<table><tr><td><div><pre>9\n10</pre></div><td><div><pre>if a:\n    b()</pre></div></table>",
        "<pre><span><span class=ln>1</span>if a:\n</span><span><span class=ln>2</span>    b()\n</span></pre>",
    ],
)
def test_numbers_of_lines_are_no_code(html: str) -> None:
    assert [block.text for block in blocks_of(document(f"<p>Look:</p>{html}"))] == ["Look:", "if a:\n    b()"]


def test_numbers_that_a_program_prints_are() -> None:
    html = "<p>It prints:</p><pre>1\n2\n3</pre><table><tr><td><pre>3\n1</pre><td><pre>a</pre></table>"
    assert [block.text for block in blocks_of(document(html))] == ["It prints:", "1\n2\n3", "3\n1", "a"]


def test_quotes_and_line_breaks() -> None:
    html = "<p>Street 1<br>1234 Town</p><blockquote><p>First.</p><p>Second.</p></blockquote><p>a<br><br>b</p>"
    assert [(block.kind, block.text) for block in blocks_of(document(html))] == [
        ("paragraph", "Street 1\n1234 Town"),
        ("quote", "First.\nSecond."),
        ("paragraph", "a"),
        ("paragraph", "b"),
    ]


PERSIAN = "کتاب‌ها را می‌خوانیم؛ دربارهٔ آن‌ها گفت‌وگو می‌کنیم: ۱۲۳ تا ۴۵٫۶ «نقل قول» — نمی‌دانم؟"


def test_persian_text_is_exactly_the_pages() -> None:
    items = "<ul><li>می‌روم</li><li>خانه‌ای</li></ul>"
    head = '<html lang="fa" dir="rtl"><title>راه‌اندازی</title>'
    page = document(f"{head}<h1>راه‌اندازی</h1><p>{PERSIAN}</p>{items}<p>بی&zwnj;نهایت &#8204;</p>")
    assert page.title == "راه‌اندازی"
    assert page.language == "fa"
    assert page.sections[0].path == ("راه‌اندازی",)
    assert [block.text for block in blocks_of(page)] == [PERSIAN, "- می‌روم\n- خانه‌ای", "بی‌نهایت \u200c"]


def test_persian_article_is_exactly_the_pages() -> None:
    """Articles have a second opinion that knows no ZWNJ: it may choose, not write."""
    paragraphs = [f"{PERSIAN} {number}. {PERSIAN}" for number in range(8)]
    head = '<html lang="fa"><meta property="og:type" content="article"><title>خبر</title>'
    html = f"{head}<article><h1>خبر</h1>{''.join(f'<p>{text}</p>' for text in paragraphs)}</article>"
    assert [block.text for block in blocks_of(document(html))] == paragraphs


def test_what_is_hidden_or_decoration_is_no_text() -> None:
    html = """<h2>Setup<a class="headerlink" href="#s">¶</a></h2><p>Shown <span style="display: none">one</span>
        <span hidden>two</span>
        <span aria-hidden="true">three</span>
        <span class="sr-only">four</span>and <b>this</b>.</p>
        <div style="visibility:hidden"><p>five</p></div><script>six</script><template><p>seven</p></template>
        <p>The end of it all, <kbd>Ctrl</kbd>+<kbd>C</kbd>.</p>"""
    assert text_of(document(html)) == "Setup\nShown and this.\nThe end of it all, Ctrl+C."


def test_buttons_that_unfold_answers_are_questions() -> None:
    html = """<h1>FAQ</h1><div><button aria-expanded=false>How long does the battery last?</button>
        <div><p>One season.</p></div><button>Buy</button></div>"""
    assert [block.text for block in blocks_of(document(html))] == ["How long does the battery last?", "One season."]


def test_plain_text_has_paragraphs() -> None:
    page = document("First <b>line\nsecond line\n\nThe second paragraph & more.", "text/plain")
    assert [block.text for block in blocks_of(page)] == ["First <b>line second line", "The second paragraph & more."]


@pytest.mark.parametrize(
    ("markup", "kept"),
    [
        ('<p><img alt="The valve sits left of the pump."></p>', True),
        ('<figure><img alt="The valve sits left of the pump."></figure>', True),
        ('<p>See the picture. <img alt="The valve sits left of the pump."></p>', True),
        # Described already, or no description, or a link to somewhere else.
        ('<figure><img alt="The valve sits left of the pump."><figcaption>The valve.</figcaption></figure>', False),
        ('<p>The valve sits left of the pump.</p><p><img alt="The valve sits left of the pump."></p>', False),
        ('<p><img alt="valve left.png"></p>', False),
        ('<p><a href="/x"><img alt="The valve sits left of the pump."></a></p>', False),
        ('<a href="/x"><p><img alt="The valve sits left of the pump."></p></a>', False),
        ('<div class="icon"><img alt="The valve sits left of the pump."></div>', False),
    ],
)
def test_descriptions_of_images(markup: str, kept: bool) -> None:
    before, after = "<p>Open the valve before the first frost comes.", "<p>Close it in spring.</p>"
    page = document(f"<main><h1>Winter</h1>{before}</p>{markup}{after}</main>".encode())
    text = text_of(page)
    expected = "The valve sits left of the pump."
    assert (text.count(expected) > markup.count(f"<p>{expected}")) == kept
    if kept:
        assert text.index("first frost") < text.index(expected) < text.index("Close it")


def test_an_image_outside_of_the_content_says_nothing() -> None:
    page = document(
        b"<main><h1>Winter</h1><p>Open the valve before the first frost comes.</p></main>"
        b'<footer><p><img alt="The valve sits left of the pump."></p><p>Imprint</p></footer>'
    )
    assert "left of the pump" not in text_of(page)
