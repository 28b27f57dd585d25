"""In which encoding a page's links are written. Pure."""

from __future__ import annotations

import codecs
import re
from typing import Final

from include.gleaner.text import CODECS

_BOMS: Final = ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"))
_HEADER: Final = re.compile(r"charset\s*=\s*[\"']?([\w.:-]+)", re.IGNORECASE)
_META: Final = re.compile(rb"<meta\b[^<>]{0,500}?charset\s*=\s*[\"']?\s*([\w.:-]+)", re.IGNORECASE)
MAX_BAD_SHARE: Final = 0.05  # of the characters beyond ASCII; a declaration with more faults is not believed
_META_WITHIN: Final = 100_000  # bytes; browsers believe a late declaration too

# As browsers take these labels.
_AS_BROWSERS: Final = {
    "iso8859-1": "cp1252",
    "ascii": "cp1252",
    "iso8859-9": "cp1254",
    "iso8859-11": "cp874",
    "tis-620": "cp874",
    "big5": "big5hkscs",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "shift_jis": "cp932",
    "euc_kr": "cp949",
    "utf-7": "utf-8",
}
_WIDE: Final = ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be")


def encoding_of(body: bytes, content_type: str) -> str:
    """The name of a Python codec.

    Order: byte order mark; UTF-16 when the header says so; UTF-8 when the bytes are that with hardly a fault, because
    text in another encoding never is; the header; the document's own declaration; windows-1252.
    """
    for mark, encoding in _BOMS:
        if body.startswith(mark):
            return encoding
    header = _HEADER.search(content_type)
    stated = _codec(header[1]) if header else None
    if stated in _WIDE and b"\x00" in body[:1_000]:
        return "utf-16-be" if stated == "utf-16-be" or body[:1] == b"\x00" else "utf-16-le"
    try:
        body.decode("utf-8")
    except UnicodeDecodeError:
        if _is_believable(body, "utf-8"):
            return "utf-8"
        meta = _META.search(body, 0, _META_WITHIN)
        declared = _codec(meta[1].decode("ascii", "replace")) if meta else None
        for codec in (stated, declared):
            if codec and codec not in _WIDE and _is_believable(body, codec):
                return codec
        return "cp1252"
    return "utf-8"


def _is_believable(body: bytes, codec: str) -> bool:
    text = body.decode(codec, "replace")
    beyond_ascii = len(text) - len(text.encode("ascii", "ignore"))
    return text.count("\ufffd") <= MAX_BAD_SHARE * beyond_ascii


def _codec(label: str) -> str | None:
    try:
        found = codecs.lookup(CODECS.get(label.lower(), label))
    except (LookupError, ValueError):
        return None
    if not getattr(found, "_is_text_encoding", True):  # Python knows "hex" and "rot13" as well
        return None
    return _AS_BROWSERS.get(found.name, found.name)
