"""One page's visit: may it be asked for, what did the server say, and what does that mean. No database."""

from __future__ import annotations

import hashlib
import logging
import time
from dataclasses import replace
from typing import Final

from isal import isal_zlib

from include.gleaner.config import CrawlPolicy
from include.gleaner.crawl.client import EMPTY, SUCCESS, XML_TYPES, Answer
from include.gleaner.crawl.fetcher import NOT_ASKED, Fetcher
from include.gleaner.crawl.links import PageHead, read_head
from include.gleaner.crawl.records import Due, Visit
from include.gleaner.crawl.seeds import SiteRules
from include.gleaner.crawl.sitemap import parse_sitemap
from include.gleaner.crawl.urls import canonicalize

log = logging.getLogger(__name__)

LONGEST_READ: Final = 20.0  # CPU seconds for the links of one page; ten megabytes take one
COMPRESSION: Final = 1  # of 0 to 3
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_MISSING: Final = frozenset({404, 410})
_HTML_SIGNS: Final = (b"<html", b"<!doctype html", b"<body")
_PAGE_TYPES: Final = frozenset({"text/html", "application/xhtml+xml", "text/plain"})

# How files begin that are no text, whatever type the server gives them.
_BINARY: Final = (
    b"%PDF-", b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"PK\x03\x04", b"\x1f\x8b", b"RIFF", b"OggS", b"ID3", b"\x7fELF",
    b"MZ\x90", b"\x00\x00\x01\x00", b"\x1aE\xdf\xa3", b"fLaC", b"BZh", b"\xfd7zXZ", b"7z\xbc\xaf", b"Rar!", b"wOFF",
    b"wOF2", b"\x28\xb5\x2f\xfd", b"%!PS", b"\xd0\xcf\x11\xe0", b"SQLite format 3\x00", b"\x00asm",
)  # fmt: skip
_CONTROLS: Final = bytes(code for code in range(32) if code not in b"\t\n\r\f\x1b")
MAX_CONTROL_SHARE: Final = 0.1
_WIDE_BOMS: Final = (b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff")


def visit_page(page: Due, *, fetcher: Fetcher, rules: SiteRules, policy: CrawlPolicy) -> Visit:
    """Ask for the page, with what is known of it, and read what concerns a crawl. Never raises for what a site does."""
    allowed = rules.of(page.url)
    if allowed is None:
        fault = rules.fault_of(page.url)
        if fault in NOT_ASKED:
            return Visit(page=page, kind="not_asked", reason=fault)
        is_forbidden = fault in ("forbidden_address", "forbidden_port")
        return Visit(page=page, kind="fault", reason=fault if is_forbidden else "robots_unreachable")
    if not allowed.allows(page.url):
        return Visit(page=page, kind="skipped", reason="robots")
    answer = fetcher.fetch(
        page.url,
        etag=page.etag if page.is_current else None,
        last_modified=page.last_modified if page.is_current else None,
    )
    if answer.status == 304 and not page.is_current:  # there is nothing that could be unchanged
        answer = fetcher.fetch(page.url)
    try:
        return judge(page, answer, agent=rules.agent, policy=policy)
    except Exception as error:  # noqa: BLE001 - whatever one page does, the crawl goes on; it is recorded
        log.warning("a page cannot be read: %s", type(error).__name__)
        return Visit(page=page, kind="fault", status=answer.status, reason="unreadable")


def judge(page: Due, answer: Answer, *, agent: str, policy: CrawlPolicy) -> Visit:
    """What an answer means for the page."""
    visit = Visit(
        page=page, kind="fault", status=answer.status, etag=answer.etag, last_modified=answer.last_modified,
        content_type=answer.content_type,
    )  # fmt: skip
    if answer.fault in NOT_ASKED:
        return replace(visit, kind="not_asked", reason=answer.fault, retry_after=answer.retry_after)
    if answer.fault:
        return replace(visit, reason=answer.fault)
    status = answer.status or 0
    if status == 304 and page.is_current:
        if read_head(b"", url=page.url, robots_tag=answer.robots_tag, agent=agent).noindex:
            return replace(visit, kind="skipped", reason="noindex")
        return replace(visit, kind="unchanged")
    if status in _REDIRECTS:
        return _redirect(visit, canonicalize(answer.location or "", base=page.url))
    if status in _MISSING:
        return replace(visit, kind="missing", reason=f"http_{status}")
    if status in EMPTY:
        return replace(visit, kind="skipped", reason="no_body")
    if status not in SUCCESS:
        return replace(visit, reason=f"http_{status}")
    if answer.media_type in _PAGE_TYPES and not answer.body.strip():
        return replace(visit, kind="skipped", reason="no_body")
    if answer.media_type in XML_TYPES and not _is_html(answer.body):
        return _feed(visit, answer.body)
    if not _is_page(answer):
        return replace(visit, kind="skipped", reason="content_type")
    end = time.thread_time() + LONGEST_READ
    head = read_head(
        answer.body, url=page.url, content_type=answer.content_type, robots_tag=answer.robots_tag, agent=agent,
        max_links=policy.max_links_per_page, is_late=lambda: time.thread_time() > end,
    )  # fmt: skip
    # Its canonical address is a way to a page like any other, kept with the content: the page may come to speak for
    # itself, and be unchanged in the next crawl.
    links = dict.fromkeys((*head.links, *head.feeds, *([head.canonical] if head.canonical else [])))
    visit = replace(visit, links=tuple(links), truncated=head.truncated, too_long=head.too_long)
    return _content(visit, head, answer.body)


def _redirect(visit: Visit, target: str | None) -> Visit:
    if target is None or target == visit.page.url:
        return replace(visit, reason="bad_redirect")
    return replace(visit, kind="skipped", reason="redirect", alias_of=target)


def _feed(visit: Visit, body: bytes) -> Visit:
    """A feed or a sitemap that a page links: no page, but hints where pages are."""
    found = parse_sitemap(body, url=visit.page.url)
    if not found.entries:
        return replace(visit, kind="skipped", reason="content_type")
    return replace(visit, kind="skipped", reason="feed", links=tuple(entry.url for entry in found.entries))


def _content(visit: Visit, head: PageHead, body: bytes) -> Visit:
    page = visit.page
    if head.refresh and head.refresh != page.url:
        return replace(visit, kind="skipped", reason="redirect", alias_of=head.refresh)
    if head.noindex:
        return replace(visit, kind="skipped", reason="noindex")
    digest = hashlib.sha256(body).digest()
    if page.is_current and digest == page.content_hash:
        return replace(visit, kind="unchanged", content_hash=digest)
    packed = isal_zlib.compress(body, COMPRESSION)
    visit = replace(visit, kind="content", packed=packed, raw_bytes=len(body), content_hash=digest)
    if head.canonical and head.canonical != page.url:
        return replace(visit, reason="canonical", alias_of=head.canonical)
    return visit


def _is_page(answer: Answer) -> bool:
    """HTML and plain text by their type, unless the bytes are those of another file; untyped bodies only as HTML."""
    if _is_binary(answer.body):
        return False
    return answer.media_type in _PAGE_TYPES or _is_html(answer.body)


def _is_html(body: bytes) -> bool:
    beginning = body[:2_048].replace(b"\x00", b"").lower()  # also where a letter has two bytes
    return any(sign in beginning for sign in _HTML_SIGNS)


def _is_binary(body: bytes) -> bool:
    """Whether the bytes are those of another kind of file, by how they begin or by what no text has."""
    beginning = body[:1_024].lstrip()
    if beginning.startswith(_BINARY) or beginning[4:8] == b"ftyp":
        return True
    if beginning.startswith(_WIDE_BOMS) or _is_html(body):
        return False
    controls = len(beginning) - len(beginning.translate(None, _CONTROLS))
    # Text in UTF-16 has a NUL in many second places, and none in the others.
    zeros = sorted((beginning[0::2].count(0), beginning[1::2].count(0)))
    is_wide = zeros[0] == 0 and zeros[1] > MAX_CONTROL_SHARE * len(beginning)
    return controls > MAX_CONTROL_SHARE * len(beginning) and not is_wide
