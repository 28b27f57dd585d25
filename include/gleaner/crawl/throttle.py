"""Politeness: how many requests a site gets at once, and how far apart, over all crawls that share the pace's store.

A request needs a slot of its site and then a turn. Turns are claimed when they are due and not promised ahead, so that
two requests are never closer than the delay, whoever sends them, and a crawl that dies leaves no gap. A site without
delay costs no claim per request: its state is looked at every half second.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Protocol

log = logging.getLogger(__name__)

LONGEST_CRAWL_DELAY: Final = 30.0  # seconds; a longer one in robots.txt is taken as this
LONGEST_PENALTY: Final = 60.0  # seconds between two requests to a site that keeps asking for patience
LONGEST_RETRY_AFTER: Final = 86_400.0  # seconds
MARGIN: Final = 1.03  # the pace is kept three per cent slower, so that what happens on the way never makes it faster
FREE_SECONDS: Final = 0.5  # so long a site without delay is not looked at again
BEAT_SECONDS: Final = 1.0
LEASE_SECONDS: Final = 15.0  # a slot whose holder died is free after that
_POLL_SECONDS: Final = (0.05, 0.2)


class SiteBusyError(Exception):
    """The site may not be asked for longer than a crawl waits."""

    def __init__(self, site: str, seconds: float) -> None:
        self.site = site
        self.seconds = seconds
        super().__init__(f"{site} asks for patience for {seconds:.0f} s")


class StoppedError(Exception):
    """The crawl ends: nobody waits for a turn any more."""


class PaceStore(Protocol):
    """Where the state of the sites lives. All times are its own clock's; all of it may be called from any thread."""

    def claim(self, site: str, delay: float) -> tuple[float, float]:
        """Seconds until the next turn (0: it is yours), and the seconds between two turns."""

    def lease(self, site: str, limit: int, wanted: int) -> list[int]:
        """At most `wanted` free slots of the `limit` there are; when there is none, their holders are told."""

    def release(self, site: str, slots: list[int]) -> None:
        """Give slots back."""

    def penalize(self, site: str, *, first: float, retry_after: float, elapsed: float) -> float:
        """The site was asked `elapsed` seconds ago and is busy: twice the delay. The seconds between two turns."""

    def ease(self, site: str) -> float:
        """The site answered well: a little less delay. The seconds of penalty that are left."""

    def beat(self) -> frozenset[str]:
        """Keep the slots; the sites whose slots others want."""

    def close(self) -> None:
        """Give everything back."""


class Throttle:
    """Turns of each site; safe to use from several threads. Close it at the end.

    `delay` is the seconds between the starts of two requests to a site, 0 for none; `first_penalty` the delay that a
    busy site gets at first; `patience` the longest wait for a turn.
    """

    def __init__(
        self, store: PaceStore, *, delay: float, concurrency: int, first_penalty: float = 1.0, patience: float = 120.0
    ) -> None:
        self._store = store
        self._delay = delay
        self._concurrency = concurrency
        self._first_penalty = first_penalty
        self._patience = patience
        self._lock = threading.Lock()
        self._sites: dict[str, _Site] = {}
        self._stopped = threading.Event()
        self._beats = threading.Thread(target=self._beat, name="gleaner-throttle", daemon=True)
        self._beats.start()

    def stop(self) -> None:
        """Whoever waits for a turn, or asks for one later, gets StoppedError."""
        self._stopped.set()

    def close(self) -> None:
        """Stop, and give all slots back."""
        self.stop()
        self._beats.join()
        self._store.close()

    def slow_down(self, site: str, crawl_delay: float) -> None:
        """Take the site's own Crawl-delay; it can only make the pace slower."""
        state = self._site(site)
        state.delay = max(state.delay, min(crawl_delay, LONGEST_CRAWL_DELAY))
        state.free_until = 0.0

    @contextmanager
    def turn(self, site: str) -> Iterator[None]:
        """One request to the site; waits until it may start. Raises SiteBusyError, StoppedError."""
        state = self._site(site)
        with state.gate:
            slot = self._slot(site, state)
            try:
                self._await_turn(site, state)
            except BaseException:
                self._give_back(site, state, slot)
                raise
        try:
            yield
        finally:
            self._give_back(site, state, slot)

    def busy(self, site: str, *, retry_after: float | None, elapsed: float) -> None:
        """The site said 429 or 503 to a request that was sent `elapsed` seconds ago: slower, for all crawls.

        Raises SiteBusyError when it is as slow as it gets and still too fast.
        """
        state = self._site(site)
        first = max(self._first_penalty, state.delay)
        retry_after = min(retry_after or 0.0, LONGEST_RETRY_AFTER)
        delay = self._store.penalize(site, first=first, retry_after=retry_after, elapsed=elapsed)
        state.free_until, state.has_penalty = 0.0, True
        log.info("%s is busy: %.1f s between requests%s", site, delay, _after(retry_after))
        if delay >= min(LONGEST_PENALTY, self._patience):
            raise SiteBusyError(site, max(delay, retry_after))

    def well(self, site: str) -> None:
        """The site answered."""
        state = self._site(site)
        if state.has_penalty:
            state.has_penalty = self._store.ease(site) > 0

    def pause(self, seconds: float) -> None:
        """Wait without a slot. Raises StoppedError."""
        if self._stopped.wait(seconds):
            raise StoppedError

    def _slot(self, site: str, state: _Site) -> int:
        while True:
            if self._stopped.is_set():
                raise StoppedError
            with self._lock:
                if state.idle:
                    return state.idle.pop()
                wanted = 1 if state.is_paced else self._concurrency - len(state.since)
            if state.is_wanted:  # others come first
                self.pause(random.uniform(*_POLL_SECONDS))  # noqa: S311 - spreads load only
            slots = self._store.lease(site, self._concurrency, max(1, wanted))
            with self._lock:
                state.since.update(dict.fromkeys(slots, time.monotonic()))
                state.idle += slots
            if not slots:
                self.pause(random.uniform(*_POLL_SECONDS))  # noqa: S311 - spreads load only

    def _await_turn(self, site: str, state: _Site) -> None:
        if time.monotonic() < state.free_until:
            return
        while True:
            wait, delay = self._store.claim(site, state.delay)
            state.is_paced = delay > 0
            if wait <= 0:
                state.has_penalty = state.has_penalty or delay > state.delay
                state.free_until = 0.0 if state.is_paced else time.monotonic() + FREE_SECONDS
                return
            if wait > self._patience:
                raise SiteBusyError(site, wait)
            self.pause(wait)

    def _give_back(self, site: str, state: _Site, slot: int) -> None:
        with self._lock:
            is_old = time.monotonic() - state.since[slot] >= BEAT_SECONDS
            if not state.is_paced and not (state.is_wanted and is_old):
                state.idle.append(slot)
                return
            slots = state.take_idle()
            state.since.pop(slot)
        self._store.release(site, [slot, *slots])

    def _site(self, site: str) -> _Site:
        with self._lock:
            return self._sites.setdefault(site, _Site(self._delay))

    def _beat(self) -> None:
        while not self._stopped.wait(BEAT_SECONDS):
            wanted = self._store.beat()
            with self._lock:
                sites = list(self._sites.items())
            for site, state in sites:
                state.is_wanted = site in wanted
                if state.is_wanted:
                    with self._lock:
                        slots = state.take_idle()
                    if slots:
                        self._store.release(site, slots)


class _Site:
    def __init__(self, delay: float) -> None:
        self.delay = delay
        self.gate = threading.Lock()  # one thread at a time asks for a turn
        self.since: dict[int, float] = {}  # the slots that are held, and since when
        self.idle: list[int] = []  # those of them that no request uses
        self.free_until = 0.0  # until then there is no delay
        self.is_paced = delay > 0
        self.is_wanted = False  # others wait for slots
        self.has_penalty = False

    def take_idle(self) -> list[int]:
        """The idle slots, which are held no longer."""
        slots, self.idle = self.idle, []
        for slot in slots:
            del self.since[slot]
        return slots


def _after(retry_after: float) -> str:
    return f", and none for {retry_after:.0f} s" if retry_after else ""


class MemoryStore:
    """The state of the sites for one process alone: for looking at single pages, and for tests."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._next: dict[str, float] = {}
        self._penalty: dict[str, tuple[float, float]] = {}  # seconds, since when
        self._slots: dict[str, set[int]] = {}

    def claim(self, site: str, delay: float) -> tuple[float, float]:
        """As PaceStore says."""
        with self._lock:
            now = time.monotonic()
            delay = max(delay, self._penalty.get(site, (0.0, 0.0))[0])
            wait = self._next.get(site, now) - now
            if wait <= 0:
                self._next[site] = now + delay * MARGIN
            return max(0.0, wait), delay

    def lease(self, site: str, limit: int, wanted: int) -> list[int]:
        """As PaceStore says."""
        with self._lock:
            used = self._slots.setdefault(site, set())
            slots = [slot for slot in range(1, limit + 1) if slot not in used][:wanted]
            used.update(slots)
            return slots

    def release(self, site: str, slots: list[int]) -> None:
        """As PaceStore says."""
        with self._lock:
            self._slots[site].difference_update(slots)

    def penalize(self, site: str, *, first: float, retry_after: float, elapsed: float) -> float:
        """As PaceStore says."""
        with self._lock:
            now = time.monotonic()
            penalty, since = self._penalty.get(site, (0.0, 0.0))
            if since <= now - elapsed:
                penalty, since = min(LONGEST_PENALTY, max(first, 2 * penalty)), now
            self._penalty[site] = penalty, since
            self._next[site] = max(self._next.get(site, now), now + max(penalty, retry_after))
            return penalty

    def ease(self, site: str) -> float:
        """As PaceStore says."""
        with self._lock:
            penalty, since = self._penalty.get(site, (0.0, 0.0))
            penalty = eased(penalty)
            self._penalty[site] = penalty, since
            return penalty

    def beat(self) -> frozenset[str]:
        """As PaceStore says: nobody else is here."""
        return frozenset()

    def close(self) -> None:
        """As PaceStore says."""


def eased(penalty: float) -> float:
    """Additive increase of the rate: a tenth of a request a second more for each answer; below 0.1 s it is over."""
    eased = penalty / (1 + 0.1 * penalty)
    return eased if eased > 0.1 else 0.0
