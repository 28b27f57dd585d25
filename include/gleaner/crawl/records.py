"""What a crawl knows of pages while it runs: what is due, what came of a visit, what it led to."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Final, Literal

# not_asked: nobody asked the server; the page stays in the frontier. left_out: one of a trap's.
Kind = Literal["content", "unchanged", "skipped", "missing", "fault", "left_out", "not_asked"]

VOUCHED: Final = 0.5  # priority from which on a sitemap lists the page


@dataclass(frozen=True, kw_only=True)
class Job:
    """One crawl, which belongs to one DAG run."""

    job_id: int
    state: str
    reasons: frozenset[str]  # why it is not complete, as far as it is known


@dataclass(frozen=True, kw_only=True)
class Due:
    """A page that waits for its visit."""

    page_id: uuid.UUID
    url: str
    depth: int
    hops: int
    etag: str | None
    last_modified: str | None
    content_hash: bytes | None
    is_current: bool  # what is stored of it still stands when the server says "unchanged"
    canonical: str | None = None  # the address that its stored content names as the real one


@dataclass(frozen=True, kw_only=True)
class Visit:
    """What came of one visit."""

    page: Due
    kind: Kind
    reason: str | None = None
    status: int | None = None
    alias_of: str | None = None
    packed: bytes = b""  # the body, compressed
    raw_bytes: int = 0  # of the body
    content_hash: bytes = b""
    content_type: str = ""
    etag: str | None = None
    last_modified: str | None = None
    links: tuple[str, ...] = ()
    truncated: bool = False  # the page has more links than the limit
    too_long: int = 0  # links that are longer than the limit
    retry_after: float | None = None  # seconds that the site asks for


@dataclass(frozen=True, kw_only=True)
class Found:
    """An address that a visit or a sitemap led to."""

    url: str
    depth: int
    hops: int = 0
    priority: float = 0.4  # the start page 1.0, pages of a sitemap from 0.5, others below
