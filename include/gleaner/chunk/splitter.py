"""Cuts a document into chunks: section by section, whole sentences, never above the limit.

A chunk never reaches over a section's end, so that text far away cannot move its boundaries; inside a long section,
boundaries fall by preference before blocks that their own text chooses, so that they come back into step after an edit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from include.gleaner.chunk.pieces import Piece, count_bounded, fitting, graphemes, pieces_of
from include.gleaner.chunk.tokens import count_tokens
from include.gleaner.config import ChunkPolicy
from include.gleaner.models import Block, Chunk, ChunkType, Document, Fact, Section
from include.gleaner.text import count_words, fold

BREADCRUMB_SHARE: Final = 0.25  # of a chunk's tokens, at most
GOOD_FILL: Final = 0.6  # from here on a block may choose to begin a new chunk
WHOLE_FILL: Final = 0.5  # of the budget: a section with no more is one chunk
_LONGEST_TOKENS: Final = 8  # characters of a token; a text with more of them is not counted in vain
CHOOSING_BLOCKS: Final = 4  # one block in so many does
SMALL_SHARE: Final = 0.2  # of the budget: sections below it are put together with their siblings
_CHARACTERS_OF_TOKENS: Final = 40  # more than a token has on the average; a rule of thumb, for grouping only
SEPARATOR: Final = " > "


@dataclass(frozen=True, kw_only=True)
class _Part:
    """What is cut together: a section, several small ones, or a fact."""

    chunk_type: ChunkType
    path: tuple[str, ...]
    blocks: tuple[Block, ...]
    headings: tuple[str, ...]
    data: Mapping[str, Any] | None = None


def split(document: Document, policy: ChunkPolicy, page_url: str) -> tuple[Chunk, ...]:
    """The chunks of a document: sections as `website`, published facts as `faq` and `product`, each counted from 0.

    `embedded_text` is a shortened breadcrumb, a blank line and the text, and never has more than `policy.max_tokens`
    tokens of cl100k_base. Every word of the document is in at least one chunk. Equal documents give equal chunks.
    """
    numbers: dict[str, int] = {}
    chunks: list[Chunk] = []
    for part in _parts(document, policy):
        breadcrumb = SEPARATOR.join(part.path)
        short = _shortened(part.path, int(policy.max_tokens * BREADCRUMB_SHARE))
        for text in _texts(part, short, policy, document.language):
            index = numbers.get(part.chunk_type, 0)
            numbers[part.chunk_type] = index + 1
            embedded = _embedded(short, text)
            metadata: dict[str, Any] = {"page_url": page_url, "headings": list(part.headings)}
            if part.data is not None:
                metadata["data"] = dict(part.data)
            chunks.append(
                Chunk(
                    chunk_type=part.chunk_type,
                    chunk_index=index,
                    section_title=breadcrumb,
                    full_text=text,
                    embedded_text=embedded,
                    search_text=fold(f"{breadcrumb}\n{text}", document.language),
                    language=document.language,
                    token_count=count_tokens(embedded),
                    word_count=count_words(text),
                    metadata=metadata,
                )
            )
    return tuple(chunks)


def _parts(document: Document, policy: ChunkPolicy) -> Iterator[_Part]:
    title = (document.title,) if document.title else ()
    sections = [section for section in document.sections if not _is_told_by_a_fact(section, document.facts)]
    for group in _groups(_with_headings(sections), int(policy.max_tokens * SMALL_SHARE)):
        if len(group) == 1:
            path, blocks = group[0].path, group[0].blocks
        else:
            path = group[0].path[:-1]
            blocks = tuple(
                block
                for section in group
                for block in (Block(kind="paragraph", text=section.path[-1]), *section.blocks)
            )
        yield _Part(
            chunk_type="website",
            path=path if path[:1] == title else (*title, *path),
            blocks=blocks,
            headings=tuple(section.path[-1] for section in group if section.path),
        )
    for fact in document.facts:
        yield _Part(
            chunk_type=fact.kind,
            path=(*title, fact.title) if fact.title and (fact.title,) != title else title,
            blocks=tuple(Block(kind="paragraph", text=text) for text in fact.text.split("\n\n") if text.strip()),
            headings=(fact.title,),
            data=fact.data,
        )


def _is_told_by_a_fact(section: Section, facts: Sequence[Fact]) -> bool:
    """Whether a fact says word for word what the section says: the same answer must not be found twice."""
    if not section.path or not section.blocks:
        return False
    text = _letters(section.path[-1] + "".join(block.text for block in section.blocks))
    return any(_letters(fact.text) == text for fact in facts)


def _letters(text: str) -> str:
    return "".join(text.split())


def _with_headings(sections: Sequence[Section]) -> Iterator[Section]:
    """Sections with text. A heading that has none, and no section below it, becomes a line of the next section."""
    lost: list[str] = []
    following: list[tuple[str, ...]] = [()]  # per section, from the last: the path of the next one that has text
    for section in reversed(sections):
        following.append(section.path if section.blocks else following[-1])
    for section, below in zip(sections, reversed(following[:-1]), strict=True):
        if section.blocks:
            blocks = (*(Block(kind="paragraph", text=text) for text in lost), *section.blocks)
            lost = []
            yield Section(path=section.path, blocks=blocks)
            continue
        for level, heading in enumerate(section.path):
            if below[: level + 1] != section.path[: level + 1] and heading not in lost:
                lost.append(heading)
    if lost:
        yield Section(path=(), blocks=tuple(Block(kind="paragraph", text=text) for text in lost))


def _groups(sections: Iterator[Section], small: int) -> Iterator[list[Section]]:
    """Runs of small sections with one parent; a heading may choose to begin a new run, by its own text."""
    run: list[Section] = []
    size = 0
    for section in sections:
        tokens = _size_up_to(small, section) if len(section.path) > 1 else small
        joins = (
            run
            and tokens < small
            and size + tokens <= 2 * small
            and section.path[:-1] == run[-1].path[:-1]
            and len(section.path) == len(run[-1].path)
            and not _chooses(section.path[-1])
        )
        if joins:
            run.append(section)
            size += tokens
            continue
        if run:
            yield run
        run, size = [section], tokens
        if tokens >= small:
            yield run
            run = []
    if run:
        yield run


def _size_up_to(enough: int, section: Section) -> int:
    """Tokens of a section, counted until there are `enough`. Of a long block its beginning is enough to know."""
    tokens = 0
    for block in section.blocks:
        tokens += count_bounded(block.text[: enough * _CHARACTERS_OF_TOKENS])
        if tokens >= enough:
            return enough
    return tokens


def _texts(part: _Part, short: str, policy: ChunkPolicy, language: str) -> Iterator[str]:
    """The texts of a part's chunks, greedily filled."""
    budget = policy.max_tokens - count_bounded(f"{short}\n\n") if short else policy.max_tokens
    room = budget - int(policy.max_tokens * policy.overlap_percent / 100)
    pieces = [piece for block in part.blocks for piece in pieces_of(block, language, room)]
    if _is_one_chunk(pieces, short, int(WHOLE_FILL * budget)):  # most are; then it is counted once, and not by pieces
        yield from _fitted(pieces, short, policy.max_tokens)
        return
    filled: list[Piece] = []
    size = 0
    for piece in pieces:
        chosen = piece.starts_block and size >= GOOD_FILL * budget and _chooses(piece.text)
        if filled and (chosen or size + piece.tokens > budget):
            yield from _fitted(filled, short, policy.max_tokens)
            filled = _overlap(filled, budget - room)
            size = sum(kept.tokens for kept in filled)
        if not filled and piece.lead:
            size += count_bounded(piece.lead)
        filled.append(piece)
        size += piece.tokens
    if filled:
        yield from _fitted(filled, short, policy.max_tokens)


def _is_one_chunk(pieces: Sequence[Piece], short: str, limit: int) -> bool:
    """Whether all the pieces together are so short that no boundary can fall between them."""
    length = sum(len(piece.text) for piece in pieces)
    return (
        bool(pieces) and length <= limit * _LONGEST_TOKENS and count_tokens(_embedded(short, _joined(pieces))) <= limit
    )


def _fitted(pieces: Sequence[Piece], short: str, limit: int) -> Iterator[str]:
    """The pieces as one text; as several in the rare case that they have more tokens together than one by one."""
    text = _joined(pieces)
    if not text.strip():
        return
    tokens = count_tokens(_embedded(short, text))
    if tokens <= limit:
        yield text
    elif len(pieces) > 1:
        half = len(pieces) // 2
        yield from _fitted(pieces[:half], short, limit)
        yield from _fitted(pieces[half:], short, limit)
    else:
        yield from fitting(text, count_bounded(text) - (tokens - limit))


def _joined(pieces: Sequence[Piece]) -> str:
    first, *rest = pieces
    return first.lead + first.text + "".join(piece.glue + piece.text for piece in rest)


def _overlap(pieces: Sequence[Piece], budget: int) -> list[Piece]:
    """The last whole sentences of a chunk that fit into the overlap."""
    kept: list[Piece] = []
    for piece in reversed(pieces):
        budget -= piece.tokens
        if budget < 0 or not piece.is_prose:
            break
        kept.insert(0, piece)
    return kept if len(kept) < len(pieces) else []


def _embedded(short: str, text: str) -> str:
    return f"{short}\n\n{text}" if short else text


def _shortened(path: Sequence[str], budget: int) -> str:
    """The breadcrumb within its budget: the title and the nearest headings first, then cut words."""
    parts = list(path)
    while len(parts) > 2 and count_bounded(SEPARATOR.join(parts)) > budget:
        del parts[1]
    text = SEPARATOR.join(parts)
    if count_bounded(text) <= budget:
        return text
    letters = [graphemes(part[: budget * 8])[: budget * 2] for part in parts]
    while count_bounded(text := SEPARATOR.join("".join(part).rstrip() for part in letters)) > budget and any(letters):
        letters = [part[: len(part) * 3 // 4] for part in letters]
    return text if any(letters) else ""


def _chooses(text: str) -> bool:
    """Whether a text begins a new chunk by preference: the same text always does, and about one in four."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[0] % CHOOSING_BLOCKS == 0
