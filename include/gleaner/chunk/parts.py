"""Divides a document into what is cut together: sections, runs of small ones, and facts. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from include.gleaner.chunk.tokens import estimate
from include.gleaner.config import ChunkPolicy
from include.gleaner.models import Block, ChunkType, Document, Section

SMALL_SHARE: Final = 0.2  # of the budget: sections below it are put together with their siblings
CHOOSING: Final = 4  # one heading in so many begins a new run of small sections
_NUMBERED_LETTERS: Final = 100
_CHARACTERS_OF_TOKENS: Final = 40  # more than a token has on the average; a rule of thumb, for grouping only


@dataclass(frozen=True, kw_only=True)
class Part:
    """What is cut together: a section, several small ones, or a fact."""

    chunk_type: ChunkType
    path: tuple[str, ...]
    blocks: tuple[Block, ...]
    headings: tuple[str, ...]
    data: Mapping[str, Any] | None = None


def number_of(text: str) -> int:
    """A number that the beginning of a text always has, and no other text is likely to have."""
    beginning = text[:_NUMBERED_LETTERS].encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(beginning, digest_size=8).digest(), "big")


def parts_of(document: Document, policy: ChunkPolicy) -> Iterator[Part]:
    """What is cut together: each section, runs of small sections with one parent, and each fact."""
    title = (document.title,) if document.title else ()
    told = frozenset(_letters(fact.text) for fact in document.facts)
    sections = [section for section in document.sections if not _is_told_by_a_fact(section, told)]
    titled = (_below(title, section) for section in _with_headings(sections))
    for group in _groups(titled, int(policy.max_tokens * SMALL_SHARE)):
        if len(group) == 1:
            path, blocks = group[0].path, group[0].blocks
        else:
            path = group[0].path[:-1]
            blocks = tuple(
                block
                for section in group
                for block in (Block(kind="paragraph", text=section.path[-1]), *section.blocks)
            )
        yield Part(
            chunk_type="website",
            path=path,
            blocks=blocks,
            headings=tuple(section.path[-1] for section in group if section.path != title),
        )
    for fact in document.facts:
        yield Part(
            chunk_type=fact.kind,
            path=(*title, fact.title) if fact.title and (fact.title,) != title else title,
            blocks=tuple(Block(kind="paragraph", text=text) for text in fact.text.split("\n\n") if text.strip()),
            headings=(fact.title,),
            data=fact.data,
        )


def _below(title: tuple[str, ...], section: Section) -> Section:
    """The section with the title above it, once: whether the page's first heading was kept must make no difference."""
    if section.path[:1] == title:
        return section
    return Section(path=(*title, *section.path), blocks=section.blocks)


def _is_told_by_a_fact(section: Section, told: frozenset[str]) -> bool:
    """Whether a fact says word for word what the section says: the same answer must not be found twice."""
    if not told or not section.path or not section.blocks:
        return False
    return _letters(section.path[-1] + "".join(block.text for block in section.blocks)) in told


def _letters(text: str) -> str:
    return "".join(text.split())


def _with_headings(sections: Sequence[Section]) -> Iterator[Section]:
    """Sections with text. A heading that has none, and no section below it, becomes a line of the next section."""
    lost: dict[str, None] = {}
    following: list[tuple[str, ...]] = [()]  # per section, from the last: the path of the next one that has text
    for section in reversed(sections):
        following.append(section.path if section.blocks else following[-1])
    for section, below in zip(sections, reversed(following[:-1]), strict=True):
        if section.blocks:
            blocks = (*(Block(kind="paragraph", text=text) for text in lost), *section.blocks)
            lost = {}
            yield Section(path=section.path, blocks=blocks)
            continue
        for level, heading in enumerate(section.path):
            if below[: level + 1] != section.path[: level + 1]:
                lost.setdefault(heading)
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
            and number_of(section.path[-1]) % CHOOSING
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
    """About how many tokens a section has, estimated until there are `enough`."""
    tokens = 0.0
    for block in section.blocks:
        tokens += estimate(block.text[: enough * _CHARACTERS_OF_TOKENS])
        if tokens >= enough:
            return enough
    return int(tokens)
