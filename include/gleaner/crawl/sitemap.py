"""Sitemaps (sitemaps.org) and feeds: addresses with priority and date, out of files that nobody vouches for. Pure."""

from __future__ import annotations

import io
import math
import re
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Final, Literal

from lxml import etree

from include.gleaner.crawl.urls import canonicalize

MAX_URLS: Final = 50_000  # the protocol's own limit per file
MAX_BYTES: Final = 50 * 1024 * 1024  # uncompressed; likewise
MAX_RECORDS: Final = 2 * MAX_URLS  # of all kinds, with an address or without
MAX_RECORD_BYTES: Final = 2 * 1024 * 1024  # to the end of the next record; as a tree it takes up to fifty times as much
_DATE: Final = re.compile(r"\s*(\d{4})(?:-(\d{2})(?:-(\d{2}))?)?")
_BARE_AND: Final = re.compile(rb"&(?!(?:#\w{1,8}|\w{1,32});)")
_WRONG_ENCODING: Final = re.compile(
    rb"(\A[^<]{0,100}<\?xml\b[^>]{0,100}?)\sencoding\s*=\s*[\"']utf-?16[\"']", re.IGNORECASE
)
_RECORDS: Final = frozenset({"url", "sitemap", "item", "entry"})

Kind = Literal["sitemap", "index", "feed", "text", "none"]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A page that a file lists."""

    url: str  # canonical
    priority: float = 0.5  # 0 to 1
    lastmod: str = ""  # "2026", "2026-11" or "2026-11-24"; "" when it is not told


@dataclass(frozen=True, kw_only=True)
class Sitemap:
    """One file: pages, or further sitemaps when it is an index."""

    kind: Kind = "none"
    entries: tuple[Entry, ...] = ()
    sitemaps: tuple[str, ...] = ()
    is_cut: bool = False  # there was more: the file ends in the middle, or has more than the limits

    @property
    def pages(self) -> tuple[tuple[str, float], ...]:
        """Addresses with their priority."""
        return tuple((entry.url, entry.priority) for entry in self.entries)


def parse_sitemap(body: bytes, *, url: str) -> Sitemap:
    """What the file at `url` lists; as much as can be read of a broken one, nothing of what is no sitemap.

    XML sitemaps and indexes, RSS, Atom and plain text, gzipped or not. Entities are not resolved, nothing is loaded,
    size is capped, and memory does not grow with what is skipped.
    """
    body, is_cut = _unzipped(body)
    if not body.startswith((b"\xff\xfe", b"\xfe\xff")) and not body.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        found = _plain(body, url)
        return Sitemap(kind=found.kind, entries=found.entries, is_cut=found.is_cut or is_cut)
    collected = _Collected(url, is_cut)
    # No XML at all, or not any more, or names that are no text: what was read counts.
    with suppress(etree.XMLSyntaxError, UnicodeDecodeError):
        collected.read(_mended(body))
    return collected.told()


def _mended(body: bytes) -> bytes:
    """The file without two common mistakes: addresses with a bare "&", and UTF-8 that is called UTF-16."""
    if b"\x00" in body[:100]:  # it is UTF-16
        return body
    return _BARE_AND.sub(b"&amp;", _WRONG_ENCODING.sub(rb"\1", body, count=1))


class _Source:
    """A file that ends where no record has ended for too long, so that no tree grows without end."""

    def __init__(self, body: bytes) -> None:
        self._file = io.BytesIO(body)
        self._end = MAX_RECORD_BYTES

    def read(self, size: int) -> bytes:
        """Called by the parser."""
        return self._file.read(min(size, self._end - self._file.tell()))

    def go_on(self) -> None:
        """A record ended."""
        self._end = self._file.tell() + MAX_RECORD_BYTES


class _Collected:
    """What was read of one XML file."""

    def __init__(self, url: str, is_cut: bool) -> None:
        self._url = url
        self._is_cut = is_cut
        self._kind: Kind = "none"
        self._entries: dict[str, Entry] = {}
        self._sitemaps: dict[str, None] = {}

    def told(self) -> Sitemap:
        return Sitemap(
            kind=self._kind,
            entries=tuple(self._entries.values()),
            sitemaps=tuple(self._sitemaps),
            is_cut=self._is_cut,
        )

    def read(self, body: bytes) -> None:
        source = _Source(body)
        parser = etree.iterparse(
            source, events=("end",), resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False,
            recover=True, remove_comments=True, remove_pis=True,
        )  # fmt: skip
        last: etree._Element | None = None
        records = 0
        for _, element in parser:
            if not isinstance(element.tag, str) or _local(element) not in _RECORDS:
                continue
            if last is not None:
                self._take(last)
            last = element
            _forget_before(element)
            source.go_on()
            records += 1
            if max(len(self._entries), len(self._sitemaps)) >= MAX_URLS or records >= MAX_RECORDS:
                self._is_cut = True
                return
        ends_early = any("Premature end" in entry.message for entry in parser.error_log)
        if ends_early and self._kind != "feed":
            self._is_cut = self._is_cut or last is not None
        if last is not None and not ends_early:
            self._take(last)  # an element that was closed by the end of the file may hold half an address

    def _take(self, element: etree._Element) -> None:
        name = _local(element)
        fields = _fields(element)
        if name == "sitemap":
            self._kind = "index"
            if address := canonicalize(fields.get("loc", ""), base=self._url):
                self._sitemaps[address] = None
            return
        lastmod = _day(fields.get("lastmod") or fields.get("updated") or fields.get("pubdate") or fields.get("date"))
        for text in _addresses(element, fields):
            if address := canonicalize(text, base=self._url):
                self._kind = "sitemap" if name == "url" else "feed"
                entry = Entry(url=address, priority=_priority(fields.get("priority")), lastmod=lastmod)
                self._entries.setdefault(address, entry)
        element.clear()


def _addresses(element: etree._Element, fields: dict[str, str]) -> Iterator[str]:
    """The addresses in one record: <loc> and its translations, or what an item of a feed links to."""
    name = _local(element)
    if name == "url" and fields.get("loc"):
        yield fields["loc"]
    elif name == "item":
        yield from (text for text in [fields.get("link")] if text)
        if not fields.get("link") and fields.get("guid", "").startswith(("http://", "https://")):
            yield fields["guid"]
    for child in element:
        if isinstance(child.tag, str) and _local(child) == "link" and (href := child.get("href")):
            relation = child.get("rel", "alternate").lower()
            if relation == "alternate" and (name == "entry" or (name == "url" and child.get("hreflang"))):
                yield href


def _fields(element: etree._Element) -> dict[str, str]:
    """The texts of the children in the record's own namespace, the first of each name."""
    namespace, _ = _named(element)
    fields: dict[str, str] = {}
    for child in element:
        if isinstance(child.tag, str) and _named(child)[0] == namespace and child.text:
            fields.setdefault(_local(child), child.text.strip())
    return fields


def _local(element: etree._Element) -> str:
    return _named(element)[1].lower()


def _named(element: etree._Element) -> tuple[str, str]:
    """Namespace and name. A prefix that nobody declared stands for a namespace; lxml's QName refuses such a name."""
    mark = "}" if element.tag.startswith("{") else ":"
    namespace, _, name = element.tag.rpartition(mark)
    return namespace, name


def _forget_before(element: etree._Element) -> None:
    """Drop all that came before, at every level: emptied records and what lies between them would pile up."""
    node = element
    while (parent := node.getparent()) is not None:
        while node.getprevious() is not None:
            del parent[0]
        node = parent


def _plain(body: bytes, url: str) -> Sitemap:
    """A text sitemap: one absolute address a line. Anything else in the lines is passed over."""
    entries: dict[str, Entry] = {}
    lines = body.decode("utf-8-sig", "replace").splitlines()
    for line in lines[:MAX_URLS]:
        text = line.strip()
        if text.startswith(("http://", "https://")) and (address := canonicalize(text, base=url)):
            entries.setdefault(address, Entry(url=address))
    return Sitemap(
        kind="text" if entries else "none",
        entries=tuple(entries.values()),
        is_cut=bool(entries) and len(lines) > MAX_URLS,
    )


def _unzipped(body: bytes) -> tuple[bytes, bool]:
    """The file's own bytes, and whether there were more."""
    if not body.startswith(b"\x1f\x8b"):
        return body[:MAX_BYTES], len(body) > MAX_BYTES
    inflater = zlib.decompressobj(wbits=31)
    try:
        text = inflater.decompress(body, MAX_BYTES)
    except zlib.error:
        return b"", True
    return text, not inflater.eof


def _day(text: str | None) -> str:
    """The day of a W3C date or of a feed's, so that texts sort as time does; "" when it is none."""
    if not text:
        return ""
    if match := _DATE.match(text):
        return "-".join(part for part in match.groups() if part)
    try:
        return parsedate_to_datetime(text).date().isoformat()
    except (ValueError, TypeError, OverflowError):
        return ""


def _priority(text: str | None) -> float:
    try:
        value = float(text or "0.5")
    except ValueError:
        return 0.5
    return min(1.0, max(0.0, value)) if math.isfinite(value) else 0.5
