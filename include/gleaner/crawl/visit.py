"""One page's visit: may it be asked for, what did the server say, and what does that mean. No database."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Final
from urllib.parse import urlsplit

from include.gleaner.config import CrawlPolicy
from include.gleaner.crawl.client import PAGE_TYPES, Answer, Client
from include.gleaner.crawl.frontier import Due, Visit
from include.gleaner.crawl.links import PageHead, read_head
from include.gleaner.crawl.seeds import SiteRules
from include.gleaner.crawl.throttle import Throttle
from include.gleaner.crawl.urls import canonicalize

_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_MISSING: Final = frozenset({404, 410})
_HTML_SIGNS: Final = (b"<html", b"<!doctype html", b"<body")
BUSY_SECONDS: Final = 5.0  # pause of a host that says 429 or 503 even after the attempts


def visit_page(page: Due, *, client: Client, throttle: Throttle, rules: SiteRules, policy: CrawlPolicy) -> Visit:
    """Ask for the page, with what is known of it, and read what concerns a crawl. Never raises for what a site does."""
    allowed = rules.of(page.url)
    if allowed is None:
        fault = rules.fault_of(page.url)
        return Visit(page=page, kind="fault", reason=fault if fault == "forbidden_address" else "robots_unreachable")
    if not allowed.allows(page.url):
        return Visit(page=page, kind="skipped", reason="robots")
    host = urlsplit(page.url).netloc
    with throttle.turn(host):
        answer = client.fetch(
            page.url,
            etag=page.etag if page.is_current else None,
            last_modified=page.last_modified if page.is_current else None,
        )
    if answer.status in (429, 503):
        throttle.back_off(host, BUSY_SECONDS)
    return judge(page, answer, agent=rules.agent, policy=policy)


def judge(page: Due, answer: Answer, *, agent: str, policy: CrawlPolicy) -> Visit:
    """What an answer means for the page. Pure."""
    visit = Visit(
        page=page, kind="fault", status=answer.status, etag=answer.etag, last_modified=answer.last_modified,
        content_type=answer.content_type,
    )  # fmt: skip
    if answer.fault:
        return replace(visit, reason=answer.fault)
    status = answer.status or 0
    if status == 304 and page.is_current:
        return replace(visit, kind="unchanged")
    if status in _REDIRECTS:
        return _redirect(visit, canonicalize(answer.location or "", base=page.url))
    if status in _MISSING:
        return replace(visit, kind="missing", reason=f"http_{status}")
    if status != 200:
        return replace(visit, reason=f"http_{status}")
    if not _is_page(answer):
        return replace(visit, kind="skipped", reason="content_type")
    head = read_head(
        answer.body, url=page.url, content_type=answer.content_type, robots_tag=answer.robots_tag, agent=agent,
        max_links=policy.max_links_per_page,
    )  # fmt: skip
    return _content(replace(visit, links=head.links, truncated=head.truncated), head, answer.body)


def _redirect(visit: Visit, target: str | None) -> Visit:
    if target is None or target == visit.page.url:
        return replace(visit, reason="bad_redirect")
    return replace(visit, kind="skipped", reason="redirect", alias_of=target)


def _content(visit: Visit, head: PageHead, body: bytes) -> Visit:
    page = visit.page
    if head.refresh and head.refresh != page.url:
        return replace(visit, kind="skipped", reason="redirect", alias_of=head.refresh)
    if head.noindex:
        return replace(visit, kind="skipped", reason="noindex")
    digest = hashlib.sha256(body).digest()
    if page.is_current and digest == page.content_hash:
        return replace(visit, kind="unchanged")
    visit = replace(visit, kind="content", body=body, content_hash=digest)
    if head.canonical and head.canonical != page.url:
        return replace(visit, reason="canonical", alias_of=head.canonical)
    return visit


def _is_page(answer: Answer) -> bool:
    """HTML and plain text by their type; XML and untyped bodies only when they begin as HTML does."""
    kind = answer.media_type
    if kind in ("text/html", "application/xhtml+xml", "text/plain"):
        return True
    return kind in PAGE_TYPES and any(sign in answer.body[:2_048].lower() for sign in _HTML_SIGNS)
