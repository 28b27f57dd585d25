"""Text as people read it and text as search compares it. Pure, and shared by the stages.

Two forms are kept apart. *Display* text is what is shown and embedded: NFC, with the zero-width non-joiner that Persian
spelling needs, with punctuation, diacritics and digits as written. *Folded* text feeds lexical search only, where the
same word must compare equal however it was typed; a query has to be folded in the same way.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

ZWNJ: Final = "\u200c"
UNSPACED: Final = frozenset(("ja", "km", "lo", "my", "th", "zh"))  # languages written without spaces between words
DIVIDER: Final = "\x1f"  # stands in no display text

# Characters that are never text: controls, bidi controls (they reorder what a reader sees), lone surrogates (no valid
# UTF-8), noncharacters, byte order marks, soft hyphens, zero-width spaces, private use (glyphs of icon fonts), and tags
# and variation selectors, which spell out messages that only machines read.
_CONTROL: Final = "\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f"
_INVISIBLE: Final = "\u00ad\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
_NO_TEXT: Final = "\ud800-\udfff\ue000-\uf8ff\ufdd0-\ufdef\ufffe\uffff"
_SELECTORS: Final = "\U000e0100-\U000e01ef"
_UNWANTED: Final = re.compile(f"[{_CONTROL}{_INVISIBLE}{_NO_TEXT}\U000e0000-\U000e007f{_SELECTORS}]")
_SELECTED: Final = re.compile(f"[\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff][{_SELECTORS}]")
_BINARY: Final = re.compile(f"[{_CONTROL}\ud800-\udfff]")
_ASCII_BINARY: Final = bytes(code for code in range(128) if _BINARY.match(chr(code)))
# More marks on one letter than any language has. Putting them in order takes the square of their number (UAX #15, the
# stream-safe text format, allows thirty).
_MOST_MARKS: Final = 30
_RUN_OF_SIGNS: Final = re.compile(f"[^\\w\\t\\n -~]{{{_MOST_MARKS + 1},}}")
_LONG: Final = 1_000  # characters; in less there is no harm
_LINE_END: Final = re.compile("\r\n?|[\u0085\u2028\u2029]")
_WORD: Final = re.compile("\\w[\\w\u200c\u200d'’]*")
# The same for ASCII, in a tenth of the time: signs set words apart, apostrophes do not.
_ASCII_SIGNS: Final = bytes(
    code if code >= 128 or chr(code).isalnum() or chr(code) in ("_", DIVIDER) else ord(" ") for code in range(256)
)
_TYPOGRAPHIC: Final = "‘’“”–—"  # what else stands in texts that are ASCII otherwise; folding leaves them as they are
_SIGNS: Final = re.compile(f"[^\\w'’\u200c\u200d{DIVIDER}]+")

# Marks that readers leave out when they type a query. Not all of category Mn: in Indic scripts those are the vowels.
_MARKS: Final = re.compile(
    "[\u0300-\u036f\u0591-\u05c7\u0610-\u061a\u0640\u064b-\u065f\u0670\u06d6-\u06dc\u06df-\u06ed]"
)
_PERSIAN: Final = str.maketrans({"ي": "ی", "ى": "ی", "ك": "ک", "ة": "ه", "ە": "ه"})
# A space, not nothing: «کتاب‌ها» is then found by «کتاب» and by «کتاب ها», which people type far more than «کتابها».
_FOLDS: Final = {"ı": "i", ZWNJ: " ", "\u200d": ""}
_FOLDED: Final = re.compile(f"[\\dı{ZWNJ}\u200d](?<![0-9])")  # translate() would look up every letter


def strip_binary(text: str) -> tuple[str, int]:
    """`text` without NUL, other controls and lone surrogates, and how many of them there were."""
    if text.isascii() and len(text.encode().translate(None, _ASCII_BINARY)) == len(text):
        return text, 0  # what most pages in English are, found out in a fifth of the time
    return _BINARY.subn("", text)


def display(text: str) -> str:
    """One line of display text: NFC, every run of white space one space, nothing invisible but ZWNJ and ZWJ."""
    if text.isascii() and (line := " ".join(text.split())).isprintable():
        return line
    return " ".join(_UNWANTED.sub(_kept, unicodedata.normalize("NFC", _with_few_marks(text))).split())


def verbatim(text: str) -> str:
    """Text whose white space carries meaning (code): line ends become "\\n", what is no text goes, all else stays."""
    return _UNWANTED.sub(_kept, _LINE_END.sub("\n", _with_few_marks(text)))


def _with_few_marks(text: str) -> str:
    """`text` without those that a letter has beyond thirty."""
    if len(text) <= _LONG or text.isascii():
        return text
    return _RUN_OF_SIGNS.sub(_few_marks, text)


def _few_marks(found: re.Match[str]) -> str:
    """A run of signs, none with more than thirty marks, also when what is no text is gone from between them."""
    kept: list[str] = []
    marks = 0
    for letter in found[0]:
        if unicodedata.combining(letter):
            marks += 1
        elif not _UNWANTED.match(letter):
            marks = 0
        if marks <= _MOST_MARKS:
            kept.append(letter)
    return "".join(kept)


def _kept(found: re.Match[str]) -> str:
    """Nothing of what is no text; but the selector that says which form of an ideograph is meant belongs to it."""
    at = found.start()
    return found[0] if at and _SELECTED.match(found.string, at - 1) else ""


def fold(text: str, language: str) -> str:
    """The form of `text` that lexical search compares; `language` is an ISO 639 code.

    Case, compatibility forms, Arabic and Latin diacritics, kashida and the script of digits are levelled out; ZWNJ
    becomes a space. Arabic letters become Persian ones only where the language is Persian: in Arabic they are others.
    """
    if _plain(text).isascii():
        return text.casefold()
    text = _MARKS.sub("", unicodedata.normalize("NFKD", text.casefold()))
    text = _FOLDED.sub(_folded, text)
    if language == "fa":
        text = text.translate(_PERSIAN)
    return unicodedata.normalize("NFC", text)


def _folded(found: re.Match[str]) -> str:
    letter = found[0]
    return _FOLDS[letter] if letter in _FOLDS else str(unicodedata.decimal(letter))


def folded_words(text: str, language: str) -> list[str]:
    """The words of `text`, each as `fold` has it."""
    if (plain := _plain(text)).isascii():
        return set_apart(plain).casefold().split()  # the same, and half as long
    return set_apart(fold(text, language)).split()


def count_words(text: str) -> int:
    """Number of words; a Persian word with ZWNJ inside is one, signs alone are none."""
    return len(set_apart(plain).split()) if (plain := _plain(text)).isascii() else len(_WORD.findall(text))


def set_apart(text: str) -> str:
    """`text` with its words set apart by spaces, nothing left of signs but DIVIDER."""
    text = _plain(text)
    return text.encode().translate(_ASCII_SIGNS, b"'").decode() if text.isascii() else _SIGNS.sub(" ", text)


def _plain(text: str) -> str:
    """`text` without the quotes and dashes of good typography: ASCII, if there is nothing else beyond it."""
    if not text.isascii():
        for sign in _TYPOGRAPHIC:
            text = text.replace(sign, "'" if sign == "’" else " ")
    return text
