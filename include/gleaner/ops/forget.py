"""Removes a page, or a whole website, from a tenant's knowledge, with everything that is stored of it.

What was forgotten is noted by its address, and no crawl takes it in again until that note is removed: `allow`. So
neither a refresh, nor maintenance, nor a rebuild, nor the second try of a task that was under way brings it back.

A page goes in one transaction. A website goes in many, a few hundred pages each, because it may have a hundred
thousand: the first writes the note, the last removes the website itself. Whoever is stopped in between, by time or by a
kill, calls it again and it goes on; `maintain_knowledge` does that by itself.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeVar

import psycopg

from include.gleaner.errors import InvalidParamError
from include.gleaner.sql import queries

log = logging.getLogger(__name__)

PAGES_AT_ONCE: Final = 200
TRIES: Final = 5  # of a transaction that got in the way of a task's
Answer = TypeVar("Answer")


@dataclass(frozen=True, kw_only=True)
class Removed:
    """What one call removed."""

    done: bool  # False: the time was over, call it again
    pages: int
    chunks: int


@dataclass(frozen=True, kw_only=True)
class Forgotten:
    """Something that no crawl takes in."""

    target_id: uuid.UUID
    source_id: uuid.UUID
    url: str
    is_website: bool
    forgotten_at: datetime
    is_under_way: bool  # a website of which something is still there


def forget_page(conn: psycopg.Connection, tenant_id: str, page_id: uuid.UUID) -> Removed:
    """Remove one page: its chunks, snapshots, document and failures. Again does nothing.

    Raises InvalidParamError for a page that does not exist, and for the page that its website begins with.
    """
    sql, key = queries("forget"), {"tenant_id": tenant_id, "page_id": page_id}
    row = conn.execute(sql["page"], key).fetchone()
    if row is None:
        if conn.execute(sql["forgotten_at"], {**key, "target_id": page_id}).fetchone() is None:
            raise InvalidParamError("page", f"tenant {tenant_id!r} has no such page")
        return Removed(done=True, pages=0, chunks=0)
    source_id, url, is_start = row
    if is_start:
        raise InvalidParamError("page", "the website begins with this page; forget the website instead")

    def remove() -> int:
        with conn.transaction():
            conn.execute(sql["note"], {**key, "target_id": page_id, "source_id": source_id, "url": url})
            return _delete_pages(conn, tenant_id, [page_id])

    return Removed(done=True, pages=1, chunks=_persistently(remove))


def forget_source(
    conn: psycopg.Connection, tenant_id: str, source_id: uuid.UUID, *, seconds: float = float("inf")
) -> Removed:
    """Remove a website with its pages and the accounts of its runs, for as long as `seconds` allow.

    Raises InvalidParamError for a website that the tenant never had. Runs of the website that are under way have to be
    stopped before: what they write is refused by the database, so they would end red.
    """
    sql, key = queries("forget"), {"tenant_id": tenant_id, "source_id": source_id}
    deadline = time.monotonic() + seconds
    row = conn.execute(sql["source"], key).fetchone()
    if row is None:
        if conn.execute(sql["forgotten_at"], {**key, "target_id": source_id}).fetchone() is None:
            raise InvalidParamError("source", f"tenant {tenant_id!r} has no such website")
        return Removed(done=True, pages=0, chunks=0)
    with conn.transaction():
        conn.execute(sql["note"], {**key, "target_id": source_id, "url": row[0]})
        conn.execute(sql["pause"], key)
    pages = chunks = 0
    while True:
        found = [page for (page,) in conn.execute(sql["some_pages"], {**key, "most": PAGES_AT_ONCE})]
        if found:

            def remove(found: list[uuid.UUID] = found) -> int:
                with conn.transaction():
                    return _delete_pages(conn, tenant_id, found)

            chunks += _persistently(remove)
            pages += len(found)
        else:
            try:
                with conn.transaction():
                    conn.execute(sql["delete_jobs"], key)
                    conn.execute(sql["delete_source"], key)
                conn.execute(queries("metrics")["fold"])  # its counts are 0 now, and go with it
                return Removed(done=True, pages=pages, chunks=chunks)
            except psycopg.errors.ForeignKeyViolation:
                pass  # a crawl that was under way found a page at this moment; the note keeps it from finding more
        if time.monotonic() > deadline:
            return Removed(done=False, pages=pages, chunks=chunks)


def go_on(conn: psycopg.Connection, *, seconds: float) -> int:
    """Remove what is left of websites whose removal was stopped, for so long; how many of them are gone now.

    Also pages that a crawl found at the very moment that they were forgotten: their content was never stored.
    """
    deadline, gone = time.monotonic() + seconds, 0
    for tenant_id, page_id in conn.execute(queries("forget")["come_back"], {"tenant_id": None}).fetchall():
        with conn.transaction():
            _delete_pages(conn, tenant_id, [page_id])
    for tenant_id, source_id in conn.execute(queries("forget")["unfinished"], {"tenant_id": None}).fetchall():
        gone += forget_source(conn, tenant_id, source_id, seconds=max(0.0, deadline - time.monotonic())).done
        if time.monotonic() > deadline:
            break
    return gone


def allow(conn: psycopg.Connection, tenant_id: str, target_id: uuid.UUID) -> int:
    """Let crawls take in again what was forgotten; the number of notes removed.

    Nothing comes back by that alone: the next crawl has to find it. A website's note takes those of its pages along.
    Raises InvalidParamError while the website is still being removed.
    """
    key = {"tenant_id": tenant_id, "target_id": target_id}
    removed = conn.execute(queries("forget")["allow"], key).rowcount
    if not removed and conn.execute(queries("forget")["forgotten_at"], key).fetchone() is not None:
        raise InvalidParamError("target", "the website is still being removed; let that end first")
    return removed


def list_forgotten(conn: psycopg.Connection, tenant_id: str) -> list[Forgotten]:
    """What no crawl of the tenant takes in, the newest thousand."""
    rows = conn.execute(queries("forget")["list"], {"tenant_id": tenant_id})
    return [
        Forgotten(
            target_id=target, source_id=source, url=url, is_website=is_website, forgotten_at=at, is_under_way=under_way
        )
        for target, source, url, is_website, at, under_way in rows
    ]


def check_not_forgotten(conn: psycopg.Connection, tenant_id: str, source_id: uuid.UUID) -> None:
    """Raise InvalidParamError when the website was forgotten: then it is not to be crawled."""
    key = {"tenant_id": tenant_id, "target_id": source_id}
    row = conn.execute(queries("forget")["forgotten_at"], key).fetchone()
    if row is not None:
        raise InvalidParamError(
            "url",
            f"this website was removed from the knowledge of {tenant_id!r} on {row[0]:%Y-%m-%d} and is kept out; "
            "let it in again on the page Knowledge, under Forgotten, then trigger this run anew",
        )


def _delete_pages(conn: psycopg.Connection, tenant_id: str, page_ids: list[uuid.UUID]) -> int:
    """Within the caller's transaction; the number of chunks that went."""
    sql, key = queries("forget"), {"tenant_id": tenant_id, "page_ids": page_ids}
    conn.execute(sql["lock_pages"], key)
    conn.execute(sql["lock_fences"], key)
    conn.execute(sql["delete_vectors"], key)
    chunks = conn.execute(sql["delete_chunks"], key).rowcount
    conn.execute(sql["delete_fences"], key)
    conn.execute(sql["delete_pages"], key)
    return chunks


def _persistently(step: Callable[[], Answer]) -> Answer:
    """What `step` gives, tried again when a task's transaction and its own waited for each other."""
    for _ in range(TRIES - 1):
        try:
            return step()
        except (psycopg.errors.DeadlockDetected, psycopg.errors.ForeignKeyViolation) as error:
            log.info("tried again: %s", type(error).__name__)
    return step()
