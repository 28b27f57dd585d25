"""Words of a text: the short ways for plain texts find what the long ways find."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.gleaner.text import count_words, display, fold, folded_words, set_apart, strip_binary, verbatim

LETTERS = "aZ9_ \n\t.,'-/(é“’–…½™ß™کي\u200cكİ"


@given(st.text(alphabet=LETTERS), st.sampled_from(["en", "fa", "tr"]))
def test_folded_words_are_the_words_of_the_folded_text(text: str, language: str) -> None:
    assert folded_words(text, language) == set_apart(fold(text, language)).split()


@given(st.text(alphabet=[chr(code) for code in range(32, 127)] + ["\n", "’", "“"]))
def test_a_plain_text_has_as_many_words_as_any_other(text: str) -> None:
    assert count_words(text) == len(re.findall(r"\w[\w'’]*", text))


@pytest.mark.parametrize("code", [*range(0x100), 0x2028, 0xD800, 0xDFFF, 0xE000])
def test_what_is_no_text_is_taken_out_and_counted(code: int) -> None:
    is_binary = (
        (code < 32 and code not in (9, 10, 13)) or (127 <= code < 160 and code != 0x85) or 0xD800 <= code < 0xE000
    )
    kept = "" if is_binary else chr(code)
    assert strip_binary(f"a{chr(code)}b{chr(code)}") == (f"a{kept}b{kept}", 2 * is_binary)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Don't 'quote' it", ["dont", "quote", "it"]),
        ("“Don’t” – said she…", ["dont", "said", "she"]),
        ("a_b\tC/D (e-f)", ["a_b", "c", "d", "e", "f"]),
        ("", []),
    ],
)
def test_signs_set_words_apart_and_apostrophes_do_not(text: str, words: list[str]) -> None:
    assert folded_words(text, "en") == words


@pytest.mark.parametrize("form", [display, verbatim])
@pytest.mark.parametrize("between", ["", "\u200b", "\x01", "\x1f", "\ue000"])
def test_a_letter_keeps_thirty_marks(form: Callable[[str], str], between: str) -> None:
    shown = form("a" + f"\u0301\u0323{between}" * 1_000 + "b" + "\u0301" * 20)
    first, second = shown.removeprefix("\u1ea1").removeprefix("\u00e1").removeprefix("a").split("b")
    assert 28 <= len(first) <= 30
    assert second == "\u0301" * 20


def test_marks_of_any_language_stay() -> None:
    texts = ("שָׁלוֹם ", "بِسْمِ ٱللَّهِ ", "नमस्ते ", "ที่นี่ ", "Tiếng Việt ", "👩‍👩‍👧‍👦🇩🇪", "“…”—" * 20)
    for text in texts:
        assert verbatim(text * 1_000) == text * 1_000
