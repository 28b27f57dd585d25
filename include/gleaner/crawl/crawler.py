"""The way in: crawls one website for one run.

Threads fetch and read links; this thread alone decides and writes, in waves of pages that are equally far from the
start. What a limit cuts off is therefore the same in every run. A killed crawl goes on with what is left of its wave,
and one that time or its site stopped is gone on with by the next run of the source.
"""

from __future__ import annotations

import logging
import time
import uuid
from dataclasses import asdict, dataclass
from typing import Final

import psycopg

from include.gleaner.config import CrawlPolicy, IngestRequest
from include.gleaner.crawl.client import Client
from include.gleaner.crawl.fetcher import SITE_BUSY, Fetcher
from include.gleaner.crawl.frontier import Frontier
from include.gleaner.crawl.records import VOUCHED, Due, Found, Job, Visit
from include.gleaner.crawl.seeds import SiteRules, read_sitemaps
from include.gleaner.crawl.shared_pace import PostgresStore
from include.gleaner.crawl.start_page import check_start, shut_out
from include.gleaner.crawl.throttle import Throttle
from include.gleaner.crawl.trail import Trail
from include.gleaner.crawl.traps import Traps
from include.gleaner.crawl.urls import Scope, canonicalize, origin_of
from include.gleaner.crawl.visit import visit_page
from include.gleaner.crawl.wave import Wave
from include.gleaner.errors import CrawlError, InvalidParamError, StartPageError
from include.gleaner.models import source_id_of

log = logging.getLogger(__name__)

WAVE: Final = 1_000  # pages in memory, without their bodies
LOG_SECONDS: Final = 5.0
MOST_VISITS_PER_PAGE: Final = 3  # redirects do not count against max_pages, but they end somewhere
FREE_REASONS: Final = frozenset({"redirect", "redirect_out_of_scope", "robots", "out_of_scope", "trap"})
SITE_FAULTS: Final = frozenset({"timeout", "no_connection", "name_not_found", "tls", "http_429", "http_503"})
SITEMAPS_SHARE: Final = 0.5  # of the crawl's time; further sitemaps are not read
SITE_FAULTS_IN_A_ROW: Final = 20  # then the site itself is asked whether it still answers

# Why a crawl was stopped on its way: the next run goes on with it.
TIME_IS_OVER: Final = "time is over"
SITE_ASKS_TO_WAIT: Final = "the site asks to wait"
SITE_IS_SILENT: Final = "the site stopped answering"
OVERTAKEN: Final = "a newer run crawls the website"  # what it found is no longer in this crawl's frontier


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


def crawl(conn: psycopg.Connection, *, tenant_id: str, request: IngestRequest, run_id: str) -> CrawlOutcome:
    """Fetch what is new or changed of the site; a crawl of this run that is over already is not done again.

    `conn` is in autocommit mode; a second connection to the same database keeps the pace. Raises StartPageError when
    the start page cannot be had, ForbiddenAddressError when it is not on the public internet; the job is `failed` then,
    and nothing that is stored is touched. Raises InvalidParamError for an address that is none.
    """
    root = canonicalize(request.url)
    if root is None:
        raise InvalidParamError("url", "is not an address that can be crawled")
    policy = request.crawl
    source_id = source_id_of(tenant_id, root)
    frontier = Frontier(conn, tenant_id=tenant_id, source_id=source_id)
    conf = {"url": request.url, "crawl": asdict(policy), "chunk": asdict(request.chunk), "dry_run": request.dry_run}
    job = frontier.open_job(run_id, root_url=root, conf=conf)
    if job.state == "running":
        throttle = Throttle(
            PostgresStore.beside(conn, holder=uuid.uuid5(source_id, str(job.job_id))),
            delay=policy.delay_seconds,
            concurrency=policy.concurrency,
            first_penalty=policy.backoff_seconds,
            patience=policy.patience_seconds,
        )
        try:
            with Client(policy) as client:
                _Crawl(Fetcher(client, throttle, policy), frontier, policy, job, Scope.of(root, policy)).run()
        finally:
            throttle.close()
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


class _Crawl:
    """The state of one crawl while it runs."""

    def __init__(self, fetcher: Fetcher, frontier: Frontier, policy: CrawlPolicy, job: Job, scope: Scope) -> None:
        self._fetcher = fetcher
        self._frontier = frontier
        self._policy = policy
        self._reasons = set(job.reasons)
        self._rules = SiteRules(fetcher, policy)
        self._traps = Traps()
        self._trail = Trail(frontier, policy, scope, self._traps, self._note)
        self._stopped: str | None = None  # why, once nothing more is to be asked for
        self._faults_in_a_row = 0
        self._began = self._logged = time.monotonic()
        self._visited_here = 0
        self._spent = 0

    def run(self) -> None:
        try:
            for url, depth in self._frontier.linked_urls():  # found by an earlier try
                self._traps.depth_of(url, depth)
            self._seed()
            self._spent = self._frontier.count_spent()
            while due := self._next_wave():
                self._fetch(due)
            if self._stopped and not self._spent:
                raise StartPageError(f"nothing could be asked for: {self._stopped}; try again later")
            self._look_for_newer()
        except CrawlError as error:
            self._frontier.close_job("failed", [str(error)])
            raise
        self._close()

    def _look_for_newer(self) -> None:
        """A crawl that a newer one took pages from has not seen all of the site: it says nothing about the rest."""
        newer = self._frontier.overtaken_by()
        if newer is None:
            return
        run_id, state = newer
        if state == "failed" and not self._spent:
            raise CrawlError(f"the newer run {run_id} of this website failed; clear that one, or trigger a new run")
        self._reasons.add(OVERTAKEN)

    def _close(self) -> None:
        if faults := self._frontier.count_faults():
            self._reasons.add(f"{faults} pages could not be fetched")
        if self._stopped:
            self._reasons.add(self._stopped)
        state = "partial" if self._reasons else "complete"
        traps = self._traps.told()
        if self._trail.too_long:
            left_out = {"followed": 0, "left_out": self._trail.too_long}
            traps.append({"kind": "too long", "pattern": "addresses over 2,000 characters", **left_out})
        self._frontier.close_job(state, self._reasons, goes_on=self._stopped is not None, traps=traps)
        self._frontier.mark_duplicates()  # the plan does it again
        log.info("crawl %s%s", state, f" ({', '.join(sorted(self._reasons))})" if self._reasons else "")
        for trap in traps:
            log.info("not followed further, %(kind)s: %(pattern)s (%(followed)d followed, %(left_out)d left out)", trap)

    def _seed(self) -> None:
        """The start page and the sitemaps' pages. Done again after a kill: what is known then stays as it is."""
        start = self._trail.start
        rules = self._rules.of(start)
        if rules is None:
            raise shut_out(start, self._rules.fault_of(start))
        if not rules.allows(start):
            raise StartPageError(f"robots.txt of {start} does not let Gleaner in; ask the site's owner to allow it")
        self._frontier.discover([Found(url=start, depth=0, priority=1.0)])
        if self._policy.max_depth < 1:
            return
        listed = read_sitemaps(
            self._fetcher, rules, start, allows=self._trail.scope.allows, limit=self._policy.max_pages,
            until=self._began + SITEMAPS_SHARE * self._policy.time_budget_seconds,
        )  # fmt: skip
        if listed.faults:
            self._note(f"{listed.faults} sitemaps could not be read")
        if listed.has_more:
            self._note("max_pages")
        step = (1.0 - VOUCHED) / (len(listed.pages) + 1)
        self._frontier.discover(
            [Found(url=entry.url, depth=1, priority=1.0 - rank * step) for rank, entry in enumerate(listed.pages, 1)]
        )

    def _next_wave(self) -> list[Due]:
        if self._stopped is None and self._is_late():
            self._stop(TIME_IS_OVER)
        if self._stopped:
            if not self._frontier.count_frontier():
                self._stopped = None  # it was the end anyway
            return []
        if self._visited_here >= MOST_VISITS_PER_PAGE * self._policy.max_pages + WAVE // 10:
            self._note("too many redirects")
            return []
        left = self._policy.max_pages - self._spent
        if left <= 0:
            if self._frontier.count_frontier():
                self._note("max_pages")
            return []
        return self._frontier.next_wave(min(left, WAVE))

    def _fetch(self, pages: list[Due]) -> None:
        """Visit them; what is done is written at once, so that a kill costs little more than what was under way."""
        with Wave(pages, self._visit, threads=self._policy.concurrency) as wave:
            try:
                wave.submit()
                while wave.under_way:
                    visits = wave.gather(LOG_SECONDS)
                    self._watch(visits)  # first: it says whether more is to be asked for
                    if self._stopped is None:
                        wave.submit()
                    self._store(visits)
            except BaseException:
                # Whoever ends the task does not wait for a slow site.
                wave.cancel()
                self._fetcher.abort()
                raise

    def _visit(self, page: Due) -> Visit:
        """In a thread: everything about one page that needs no database."""
        if not self._trail.scope.allows(page.url):  # found by an earlier try, when the start page led elsewhere
            return Visit(page=page, kind="skipped", reason="out_of_scope")
        if self._traps.is_closed(page.url):
            return Visit(page=page, kind="left_out", reason="trap")
        return visit_page(page, fetcher=self._fetcher, rules=self._rules, policy=self._policy)

    def _store(self, visits: list[Visit]) -> None:
        settled = [self._trail.settle(visit) for visit in visits if visit.kind != "not_asked"]
        if settled:
            self._frontier.store(settled, self._trail.leads(settled))
        self._visited_here += len(settled)
        self._spent += sum(1 for visit in settled if visit.reason not in FREE_REASONS)
        for visit in settled:
            if visit.page.url in self._trail.start_chain:
                check_start(visit)
        self._log_progress()

    def _watch(self, visits: list[Visit]) -> None:
        """Notice one page under many names, and stop when time is over or when the site wants or needs it.

        It asks for more patience than a crawl has, or has stopped answering at all.
        """
        if self._is_late():
            self._stop(TIME_IS_OVER)
        for visit in visits:
            if visit.kind in ("content", "unchanged") and (digest := visit.content_hash or visit.page.content_hash):
                self._traps.has_seen(visit.page.url, digest)
            if visit.kind == "not_asked" and visit.reason == SITE_BUSY:
                self._stop(SITE_ASKS_TO_WAIT)
            if visit.kind == "fault" and visit.reason in SITE_FAULTS:
                self._faults_in_a_row += 1
            elif visit.status is not None:
                self._faults_in_a_row = 0
        if self._faults_in_a_row >= SITE_FAULTS_IN_A_ROW:
            self._faults_in_a_row = 0
            answer = self._fetcher.fetch(f"{origin_of(self._trail.start)}/robots.txt", any_type=True, cut_at=1)
            if answer.status is None or answer.status in (429, 503):
                self._stop(SITE_IS_SILENT)

    def _is_late(self) -> bool:
        return time.monotonic() - self._began > self._policy.time_budget_seconds

    def _stop(self, reason: str) -> None:
        if self._stopped is None:
            self._stopped = reason
            self._fetcher.throttle.stop()

    def _note(self, reason: str) -> None:
        if reason not in self._reasons:
            self._reasons.add(reason)
            self._frontier.note(self._reasons)

    def _log_progress(self) -> None:
        now = time.monotonic()
        if now - self._logged < LOG_SECONDS or not self._visited_here:
            return
        self._logged = now
        rate = self._visited_here / (now - self._began)
        total = min(self._policy.max_pages, self._spent + self._frontier.count_frontier())
        log.info("%d/%d pages, %.1f pages/s, about %.0f s left", self._spent, total, rate, (total - self._spent) / rate)
