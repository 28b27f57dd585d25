from __future__ import annotations

import pytest

from include.gleaner.errors import UnreadablePageError
from include.gleaner.models import NotContent
from include.gleaner.process.decode import decode

PERSIAN = (
    "<html><body><p>کتاب‌ها را مي‌خوانيم و درباره آن‌ها گفت‌وگو مي‌کنيم. اين کتابخانه هر روز از ساعت نه تا پنج باز است.</p>"
)
FRENCH = "<p>Voilà des élèves très bien habillés à la fête de la forêt près du château.</p>"
RUSSIAN = "<p>Это книга о садах и воде в старом городе и о том, как там живут люди.</p>"
JAPANESE = "<p>日本語の文章です。庭と水についての本です。毎日読みます。</p>"


@pytest.mark.parametrize(
    ("text", "encoding", "content_type"),
    [
        (PERSIAN, "utf-8", ""),
        (PERSIAN, "cp1256", "text/html; charset=windows-1256"),
        (PERSIAN, "cp1256", 'text/html; charset="Windows-1256"'),
        (FRENCH, "cp1252", "text/html; charset=iso-8859-1"),
        (RUSSIAN, "koi8-r", "text/html; charset=KOI8-R"),
        (JAPANESE, "euc_jp", "text/html; charset=euc-jp"),
        (JAPANESE, "iso2022_jp", "text/html; charset=iso-2022-jp"),
        ("<p>สวัสดีครับ ปั๊มน้ำนี้ใช้ในสวน</p>", "cp874", "text/html; charset=windows-874"),
        ("<p>המשאבה עובדת בגינה</p>", "iso8859-8", "text/html; charset=iso-8859-8-i"),
        ("<p>ポンプ①</p>", "cp932", "text/html; charset=x-sjis"),
        ("<p>香港嘅水泵</p>", "big5hkscs", "text/html; charset=Big5"),
        ("<p>汉字和汉语拼音，图书馆的书很多。</p>", "gb18030", "text/html; charset=gb2312"),
    ],
)
def test_charset_of_the_header(text: str, encoding: str, content_type: str) -> None:
    assert decode(text.encode(encoding), content_type) == text


@pytest.mark.parametrize(
    "declaration",
    [
        "<meta charset=windows-1256>",
        "<meta charset='windows-1256'/>",
        '<META HTTP-EQUIV="Content-Type" CONTENT="text/html; charset=windows-1256">',
        '<?xml version="1.0" encoding="windows-1256"?>',
        "<!--" + "x" * 5_000 + "--><meta charset=windows-1256>",  # beyond the first kilobyte
    ],
)
def test_declaration_in_the_document(declaration: str) -> None:
    text = declaration + PERSIAN
    assert decode(text.encode("cp1256"), "text/html") == text


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_byte_order_mark_wins(encoding: str) -> None:
    body = ("\ufeff" + PERSIAN).encode(encoding)
    assert decode(body, "text/html; charset=iso-8859-1") == PERSIAN


@pytest.mark.parametrize("content_type", ["", "text/html; charset=utf-16", "text/html; charset=utf-8"])
@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("text", [PERSIAN, FRENCH])
def test_utf16_without_a_mark(text: str, encoding: str, content_type: str) -> None:
    assert decode(text.encode(encoding), content_type) == text


@pytest.mark.parametrize(
    ("text", "encoding", "content_type"),
    [
        (PERSIAN, "utf-8", "text/html; charset=iso-8859-1"),
        ("<meta charset=windows-1256>" + PERSIAN, "utf-8", "text/html"),
        ("<meta charset=utf-16>" + PERSIAN, "utf-8", "text/html"),
        (PERSIAN, "cp1256", "text/html; charset=utf-8"),
        (PERSIAN, "cp1256", "text/html; charset=hex"),  # a codec of Python's, no encoding of pages
        (PERSIAN, "utf-8", "text/html; charset=no-such-encoding"),
        (PERSIAN, "utf-8", "text/html; charset=\x00"),
        (FRENCH, "cp1252", "text/html; charset=utf-8"),
        (RUSSIAN, "cp1251", "text/html; charset=utf-8"),
    ],
)
def test_wrong_declarations(text: str, encoding: str, content_type: str) -> None:
    assert decode(text.encode(encoding), content_type) == text


@pytest.mark.parametrize(
    ("text", "encoding"), [(PERSIAN, "cp1256"), (RUSSIAN, "cp1251"), (FRENCH, "cp1252"), (JAPANESE, "cp932")]
)
def test_no_declaration(text: str, encoding: str) -> None:
    assert decode(text.encode(encoding), "text/html") == text


@pytest.mark.parametrize("content_type", ["", "text/html; charset=iso-8859-1", "text/html; charset=windows-1256"])
def test_one_bad_byte_does_not_change_the_encoding(content_type: str) -> None:
    body = PERSIAN.encode()
    assert decode(body + b"\xff", content_type) == PERSIAN + "\ufffd"
    assert decode((PERSIAN + "ب").encode()[:-1], content_type) == PERSIAN + "\ufffd"  # cut off within a letter


def test_nul_and_controls_are_taken_out() -> None:
    assert decode(b"<p>a\x00b\x08c\td</p> and so it goes on for a while", "") == (
        "<p>abc\td</p> and so it goes on for a while"
    )


@pytest.mark.parametrize(
    ("body", "content_type", "detail"),
    [
        (b"%PDF-1.7 ...", "text/html", "a PDF"),
        (b"\x89PNG\r\n\x1a\n\0\0", "", "a PNG image"),
        (b"\0\0\0\x18ftypmp42", "", "media"),
        (b"PK\x03\x04....", "text/html", "a ZIP archive"),
        (b'<?xml version="1.0"?>\n<!-- a feed --><rss version="2.0"><channel/></rss>', "text/xml", "XML, <rss>"),
        (b'{"a": 1}', "application/json", "application/json"),
        (b"body { color: red }", "Text/CSS; charset=utf-8", "text/css"),
    ],
)
def test_what_is_no_page(body: bytes, content_type: str, detail: str) -> None:
    assert decode(body, content_type) == NotContent(reason="not_html", detail=detail)


def test_html_with_the_type_of_something_else_is_read() -> None:
    assert decode(b"\xef\xbb\xbf<!doctype html><p>Hello", "application/json") == "<!doctype html><p>Hello"


@pytest.mark.parametrize("content_type", ["html", "*/*", "unknown/unknown; charset=utf-8"])
def test_a_type_that_says_nothing_does_not_refuse_a_page(content_type: str) -> None:
    assert decode(f"<!-- made by hand -->{PERSIAN}".encode(), content_type) == f"<!-- made by hand -->{PERSIAN}"


def test_bytes_that_are_no_text() -> None:
    with pytest.raises(UnreadablePageError, match="1,024 bytes"):
        decode(bytes(range(256)) * 4, "text/html")


def test_comments_without_end_before_the_root_take_no_time() -> None:
    # Doubled with each comment once: 30 of them took hours.
    body = b"<!-- -->" * 500 + b"<p>x"
    assert decode(body, "text/html") == body.decode()


@pytest.mark.parametrize("body", [b'{"error": "not found"}', b' [1, {"a": "<p>text</p>"}]\n'])
def test_json_that_calls_itself_html_is_no_page(body: bytes) -> None:
    assert decode(body, "text/html") == NotContent(reason="not_html", detail="JSON")
    assert isinstance(decode(b"{{ title }} " + body, "text/html"), str)


def test_parts_of_another_encoding_do_not_spoil_a_page_of_utf8() -> None:
    own, pasted = "Das Gerät kostet 5 € für Schüler.", "Größe und Maß"
    body = f"<meta charset=utf-8><p>{own}</p>".encode() + f"<p>{pasted}</p>".encode("cp1252")
    assert decode(body, "text/html") == f"<meta charset=utf-8><p>{own}</p><p>{pasted}</p>"


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("cp1251", "Насос подаёт воду из колодца глубиной до тридцати метров без всякого шума."),
        ("gb18030", "水泵可以从三十米深的井里抽水，没有任何噪音。保修期为两年，从购买之日起计算。"),
        ("cp932", "ポンプは深さ三十メートルの井戸から水を汲み上げます。保証期間は二年間です。"),
        ("cp1256", "پمپ آب را از چاهی به ژرفای سی متر بالا می‌کشد و هیچ صدایی ندارد."),
        ("cp1252", "Größe, Maß, Übung, Öl, Äpfel, Straße, Füße, naïve, café, façade, déjà vu"),
    ],
)
def test_a_page_that_wrongly_says_utf8_is_not_read_as_a_mixture(encoding: str, text: str) -> None:
    found = decode(b"<meta charset=utf-8><p>" + text.encode(encoding, "replace") + b"</p>", "text/html")
    assert isinstance(found, str)
    assert text[:10] in found
