"""What a site says about itself before its pages are asked for: robots.txt of each host, and the sitemaps."""

from __future__ import annotations

import heapq
import logging
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from include.gleaner.config import CrawlPolicy
from include.gleaner.crawl.fetcher import Fetcher
from include.gleaner.crawl.robots import MAX_BYTES, Robots
from include.gleaner.crawl.sitemap import MAX_BYTES as MAX_SITEMAP_BYTES
from include.gleaner.crawl.sitemap import Entry, parse_sitemap
from include.gleaner.crawl.urls import canonicalize, origin_of, site_of

log = logging.getLogger(__name__)

MAX_SITEMAP_FILES: Final = 50
MAX_SITEMAP_LEVELS: Final = 3  # an index, an index below it, and its files
MAX_ROBOTS_REDIRECTS: Final = 5  # RFC 9309, 2.3.1.2


class SiteRules:
    """The robots.txt of each host, asked for once. Safe to use from several threads."""

    def __init__(self, fetcher: Fetcher, policy: CrawlPolicy) -> None:
        self._fetcher = fetcher
        self.agent = policy.user_agent.partition("/")[0]
        self._lock = threading.Lock()
        self._known: dict[str, tuple[Robots | None, str]] = {}

    def of(self, url: str) -> Robots | None:
        """The rules for `url`'s host; None when the host could not say: then nothing may be asked for (RFC 9309)."""
        return self._of(url)[0]

    def fault_of(self, url: str) -> str:
        """Why the host could not say."""
        return self._of(url)[1]

    def _of(self, url: str) -> tuple[Robots | None, str]:
        origin = origin_of(url)
        with self._lock:
            if origin not in self._known:
                self._known[origin] = self._read(origin)
            return self._known[origin]

    def _read(self, origin: str) -> tuple[Robots | None, str]:
        address = f"{origin}/robots.txt"
        for _ in range(MAX_ROBOTS_REDIRECTS + 1):
            answer = self._fetcher.fetch(address, any_type=True, cut_at=MAX_BYTES)
            status = answer.status or 0
            if answer.fault and not 400 <= status < 500:
                return None, answer.fault
            if 200 <= status < 300:
                rules = Robots.parse(answer.body, url=address, agent=self.agent)
                if rules.crawl_delay:
                    self._fetcher.throttle.slow_down(site_of(origin), rules.crawl_delay)
                return rules, ""
            if 300 <= status < 400:
                target = canonicalize(answer.location or "", base=address)
                if target is None:
                    break
                address = target
                continue
            if status == 429:
                return None, "http_429"
            break  # there is none: everything is allowed
        return Robots(agent=self.agent), ""


@dataclass(frozen=True, kw_only=True)
class Listed:
    """What the sitemaps of a site list."""

    pages: tuple[Entry, ...]  # best first: by priority, then by date, then by address
    has_more: bool  # there were more than the limit
    faults: int  # sitemaps that exist and could not be read


def read_sitemaps(
    fetcher: Fetcher, rules: Robots, root: str, *, allows: Callable[[str], bool], limit: int, until: float = math.inf
) -> Listed:
    """The best `limit` pages that `allows` lets in, out of the sitemaps that robots.txt names or of /sitemap.xml.

    At most 50 files are read, indexes of indexes included, and none any more after `until` on the monotonic clock;
    memory is bounded by the limit, whatever they list.
    """
    level = list(rules.sitemaps) or [f"{origin_of(root)}/sitemap.xml"]
    best = _Best(limit)
    seen: set[str] = set()
    faults = 0
    for _ in range(MAX_SITEMAP_LEVELS):
        deeper: list[str] = []
        for address in level:
            if address in seen:
                continue
            if len(seen) >= MAX_SITEMAP_FILES or time.monotonic() >= until:
                faults += 1
                break
            seen.add(address)
            answer = fetcher.fetch(address, any_type=True, max_bytes=MAX_SITEMAP_BYTES)
            target = canonicalize(answer.location or "", base=address) if 300 <= (answer.status or 0) < 400 else None
            if target:
                deeper.append(target)
            elif answer.fault:
                # Nobody promised a /sitemap.xml: that a server refuses it says nothing.
                is_refused = 400 <= (answer.status or 0) < 500 and not rules.sitemaps
                faults += answer.fault not in ("forbidden_address", "forbidden_port", "invalid_url") and not is_refused
            elif answer.status == 200:
                try:
                    found = parse_sitemap(answer.body, url=address)
                except Exception as error:  # noqa: BLE001 - whatever one file does, the crawl goes on; it is told
                    log.warning("a sitemap cannot be read: %s", type(error).__name__)
                    faults += 1
                    continue
                for entry in found.entries:
                    if allows(entry.url):
                        best.add(entry)
                deeper += found.sitemaps[: 2 * MAX_SITEMAP_FILES]
                faults += found.is_cut
        level = deeper
    faults += bool(set(level) - seen)  # deeper than we look
    return Listed(pages=best.entries(), has_more=best.has_more, faults=faults)


class _Best:
    """The best entries of many, each address once; which ones does not depend on their order."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._known: dict[str, Entry] = {}
        self.has_more = False

    def add(self, entry: Entry) -> None:
        known = self._known.get(entry.url)
        if known is None or _rank(entry) < _rank(known):
            self._known[entry.url] = entry
        if len(self._known) > 2 * self._limit + 1_000:
            self._cut()

    def entries(self) -> tuple[Entry, ...]:
        self._cut()
        return tuple(sorted(self._known.values(), key=_rank))

    def _cut(self) -> None:
        if len(self._known) > self._limit:
            self.has_more = True
            self._known = {entry.url: entry for entry in heapq.nsmallest(self._limit, self._known.values(), key=_rank)}


def _rank(entry: Entry) -> tuple[float, tuple[int, ...], str]:
    return -entry.priority, tuple(-ord(letter) for letter in entry.lastmod) or (0,), entry.url
