"""Work that writes much beside those who write little: it takes a share of the disk, and less while the disk is slow.

Whoever commits waits until the disk has the log up to his commit, what others wrote before him included. So after each
transaction the work has its own log written, while it holds no lock. How long that takes is how long anybody's commit
takes now, and with the bytes of the log it says how long to rest.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import psycopg

from include.gleaner.sql import queries

LOG_PER_SECOND: Final = 8_000_000  # bytes of the log, on average; the pages themselves are some four times that
BUSY_SHARE: Final = 0.5  # of what a transaction took: the processors are the others' first, too
SLOW_TIMES: Final = 20.0  # of what the disk took: at 0.5 ms nothing that counts, at 50 ms a second
LONGEST: Final = 5.0  # seconds of one rest


class WritePace:
    """Rests between transactions of `conn`, which is in autocommit."""

    def __init__(self, conn: psycopg.Connection) -> None:
        self._conn = conn

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """A transaction, and the rest after it."""
        before, began = self._log_end(), time.monotonic()
        with self._conn.transaction():
            yield
        spent = time.monotonic() - began
        written = self._log_end() - before
        slow = self._write_log()
        time.sleep(self.rest(spent, written, slow))

    @staticmethod
    def rest(spent: float, written: int, slow: float) -> float:
        """Seconds to rest after `spent` seconds and `written` bytes of log, which the disk took `slow` seconds for."""
        by_log = written / LOG_PER_SECOND - spent - slow
        return min(LONGEST, max(spent * BUSY_SHARE, by_log, slow * SLOW_TIMES))

    def _write_log(self) -> float:
        began = time.monotonic()
        self._conn.execute(queries("adopt")["write_log"])
        return time.monotonic() - began

    def _log_end(self) -> int:
        row = self._conn.execute(queries("adopt")["log_end"]).fetchone()
        return int(row[0]) if row is not None else 0
