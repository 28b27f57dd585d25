"""What visits mean for their source: where redirects and canonical addresses lead, and which links are followed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from typing import Final
from urllib.parse import urlsplit

from include.gleaner.config import CrawlPolicy
from include.gleaner.crawl.frontier import Frontier
from include.gleaner.crawl.records import Found, Visit
from include.gleaner.crawl.traps import Traps
from include.gleaner.crawl.urls import Scope

LINK_PRIORITY: Final = 0.4  # less for each parameter
MAX_KNOWN: Final = 50_000  # addresses that are remembered, so that the database is not told of them again and again


class Trail:
    """The way of one try of a crawl through its source. `note` is told what makes the crawl incomplete."""

    def __init__(
        self, frontier: Frontier, policy: CrawlPolicy, scope: Scope, traps: Traps, note: Callable[[str], None]
    ) -> None:
        self._frontier = frontier
        self._policy = policy
        self._traps = traps
        self._note = note
        self.scope = scope
        self.start = scope.root  # every try begins here, and learns anew where it leads
        self.start_chain = {scope.root}
        self.too_long = 0  # links over the limit
        self._redirects: dict[str, str] = {}  # of this try
        self._known: dict[str, int] = {}  # addresses in the frontier, or refused, with the depth
        self._is_deep_enough = False

    def settle(self, visit: Visit) -> Visit:
        """The decisions about a visit that need to know the source: its redirects and its declared address."""
        target = visit.alias_of
        if target is None:
            return visit
        page = visit.page
        if visit.reason == "redirect":
            if page.url in self.start_chain:
                self.start_chain.add(target)
                self.scope = self.scope.moved_to(target)
                self._known.clear()  # what was refused may be in scope now
            self._redirects[page.url] = target
            if self._comes_back(page.url):
                return replace(visit, kind="fault", reason="redirect_loop", alias_of=None)
            if page.hops >= self._policy.max_redirects:
                return replace(visit, kind="fault", reason="too_many_redirects", alias_of=None)
            if not self.scope.allows(target):
                return replace(visit, reason="redirect_out_of_scope", alias_of=None)
            return visit
        # A canonical address is believed when it is another page of this source, but not when it is the home page:
        # that is what a template says that names it on every page.
        if target == page.url or not self.scope.allows(target) or self._is_home(target, page.url):
            return replace(visit, reason=None, alias_of=None)
        return visit

    def leads(self, visits: Sequence[Visit]) -> list[Found]:
        """The addresses in scope that visits lead to, without those that the frontier was told of before."""
        stored = self._frontier.links_of([visit.page for visit in visits if visit.kind == "unchanged"])
        return [found for visit in visits for found in self._leads_of(visit, stored.get(visit.page.page_id, ()))]

    def _leads_of(self, visit: Visit, stored_links: tuple[str, ...]) -> Iterator[Found]:
        page = visit.page
        if visit.alias_of and visit.reason in ("redirect", "canonical"):
            hops = page.hops + 1 if visit.reason == "redirect" else 0
            yield Found(url=visit.alias_of, depth=page.depth, hops=hops)
        links = visit.links
        if visit.kind == "unchanged":
            links = visit.links or stored_links  # an answer without a body has none
            if page.canonical:
                yield Found(url=page.canonical, depth=page.depth)
        if visit.truncated or (visit.kind == "unchanged" and len(links) >= self._policy.max_links_per_page):
            self._note("max_links_per_page")
        self.too_long += visit.too_long
        depth = page.depth + 1
        if depth > self._policy.max_depth:
            self._look_further({page.url, visit.alias_of, page.canonical}, links)
            return
        for url in links:
            if self._known.get(url, depth + 1) <= depth:
                continue
            self._remember(url, depth)
            if not self.scope.allows(url):
                continue
            counts_as = self._traps.depth_of(url, depth)
            if counts_as is not None:
                deepest = max(depth, self._policy.max_depth)
                yield Found(url=url, depth=min(counts_as, deepest), priority=_priority(url))

    def _look_further(self, known: Collection[str | None], links: Sequence[str]) -> None:
        """A link that leads too deep matters only when its page was not found on a shorter way."""
        if self._is_deep_enough:
            return
        inside = [url for url in links if url not in known and self.scope.allows(url)]
        if inside and self._frontier.any_unknown(inside):
            self._is_deep_enough = True
            self._note("max_depth")

    def _remember(self, url: str, depth: int) -> None:
        if len(self._known) >= MAX_KNOWN:
            self._known.clear()
        self._known[url] = depth

    def _is_home(self, target: str, url: str) -> bool:
        parts = urlsplit(target)
        is_home = target in self.start_chain or (parts.path in ("", "/") and not parts.query)
        return is_home and urlsplit(url).path != parts.path

    def _comes_back(self, url: str) -> bool:
        """Whether the redirects from `url` lead to it again. They may also end in a circle that it is no part of."""
        seen: set[str] = set()
        target = self._redirects.get(url)
        while target is not None and target != url and target not in seen:
            seen.add(target)
            target = self._redirects.get(target)
        return target == url


def _priority(url: str) -> float:
    """Addresses with parameters come after those without: they are more often the same again."""
    query = url.partition("?")[2]
    return LINK_PRIORITY - 0.1 * min(3, query.count("&") + 1 if query else 0)
