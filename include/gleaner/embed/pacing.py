"""How many requests may be under way, and how long to wait. Pure: the time is told, never asked for.

The number falls by half when the endpoint asks for patience and grows by one for every round of answers, which settles
near what the endpoint gives, also when several tasks share its limit without knowing of each other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

LEAST_AGAIN: Final = 1.0  # seconds, after a wait of the length that was asked for was not enough


class Pacing:
    """Times are seconds on one monotonic clock. `jitter` gives numbers from 0 to 1."""

    def __init__(self, *, concurrency: int, backoff_seconds: float, jitter: Callable[[], float]) -> None:
        self._most = max(1, concurrency)
        self._limit = float(self._most)
        self._backoff = backoff_seconds
        self._jitter = jitter
        self._halved_at = float("-inf")
        self._in_a_row = 0
        self._stalled_since: float | None = None
        self.resume_at = float("-inf")  # nothing is sent before

    @property
    def limit(self) -> int:
        """Requests that may be under way."""
        return int(self._limit)

    def answered(self) -> None:
        """A request brought vectors."""
        self._limit = min(float(self._most), self._limit + 1 / self._limit)
        self._in_a_row = 0
        self._stalled_since = None

    def told_to_wait(self, now: float, sent_at: float, retry_after: float | None) -> float:
        """The endpoint asks for patience; `retry_after` in seconds, when it says.

        Returns how long nothing will have been answered when the wait is over, in seconds.
        """
        # Answers to requests from before the last halving say nothing new about the lower rate.
        if sent_at >= self._halved_at:
            self._limit = max(1.0, self._limit / 2)
            self._halved_at = now
            self._in_a_row += 1
        if self._stalled_since is None:
            self._stalled_since = now
        wait = self.delay(self._in_a_row) if retry_after is None else self._as_told(retry_after)
        self.resume_at = max(self.resume_at, now + wait)
        return self.resume_at - self._stalled_since

    def delay(self, attempt: int) -> float:
        """Seconds before the next try after the `attempt`-th, from 1: doubling, half of it drawn."""
        longest = self._backoff * 2.0 ** min(max(attempt, 1) - 1, 16)
        return longest * (0.5 + 0.5 * self._jitter())

    def _as_told(self, retry_after: float) -> float:
        # Some servers say 0 whatever comes of it: who believed that twice would ask a hundred times a second.
        least = 0.01 if self._in_a_row <= 1 else min(LEAST_AGAIN, self.delay(self._in_a_row))
        return max(retry_after, least) + self._spread(retry_after)

    def _spread(self, retry_after: float) -> float:
        # Tasks that were told the same second should not all come back in it.
        return min(0.1 * retry_after, self._backoff) * self._jitter()
