"""trafilatura as a second opinion on articles: it is better than the rules at what follows or interrupts a story.

Its answer is flat text, so it is laid back onto the leaves: a leaf stays when its words are in that text. Structure,
order and ZWNJ therefore stay those of the outline.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import trafilatura

from include.gleaner.process.outline import Leaf
from include.gleaner.text import ZWNJ

_PLACEHOLDER: Final = "\u2057"  # trafilatura deletes every ZWNJ and fuses Persian words; a printable sign survives
_WORD: Final = re.compile(r"\w+")
_RUN: Final = 3  # words that have to follow each other to count as found
_COVERED: Final = 0.5  # share of a leaf's words
_LEAST: Final = 0.7  # of the rules' text; an answer with less has lost the story
_LEAST_LEFT: Final = 0.4  # it may have as many words, and yet others: of a part of the page that was dropped
_MOST: Final = 1.5


def second_opinion(html: str, leaves: Sequence[Leaf], kept: list[int]) -> list[int]:
    """Those of the `kept` leaves that trafilatura finds too; all of them when its answer is not to be trusted."""
    words = _words_of(html)
    size = sum(len(_WORD.findall(leaves[index].text)) for index in kept)
    if not _LEAST * size <= len(words) <= _MOST * size:
        return kept
    runs = set(zip(*(words[start:] for start in range(_RUN)), strict=False))
    lone = set(words)
    verdict = True
    agreed: list[int] = []
    for index in kept:
        leaf = leaves[index]
        if leaf.kind not in ("code", "row"):  # where it is weak; they go with the text before them
            own = _WORD.findall(leaf.text.lower())
            verdict = _covered(own, runs, lone)
        if verdict or leaf.kind == "heading":
            agreed.append(index)
    left = sum(len(_WORD.findall(leaves[index].text)) for index in agreed)
    return agreed if left >= _LEAST_LEFT * size else kept


def _words_of(html: str) -> list[str]:
    text = html.replace(_PLACEHOLDER, "").replace(ZWNJ, _PLACEHOLDER).replace("&zwnj;", _PLACEHOLDER)
    try:
        answer = trafilatura.extract(text, fast=True, include_comments=False, include_tables=True, deduplicate=False)
    except Exception:  # noqa: BLE001 - an opinion is not worth a page, whatever goes wrong in forming it
        return []
    return _WORD.findall((answer or "").replace(_PLACEHOLDER, ZWNJ).lower())


def _covered(own: list[str], runs: set[tuple[str, ...]], lone: set[str]) -> bool:
    if len(own) < _RUN:
        return all(word in lone for word in own)
    found = [False] * len(own)
    for start in range(len(own) - _RUN + 1):
        if tuple(own[start : start + _RUN]) in runs:
            found[start : start + _RUN] = [True] * _RUN
    return sum(found) >= _COVERED * len(own)
