"""Whether what many pages call their canonical address is one: a template that names one page is not believed.

A crawl believes a page that calls another its own, because that is how shops say that a thousand lists are one. When
several pages name the same address, some of them are read: pages that say what the other does not, under titles of
their own, are pages. What is the same after all is found by the survey.
"""

from __future__ import annotations

import logging
import uuid
from dataclasses import replace
from typing import Any, Final
from urllib.parse import urlsplit

import psycopg
from isal import isal_zlib

from include.gleaner.errors import GleanerError
from include.gleaner.models import Document, Snapshot
from include.gleaner.process.document import read_document
from include.gleaner.sql import queries

log = logging.getLogger(__name__)

LEAST: Final = 3  # pages that name one address, before any of them is looked at
MOST: Final = 50  # groups that are looked at; a page takes a hundredth of a second
_OWN: Final = 0.5  # of a page's text that stands nowhere else


def judge_canonicals(conn: psycopg.Connection, *, tenant_id: str, source_id: uuid.UUID, job_id: int) -> int:
    """Let pages speak for themselves that wrongly call another page their own; how many addresses were disbelieved."""
    sql = queries("plan")
    key: dict[str, Any] = {"tenant_id": tenant_id, "source_id": source_id}
    groups = conn.execute(sql["named_by_many"], {**key, "job_id": job_id, "least": LEAST, "most": MOST}).fetchall()
    disbelieved = 0
    for url, *page_ids in groups:
        rows = conn.execute(sql["newest_snapshots"], {**key, "page_ids": page_ids, "url": url}, binary=True).fetchall()
        pages = {
            row[1]: _read(Snapshot(page_id=row[0], url=row[1], generation=row[2], body=row[3], content_type=row[4]))
            for row in rows
        }
        target = pages.pop(url, None)
        if _are_pages(pages, url, target):
            disbelieved += 1
            changed = conn.execute(sql["disbelieve"], {**key, "url": url}).rowcount
            log.warning("%d pages name %s as their canonical address, but are others; they speak for themselves",
                        changed, url)  # fmt: skip
    return disbelieved


def _read(page: Snapshot) -> Document | None:
    try:
        result = read_document(replace(page, body=isal_zlib.decompress(page.body)))
    except (GleanerError, ValueError, RecursionError):
        return None  # it says nothing here; when its turn comes, its failure is recorded
    return result if isinstance(result, Document) else None


def _are_pages(pages: dict[str, Document | None], url: str, target: Document | None) -> bool:
    """Whether all that could be read say something of their own, which is neither the target's nor another's."""
    read = {address: document for address, document in pages.items() if document is not None}
    if len(read) < LEAST - 1:
        return False
    for address, document in read.items():
        others = [other for name, other in read.items() if name != address] + ([target] if target else [])
        # Lists that are sorted or narrowed by parameters have one title, and show other parts of the same.
        if urlsplit(address).path == urlsplit(url).path and any(other.title == document.title for other in others):
            return False
        known = {block for other in others for block in _blocks(other)}
        blocks = _blocks(document)
        own = sum(len(block) for block in blocks if block not in known)
        if own < _OWN * sum(map(len, blocks)) or not own:
            return False
    return True


def _blocks(document: Document) -> list[str]:
    return [block.text for section in document.sections for block in section.blocks]
