"""The gist of a chunk in its own sentences: those that say most of what the chunk is about, in its order. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from itertools import chain
from typing import Final

from include.gleaner.chunk.pieces import sentences
from include.gleaner.text import DIVIDER, UNSPACED, set_apart

MOST_WORDS: Final = 120
ENOUGH_WORDS: Final = 80  # no sentence is added beyond it
_MARKER: Final = re.compile(r"^ *(?:- |\d{1,6}\. |: )", re.M)
# What must be in a line for it to have more than one sentence.
_SEVERAL: Final = re.compile(r"[.!?؟۔。！？।…][^\w.!?؟۔。！？।…]*+\w")
_LETTERS_OF_A_WORD: Final = 2  # there, on the average
_LEAD: Final = 1.3  # what the first sentence weighs more than others
_SHORT: Final = 60  # characters; a line with no more is not divided
_LEAST: Final = 40  # of a sentence; shorter ones are labels and names
_FRAME: Final = 24  # characters; so that a short sentence is not the best for being short


def tldr_of(text: str, language: str, words: int) -> str | None:
    """At most 120 words of `text`, whole sentences of it in its order; None where there is none to be had.

    A text within the limit is its own gist. Of a longer one those sentences stay whose words are its most frequent,
    until there are 80 words. `words` says how many `text` has at most.
    """
    unspaced = language in UNSPACED
    if unspaced:
        words = len(text) // _LETTERS_OF_A_WORD
    shortest, least = (0, _LEAST // 4) if unspaced else (_SHORT, _LEAST)
    text = _MARKER.sub("", text)
    if words <= MOST_WORDS:
        return text.strip() or None
    found = [
        (line, sentence)
        for line, whole in enumerate(text.split("\n"))
        if len(whole) >= least
        for part in (sentences(whole, language) if len(whole) > shortest and _SEVERAL.search(whole) else (whole,))
        if len(sentence := part.strip()) >= least
    ]
    if not found:
        return None
    # Divided into words all at once: one by one takes three times as long.
    folded = set_apart(DIVIDER.join(sentence for _, sentence in found).casefold())
    words_in = [part.split() for part in folded.split(DIVIDER)]
    sizes = [len(sentence) // _LETTERS_OF_A_WORD + 1 for _, sentence in found] if unspaced else [*map(len, words_in)]
    chosen = list(range(len(found))) if sum(sizes) <= MOST_WORDS else _best(found, words_in, sizes)
    gist = ""
    before = -1
    for at in sorted(chosen):
        line, sentence = found[at]
        gist += ("\n" if line != before else "" if unspaced else " ") + sentence
        before = line
    return gist.strip() or None


def _best(found: Sequence[tuple[int, str]], words_in: Sequence[Sequence[str]], sizes: Sequence[int]) -> list[int]:
    """Which sentences say most: those whose words are the most frequent in all of them."""
    shared = Counter(chain.from_iterable(words_in))
    weights = [
        (sum(map(shared.__getitem__, own)) - len(own)) / (len(sentence) + _FRAME)
        for own, (_, sentence) in zip(words_in, found, strict=True)
    ]
    weights[0] *= _LEAD
    chosen: list[int] = []
    total = 0
    for at in sorted(range(len(found)), key=lambda at: (-weights[at], at)):
        if 0 < sizes[at] <= MOST_WORDS - total:
            chosen.append(at)
            total += sizes[at]
            if total >= ENOUGH_WORDS:
                break
    return chosen
