"""Where a page says what its encoding is, and which of Python's codecs that is, as browsers take these labels. Pure."""

from __future__ import annotations

import codecs
import re
from functools import lru_cache
from typing import Final

# Labels of encodings that pages use, browsers know and Python does not, with Python's names (WHATWG Encoding Standard).
CODECS: Final = {
    "windows-874": "cp874", "dos-874": "cp874", "x-sjis": "cp932", "windows-31j": "cp932", "x-euc-jp": "euc_jp",
    "iso-8859-8-i": "iso8859-8", "logical": "iso8859-8", "visual": "iso8859-8", "iso-8859-6-i": "iso8859-6",
    "iso-8859-6-e": "iso8859-6", "x-mac-roman": "mac_roman", "x-mac-cyrillic": "mac_cyrillic", "x-x-big5": "big5hkscs",
    "cn-big5": "big5hkscs", "windows-949": "cp949", "x-gbk": "gb18030", "gb_2312-80": "gb18030", "csgb2312": "gb18030",
    "koi": "koi8-r", "koi8": "koi8-r", "koi8-ru": "koi8-u", "sun_eu_greek": "iso8859-7", "turkish": "cp1254",
    **{f"x-cp{number}": f"cp{number}" for number in range(1250, 1259)},
}  # fmt: skip

# The label stands for the larger set that pages with it use in fact (WHATWG Encoding Standard).
_IN_FACT: Final = {
    "ascii": "cp1252",
    "iso8859-1": "cp1252",
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
# Where a header and a document name it. Possessive where white space may stand twice: a page of nothing else would take
# the square of its length.
IN_HEADER: Final = re.compile(r"charset\s*=\s*+[\"']?+\s*+([\w.:-]+)", re.IGNORECASE)
IN_META: Final = re.compile(rb"<meta\b[^<>]{0,500}?charset\s*=\s*+[\"']?+\s*+([\w.:-]+)", re.IGNORECASE)

WIDE: Final = frozenset(("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"))
_ESCAPES: Final = frozenset(("unicode-escape", "raw-unicode-escape"))  # of Python's source code
_MARKUP: Final = b"<html lang='en'><a href=\"/0123456789?ABCDEFGHIJKLMNOPQRSTUVWXYZ=abcdefghijklmnopqrstuvwxyz\">&amp;"


@lru_cache(maxsize=256)
def codec_of(label: str) -> str | None:
    """The name of a codec that pages can be written in, all of them with `errors="replace"`; None if there is none.

    Python also knows codecs that are no encodings ("hex", "idna", "undefined"), and encodings in which markup is no
    markup (EBCDIC): a page that names one of these was read by its author's browser, which knows neither.
    """
    try:
        found = codecs.lookup(CODECS.get(label.lower(), label))
        name = _IN_FACT.get(found.name, found.name)
        if name in WIDE:
            return name
        if name not in _ESCAPES and _MARKUP.decode(name, "replace") == _MARKUP.decode("ascii"):
            return name
    except (LookupError, ValueError, TypeError):  # unknown, or of another kind than from bytes to text
        return None
    return None
