"""What a page says to a crawler: its links, its canonical address, and what robots may do with it. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from lxml import etree, html

from include.gleaner.crawl.urls import canonicalize

_CHARSET: Final = re.compile(r"charset\s*=\s*[\"']?([\w.:-]+)", re.IGNORECASE)
_BOMS: Final = ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"))
_REFRESH: Final = re.compile(r"^\s*(\d+)(?:\.\d*)?\s*[;,]\s*(?:url\s*=\s*)?[\"']?([^\"']+)", re.IGNORECASE)
INSTANT_REFRESH_SECONDS: Final = 5  # a page that sends its reader elsewhere within that has no content of its own


@dataclass(frozen=True, kw_only=True)
class PageHead:
    """What matters to a crawl. All addresses are canonical."""

    links: tuple[str, ...] = ()  # in the order of the page, each once
    canonical: str | None = None  # as the page declares it
    refresh: str | None = None  # target of an instant <meta http-equiv="refresh">
    noindex: bool = False
    nofollow: bool = False
    truncated: bool = False  # more links than the limit


def read_head(
    body: bytes, *, url: str, content_type: str = "", robots_tag: str = "", agent: str = "", max_links: int = 2_000
) -> PageHead:
    """Read a page at `url`; `robots_tag` is its X-Robots-Tag header, `agent` the product token that metas may name."""
    directives = _directives_of_header(robots_tag, agent)
    tree = _parse(body, content_type)
    if tree is None:
        return PageHead(noindex="noindex" in directives, nofollow="nofollow" in directives)
    base = url
    canonical = refresh = None
    links: dict[str, None] = {}
    truncated = False
    for element in _elements(tree):
        tag = element.tag
        if tag == "a" or tag == "area":
            if "nofollow" in (element.get("rel") or "").lower().split():
                continue
            address = _address(element, base)
            if address and address not in links:
                if len(links) >= max_links:
                    truncated = True
                    continue
                links[address] = None
        elif tag == "base" and base == url:
            base = canonicalize(element.get("href") or "", base=url) or url
        elif tag == "link":
            relations = (element.get("rel") or "").lower().split()
            if "canonical" in relations and canonical is None:
                canonical = _address(element, base)
            elif "next" in relations or "prev" in relations or ("alternate" in relations and element.get("hreflang")):
                address = _address(element, base)
                if address and len(links) < max_links:
                    links[address] = None
        elif tag == "meta":
            if (element.get("name") or "").strip().lower() in ("robots", agent.lower() or "robots"):
                directives |= _words(element.get("content") or "")
            elif (element.get("http-equiv") or "").strip().lower() == "refresh" and refresh is None:
                refresh = _refresh(element.get("content") or "", base)
    if "none" in directives:
        directives |= {"noindex", "nofollow"}
    follow = "nofollow" not in directives
    return PageHead(
        links=tuple(links) if follow else (),
        canonical=canonical,
        refresh=refresh,
        noindex="noindex" in directives,
        nofollow=not follow,
        truncated=truncated and follow,
    )


def _parse(body: bytes, content_type: str) -> html.HtmlElement | None:
    encoding = next((name for bom, name in _BOMS if body.startswith(bom)), None)
    if encoding is None and (match := _CHARSET.search(content_type)):
        encoding = match[1]
    if encoding is None and b"charset" not in body[:2048].lower():
        encoding = "utf-8"  # links are ASCII nearly always; this keeps the others right where most pages are UTF-8
    for name in (encoding, None):
        try:
            parser = html.HTMLParser(encoding=name, recover=True, no_network=True, huge_tree=True, remove_comments=True)
            return html.document_fromstring(body, parser=parser)
        except (LookupError, etree.ParserError, etree.XMLSyntaxError, ValueError, AssertionError):
            continue
    return None


def _elements(tree: html.HtmlElement) -> Iterator[html.HtmlElement]:
    yield from tree.iter("a", "area", "base", "link", "meta")


def _address(element: html.HtmlElement, base: str) -> str | None:
    href = (element.get("href") or "").strip()
    if not href or href.startswith(("#", "javascript:", "mailto:", "tel:", "data:")):
        return None
    return canonicalize(href, base=base)


def _refresh(content: str, base: str) -> str | None:
    match = _REFRESH.match(content)
    if match is None or int(match[1][:6]) > INSTANT_REFRESH_SECONDS:
        return None
    return canonicalize(match[2].strip(), base=base)


def _directives_of_header(value: str, agent: str) -> set[str]:
    """The directives for everybody and for `agent`: "noindex, otherbot: nofollow" has one for everybody."""
    found: set[str] = set()
    speaks_to_us = True
    for part in value.lower().split(","):
        name, colon, rest = part.partition(":")
        if colon and name.strip() not in ("unavailable_after", "max-snippet", "max-image-preview", "max-video-preview"):
            speaks_to_us = name.strip() in (agent.lower(), "*")
            part = rest
        if speaks_to_us:
            found |= _words(part)
    return found


def _words(text: str) -> set[str]:
    return {word for word in re.split(r"[\s,;]+", text.lower()) if word}
