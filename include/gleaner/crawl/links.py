"""What a page says to a crawler: its links, its canonical address, and what robots may do with it. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, cast
from urllib.parse import quote_from_bytes

from lxml import etree

from include.gleaner.crawl.link_encoding import encoding_of
from include.gleaner.crawl.urls import MAX_LENGTH, canonicalize

_REFRESH: Final = re.compile(r"^\s*(\d+)(?:\.\d*)?\s*[;,]\s*(?:url\s*=\s*)?[\"']?([^\"']+)", re.IGNORECASE)
INSTANT_REFRESH_SECONDS: Final = 5  # a page that sends its reader elsewhere within that has no content of its own
MAX_FEEDS: Final = 10
_FEED_TYPES: Final = frozenset({"application/rss+xml", "application/atom+xml"})
_PIECE: Final = 16 * 1024
MAX_TREE: Final = 512 * 1024  # bytes of a page that may become a tree, which takes up to ten times as much
_NO_ADDRESS: Final = ("#", "javascript:", "mailto:", "tel:", "data:", "sms:", "whatsapp:", "about:", "blob:")
_INERT: Final = frozenset(("noscript", "template"))
_TELLING: Final = frozenset(("a", "area", "iframe", "frame", "link", "meta", "base", "body", *_INERT))
_FORBIDDING: Final = frozenset(("noindex", "nofollow", "none"))
_LIMITED: Final = ("unavailable_after", "max-snippet", "max-image-preview", "max-video-preview")


@dataclass(frozen=True, kw_only=True)
class PageHead:
    """What matters to a crawl. All addresses are canonical."""

    links: tuple[str, ...] = ()  # in the order of the page, each once
    canonical: str | None = None  # as the page declares it, if it declares one
    refresh: str | None = None  # target of an instant <meta http-equiv="refresh">
    noindex: bool = False
    nofollow: bool = False
    truncated: bool = False  # more links than the limit
    feeds: tuple[str, ...] = ()  # RSS and Atom
    too_long: int = 0  # links over the limit of characters


def read_head(
    body: bytes,
    *,
    url: str,
    content_type: str = "",
    robots_tag: str = "",
    agent: str = "",
    max_links: int = 2_000,
    is_late: Callable[[], bool] = lambda: False,
) -> PageHead:
    """Read a page at `url`; `robots_tag` is its X-Robots-Tag header, `agent` the product token that metas may name.

    Raises TimeoutError once `is_late`, which is asked now and then: there is markup that takes libxml2 days.
    """
    reader = _Reader(url, agent, max_links)
    _parse(body, content_type, reader, is_late)
    if reader.has_inert and (reader.refresh or not _FORBIDDING.isdisjoint(reader.directives)):
        reader = _CarefulReader(url, agent, max_links)
        _parse(body, content_type, reader, is_late)
    reader.directives |= _directives_of_header(robots_tag, agent)
    if "none" in reader.directives:
        reader.directives |= {"noindex", "nofollow"}
    follow = "nofollow" not in reader.directives
    return PageHead(
        links=tuple(reader.links) if follow else (),
        canonical=next(iter(reader.canonicals)) if len(reader.canonicals) == 1 else None,  # two: who knows
        refresh=reader.refresh,
        noindex="noindex" in reader.directives,
        nofollow=not follow,
        truncated=reader.truncated and follow,
        feeds=tuple(reader.feeds) if follow else (),
        too_long=reader.too_long,
    )


class _Reader:
    """A target of lxml's parser: hears of each element and keeps no tree, so that no depth and no size is too much."""

    def __init__(self, url: str, agent: str, max_links: int) -> None:
        self.encoding = "utf-8"
        self.links: dict[str, None] = {}
        self.feeds: dict[str, None] = {}
        self.canonicals: dict[str, None] = {}
        self.refresh: str | None = None
        self.directives: set[str] = set()
        self.truncated = False
        self.too_long = 0
        self._base = url
        self._has_base = False
        self._in_body = False
        self.has_inert = False
        self._robots = {"robots", agent.lower() or "robots"}
        self._max_links = max_links
        self._addresses: dict[str, str | None] = {}  # by what is written, from the last <base> on

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        """Called by the parser, for each element."""
        if tag not in _TELLING:
            return
        if tag in ("a", "area"):
            if "rel" not in attributes or "nofollow" not in attributes["rel"].lower().split():
                self._add(attributes.get("href"))
        elif tag in ("iframe", "frame"):
            self._add(attributes.get("src"))
        elif tag == "link":
            self._link(attributes)
        elif tag == "meta":
            self._meta(attributes)
        elif tag == "base" and not self._has_base and attributes.get("href"):
            self._has_base = True
            self._base = canonicalize(attributes["href"].strip(), base=self._base) or self._base
            self._addresses.clear()
        elif tag == "body":
            self._in_body = True
        elif tag in _INERT:
            self.has_inert = True

    def close(self) -> None:
        """Called by the parser."""

    def _add(self, href: str | None) -> None:
        if self.truncated:  # a page may have a hundred thousand more
            return
        address = self._address(href)
        if address is None or address in self.links:
            return
        if len(self.links) >= self._max_links:
            self.truncated = True
            return
        self.links[address] = None

    def _link(self, attributes: Mapping[str, str]) -> None:
        relations = attributes.get("rel", "").lower().split()
        if "canonical" in relations and not self._in_body:
            if len(self.canonicals) < 2 and (address := self._address(attributes.get("href"))):
                self.canonicals[address] = None
        elif "alternate" in relations and attributes.get("type", "").strip().lower() in _FEED_TYPES:
            if len(self.feeds) < MAX_FEEDS and (address := self._address(attributes.get("href"))):
                self.feeds[address] = None
        elif "next" in relations or "prev" in relations or ("alternate" in relations and attributes.get("hreflang")):
            self._add(attributes.get("href"))

    def _meta(self, attributes: Mapping[str, str]) -> None:
        content = attributes.get("content", "")
        if attributes.get("name", "").strip().lower() in self._robots:
            self.directives |= _words(content)
        elif attributes.get("http-equiv", "").strip().lower() == "refresh" and self.refresh is None:
            match = _REFRESH.match(content)
            if match and int(match[1][:6]) <= INSTANT_REFRESH_SECONDS:
                self.refresh = self._address(match[2])

    def _address(self, written: str | None) -> str | None:
        if written is None:
            return None
        if written in self._addresses:
            return self._addresses[written]
        href = written.strip()
        if not href or href[:11].lower().startswith(_NO_ADDRESS):
            return None
        href = href.partition("#")[0]  # pages link one another many times, to each of their headings
        if len(href) > MAX_LENGTH:
            self.too_long += 1
            return None
        if href not in self._addresses:
            encoded = href
            if self.encoding != "utf-8" and not href.isascii():
                encoded = _with_encoded_query(href, self.encoding)
            self._addresses[href] = canonicalize(encoded, base=self._base)
        return self._addresses[href]


class _CarefulReader(_Reader):
    """One that passes over what <noscript> and <template> say of the page, for the few pages where that matters.

    "Go to /nojs" is not meant for those who read the page, and its text is here. To hear of the ends of all elements
    costs as much again.
    """

    def __init__(self, url: str, agent: str, max_links: int) -> None:
        super().__init__(url, agent, max_links)
        self._inert = 0  # such elements that are open now

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        """Called by the parser."""
        self._inert += tag in _INERT
        if not self._inert or tag != "meta":
            super().start(tag, attributes)

    def end(self, tag: str) -> None:
        """Called by the parser."""
        self._inert -= tag in _INERT


def _parse(body: bytes, content_type: str, reader: _Reader, is_late: Callable[[], bool]) -> None:
    if not body:
        return
    reader.encoding = encoding_of(body, content_type)
    if reader.encoding != "utf-8":
        body = body.decode(reader.encoding, "replace").encode("utf-8", "replace")
    if reader.encoding.startswith("utf-16"):
        reader.encoding = "utf-8"  # as browsers do for queries
    if len(body) <= MAX_TREE and not isinstance(reader, _CarefulReader) and _walk(body, reader):
        return
    target = cast("Any", reader)  # the stubs ask for methods that a target need not have
    parser = etree.HTMLParser(target=target, encoding="utf-8", recover=True, no_network=True, huge_tree=True)
    try:
        for start in range(0, len(body), _PIECE):
            parser.feed(body[start : start + _PIECE])
            if is_late():
                raise TimeoutError("the page's markup takes too long to read")
        parser.close()
    except (etree.ParserError, etree.XMLSyntaxError, AssertionError):
        return  # no markup at all: what was heard until then counts


def _walk(body: bytes, reader: _Reader) -> bool:
    """Let the reader hear of the elements of a tree; whether it did.

    As good as to hear of them from the parser, which would need the interpreter's lock for each of them: four threads
    that take turns at it cost half as much again. Not for pages that nest deeper than a tree of libxml2's can.
    """
    parser = etree.HTMLParser(
        encoding="utf-8", recover=True, no_network=True, huge_tree=True, remove_comments=True, remove_pis=True
    )
    try:
        parser.feed(body)
        root: etree._Element | None = parser.close()
    except (etree.ParserError, etree.XMLSyntaxError, AssertionError):
        return False
    if any(error.type == etree.ErrorTypes.ERR_RESOURCE_LIMIT for error in parser.feed_error_log):
        return False
    while root is not None:
        for element in root.iter(*_TELLING):
            reader.start(element.tag, cast("Mapping[str, str]", element.attrib))
        root = root.getnext()  # what follows </html>
    return True


def _with_encoded_query(href: str, encoding: str) -> str:
    """The query in the page's own encoding, as browsers send it; what that lacks becomes an escaped reference."""
    head, mark, rest = href.partition("?")
    query, hash_mark, fragment = rest.partition("#")
    encoded = "".join(
        letter
        if letter.isascii()
        else quote_from_bytes(_bytes_of(letter, encoding) or f"&#{ord(letter)};".encode(), safe="")
        for letter in query
    )
    return f"{head}{mark}{encoded}{hash_mark}{fragment}"


def _bytes_of(letter: str, encoding: str) -> bytes:
    try:
        return letter.encode(encoding)
    except UnicodeEncodeError:
        return b""


def _directives_of_header(value: str, agent: str) -> set[str]:
    """The directives for everybody and for `agent`: "noindex, otherbot: nofollow" has one for everybody."""
    found: set[str] = set()
    if not value:
        return found
    speaks_to_us = True
    for part in value.lower().split(","):
        name, colon, rest = part.partition(":")
        if colon and name.strip() not in _LIMITED:
            speaks_to_us = name.strip() in (agent.lower(), "*")
            part = rest
        if speaks_to_us:
            found |= _words(part)
    return found


def _words(text: str) -> set[str]:
    return {word for word in re.split(r"[\s,;]+", text.lower()) if word}
