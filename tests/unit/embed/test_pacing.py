from __future__ import annotations

import pytest

from include.gleaner.embed.pacing import Pacing


def pacing(concurrency: int = 8, jitter: float = 0.0) -> Pacing:
    return Pacing(concurrency=concurrency, backoff_seconds=1.0, jitter=lambda: jitter)


def test_a_burst_of_refusals_halves_once() -> None:
    pace = pacing()
    for _ in range(8):  # all sent at 0, all refused at 1
        pace.told_to_wait(1.0, 0.0, None)
    assert pace.limit == 4
    pace.told_to_wait(3.0, 2.0, None)  # sent after the halving: the lower rate is too high as well
    assert pace.limit == 2


def test_it_never_falls_below_one_and_grows_by_one_a_round() -> None:
    pace = pacing()
    for second in range(10):
        pace.told_to_wait(second + 1.0, second + 1.0, None)
    assert pace.limit == 1
    limits = []
    for _ in range(40):
        pace.answered()
        limits.append(pace.limit)
    assert limits[:4] == [2, 2, 2, 3]  # 1 + 1/1, then + 1/2 = 2.5, + 1/2.5 = 2.9, + 1/2.9 = 3.24
    assert limits[-1] == 8  # and not more


@pytest.mark.parametrize(("attempt", "seconds"), [(1, 1.0), (2, 2.0), (3, 4.0), (5, 16.0), (1_000, 2.0**16)])
def test_delays_double(attempt: int, seconds: float) -> None:
    assert pacing(jitter=1.0).delay(attempt) == seconds
    assert pacing(jitter=0.0).delay(attempt) == seconds / 2


def test_what_the_endpoint_says_counts_and_never_less() -> None:
    pace = pacing(jitter=0.9)
    pace.told_to_wait(100.0, 99.0, 5.0)
    assert 105.0 <= pace.resume_at <= 106.0
    pace.told_to_wait(100.5, 99.0, 1.0)  # a shorter one does not shorten it
    assert 105.0 <= pace.resume_at <= 106.0


def test_the_stall_is_counted_from_the_last_answer() -> None:
    pace = pacing()
    assert pace.told_to_wait(10.0, 9.0, 5.0) == 5.0
    assert pace.told_to_wait(15.0, 15.0, 5.0) == 10.0  # from 10 to 20
    pace.answered()
    assert pace.told_to_wait(21.0, 20.0, 5.0) == 5.0


def test_waits_of_nothing_still_add_up() -> None:
    pace, now = pacing(), 0.0
    for _ in range(50):
        now = max(now, pace.resume_at)
        stalled = pace.told_to_wait(now, now, 0.0)
    assert stalled >= 0.4  # 50 * 0.01: a loop without an end is impossible


def test_who_is_told_again_and_again_to_come_back_at_once_takes_time() -> None:
    pace, now, asked = Pacing(concurrency=4, backoff_seconds=0.5, jitter=lambda: 0.5), 0.0, 0
    while now < 30:
        pace.told_to_wait(now, now, 0.0)
        asked, now = asked + 1, pace.resume_at
    assert asked <= 35
    pace.answered()
    pace.told_to_wait(now, now, 0.0)
    assert pace.resume_at - now < 0.1  # the first is believed
