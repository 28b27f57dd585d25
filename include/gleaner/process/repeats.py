"""What a site says on most of its pages: blocks are known by their hashes, and dropped by them. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import replace
from typing import Final

from include.gleaner.models import Block, Document, Section

_KEPT_KINDS: Final = frozenset(("code",))  # steps that are the same everywhere are still steps
_LEAST_WORDS: Final = 2  # a single word is a label of what follows it
_MOST_BLOCKS: Final = 20_000  # of a page


def block_hashes(document: Document) -> list[int]:
    """A signed 64-bit number for each block, heading without text, and fact that may be a repeat; sorted, each once."""
    numbers: set[int] = set()
    for section in document.sections:
        numbers.update(number for block in section.blocks if (number := _of_block(block)) is not None)
        if not section.blocks and section.path:
            numbers.add(_number("heading", section.path[-1]))
    numbers.update(_number(fact.kind, fact.text) for fact in document.facts)
    return sorted(numbers)[:_MOST_BLOCKS]


def without_repeats(document: Document, dropped: Collection[int]) -> Document:
    """`document` without the blocks, lone headings and facts of these hashes, and the sections that only held them."""
    if not dropped:
        return document
    gone = frozenset(dropped)
    sections: list[Section] = []
    for section in document.sections:
        blocks = tuple(block for block in section.blocks if _of_block(block) not in gone)
        lone = not section.blocks and section.path and _number("heading", section.path[-1]) not in gone
        if blocks or lone:
            sections.append(replace(section, blocks=blocks))
    facts = tuple(fact for fact in document.facts if _number(fact.kind, fact.text) not in gone)
    return replace(document, sections=tuple(sections), facts=facts)


def _of_block(block: Block) -> int | None:
    if block.kind in _KEPT_KINDS or len(block.text.split(None, _LEAST_WORDS - 1)) < _LEAST_WORDS:
        return None
    return _number("block", block.text)


def _number(kind: str, text: str) -> int:
    """Case and white space do not matter."""
    told = f"{kind}\n{' '.join(text.casefold().split())}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(told, digest_size=8).digest(), "big", signed=True)
