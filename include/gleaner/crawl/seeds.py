"""What a site says about itself before its pages are asked for: robots.txt of each host, and the sitemaps."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from include.gleaner.config import CrawlPolicy
from include.gleaner.crawl.client import Client
from include.gleaner.crawl.robots import MAX_BYTES, Robots
from include.gleaner.crawl.sitemap import parse_sitemap
from include.gleaner.crawl.throttle import Throttle
from include.gleaner.crawl.urls import canonicalize, origin_of

MAX_SITEMAP_FILES: Final = 50
MAX_SITEMAP_LEVELS: Final = 3  # an index, an index below it, and its files
MAX_ROBOTS_REDIRECTS: Final = 5  # RFC 9309, 2.3.1.2


class SiteRules:
    """The robots.txt of each host, asked for once. Safe to use from several threads."""

    def __init__(self, client: Client, throttle: Throttle, policy: CrawlPolicy) -> None:
        self._client = client
        self._throttle = throttle
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
            with self._throttle.turn(urlsplit(address).netloc):
                answer = self._client.fetch(address, any_type=True, cut_at=MAX_BYTES)
            status = answer.status or 0
            if status == 200:
                if answer.fault:
                    return None, answer.fault
                rules = Robots.parse(answer.body, url=address, agent=self.agent)
                if rules.crawl_delay:
                    self._throttle.slow_down(urlsplit(origin).netloc, rules.crawl_delay)
                return rules, ""
            if 300 <= status < 400:
                target = canonicalize(answer.location or "", base=address)
                if target is None:
                    break
                address = target
                continue
            if 400 <= status < 500 and status != 429:
                break  # there is none: everything is allowed
            return None, answer.fault or f"http_{status}"
        return Robots(agent=self.agent), ""


@dataclass(frozen=True, kw_only=True)
class Listed:
    """What all sitemaps of a site list."""

    pages: tuple[tuple[str, float], ...]  # address, priority
    faults: int  # sitemaps that exist and could not be read


def read_sitemaps(client: Client, throttle: Throttle, rules: Robots, root: str) -> Listed:
    """The sitemaps that robots.txt names, or /sitemap.xml, and those that they name."""
    level = list(rules.sitemaps) or [f"{origin_of(root)}/sitemap.xml"]
    seen: set[str] = set()
    pages: dict[str, float] = {}
    faults = 0
    for _ in range(MAX_SITEMAP_LEVELS):
        deeper: list[str] = []
        for address in level:
            if address in seen:
                continue
            if len(seen) >= MAX_SITEMAP_FILES:
                faults += 1
                break
            seen.add(address)
            with throttle.turn(urlsplit(address).netloc):
                answer = client.fetch(address, any_type=True)
            target = canonicalize(answer.location or "", base=address) if 300 <= (answer.status or 0) < 400 else None
            if target:
                deeper.append(target)
            elif answer.fault:
                # Nobody promised a /sitemap.xml: that a server refuses it says nothing.
                is_refused = 400 <= (answer.status or 0) < 500 and not rules.sitemaps
                faults += answer.fault not in ("forbidden_address", "invalid_url") and not is_refused
            elif answer.status == 200:
                found = parse_sitemap(answer.body, url=address)
                for url, priority in found.pages:
                    pages.setdefault(url, priority)
                deeper += found.sitemaps
                faults += found.is_cut
        level = deeper
    faults += bool(set(level) - seen)  # deeper than we look
    return Listed(pages=tuple(pages.items()), faults=faults)
