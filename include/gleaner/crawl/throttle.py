"""Politeness: how many requests one host gets at once, and how far apart."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

LONGEST_CRAWL_DELAY: Final = 30.0  # seconds; a longer one in robots.txt is taken as this


class Throttle:
    """Paces the requests to each host. Safe to use from several threads.

    `delay` is the seconds between the starts of two requests to a host, 0 for none. Tests replace `clock`, `pause`.
    """

    def __init__(
        self,
        delay: float,
        concurrency: int,
        *,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._delay = delay
        self._concurrency = concurrency
        self._clock = clock
        self._pause = pause
        self._lock = threading.Lock()
        self._hosts: dict[str, _Host] = {}

    def slow_down(self, host: str, crawl_delay: float) -> None:
        """Take the host's own Crawl-delay; it can only make the pace slower."""
        with self._lock:
            state = self._state(host)
            state.delay = max(state.delay, min(crawl_delay, LONGEST_CRAWL_DELAY))

    def back_off(self, host: str, seconds: float) -> None:
        """The host asks for patience: nobody asks it for anything before."""
        with self._lock:
            state = self._state(host)
            state.next_start = max(state.next_start, self._clock() + seconds)

    @contextmanager
    def turn(self, host: str) -> Iterator[None]:
        """One request to the host; waits until it may start."""
        with self._lock:
            state = self._state(host)
        with state.slots:
            with self._lock:
                now = self._clock()
                start = max(now, state.next_start)
                state.next_start = start + state.delay
            if start > now:
                self._pause(start - now)
            yield

    def _state(self, host: str) -> _Host:
        return self._hosts.setdefault(host, _Host(self._delay, self._concurrency))


class _Host:
    def __init__(self, delay: float, concurrency: int) -> None:
        self.delay = delay
        self.slots = threading.BoundedSemaphore(concurrency)
        self.next_start = 0.0
