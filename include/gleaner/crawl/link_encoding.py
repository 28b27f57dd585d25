"""In which encoding a page's links are written. Pure."""

from __future__ import annotations

from typing import Final

from include.gleaner.charsets import IN_HEADER, IN_META, WIDE, codec_of

_BOMS: Final = ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"))
MAX_BAD_SHARE: Final = 0.05  # of the characters beyond ASCII; a declaration with more faults is not believed
_META_WITHIN: Final = 100_000  # bytes; browsers believe a late declaration too


def encoding_of(body: bytes, content_type: str) -> str:
    """The name of a Python codec.

    Order: byte order mark; UTF-16 when the header says so; UTF-8 when the bytes are that with hardly a fault, because
    text in another encoding never is; the header; the document's own declaration; windows-1252.
    """
    for mark, encoding in _BOMS:
        if body.startswith(mark):
            return encoding
    header = IN_HEADER.search(content_type)
    stated = codec_of(header[1]) if header else None
    if stated in WIDE and b"\x00" in body[:1_000]:
        return "utf-16-be" if stated == "utf-16-be" or body[:1] == b"\x00" else "utf-16-le"
    try:
        body.decode("utf-8")
    except UnicodeDecodeError:
        if _is_believable(body, "utf-8"):
            return "utf-8"
        meta = IN_META.search(body, 0, _META_WITHIN)
        declared = codec_of(meta[1].decode("ascii", "replace")) if meta else None
        for codec in (stated, declared):
            if codec and codec not in WIDE and _is_believable(body, codec):
                return codec
        return "cp1252"
    return "utf-8"


def _is_believable(body: bytes, codec: str) -> bool:
    text = body.decode(codec, "replace")
    beyond_ascii = len(text) - len(text.encode("ascii", "ignore"))
    return text.count("\ufffd") <= MAX_BAD_SHARE * beyond_ascii
