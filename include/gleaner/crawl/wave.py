"""Threads that visit pages, and what they bring, in groups that share a transaction."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Final, Self

from include.gleaner.crawl.records import Due, Visit

MOST_AHEAD: Final = 40  # visits that are given to the threads and have not come back
MOST_WAITING_BYTES: Final = 16 * 1024 * 1024  # compressed, of visits that nobody took yet; then no more begin
GATHER_SECONDS: Final = 0.005  # so long a visit that has ended waits for others


class Wave:
    """The visits of some pages by so many threads; at its end all threads have ended."""

    def __init__(self, pages: Iterable[Due], visit: Callable[[Due], Visit], *, threads: int) -> None:
        self._waiting = iter(pages)
        self._visit = visit
        self._most_ahead = max(MOST_AHEAD, 2 * threads)
        self._finished: SimpleQueue[Future[Visit]] = SimpleQueue()
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="gleaner-fetch")
        self._room = threading.Condition()
        self._waiting_bytes = 0
        self._is_over = self._is_cancelled = False
        self.under_way = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._let_go()
        self._pool.shutdown()

    def cancel(self) -> None:
        """Begin no visit more."""
        self._is_cancelled = True
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._let_go()

    def submit(self) -> None:
        """Give the threads as many pages as they may have."""
        for page in itertools.islice(self._waiting, self._most_ahead - self.under_way):
            self._pool.submit(self._visit_in_time, page).add_done_callback(self._finished.put)
            self.under_way += 1

    def gather(self, seconds: float) -> list[Visit]:
        """The next visit to end and those that end shortly after it; none when it takes longer than `seconds`."""
        ended = []
        with contextlib.suppress(Empty):
            ended.append(self._finished.get(timeout=seconds))
            time.sleep(GATHER_SECONDS)
            while True:
                ended.append(self._finished.get_nowait())
        self.under_way -= len(ended)
        visits = [future.result() for future in ended]
        with self._room:
            self._waiting_bytes -= sum(len(visit.packed) for visit in visits)
            self._room.notify_all()
        return visits

    def _visit_in_time(self, page: Due) -> Visit:
        """In a thread: visit the page once there is room for what it may bring."""
        with self._room:
            self._room.wait_for(lambda: self._is_over or self._waiting_bytes < MOST_WAITING_BYTES)
        if self._is_cancelled:
            raise CancelledError
        visit = self._visit(page)
        with self._room:
            self._waiting_bytes += len(visit.packed)
        return visit

    def _let_go(self) -> None:
        with self._room:
            self._is_over = True
            self._room.notify_all()
