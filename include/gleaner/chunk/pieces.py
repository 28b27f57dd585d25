"""Cuts blocks into the smallest pieces that a chunk boundary may fall between: sentences, items, rows, lines. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

import regex
from sentencex import segment

from include.gleaner.chunk.tokens import Meter
from include.gleaner.models import Block, BlockKind

LONGEST_SENTENCE: Final = 20_000  # characters that are handed to the sentence splitter at once

_GRAPHEME: Final = regex.compile(r"\X")
_TABLE_RULE: Final = re.compile(r"^[\s:|]*+-[\s:|-]*+$")
_DECIMAL_END: Final = re.compile(r"\d[.,٫٬]$")
# Where a sentence that is too long is cut, best place first.
_CUTS: Final = (
    re.compile(r"\n+"),
    re.compile(r"(?<=[.!?؟۔。！？])\s+"),
    re.compile(r"(?<=[,;:،؛])\s+|(?<=[、，；])\s*"),  # "10,000" is one word
    re.compile(r"\s+"),
)


GLUE: Final = "\n\n"  # between blocks


@dataclass(slots=True, kw_only=True)
class Piece:
    """Text that a chunk holds whole."""

    text: str
    glue: str  # what joins it to the piece before, when both are in one chunk
    size: int  # of the text with its glue, or with what follows a whole block
    kind: BlockKind  # of the block it belongs to
    language: str | None = None  # of that block
    lead: str = ""  # what stands before it when it begins a chunk in the middle of its block: a table's header
    whole: Block | None = None  # the block that the piece is all of, if it can be cut further
    starts_block: bool = False
    is_exact: bool = True  # whether the size is the text's own wherever it stands between blocks


def whole_block(block: Block, meter: Meter) -> Piece:
    """A block in one piece."""
    is_exact = not meter.has_giant_run(block.text) and not block.text[:1].isspace()
    size = meter.size(block.text + GLUE)
    return Piece(
        text=block.text,
        glue=GLUE,
        size=size,
        kind=block.kind,
        language=block.language,
        whole=block,
        starts_block=True,
        is_exact=is_exact,
    )


def pieces_of(block: Block, language: str, budget: int, meter: Meter) -> Iterator[Piece]:
    """The pieces of a block, in order, none with a size above `budget` (its lead included)."""
    if block.kind == "table":
        yield from _rows(block.text, budget, meter)
        return
    if block.kind == "definition":
        parts = [(part, "\n") for part in _definitions(block.text)]
    elif block.kind in ("code", "list"):
        parts = [(line, "\n") for line in block.text.split("\n")]
    else:
        parts = _with_glue(block.text, language)
    for piece in _pieces(parts, budget, meter, block.kind):
        piece.language = block.language
        yield piece


def fitting(text: str, budget: int, meter: Meter) -> list[str]:
    """`text` in parts of a size of at most `budget`, cut where it hurts least, never inside a letter."""
    if meter.is_within(text, budget):
        return [text]
    middle = len(text) / 2
    for cut in _CUTS:
        ends = [match.end() for match in cut.finditer(text) if 0 < match.end() < len(text)]
        if ends:
            at = min(ends, key=lambda end: (abs(end - middle), end))
            if 0.1 * len(text) <= at <= 0.9 * len(text) or cut is _CUTS[-1]:
                return fitting(text[:at], budget, meter) + fitting(text[at:], budget, meter)
    starts = [match.start() for match in _GRAPHEME.finditer(text)][1:]
    if not starts:
        # One letter with more marks than a chunk holds: no letter of any language. It is cut between its marks.
        starts = list(range(1, len(text)))
    if not starts:
        return [text]
    at = min(starts, key=lambda start: (abs(start - middle), start))
    return fitting(text[:at], budget, meter) + fitting(text[at:], budget, meter)


def graphemes(text: str) -> list[str]:
    """Letters as readers see them: with their marks, emoji sequences whole."""
    return _GRAPHEME.findall(text)


def _pieces(parts: list[tuple[str, str]], budget: int, meter: Meter, kind: BlockKind) -> Iterator[Piece]:
    """Pieces of (text, glue) parts."""
    first = True
    for part, glue in parts:
        for number, text in enumerate(fitting(part, budget - 2, meter)):
            # A part that had to be cut is put together again without anything in between.
            joint = GLUE if first else glue if number == 0 else ""
            yield Piece(text=text, glue=joint, size=meter.size(joint + text), kind=kind, starts_block=first)
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


def _rows(text: str, budget: int, meter: Meter) -> Iterator[Piece]:
    lines = text.split("\n")
    # A caption may stand above the header row; below that comes the row of dashes.
    header = next((at + 1 for at in (1, 2) if at < len(lines) - 1 and _TABLE_RULE.match(lines[at])), 0)
    lead = "\n".join(lines[:header]) + "\n" if header else ""
    if meter.size(lead) > budget // 3:
        lead, header = "", 0
    rows = ["\n".join(lines[: header + 1]), *lines[header + 1 :]] if header else lines
    room = budget - meter.size(lead)
    for number, piece in enumerate(_pieces([(row, "\n") for row in rows], room, meter, "table")):
        yield piece if number == 0 else replace(piece, lead=lead)


def _with_glue(text: str, language: str) -> list[tuple[str, str]]:
    """Sentences, each with the white space that stands before it."""
    found: list[tuple[str, str]] = []
    for line in text.split("\n"):
        glue = "\n"
        for start in range(0, len(line), LONGEST_SENTENCE):
            for sentence in sentences(line[start : start + LONGEST_SENTENCE], language):
                body = sentence.strip()
                if body:
                    found.append((body, glue + sentence[: len(sentence) - len(sentence.lstrip())]))
                    glue = ""
                glue += sentence[len(sentence.rstrip()) :] if body else sentence
    return found


def sentences(text: str, language: str) -> tuple[str, ...]:
    """`text` in sentences, nothing added and nothing lost; whole when the splitter does either."""
    parts: list[str] = []
    for part in segment(language if language != "und" else "en", text):
        # The splitter takes the point in "۳.۵" for a full stop.
        if parts and part[:1].isdecimal() and _DECIMAL_END.search(parts[-1]):
            parts[-1] += part
        else:
            parts.append(part)
    return tuple(parts) if "".join(parts) == text else (text,)
