"""Threads that visit pages, and what they bring, in groups that share a transaction."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Final, Self

from include.gleaner.crawl.records import Due, Visit

MOST_AHEAD: Final = 40  # visits that are given to the threads and have not come back
GATHER_SECONDS: Final = 0.005  # so long a visit that has ended waits for others


class Wave:
    """The visits of some pages by so many threads; at its end all threads have ended."""

    def __init__(self, pages: Iterable[Due], visit: Callable[[Due], Visit], *, threads: int) -> None:
        self._waiting = iter(pages)
        self._visit = visit
        self._most_ahead = max(MOST_AHEAD, 2 * threads)
        self._finished: SimpleQueue[Future[Visit]] = SimpleQueue()
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="gleaner-fetch")
        self.under_way = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._pool.shutdown()

    def cancel(self) -> None:
        """Begin no visit more."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def submit(self) -> None:
        """Give the threads as many pages as they may have."""
        for page in itertools.islice(self._waiting, self._most_ahead - self.under_way):
            self._pool.submit(self._visit, page).add_done_callback(self._finished.put)
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
        return [future.result() for future in ended]
