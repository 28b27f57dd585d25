"""Cuts blocks into the smallest pieces that a chunk boundary may fall between: sentences, items, rows, lines. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Final

import regex
from sentencex import segment

from include.gleaner.chunk.tokens import count_tokens
from include.gleaner.models import Block

LONGEST_RUN: Final = 500  # characters without white space that are still one piece for the tokenizer
LONGEST_SENTENCE: Final = 20_000  # characters that are handed to the sentence splitter at once

_GRAPHEME: Final = regex.compile(r"\X")
_GIANT_RUN: Final = re.compile(rf"\S{{{LONGEST_RUN + 1},}}")
_TABLE_RULE: Final = re.compile(r"^\|?[\s:|-]*-[\s:|-]*\|?$")
_DECIMAL_END: Final = re.compile(r"\d[.,٫٬]$")
# Where a sentence that is too long is cut, best place first.
_CUTS: Final = (
    re.compile(r"\n+"),
    re.compile(r"(?<=[.!?؟۔。！？])\s+"),
    re.compile(r"(?<=[,;:،؛])\s+|(?<=[、，；])\s*"),  # "10,000" is one word
    re.compile(r"\s+"),
)


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Text that is never cut further."""

    text: str
    glue: str  # what joins it to the piece before, when both are in one chunk
    lead: str = ""  # what stands before it when it begins a chunk in the middle of its block: a table's header
    starts_block: bool = False
    is_prose: bool = False

    @cached_property
    def tokens(self) -> int:
        """Tokens of the text with its glue; counted when somebody asks."""
        return count_bounded(self.glue + self.text)


def pieces_of(block: Block, language: str, budget: int) -> Iterator[Piece]:
    """The pieces of a block, in order, none with more than `budget` tokens (its lead included)."""
    if block.kind == "table":
        yield from _rows(block.text, budget)
    elif block.kind == "definition":
        yield from _pieces([(part, "\n") for part in _definitions(block.text)], budget)
    elif block.kind in ("code", "list"):
        yield from _pieces([(line, "\n") for line in block.text.split("\n")], budget)
    else:
        yield from _pieces(_sentences(block.text, language), budget, is_prose=True)


def fitting(text: str, budget: int) -> list[str]:
    """`text` in parts of at most `budget` tokens, cut where it hurts least, never inside a letter."""
    if is_within(text, budget):
        return [text]
    middle = len(text) / 2
    for cut in _CUTS:
        ends = [match.end() for match in cut.finditer(text) if 0 < match.end() < len(text)]
        if ends:
            at = min(ends, key=lambda end: (abs(end - middle), end))
            if 0.1 * len(text) <= at <= 0.9 * len(text) or cut is _CUTS[-1]:
                return fitting(text[:at], budget) + fitting(text[at:], budget)
    starts = [match.start() for match in _GRAPHEME.finditer(text)][1:]
    if not starts:
        # One letter with more marks than a chunk holds: no letter of any language. It is cut between its marks.
        starts = list(range(1, len(text)))
    if not starts:
        return [text]
    at = min(starts, key=lambda start: (abs(start - middle), start))
    return fitting(text[:at], budget) + fitting(text[at:], budget)


def graphemes(text: str) -> list[str]:
    """Letters as readers see them: with their marks, emoji sequences whole."""
    return _GRAPHEME.findall(text)


def is_within(text: str, budget: int) -> bool:
    """Whether `text` has at most `budget` tokens; most often its length tells, since no token is less than a byte."""
    return 4 * len(text) <= budget or len(text.encode("utf-8", "replace")) <= budget or count_bounded(text) <= budget


def count_bounded(text: str) -> int:
    """Tokens of `text`, exact but for giant runs without white space: those are counted in parts, so never too few."""
    if len(text) <= LONGEST_RUN or not _GIANT_RUN.search(text):
        return count_tokens(text)
    total, at = 0, 0
    for match in _GIANT_RUN.finditer(text):
        total += count_tokens(text[at : match.start()])
        total += sum(
            count_tokens(text[start : min(start + LONGEST_RUN, match.end())])
            for start in range(match.start(), match.end(), LONGEST_RUN)
        )
        at = match.end()
    return total + count_tokens(text[at:])


def _pieces(parts: list[tuple[str, str]], budget: int, *, is_prose: bool = False) -> Iterator[Piece]:
    """Pieces of (text, glue) parts."""
    first = True
    for part, glue in parts:
        for number, text in enumerate(fitting(part, budget - 2)):
            # A part that had to be cut is put together again without anything in between.
            joint = "\n\n" if first else glue if number == 0 else ""
            yield Piece(text=text, glue=joint, starts_block=first, is_prose=is_prose)
            first = False


def _definitions(text: str) -> list[str]:
    """Each term together with the first line that explains it: a boundary between the two would orphan both."""
    parts: list[str] = []
    for line in text.split("\n"):
        if parts and line.startswith(": ") and "\n" not in parts[-1] and not parts[-1].startswith((": ", "  ")):
            parts[-1] += f"\n{line}"
        else:
            parts.append(line)
    return parts


def _rows(text: str, budget: int) -> Iterator[Piece]:
    lines = text.split("\n")
    # A caption may stand above the header row; below that comes the row of dashes.
    header = next((at + 1 for at in (1, 2) if at < len(lines) - 1 and _TABLE_RULE.match(lines[at])), 0)
    lead = "\n".join(lines[:header]) + "\n" if header else ""
    if count_bounded(lead) > budget // 3:
        lead, header = "", 0
    rows = ["\n".join(lines[: header + 1]), *lines[header + 1 :]] if header else lines
    room = budget - count_bounded(lead)
    for number, piece in enumerate(_pieces([(row, "\n") for row in rows], room)):
        yield piece if number == 0 else replace(piece, lead=lead)


def _sentences(text: str, language: str) -> list[tuple[str, str]]:
    """Sentences, each with the white space that stands before it."""
    found: list[tuple[str, str]] = []
    for line in text.split("\n"):
        glue = "\n"
        for start in range(0, len(line), LONGEST_SENTENCE):
            for sentence in _split_sentences(line[start : start + LONGEST_SENTENCE], language):
                body = sentence.strip()
                if body:
                    found.append((body, glue + sentence[: len(sentence) - len(sentence.lstrip())]))
                    glue = ""
                glue += sentence[len(sentence.rstrip()) :] if body else sentence
    return found


@lru_cache(maxsize=4_096)
def _split_sentences(text: str, language: str) -> tuple[str, ...]:
    """`text` in sentences, nothing added and nothing lost; whole when the splitter does either."""
    parts: list[str] = []
    for part in segment(language if language != "und" else "en", text):
        # The splitter takes the point in "۳.۵" for a full stop.
        if parts and _DECIMAL_END.search(parts[-1]) and part[:1].isdecimal():
            parts[-1] += part
        else:
            parts.append(part)
    return tuple(parts) if "".join(parts) == text else (text,)
