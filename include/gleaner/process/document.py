"""The way in: a snapshot becomes a document, or a reason why it is none."""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from include.gleaner.models import Document, Fact, NotContent, Section, Snapshot
from include.gleaner.process.choose import main_content, with_images
from include.gleaner.process.decode import decode, is_plain_text
from include.gleaner.process.fingerprint import with_fingerprint
from include.gleaner.process.language import language_of
from include.gleaner.process.leaves import Outline
from include.gleaner.process.metadata import Head, head_of, published
from include.gleaner.process.microdata import items_of
from include.gleaner.process.outline import outline_of
from include.gleaner.process.rules import Evidence, refusal
from include.gleaner.process.sections import sections_of
from include.gleaner.process.structured_data import Record, facts_of, flat, others_of, records_of
from include.gleaner.process.tree import Node, Page, parse
from include.gleaner.text import count_words

LONG_BLOCK: Final = 250  # characters, from which on a block may have a language of its own
_MOSTLY: Final = 0.6
_NO_PROSE: Final = frozenset(("code", "table"))
_XML_DECLARATION: Final = re.compile(r"^\s*<\?xml\b[^>]{0,300}\?>")


def read_document(snapshot: Snapshot) -> Document | NotContent:
    """What the page says, or why it says nothing. Pure: equal snapshots give equal documents.

    Raises UnreadablePageError for bytes that are no text; hostile HTML is read as far as it can be.
    """
    page = open_page(snapshot)
    return page if isinstance(page, NotContent) else document_of(page, main_content(page.outline, page.head))


@dataclass(frozen=True, kw_only=True)
class OpenPage:
    """A page that is read up to where its content is chosen, which takes less time for several pages together."""

    tree: Page
    head: Head
    outline: Outline
    records: Sequence[Record]  # JSON-LD and microdata
    size: int  # characters of its markup


def open_page(snapshot: Snapshot) -> OpenPage | NotContent:
    """The first half of read_document, and what it raises."""
    text = decode(snapshot.body, snapshot.content_type)
    if isinstance(text, NotContent):
        return text
    if is_plain_text(text, snapshot.content_type):
        text = _as_html(text)
    text = _XML_DECLARATION.sub("", text)
    page = parse(text)
    found = published(page)
    records = records_of(found.soup)
    items = items_of(page)
    head = head_of(found, records, snapshot.url, items)
    published_records = [*records, *flat(items)]
    return OpenPage(tree=page, head=head, outline=outline_of(page), records=published_records, size=len(text))


def document_of(page: OpenPage, chosen: Sequence[int]) -> Document | NotContent:
    """The second half of read_document: `chosen` are the indices of the outline's leaves that are content."""
    head = page.head
    sections = sections_of(with_images(page.outline, chosen))
    language, sections = _with_languages(sections, language_of(_prose(sections) or head.title, head.language))
    facts = facts_of(page.records, language)
    others = others_of(page.records)
    words = sum(count_words(block.text) for section in sections for block in section.blocks)
    evidence = _evidence(page.tree, head, sections, words, facts)
    if reason := refusal(evidence):
        return NotContent(reason=reason)
    return with_fingerprint(
        Document(
            title=head.title or next((section.path[0] for section in sections if section.path), ""),
            language=language,
            sections=sections,
            facts=facts,
            description=head.description,
            word_count=words,
            metadata={**head.metadata, **({"records": others} if others else {})},
        )
    )


def _with_languages(sections: tuple[Section, ...], language: str) -> tuple[str, tuple[Section, ...]]:
    """Long blocks in another language than the page's get their own. When those are most of it, it is the page's."""
    long = {block.text for section in sections for block in section.blocks
            if block.kind not in _NO_PROSE and len(block.text) >= LONG_BLOCK}  # fmt: skip
    own = {text: found for text in long if (found := language_of(text[:LONG_BLOCK], language)) != "und"}
    letters: Counter[str] = Counter()
    for text, found in own.items():
        letters[found] += len(text)
    if letters and (best := letters.most_common(1)[0])[1] > _MOSTLY * letters.total():
        language = best[0]
    if all(found == language for found in own.values()):
        return language, sections
    return language, tuple(
        replace(section, blocks=tuple(
            replace(block, language=own[block.text])
            if block.kind not in _NO_PROSE and own.get(block.text, language) != language else block
            for block in section.blocks
        )) for section in sections
    )  # fmt: skip


def _prose(sections: tuple[Section, ...]) -> str:
    blocks = [block for section in sections for block in section.blocks]
    prose = [block.text for block in blocks if block.kind != "code"]
    return "\n".join(prose or [section.path[-1] for section in sections if section.path])


def _evidence(page: Node, head: Head, sections: tuple[Section, ...], words: int, facts: tuple[Fact, ...]) -> Evidence:
    blocks = [block for section in sections for block in section.blocks]
    headings = sum(count_words(section.path[-1]) for section in sections if section.path and not section.blocks)
    return Evidence(
        page=page,
        titles=tuple(dict.fromkeys(name for name in (head.title, head.headline) if name)),
        text="\n".join(block.text for block in blocks) if words < 200 else "",
        words=words + headings,
        has_structure=any(block.kind in ("code", "table", "definition") for block in blocks),
        has_facts=bool(facts),
    )


def _as_html(text: str) -> str:
    """Plain text as paragraphs, so that there is one way through."""
    paragraphs = re.split(r"\n\s*\n", text.replace("\r\n", "\n"))
    return "<body>" + "".join(f"<p>{html.escape(paragraph, quote=False)}</p>" for paragraph in paragraphs)
