"""Requests as a polite visitor makes them: each in its turn, and again later where that can help."""

from __future__ import annotations

import random
import time
from dataclasses import replace
from typing import Any, Final

from include.gleaner.config import CrawlPolicy
from include.gleaner.crawl.client import Answer, Client
from include.gleaner.crawl.throttle import SiteBusyError, StoppedError, Throttle
from include.gleaner.crawl.urls import site_of

BUSY_STATUS: Final = frozenset({429, 503})
RETRY_STATUS: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
RETRY_FAULTS: Final = frozenset({"timeout", "no_connection", "cut_off", "name_not_found", "bad_encoding"})
LONGEST_BACKOFF_SECONDS: Final = 30.0

# Faults of requests that were never made: the page waits for another crawl.
SITE_BUSY: Final = "site_busy"
STOPPED: Final = "stopped"
NOT_ASKED: Final = frozenset({SITE_BUSY, STOPPED})


class Fetcher:
    """A client that keeps the pace. Safe to use from several threads."""

    def __init__(self, client: Client, throttle: Throttle, policy: CrawlPolicy) -> None:
        self._client = client
        self._policy = policy
        self.throttle = throttle

    def fetch(self, url: str, **conditions: Any) -> Answer:
        """What `url` answers in the end; fault SITE_BUSY or STOPPED: not asked. `conditions`: Client.fetch."""
        site = site_of(url)
        for attempt in range(1, self._policy.attempts + 1):
            try:
                with self.throttle.turn(site):
                    began = time.monotonic()
                    answer = self._client.fetch(url, **conditions)
                if attempt > 1:
                    answer = replace(answer, attempts=attempt)
                if answer.status in BUSY_STATUS:
                    self.throttle.busy(site, retry_after=answer.retry_after, elapsed=time.monotonic() - began)
                elif answer.status is not None:
                    self.throttle.well(site)
                if attempt == self._policy.attempts or not _may_pass(answer, self._policy.deadline_seconds, began):
                    return answer
                if answer.status not in BUSY_STATUS:  # a busy site's turn comes late enough by itself
                    self.throttle.pause(self._backoff(attempt))
            except SiteBusyError as error:
                return Answer(fault=SITE_BUSY, retry_after=error.seconds, attempts=attempt)
            except StoppedError:
                return Answer(fault=STOPPED, attempts=attempt)
        raise AssertionError("a policy has at least one attempt")

    def abort(self) -> None:
        """End what is under way at once, and answer nothing any more."""
        self.throttle.stop()
        self._client.close()

    def _backoff(self, attempt: int) -> float:
        longest = min(LONGEST_BACKOFF_SECONDS, self._policy.backoff_seconds * 2.0 ** (attempt - 1))
        return longest * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load only


def _may_pass(answer: Answer, deadline: float, began: float) -> bool:
    """Whether another attempt could end better. One that took the whole deadline would do so again."""
    if answer.fault is None or time.monotonic() - began >= deadline:
        return False
    return answer.status in RETRY_STATUS or answer.fault in RETRY_FAULTS
