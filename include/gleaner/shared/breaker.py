"""A circuit breaker: an endpoint that fails again and again is left alone for a while. Pure: the time is told.

Closed: requests go. After some failures in a row, counted over all workers, it opens: nobody asks. When its time is
over, one request in the whole fleet is let through as a probe; its answer closes the breaker, its failure opens it for
twice as long. A probe whose worker died is given to another one when its time is over.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

FAILURES: Final = 5  # in a row open it
FORGOTTEN_SECONDS: Final = 120.0  # between two failures: then they are not in a row
FIRST_OPEN: Final = 15.0  # seconds; doubles with each probe that fails
LONGEST_OPEN: Final = 600.0

State = Literal["closed", "open", "half-open"]


@dataclass(kw_only=True)
class Breaker:
    """Seconds are of the store's clock; 0 is never."""

    failures: int = 0
    failed_at: float = 0.0
    openings: int = 0  # in a row
    open_until: float = 0.0
    probe: str = ""  # who holds it
    probe_until: float = 0.0

    def state(self, now: float) -> State:
        if not self.openings:
            return "closed"
        return "open" if _is_ahead(self.open_until, now) else "half-open"


def may_go(breaker: Breaker, now: float, holder: str, probe_seconds: float) -> float:
    """0 when a request may go, else the seconds until it is worth asking again.

    Half-open, the first to ask gets the probe, which is one request within `probe_seconds`.
    """
    state = breaker.state(now)
    if state == "closed":
        return 0.0
    if state == "open":
        return breaker.open_until - now
    if breaker.probe and _is_ahead(breaker.probe_until, now):
        return breaker.probe_until - now  # also for its holder: one request, not one worker
    breaker.probe, breaker.probe_until = holder, now + probe_seconds
    return 0.0


def give_back(breaker: Breaker, holder: str) -> None:
    """The probe that was just taken is not sent after all."""
    if breaker.probe == holder:
        breaker.probe, breaker.probe_until = "", 0.0


def succeeded(breaker: Breaker, now: float, holder: str) -> None:
    """An answer came. Open, only the probe's answer counts: others were asked before it opened."""
    if breaker.state(now) == "closed":
        breaker.failures = 0
    elif breaker.probe == holder:
        _reset(breaker)


def failed(breaker: Breaker, now: float, holder: str) -> None:
    """A request failed by the endpoint's fault. Open, only the probe's failure counts."""
    if breaker.state(now) == "closed":
        breaker.failures = 1 if now - breaker.failed_at > FORGOTTEN_SECONDS else breaker.failures + 1
        breaker.failed_at = now
        if breaker.failures >= FAILURES:
            _open(breaker, now)
    elif breaker.probe == holder:
        _open(breaker, now)


def _is_ahead(time: float, now: float) -> bool:
    """Not of a time further ahead than any that was ever set: the store's clock was set back since then."""
    return 0 < time - now <= LONGEST_OPEN + 1


def _open(breaker: Breaker, now: float) -> None:
    breaker.open_until = now + min(LONGEST_OPEN, FIRST_OPEN * 2.0 ** min(breaker.openings, 16))
    breaker.openings += 1
    breaker.failures, breaker.probe, breaker.probe_until = 0, "", 0.0


def _reset(breaker: Breaker) -> None:
    breaker.failures, breaker.openings, breaker.open_until, breaker.probe, breaker.probe_until = 0, 0, 0.0, "", 0.0
