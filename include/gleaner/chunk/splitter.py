"""Cuts a document into chunks: section by section, whole sentences, never above the limit.

A chunk never reaches over a section's end, so that text far away cannot move its boundaries; inside a long section,
boundaries fall by preference before blocks that their own text chooses, so that they come back into step after an edit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from include.gleaner.chunk.distinct import contained
from include.gleaner.chunk.packing import Packed, Packer
from include.gleaner.chunk.parts import Part, parts_of
from include.gleaner.chunk.pieces import graphemes
from include.gleaner.chunk.tldr import tldr_of
from include.gleaner.chunk.tokens import Meter
from include.gleaner.config import ChunkPolicy
from include.gleaner.models import Chunk, Document, TokenLimit
from include.gleaner.text import count_words, fold

BREADCRUMB_SHARE: Final = 0.25  # of a chunk's tokens, at most
SEPARATOR: Final = " > "
_MOST_REPEATED: Final = 10_000  # characters of a fact's text that stand with each of its chunks


@dataclass(frozen=True, kw_only=True)
class _Draft:
    """A chunk before it is known whether it stays."""

    part: Part
    prefix: str  # what stands before its text in what is embedded
    packed: Packed
    is_alone: bool  # the only one of its part


def split(document: Document, policy: ChunkPolicy, page_url: str, limit: TokenLimit | None = None) -> tuple[Chunk, ...]:
    """The chunks of a document: sections as `website`, published facts as `faq` and `product`, each counted from 0.

    `embedded_text` is a shortened breadcrumb, a blank line and the text, and never has more than `policy.max_tokens`
    tokens of the policy's encoding, nor more than the model's own `limit`. Every word of the document is in at least
    one chunk, and no section is a chunk that is part of another one. Equal documents give equal chunks.

    Raises SetupError when the encoding's ranks are not installed.
    """
    meter = Meter(policy.encoding, policy.max_tokens, limit)
    drafts = list(_drafts(document, policy, meter))
    if len(drafts) > 1:
        drafts = _distinct(drafts, meter)
    numbers: Counter[str] = Counter()
    chunks: list[Chunk] = []
    before: Part | None = None
    for draft in drafts:
        part, packed = draft.part, draft.packed
        metadata: dict[str, Any] = {"page_url": page_url, "headings": list(part.headings)}
        if part.data is not None:
            metadata["data"] = _data_of(draft, is_first=part is not before)
        before = part
        breadcrumb = SEPARATOR.join(part.path)
        words = count_words(packed.text)
        tldr = tldr_of(packed.prose, packed.language, words)
        own = policy.embed_tldr and tldr and tldr != packed.text
        chunks.append(
            Chunk(
                chunk_type=part.chunk_type,
                chunk_index=numbers[part.chunk_type],
                section_title=breadcrumb,
                full_text=packed.text,
                embedded_text=draft.prefix + packed.text,
                search_text=fold(f"{breadcrumb}\n{packed.text}", packed.language),
                language=packed.language,
                token_count=packed.tokens,
                word_count=words,
                tldr=tldr,
                embedded_tldr=f"{draft.prefix}{tldr}" if own else None,
                metadata=metadata,
            )
        )
        numbers[part.chunk_type] += 1
    return tuple(chunks)


def _data_of(draft: _Draft, *, is_first: bool) -> dict[str, Any]:
    """What is published of a fact. Of one cut into many chunks, huge texts stand with the first only."""
    data = draft.part.data or {}
    return {key: value for key, value in data.items() if is_first or len(str(value)) <= _MOST_REPEATED}


def _drafts(document: Document, policy: ChunkPolicy, meter: Meter) -> Iterator[_Draft]:
    for part in parts_of(document, policy):
        short = _shortened(part.path, int(policy.max_tokens * BREADCRUMB_SHARE), meter)
        prefix = f"{short}\n\n" if short else ""
        filled = list(Packer(meter, policy, prefix, document.language).pack(part.blocks))
        for packed in filled:
            yield _Draft(part=part, prefix=prefix, packed=packed, is_alone=len(filled) == 1)


def _distinct(drafts: list[_Draft], meter: Meter) -> list[_Draft]:
    """Without those that say only what another one of the page says.

    Under a heading of its own it says more: then the heading becomes its first line.
    """
    first = {(draft.part.path, draft.packed.text): draft for draft in reversed(drafts) if draft.is_alone}
    drafts = [draft for draft in drafts if first.get((draft.part.path, draft.packed.text), draft) is draft]
    alone = [draft.is_alone for draft in drafts]
    found = contained([draft.packed.text for draft in drafts], alone)
    if not found:
        return drafts
    for index in found:
        drafts[index] = _with_heading(drafts[index], meter)
    still = contained([draft.packed.text for draft in drafts], alone)
    return [draft for index, draft in enumerate(drafts) if index not in still]


def _with_heading(draft: _Draft, meter: Meter) -> _Draft:
    part, packed = draft.part, draft.packed
    if len(part.path) < 2 or part.data is not None:
        return draft
    heading = part.path[-1]
    text = f"{heading}\n\n{packed.text}"
    if packed.text.startswith(heading) or not meter.is_within(draft.prefix + text, meter.most):
        return draft
    told = Packed(text=text, tokens=meter.measure(draft.prefix + text)[1], prose=packed.prose, language=packed.language)
    return replace(draft, packed=told)


def _shortened(path: Sequence[str], budget: int, meter: Meter) -> str:
    """The breadcrumb within its budget: the title and the nearest headings first, then cut words."""
    parts = list(path)
    while len(parts) > 2 and not meter.is_within(SEPARATOR.join(parts), budget):
        del parts[1]
    text = SEPARATOR.join(parts)
    if meter.is_within(text, budget):
        return text
    letters = [graphemes(part[: budget * 8])[: budget * 2] for part in parts]
    while not meter.is_within(text := SEPARATOR.join("".join(part).rstrip() for part in letters), budget) and any(
        letters
    ):
        letters = [part[: len(part) * 3 // 4] for part in letters]
    return text if any(letters) else ""
