"""Whether a page lost what it said: little stands there now, and none of it is what stood there before. Pure."""

from __future__ import annotations

from typing import Final

from include.gleaner.models import Document
from include.gleaner.text import fold, set_apart

_RUN: Final = 3  # words; what an error and an article have in common is single words
_BRIEF: Final = 60  # words; an error says no more
_SHRUNK: Final = 0.5  # of the words before
_KEPT: Final = 0.2  # of the runs before that a page must still have, or else
_TAKEN: Final = 0.5  # of its runs now must be old ones: a summary says what was said


def is_lost(before: str, after: Document) -> bool:
    """Whether `after` is no other version of the text `before`, but what came in its place and is less.

    Make `after` without what its whole site repeats. Something that is published for machines is no error.
    """
    if after.facts:
        return False
    old = _words(before, after.language)
    new = _words("\n".join(block.text for section in after.sections for block in section.blocks), after.language)
    if len(new) > _BRIEF and len(new) > _SHRUNK * len(old):
        return False
    was, now = _runs(old), _runs(new)
    common = len(was & now)
    return common < _KEPT * len(was) and common <= _TAKEN * len(now)


def _words(text: str, language: str) -> list[str]:
    return set_apart(fold(text, language)).split()


def _runs(words: list[str]) -> set[tuple[str, ...]]:
    return set(zip(*(words[at:] for at in range(min(_RUN, len(words)))), strict=False))
