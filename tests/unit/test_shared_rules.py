"""The rules of the shared limits, told times that no running server could be made to have."""

from __future__ import annotations

from include.gleaner.shared import breaker, bucket
from include.gleaner.shared.breaker import Breaker
from include.gleaner.shared.bucket import Bucket, Limits

YEAR = 365 * 86_400.0
LIMITS = Limits(requests=60, tokens=6_000)  # one and a hundred a second


def test_a_clock_that_was_set_back_does_not_stop_what_comes_in() -> None:
    stock = Bucket()
    assert bucket.take(stock, 2 * YEAR, "acme", 1_000, LIMITS) == 0
    assert bucket.take(stock, 2 * YEAR, "acme", 1_000, LIMITS) > 0
    assert bucket.take(stock, YEAR, "acme", 1_000, LIMITS) > 0
    assert bucket.take(stock, YEAR + 11, "acme", 1_000, LIMITS) == 0


def test_a_clock_that_was_set_back_lets_nobody_wait_for_a_tenant_that_is_gone() -> None:
    stock = Bucket()
    assert bucket.take(stock, 2 * YEAR, "acme", 1_000, LIMITS) == 0
    assert bucket.take(stock, 2 * YEAR, "gone", 1_000, LIMITS) > 0  # has the least, and the next turn
    assert bucket.take(stock, YEAR, "acme", 1_000, LIMITS) > 0
    assert bucket.take(stock, YEAR + 11, "acme", 1_000, LIMITS) == 0
    assert bucket.take(stock, YEAR + 200, "acme", 1, LIMITS) == 0
    assert list(stock.tenants) == ["acme"]


def test_a_clock_that_was_set_back_does_not_keep_the_breaker_open() -> None:
    state = Breaker()
    for _ in range(breaker.FAILURES):
        breaker.failed(state, 2 * YEAR, "one")
    assert state.state(2 * YEAR) == "open"
    assert state.state(YEAR) == "half-open"
    assert breaker.may_go(state, 2 * YEAR + 20, "one", 65) == 0  # the probe
    assert breaker.may_go(state, YEAR, "two", 65) == 0
    assert 0 < breaker.may_go(state, YEAR + 1, "one", 65) <= 64
