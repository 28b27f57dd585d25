"""Looks at the documents of a whole site at once: what most of its pages repeat, and which pages say nearly the same.

A pure function of the documents that are there: it does not matter in which order they came, nor what an earlier survey
found. It is one transaction, and a second one in a row changes nothing.
"""

from __future__ import annotations

import logging
import uuid
from collections import defaultdict
from functools import lru_cache
from typing import Final

import psycopg

from include.gleaner.config import RunPolicy
from include.gleaner.pipeline.overwriting import hold_losses
from include.gleaner.process.records import document_from_json
from include.gleaner.process.repeats import without_repeats
from include.gleaner.process.similar import Likeness, are_near_duplicates, likeness_of
from include.gleaner.sql import queries

log = logging.getLogger(__name__)

REPEAT_SHARE: Final = 0.5  # of a site's pages; what is on more of them is no news on any but one
LEAST_PAGES: Final = 3  # that have a block before it counts as repeated
_MOST_COMPARED: Final = 20  # pages that another one is compared with, of those that share a band
_REMEMBERED: Final = 200  # pages whose words are kept in memory


def survey(conn: psycopg.Connection, *, tenant_id: str, source_id: uuid.UUID, policy: RunPolicy | None = None) -> None:
    """Hold back what would overwrite too much, mark near duplicates, and settle which page keeps what the site repeats.

    A page whose share of that changes is in state `completed` afterwards: it waits to be chunked again.
    """
    sql = queries("survey")
    key = {"tenant_id": tenant_id, "source_id": source_id}
    with conn.transaction():
        conn.execute(sql["lock_source"], key)
        shares = {"share": REPEAT_SHARE, "least": LEAST_PAGES}
        repeats = [row[0] for row in conn.execute(sql["repeats"], {**key, **shares})]
        hold_losses(
            conn, tenant_id=tenant_id, source_id=source_id, repeats=frozenset(repeats), policy=policy or RunPolicy()
        )
        aliases = _near_duplicates(conn, tenant_id, source_id, frozenset(repeats))
        marked = {"page_ids": list(aliases), "aliases": list(aliases.values())}
        conn.execute(sql["mark_near_duplicates"], {**key, **marked})
        conn.execute(sql["settle_repeats"], {**key, "repeats": repeats})
        conn.execute(queries("plan")["lower_fence"], key)
        blocks, pages = conn.execute(sql["dropped_blocks"], key).fetchone() or (0, 0)
    log.info("%d near duplicates; %d blocks on %d pages are repeats and stay with one page each",
             len(aliases), blocks, pages)  # fmt: skip


def _near_duplicates(
    conn: psycopg.Connection, tenant_id: str, source_id: uuid.UUID, repeats: frozenset[int]
) -> dict[uuid.UUID, str]:
    """For each near duplicate the address of the page that speaks for it: the first one, by length of address."""
    sql = queries("survey")

    @lru_cache(maxsize=_REMEMBERED)
    def likeness(page_id: uuid.UUID) -> Likeness:
        row = conn.execute(sql["document"], {"tenant_id": tenant_id, "page_id": page_id}).fetchone()
        if row is None:
            raise LookupError(f"page {page_id} has no document")
        document = document_from_json(row[0])
        rest = likeness_of(without_repeats(document, repeats))
        return rest if rest.shingles else likeness_of(document)  # of pages that say nothing else, those are compared

    found: dict[uuid.UUID, str] = {}
    speakers: defaultdict[int, list[tuple[uuid.UUID, str]]] = defaultdict(list)
    rows = conn.execute(sql["candidates"], {"tenant_id": tenant_id, "source_id": source_id}).fetchall()
    for page_id, url, bands in rows:
        others = dict.fromkeys(speaker for band in bands for speaker in speakers[band])
        for other_id, other_url in list(others)[:_MOST_COMPARED]:
            if are_near_duplicates(likeness(other_id), likeness(page_id)):
                found[page_id] = other_url
                break
        else:
            for band in bands:
                if len(speakers[band]) < _MOST_COMPARED:
                    speakers[band].append((page_id, url))
    return found
