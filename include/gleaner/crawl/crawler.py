"""The way in: crawls one website for one run.

Threads fetch and read links; this thread alone decides and writes, in waves of pages that are equally far from the
start. What a limit cuts off is therefore the same in every run. A killed crawl goes on with what is left of its wave.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, replace
from typing import Final

import psycopg

from include.gleaner.config import CrawlPolicy, IngestRequest
from include.gleaner.crawl.client import Client
from include.gleaner.crawl.frontier import Due, Found, Frontier, Job, Visit
from include.gleaner.crawl.seeds import SiteRules, read_sitemaps
from include.gleaner.crawl.throttle import Throttle
from include.gleaner.crawl.urls import Scope, canonicalize
from include.gleaner.crawl.visit import visit_page
from include.gleaner.errors import CrawlError, ForbiddenAddressError, InvalidParamError, StartPageError
from include.gleaner.models import source_id_of

log = logging.getLogger(__name__)

WAVE: Final = 1_000  # pages in memory, without their bodies
FLUSH_VISITS: Final = 20  # what a kill costs at most, beside the requests under way
FLUSH_SECONDS: Final = 0.5
LOG_SECONDS: Final = 5.0
MOST_VISITS_PER_PAGE: Final = 3  # redirects do not count against max_pages, but they end somewhere
FREE_REASONS: Final = frozenset({"redirect", "redirect_out_of_scope", "robots", "out_of_scope"})  # as in count_spent


@dataclass(frozen=True, kw_only=True)
class CrawlOutcome:
    """What a crawl did, in pages, counted by the database."""

    job_id: int
    source_id: uuid.UUID
    state: str  # complete or partial
    found: int
    visited: int
    changed: int
    unchanged: int
    failed: int


def crawl(
    conn: psycopg.Connection,
    *,
    tenant_id: str,
    request: IngestRequest,
    run_id: str,
    pause: Callable[[float], None] = time.sleep,
) -> CrawlOutcome:
    """Fetch what is new or changed of the site; a crawl of this run that is over already is not done again.

    `conn` is in autocommit mode. Raises StartPageError when the start page cannot be had, ForbiddenAddressError when it
    is not on the public internet; the job is `failed` then, and nothing that is stored is touched. Raises
    InvalidParamError for an address that is none.
    """
    root = canonicalize(request.url)
    if root is None:
        raise InvalidParamError("url", "is not an address that can be crawled")
    source_id = source_id_of(tenant_id, root)
    frontier = Frontier(conn, tenant_id=tenant_id, source_id=source_id)
    conf = {"url": request.url, "crawl": asdict(request.crawl), "chunk": asdict(request.chunk)}
    job = frontier.open_job(run_id, root_url=root, conf=conf)
    if job.state == "running":
        with Client(request.crawl, pause=pause) as client:
            _Crawl(client, frontier, request.crawl, job, Scope.of(root, request.crawl), pause).run()
        job = frontier.open_job(run_id, root_url=root, conf=conf)
    found, visited, changed, unchanged = frontier.outcome()
    return CrawlOutcome(
        job_id=job.job_id,
        source_id=source_id,
        state=job.state,
        found=found,
        visited=visited,
        changed=changed,
        unchanged=unchanged,
        failed=frontier.count_faults(),
    )


def scope_of(frontier: Frontier, request: IngestRequest) -> Scope:
    """The source's scope, the addresses that its start page is known to redirect to included."""
    scope = Scope.of(request.url, request.crawl)
    for target in frontier.redirects(scope.root)[1:]:
        scope = scope.moved_to(target)
    return scope


def _forbidden(url: str) -> ForbiddenAddressError:
    return ForbiddenAddressError(
        f"{url} does not lead to the public internet (forbidden_address); a host on this machine has to be named in "
        "GLEANER_LOCAL_HOSTS"
    )


class _Crawl:
    """The state of one crawl while it runs."""

    def __init__(
        self,
        client: Client,
        frontier: Frontier,
        policy: CrawlPolicy,
        job: Job,
        scope: Scope,
        pause: Callable[[float], None],
    ) -> None:
        self._client = client
        self._frontier = frontier
        self._policy = policy
        self._scope = scope
        self._reasons = set(job.reasons)
        self._throttle = Throttle(policy.delay_seconds, policy.concurrency, pause=pause)
        self._rules = SiteRules(client, self._throttle, policy)
        self._start = scope.root  # every try begins here, and learns anew where it leads
        self._root_chain = {scope.root}
        self._redirects: dict[str, str] = {}  # of this try
        self._began = self._logged = time.monotonic()
        self._visited_here = 0
        self._spent = 0

    def run(self) -> None:
        try:
            self._seed()
            self._spent = self._frontier.count_spent()
            while due := self._next_wave():
                self._fetch(due)
        except CrawlError as error:
            self._frontier.close_job("failed", [str(error)])
            raise
        if faults := self._frontier.count_faults():
            self._reasons.add(f"{faults} pages could not be fetched")
        state = "partial" if self._reasons else "complete"
        self._frontier.close_job(state, self._reasons)
        log.info("crawl %s%s", state, f" ({', '.join(sorted(self._reasons))})" if self._reasons else "")

    def _seed(self) -> None:
        """The start page and the sitemaps' pages. Done again after a kill: what is known then stays as it is."""
        rules = self._rules.of(self._start)
        if rules is None and self._rules.fault_of(self._start) == "forbidden_address":
            raise _forbidden(self._start)
        if rules is None:
            raise StartPageError(
                f"robots.txt of {self._start} cannot be read ({self._rules.fault_of(self._start)}), "
                "so nothing may be asked for; try again when the server is well"
            )
        if not rules.allows(self._start):
            raise StartPageError(
                f"robots.txt of {self._start} does not let Gleaner in; ask the site's owner to allow it"
            )
        self._frontier.discover([Found(url=self._start, depth=0, priority=1.0)])
        if self._policy.max_depth < 1:
            return
        listed = read_sitemaps(self._client, self._throttle, rules, self._start)
        if listed.faults:
            self._note(f"{listed.faults} sitemaps could not be read")
        pages = sorted((-priority, url) for url, priority in listed.pages if self._scope.allows(url))
        if len(pages) > self._policy.max_pages:
            self._note("max_pages")
        self._frontier.discover(
            [Found(url=url, depth=1, priority=-rank) for rank, url in pages[: self._policy.max_pages]]
        )

    def _next_wave(self) -> list[Due]:
        if self._visited_here >= MOST_VISITS_PER_PAGE * self._policy.max_pages + WAVE // 10:
            self._note("too many redirects")
            return []
        left = self._policy.max_pages - self._spent
        if left <= 0:
            if self._frontier.count_frontier():
                self._note("max_pages")
            return []
        if time.monotonic() - self._began > self._policy.time_budget_seconds:
            if self._frontier.count_frontier():
                self._note("time is over")
            return []
        return self._frontier.next_wave(min(left, WAVE))

    def _fetch(self, wave: list[Due]) -> None:
        """Visit a wave; results are written as they come, a few at a time."""
        waiting = iter(wave)
        with ThreadPoolExecutor(self._policy.concurrency, thread_name_prefix="gleaner-fetch") as pool:
            under_way: set[Future[Visit]] = set()
            done: list[Visit] = []
            flushed = time.monotonic()
            try:
                self._submit(pool, waiting, under_way)
                while under_way:
                    finished, under_way = wait(under_way, timeout=FLUSH_SECONDS, return_when=FIRST_COMPLETED)
                    done += [future.result() for future in finished]
                    self._submit(pool, waiting, under_way)
                    if done and (len(done) >= FLUSH_VISITS or time.monotonic() - flushed >= FLUSH_SECONDS):
                        self._store(done)
                        done, flushed = [], time.monotonic()
                self._store(done)
            finally:
                for future in under_way:
                    future.cancel()

    def _submit(self, pool: ThreadPoolExecutor, waiting: Iterator[Due], under_way: set[Future[Visit]]) -> None:
        """Keep twice as many visits submitted as there are threads."""
        if time.monotonic() - self._began > self._policy.time_budget_seconds:
            return
        while len(under_way) < 2 * self._policy.concurrency and (page := next(waiting, None)) is not None:
            under_way.add(pool.submit(self._visit, page))

    def _visit(self, page: Due) -> Visit:
        """In a thread: everything about one page that needs no database."""
        if not self._scope.allows(page.url):  # found by an earlier try, when the start page led elsewhere
            return Visit(page=page, kind="skipped", reason="out_of_scope")
        return visit_page(page, client=self._client, throttle=self._throttle, rules=self._rules, policy=self._policy)

    def _store(self, visits: list[Visit]) -> None:
        if not visits:
            return
        settled = [self._settle(visit) for visit in visits]
        found: list[Found] = []
        for visit in settled:
            found += self._leads_of(visit)
        self._frontier.store(settled, found)
        self._visited_here += len(settled)
        self._spent += sum(1 for visit in settled if visit.reason not in FREE_REASONS)
        for visit in settled:
            if visit.page.url in self._root_chain and visit.reason == "forbidden_address":
                raise _forbidden(visit.page.url)
            if visit.page.url in self._root_chain and visit.kind in ("fault", "missing"):
                raise StartPageError(f"the start page {visit.page.url} cannot be fetched: {visit.reason}")
            if visit.page.url in self._root_chain and visit.kind == "skipped" and visit.reason in (
                "content_type", "robots", "redirect_out_of_scope",
            ):  # fmt: skip
                raise StartPageError(f"the start page {visit.page.url} is no page that can be read: {visit.reason}")
        self._log_progress()

    def _settle(self, visit: Visit) -> Visit:
        """The decisions about a visit that need to know the source: its redirects and its declared address."""
        target = visit.alias_of
        if target is None:
            return visit
        page = visit.page
        if visit.reason == "redirect":
            if page.url in self._root_chain:
                self._root_chain.add(target)
                self._scope = self._scope.moved_to(target)
            self._redirects[page.url] = target
            if self._comes_back(page.url):
                return replace(visit, kind="fault", reason="redirect_loop", alias_of=None)
            if page.hops >= self._policy.max_redirects:
                return replace(visit, kind="fault", reason="too_many_redirects", alias_of=None)
            if not self._scope.allows(target):
                return replace(visit, reason="redirect_out_of_scope", alias_of=None)
            return visit
        # A canonical address: believed when it is a page of this source, but not when every page names the start page.
        if target == page.url or not self._scope.allows(target) or target in self._root_chain:
            return replace(visit, reason=None, alias_of=None)
        return visit

    def _comes_back(self, url: str) -> bool:
        """Whether the redirects from `url` lead to it again."""
        target = self._redirects.get(url)
        while target is not None and target != url:
            target = self._redirects.get(target)
        return target == url

    def _leads_of(self, visit: Visit) -> Iterator[Found]:
        """The addresses in scope that a visit leads to."""
        depth, priority = visit.page.depth, 0.5
        if visit.alias_of and visit.reason in ("redirect", "canonical"):
            hops = visit.page.hops + 1 if visit.reason == "redirect" else 0
            yield Found(url=visit.alias_of, depth=depth, hops=hops, priority=priority)
        links = visit.links
        if visit.kind == "unchanged":
            links = self._frontier.links_of(visit.page)
            if visit.page.canonical:
                yield Found(url=visit.page.canonical, depth=depth, priority=priority)
        if visit.truncated or (visit.kind == "unchanged" and len(links) >= self._policy.max_links_per_page):
            self._note("max_links_per_page")
        inside = [url for url in links if self._scope.allows(url)]
        if depth + 1 > self._policy.max_depth:
            if any(url != visit.page.url for url in inside):
                self._note_depth(inside)
            return
        for url in inside:
            yield Found(url=url, depth=depth + 1, priority=priority)

    def _note_depth(self, urls: list[str]) -> None:
        """A link that leads too deep matters only when its page was not found on a shorter way."""
        if "max_depth" not in self._reasons and self._frontier.any_unknown(urls):
            self._note("max_depth")

    def _note(self, reason: str) -> None:
        if reason not in self._reasons:
            self._reasons.add(reason)
            self._frontier.note(self._reasons)

    def _log_progress(self) -> None:
        now = time.monotonic()
        if now - self._logged < LOG_SECONDS:
            return
        self._logged = now
        rate = self._visited_here / (now - self._began)
        total = min(self._policy.max_pages, self._spent + self._frontier.count_frontier())
        log.info("%d/%d pages, %.1f pages/s, about %.0f s left", self._spent, total, rate, (total - self._spent) / rate)
