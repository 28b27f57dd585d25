"""Families of addresses without end: calendars, facets, paths that repeat themselves, one page under many names.

A family is followed a little more slowly the bigger it gets, so that it never crowds out other pages, and only so far;
what is left out is named in the report. Addresses that a sitemap lists are vouched for by their owner and do not come
here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal
from urllib.parse import unquote, urlsplit

Kind = Literal["calendar", "facets", "repeating path", "deep path", "same content"]

MAX_SEGMENTS: Final = 20  # of a path
MAX_REPEATS: Final = 3  # of the same segments behind each other
CALENDAR_PAGES: Final = 366  # of one calendar
FACET_PAGES: Final = 50  # combinations of parameters of one path that are followed at least
FACET_RATIO: Final = 10  # pages per value of the parameter with the most values: above it values are only combined anew
SAME_CONTENT_PAGES: Final = 30  # in a row with the same bytes
PAGES_PER_WAVE: Final = 20  # of one family; the next ones count as one click further away
MAX_COUNTED: Final = 10_000  # addresses left out, and values of a parameter, that are told apart

_YEAR: Final = r"(?:19|20|21)\d\d"
_MONTH: Final = r"(?:\d{1,2}|(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]{0,6})"
_DATED_PATH: Final = re.compile(
    rf"^(?P<head>.*/){_YEAR}(?:/{_MONTH}(?:/\d{{1,2}})?|-\d{{1,2}}(?:-\d{{1,2}})?)/?$", re.IGNORECASE
)
_DATE_NAME: Final = re.compile(r"^(?:\w*[-_])?(?:date|day|month|year|week|cal|calendar|yr|mon)$", re.IGNORECASE)
_DATE_VALUE: Final = re.compile(rf"^\d{{1,8}}$|^\d{{4}}-\d{{1,2}}(?:-\d{{1,2}})?$|^{_MONTH}$", re.IGNORECASE)
_REPEATED: Final = re.compile(rf"(?P<part>(?:/[^/]+){{1,6}}?)(?:(?P=part)){{{MAX_REPEATS - 1}}}(?=/|$)")


@dataclass(kw_only=True)
class _Family:
    kind: Kind
    depth: int = 0  # of the first
    urls: dict[int, int] = field(default_factory=dict)  # hashes of those that are followed -> their number
    values: dict[str, set[int]] = field(default_factory=dict)  # of each parameter
    left_out: set[int] = field(default_factory=set)


class Traps:
    """The budgets of one crawl."""

    def __init__(self) -> None:
        self._families: dict[str, _Family] = {}
        self._contents: dict[str, tuple[bytes, int]] = {}  # pattern -> newest hash, how often in a row
        self._closed: dict[str, _Family] = {}  # patterns that turned out to be one page
        self._counted = 0

    def depth_of(self, url: str, depth: int) -> int | None:
        """The depth that the canonical `url`, found at `depth`, counts as; None when it is left out."""
        if self.is_closed(url):
            return None
        found = family_of(url)
        if found is None:
            return depth
        kind, pattern = found
        family = self._families.setdefault(pattern, _Family(kind=kind, depth=depth))
        key = hash(url)
        if key not in family.urls:
            if not _has_room(family, url):
                self._leave_out(family, key)
                return None
            family.urls[key] = len(family.urls)
        return max(depth, family.depth + family.urls[key] // PAGES_PER_WAVE)

    def has_seen(self, url: str, content_hash: bytes) -> None:
        """A page of the crawl had these bytes: many in a row that are all the same are one page under many names."""
        pattern = pattern_of(url)
        if pattern is None:
            return
        newest, count = self._contents.get(pattern, (b"", 0))
        count = count + 1 if newest == content_hash else 1
        if len(self._contents) > MAX_COUNTED:
            self._contents.clear()
        self._contents[pattern] = content_hash, count
        if count == SAME_CONTENT_PAGES and pattern not in self._closed:
            self._closed[pattern] = _Family(kind="same content", urls=dict.fromkeys(range(count), 0))

    def is_closed(self, url: str) -> bool:
        """Whether the family of `url` turned out to be one page: what waits of it in the frontier is not asked for."""
        if not self._closed:
            return False
        family = self._closed.get(pattern_of(url) or "")
        if family is not None:
            self._leave_out(family, hash(url))
        return family is not None

    def told(self) -> list[dict[str, Any]]:
        """For the report: the families of which something was left out."""
        return [
            {"kind": family.kind, "pattern": pattern, "followed": len(family.urls), "left_out": len(family.left_out)}
            for pattern, family in sorted({**self._families, **self._closed}.items())
            if family.left_out
        ]

    def _leave_out(self, family: _Family, number: int) -> None:
        if number not in family.left_out and (self._counted < MAX_COUNTED or not family.left_out):
            family.left_out.add(number)
            self._counted += 1


def _has_room(family: _Family, url: str) -> bool:
    if family.kind == "calendar":
        return len(family.urls) < CALENDAR_PAGES
    if family.kind != "facets":
        return False
    for name, _, value in (part.partition("=") for part in urlsplit(url).query.split("&")):
        seen = family.values.setdefault(name, set())
        if len(seen) < MAX_COUNTED:
            seen.add(hash(value))
    most = max(len(values) for values in family.values.values())
    return len(family.urls) < max(FACET_PAGES, FACET_RATIO * most)


def is_told(url: str, traps: Sequence[Mapping[str, Any]]) -> bool:
    """Whether `url` belongs to a family that a crawl told of: that it was not found then says nothing."""
    found = family_of(url)
    return any(trap["pattern"] in (found[1] if found else None, pattern_of(url)) for trap in traps)


def family_of(url: str) -> tuple[Kind, str] | None:
    """The kind of trap that a canonical address could belong to, and the pattern of its family."""
    parts = urlsplit(url)
    path = parts.path
    start = f"{parts.scheme}://{parts.netloc}"
    segments = path.count("/")
    if segments > 2 and (match := _REPEATED.search(path)) and not match["part"].replace("/", "").isdigit():
        return "repeating path", f"{start}{path[: match.end('part')]}/..."
    if segments > MAX_SEGMENTS:
        return "deep path", f"{start}{'/'.join(path.split('/')[:4])}/..."
    if segments > 1 and (match := _DATED_PATH.match(path)):
        return "calendar", f"{start}{match['head']}<date>"
    if not parts.query:
        return None
    pairs = [part.partition("=") for part in parts.query.split("&")]
    if any(_DATE_NAME.match(unquote(name)) and _DATE_VALUE.match(value) for name, _, value in pairs):
        return "calendar", f"{start}{path}?{'&'.join(sorted({name for name, _, _ in pairs}))}"
    if len(pairs) > 1:
        return "facets", f"{start}{path}?..."
    return None


def pattern_of(url: str) -> str | None:
    """The address with its numbers and its query's values taken out; None when there is nothing to take out."""
    parts = urlsplit(url)
    path = re.sub(r"\d+", "#", parts.path)
    names = "&".join(sorted({part.partition("=")[0] for part in parts.query.split("&")})) if parts.query else ""
    pattern = f"{parts.scheme}://{parts.netloc}{path}{'?' if names else ''}{names}"
    return pattern if pattern != url else None
