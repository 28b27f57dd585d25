"""Pages that say nearly the same: found by MinHash, decided by comparing their words. Pure."""

from __future__ import annotations

import hashlib
import struct
from collections import Counter
from dataclasses import dataclass
from typing import Final

from rensa import RMinHash

from include.gleaner.models import Document
from include.gleaner.text import UNSPACED, fold, folded_words

SIMILAR: Final = 0.95  # Jaccard index of the shingles
_SHINGLE: Final = 5  # words
_LETTERS: Final = 8  # of a shingle where words have no spaces between them
_PERMUTATIONS: Final = 120
_BANDS: Final = 10  # of twelve numbers each: pages of an index of .95 share one with a chance of .9996, of .7 with .13
_SEED: Final = 1


@dataclass(frozen=True, kw_only=True)
class Likeness:
    """What two pages are compared by."""

    language: str
    title: str
    words: Counter[str]
    shingles: frozenset[str]
    facts: tuple[str, ...]


def bands_of(document: Document) -> list[int]:
    """Signed 64-bit numbers, one a band, that similar pages most likely share; none for a page without text."""
    shingles = _shingles(_words(document), document.language)
    if not shingles:
        return []
    minhash = RMinHash(num_perm=_PERMUTATIONS, seed=_SEED)
    minhash.update(shingles)
    digest = minhash.digest()
    rows = _PERMUTATIONS // _BANDS
    parts = [struct.pack(f">H{rows}I", band, *digest[band * rows : (band + 1) * rows]) for band in range(_BANDS)]
    return [int.from_bytes(hashlib.blake2b(part, digest_size=8).digest(), "big", signed=True) for part in parts]


def likeness_of(document: Document) -> Likeness:
    """What is compared of a document; make it without what the whole site repeats."""
    words = _words(document)
    return Likeness(
        language=document.language,
        title=fold(document.title, document.language),
        words=Counter(words),
        shingles=frozenset(_shingles(words, document.language)),
        facts=tuple(fact.text for fact in document.facts),
    )


def are_near_duplicates(one: Likeness, other: Likeness) -> bool:
    """Whether the one says nothing that the other does not: the same title, facts and numbers, and nearly all words."""
    if one.language != other.language or one.facts != other.facts or not one.shingles:
        return False
    if one.words == other.words and one.shingles == other.shingles:
        return True
    common = len(one.shingles & other.shingles)
    if one.title != other.title or common < SIMILAR * (len(one.shingles) + len(other.shingles) - common):
        return False
    different = (one.words - other.words) + (other.words - one.words)
    return not any(letter.isdecimal() for word in different for letter in word)


def _words(document: Document) -> list[str]:
    """Of headings and blocks, folded."""
    parts: list[str] = []
    for section in document.sections:
        parts += [*section.path[-1:], *(block.text for block in section.blocks)]
    return folded_words("\n".join(parts), document.language)


def _shingles(words: list[str], language: str) -> list[str]:
    """Pieces of the text, one after another; of equal ones each."""
    if language in UNSPACED or len(words) <= _SHINGLE:
        text = " ".join(words)
        if language in UNSPACED and text:
            return [text[at : at + _LETTERS] for at in range(max(len(text) - _LETTERS, 0) + 1)]
        return [text] if text else []
    return list(map(" ".join, zip(*(words[at:] for at in range(_SHINGLE)), strict=False)))
