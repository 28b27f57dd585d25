"""From bytes to text: which encoding, and whether this is text at all."""

from __future__ import annotations

import codecs
import json
import re
from typing import Final

import cchardet

from include.gleaner.charsets import IN_HEADER, IN_META, codec_of
from include.gleaner.errors import UnreadablePageError
from include.gleaner.models import NotContent
from include.gleaner.text import strip_binary

_BOMS: Final = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)

_MAGIC: Final = (
    (b"%PDF-", "a PDF"),
    (b"\x89PNG\r\n", "a PNG image"),
    (b"GIF8", "a GIF image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b\x08", "gzip data"),
    (b"BZh", "bzip2 data"),
    (b"\xfd7zXZ\x00", "xz data"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!\x1a\x07", "a RAR archive"),
    (b"\xd0\xcf\x11\xe0", "an Office file"),
    (b"\x7fELF", "a program"),
    (b"OggS", "Ogg media"),
    (b"ID3", "MP3 audio"),
    (b"wOFF", "a font"),
    (b"wOF2", "a font"),
    (b"{\\rtf", "an RTF file"),
)
_FEEDS: Final = re.compile(
    rb"^\s*+(?:<\?xml[^>]*+>\s*+)?+(?:<!--(?:(?!-->).)*+-->\s*+)*+<(rss|feed|urlset|sitemapindex|rdf:RDF|svg)\b", re.S
)
_HTML_TYPES: Final = frozenset(
    ("", "text/html", "application/xhtml+xml", "text/plain", "application/octet-stream", "text/xml", "application/xml")
)

_XML_DECLARATION: Final = re.compile(rb"^\s*<\?xml\b[^>]{0,200}?encoding\s*=\s*[\"']([\w.:-]+)", re.I)

_OF_CONSOLES: Final = frozenset(("cp437", "cp737", "cp775", "cp850", "cp852", "cp858"))
_MAX_BAD_SHARE: Final = 0.01  # of all characters: a declared encoding with more faults than that is not believed
_MAX_BINARY_SHARE: Final = 0.1
_MAX_UTF8_FAULTS: Final = 0.05  # of the characters beyond ASCII; text in another encoding has many times that
_MAX_MIXED: Final = 0.5  # of them where UTF-8 is declared; by chance a fifth of another encoding is valid at most
_MIN_ZEROS: Final = 0.2  # of every second byte: spaces and markup have a zero byte each in UTF-16
_MIN_ARABIC: Final = 0.7  # of the characters beyond ASCII

_ARABIC: Final = re.compile(r"[\u0621-\u064a\u067e\u0686\u0698\u06a9\u06af]")
_COMMON_ARABIC: Final = re.compile("[انيىردتمهولبس]")  # two thirds of Arabic and of Persian text


def _western(error: UnicodeError) -> tuple[str, int]:
    """What is no UTF-8 in a page of UTF-8 was copied from a page of windows-1252."""
    assert isinstance(error, UnicodeDecodeError)
    return error.object[error.start : error.end].decode("cp1252", "replace"), error.end


codecs.register_error("gleaner.mixed", _western)


def decode(body: bytes, content_type: str) -> str | NotContent:
    """The page's text, without NUL, other control characters and lone surrogates.

    Order: byte order mark, UTF-16 by its zero bytes, UTF-8 with hardly a fault, the header's charset, the document's
    own declarations wherever they stand, detection. UTF-8 comes before the declarations because text in another
    encoding is practically never valid UTF-8, while wrong declarations are common.

    Raises UnreadablePageError for bytes that are no text in any of these.
    """
    if kind := _not_html(body, content_type):
        return NotContent(reason="not_html", detail=kind)
    text = _decode(body, content_type)
    cleaned, removed = strip_binary(text)
    if removed + cleaned.count("\ufffd") > _MAX_BINARY_SHARE * len(text):
        raise UnreadablePageError(
            f"the {len(body):,} bytes are no text in any known encoding; check what the server sends"
        )
    return cleaned


def is_plain_text(text: str, content_type: str) -> bool:
    """Whether the page is to be read as text without markup."""
    return _media_type(content_type) == "text/plain" and not re.match(r"\s*<(?:!doctype|html|head|body)\b", text, re.I)


def _not_html(body: bytes, content_type: str) -> str:
    media = _media_type(content_type)
    head = body[:1024].lstrip()
    for magic, kind in _MAGIC:
        if head.startswith(magic):
            return kind
    if head[4:8] == b"ftyp" or (head.startswith(b"RIFF") and head[8:12] in (b"WEBP", b"AVI ", b"WAVE")):
        return "media"
    if feed := _FEEDS.match(body[:4096]):
        return f"XML, <{feed[1].decode()}>"
    if media not in _HTML_TYPES and not re.match(
        rb"(?:\xef\xbb\xbf)?\s*(?:<!doctype\s+html|<html)\b", body[:1024], re.I
    ):
        return media[:100]
    return "JSON" if _is_json(body) else ""


def _is_json(body: bytes) -> bool:
    """An answer of an API that calls itself HTML."""
    if body.lstrip()[:1] not in (b"{", b"[") or body.rstrip()[-1:] not in (b"}", b"]"):
        return False
    try:
        json.loads(body)
    except (ValueError, RecursionError):
        return False
    return True


def _media_type(content_type: str) -> str:
    media = content_type.partition(";")[0].strip().lower()
    return "" if "/" not in media or media in ("*/*", "unknown/unknown", "application/unknown") else media


def _decode(body: bytes, content_type: str) -> str:
    for mark, encoding in _BOMS:
        if body.startswith(mark):
            return body[len(mark) :].decode(encoding, "replace")
    if encoding := _utf16(body[:4096]):
        return body.decode(encoding, "replace")
    declared = _declared(body, content_type)
    escaped = b"\x1b" in body  # ISO-2022 is valid ASCII, byte by byte
    if not (escaped and declared and declared[0].startswith("iso2022")):
        text = body.decode("utf-8", "replace")
        faults = text.count("\ufffd")
        # A page cut off within a letter, or with one comment pasted from elsewhere, is UTF-8 all the same.
        beyond = len(text) - len(text.encode("ascii", "ignore")) if faults else 0
        if faults <= _MAX_UTF8_FAULTS * beyond:
            return text
        # One that says so and is so for the most part has parts from another source: comments, an old template.
        if "utf-8" in declared[:1] and faults <= _MAX_MIXED * beyond:
            return body.decode("utf-8", "gleaner.mixed")
    for encoding in declared:
        text = body.decode(encoding, "replace")
        if text.count("\ufffd") <= _MAX_BAD_SHARE * len(text):
            return text
    guess = _codec(str(cchardet.detect(body)["encoding"] or ""))
    # Which it is not, or what no web page is written in: the detector has no idea.
    if guess is None or guess == "utf-8" or guess in _OF_CONSOLES:
        guess = "cp1256" if _is_arabic(body.decode("cp1256", "replace")) else "cp1252"
    return body.decode(guess, "replace")


def _utf16(sample: bytes) -> str:
    """Which UTF-16 the bytes are that have no byte order mark; "" when they are none."""
    even, odd = sample[::2].count(0), sample[1::2].count(0)
    if max(even, odd) < _MIN_ZEROS * len(sample) / 2 or min(even, odd) > max(even, odd) / 10:
        return ""
    return "utf-16-le" if odd > even else "utf-16-be"


def _is_arabic(text: str) -> bool:
    """Whether text read as windows-1256 makes sense: the detector knows it for Arabic, not for Persian."""
    arabic = len(_ARABIC.findall(text))
    beyond = len(text) - len(text.encode("ascii", "ignore"))
    return arabic > _MIN_ARABIC * beyond and 2 * len(_COMMON_ARABIC.findall(text)) > arabic


def _declared(body: bytes, content_type: str) -> list[str]:
    """Codecs that header and document name, the most trusted first."""
    labels = [match[1] for match in [IN_HEADER.search(content_type)] if match]
    labels += [
        match[1].decode("ascii", "replace") for match in [IN_META.search(body), _XML_DECLARATION.match(body)] if match
    ]
    return list(dict.fromkeys(codec for label in labels if (codec := _codec(label))))


def _codec(label: str) -> str | None:
    """A declaration that could be read byte by byte was not in UTF-16."""
    codec = codec_of(label)
    return "utf-8" if codec and codec.startswith("utf-16") else codec
