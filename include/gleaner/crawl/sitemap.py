"""Sitemaps (sitemaps.org): addresses and their priorities, out of files that nobody vouches for. Pure."""

from __future__ import annotations

import io
import math
import zlib
from dataclasses import dataclass
from typing import Final

from lxml import etree

from include.gleaner.crawl.urls import canonicalize

MAX_URLS: Final = 50_000  # the protocol's own limit per file
MAX_BYTES: Final = 50 * 1024 * 1024  # uncompressed; likewise


@dataclass(frozen=True, kw_only=True)
class Sitemap:
    """One file: pages with their priority (0 to 1, default 0.5), or further sitemaps when it is an index."""

    pages: tuple[tuple[str, float], ...] = ()
    sitemaps: tuple[str, ...] = ()
    is_cut: bool = False  # there was more: the file ends in the middle, or has more than the limit


def parse_sitemap(body: bytes, *, url: str) -> Sitemap:
    """What the file at `url` lists; as much as can be read of a broken one, nothing of what is no sitemap.

    XML and plain text, gzipped or not. Entities are not resolved, nothing is loaded, size is capped.
    """
    body = _unzipped(body)
    if not body.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        return _plain(body, url)
    pages: dict[str, float] = {}
    sitemaps: dict[str, None] = {}
    is_cut = False
    try:
        entries, is_cut = _entries(body)
        for entry in entries:
            address = canonicalize((entry.get("loc") or "").strip(), base=url)
            if not address:
                continue
            if entry["kind"] == "sitemap":
                sitemaps[address] = None
            else:
                pages.setdefault(address, _priority(entry.get("priority")))
            if len(pages) >= MAX_URLS or len(sitemaps) >= MAX_URLS:
                break
    except etree.XMLSyntaxError:
        pass  # no XML at all
    return Sitemap(pages=tuple(pages.items()), sitemaps=tuple(sitemaps), is_cut=is_cut)


def _entries(body: bytes) -> tuple[list[dict[str, str]], bool]:
    """The entries, and whether there was more."""
    found: list[dict[str, str]] = []
    parser = etree.iterparse(
        io.BytesIO(body), events=("end",), resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False,
        recover=True,
    )  # fmt: skip
    for _, element in parser:
        if not isinstance(element.tag, str):
            continue
        kind = etree.QName(element).localname.lower()
        if kind not in ("url", "sitemap"):
            continue
        entry = {"kind": kind}
        for child in element:
            if isinstance(child.tag, str) and etree.QName(child).namespace == etree.QName(element).namespace:
                entry.setdefault(etree.QName(child).localname.lower(), child.text or "")
        found.append(entry)
        element.clear()
        if len(found) >= MAX_URLS:
            break
    if found and any("Premature end" in entry.message for entry in parser.error_log):
        found.pop()  # cut off in the middle of an address, which would then be another one
        return found, True
    return found, len(found) >= MAX_URLS


def _plain(body: bytes, url: str) -> Sitemap:
    """A text sitemap: one absolute address a line. Anything else in the lines, and it is none."""
    pages: dict[str, float] = {}
    for line in body.decode("utf-8-sig", "replace").splitlines()[:MAX_URLS]:
        text = line.strip()
        if text.startswith(("http://", "https://")) and (address := canonicalize(text, base=url)):
            pages.setdefault(address, 0.5)
    return Sitemap(pages=tuple(pages.items()))


def _unzipped(body: bytes) -> bytes:
    if not body.startswith(b"\x1f\x8b"):
        return body[:MAX_BYTES]
    try:
        return zlib.decompressobj(wbits=31).decompress(body, MAX_BYTES)
    except zlib.error:
        return b""


def _priority(text: str | None) -> float:
    try:
        value = float(text or "0.5")
    except ValueError:
        return 0.5
    return min(1.0, max(0.0, value)) if math.isfinite(value) else 0.5
