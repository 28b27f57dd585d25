"""Documents as plain JSON values, for storing them between tasks, and back without loss."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import takewhile
from typing import Any

from include.gleaner.models import Block, Document, Fact, Section


def document_to_json(document: Document) -> dict[str, Any]:
    """JSON values only. They hold no NUL and no lone surrogates where read_document made the document."""
    return {
        "title": document.title,
        "language": document.language,
        "description": document.description,
        "word_count": document.word_count,
        "content_hash": document.content_hash.hex(),
        "metadata": dict(document.metadata),
        "sections": [
            {"path": list(section.path), "blocks": [_block_to_json(block) for block in section.blocks]}
            for section in document.sections
        ],
        "facts": [
            {"kind": fact.kind, "title": fact.title, "text": fact.text, "data": dict(fact.data)}
            for fact in document.facts
        ],
    }


def document_from_json(record: Mapping[str, Any]) -> Document:
    """The document that document_to_json turned into `record`.

    Raises KeyError or ValueError when it is no such record.
    """
    return Document(
        title=record["title"],
        language=record["language"],
        description=record["description"],
        word_count=record["word_count"],
        content_hash=bytes.fromhex(record["content_hash"]),
        metadata=dict(record["metadata"]),
        sections=tuple(
            Section(
                path=tuple(section["path"]),
                blocks=tuple(
                    Block(kind=block["kind"], text=block["text"], language=block.get("language"))
                    for block in section["blocks"]
                ),
            )
            for section in record["sections"]
        ),
        facts=tuple(
            Fact(kind=fact["kind"], title=fact["title"], text=fact["text"], data=dict(fact["data"]))
            for fact in record["facts"]
        ),
    )


def text_of(document: Document) -> str:
    """The content as plain text: headings and blocks, one under the other, each heading once."""
    lines: list[str] = []
    before: tuple[str, ...] = ()
    for section in document.sections:
        pairs = zip(before, section.path[:-1], strict=False)
        shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
        lines += [*section.path[shared:], *(block.text for block in section.blocks)]
        before = section.path
    return "\n".join(lines)


def _block_to_json(block: Block) -> dict[str, Any]:
    record: dict[str, Any] = {"kind": block.kind, "text": block.text}
    if block.language is not None:
        record["language"] = block.language
    return record
