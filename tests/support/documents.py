"""Pages for tests of the process stage, and what was read from them as plain values."""

from __future__ import annotations

import uuid

from include.gleaner.models import Block, Document, NotContent, Snapshot
from include.gleaner.process.document import read_document
from include.gleaner.process.records import text_of

__all__ = ["URL", "blocks_of", "document", "read", "text_of"]

URL = "https://example.com/a/page"


def read(html: str | bytes, content_type: str = "text/html; charset=utf-8") -> Document | NotContent:
    """The page as the stage reads it."""
    body = html.encode() if isinstance(html, str) else html
    return read_document(
        Snapshot(page_id=uuid.UUID(int=1), url=URL, generation=1, body=body, content_type=content_type)
    )


def document(html: str | bytes, content_type: str = "text/html; charset=utf-8") -> Document:
    """The page, which has to be content."""
    found = read(html, content_type)
    assert isinstance(found, Document), found
    return found


def blocks_of(page: Document) -> list[Block]:
    """All blocks in reading order."""
    return [block for section in page.sections for block in section.blocks]
