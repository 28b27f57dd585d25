"""What pages call their encoding: as browsers take it, and nothing that only Python knows."""

from __future__ import annotations

import encodings.aliases

import pytest

from include.gleaner.charsets import codec_of
from include.gleaner.crawl.links import read_head
from include.gleaner.process.decode import decode

KNOWN_TO_PYTHON = sorted({*encodings.aliases.aliases, *encodings.aliases.aliases.values()})
OTHERS = ["undefined", "idna", "punycode", "unicode-escape", "raw-unicode-escape", "mbcs", "oem", "charmap"]
BYTES = bytes(range(160, 256)) + b" \\x \\N{x} xn--\xe9 +AAA- ~{ \x1b$B \xed\xa0\x80 "


@pytest.mark.parametrize("label", [*KNOWN_TO_PYTHON, *OTHERS])
def test_no_label_stops_anybody(label: str) -> None:
    body = f'<meta charset="{label}"><h1>Prices</h1><a href="/next">next</a> '.encode() + BYTES
    for content_type in ("text/html", f"text/html; charset={label}"):
        assert read_head(body, url="http://shop.example/", content_type=content_type).links == (
            "http://shop.example/next",
        )
        text = decode(body, content_type)
        assert isinstance(text, str)
        assert "<h1>Prices</h1>" in text


@pytest.mark.parametrize(
    ("label", "codec"),
    [
        ("ISO-8859-1", "cp1252"), ("latin1", "cp1252"), ("us-ascii", "cp1252"), ("windows-1256", "cp1256"),
        ("x-sjis", "cp932"), ("gb2312", "gb18030"), ("EUC-KR", "cp949"), ("Big5", "big5hkscs"), ("UTF8", "utf-8"),
        ("koi8-r", "koi8-r"), ("iso-2022-jp", "iso2022_jp"), ("utf-16le", "utf-16-le"),
        ("cp037", None), ("hex", None), ("rot13", None), ("idna", None), ("unicode-escape", None), ("no such", None),
        ("a\0b", None), ("x" * 10_000, None),
    ],
)  # fmt: skip
def test_labels_are_taken_as_browsers_take_them(label: str, codec: str | None) -> None:
    assert codec_of(label) == codec
