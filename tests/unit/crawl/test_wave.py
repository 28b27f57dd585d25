"""Threads that visit pages: how many are given out, how they come back, and how all of it ends."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable

import pytest

from include.gleaner.crawl import wave
from include.gleaner.crawl.records import Due, Visit
from include.gleaner.crawl.wave import MOST_AHEAD, Wave


def pages(number: int) -> list[Due]:
    return [
        Due(
            page_id=uuid.UUID(int=at), url=f"https://example.com/{at}", depth=1, hops=0, etag=None, last_modified=None,
            content_hash=None, is_current=False,
        )
        for at in range(number)
    ]  # fmt: skip


def visited(page: Due) -> Visit:
    return Visit(page=page, kind="unchanged")


def eventually(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.001)


def test_each_page_is_visited_once_and_comes_back_in_groups() -> None:
    groups = []
    with Wave(pages(200), visited, threads=4) as wave:
        wave.submit()
        while wave.under_way:
            groups.append([visit.page.url for visit in wave.gather(5)])
            wave.submit()
    assert sorted(url for group in groups for url in group) == sorted(page.url for page in pages(200))
    assert max(map(len, groups)) > 1


def test_no_more_are_given_out_than_may_be_ahead() -> None:
    """What is out counts until it is gathered: a crawl that stops to write is not run away from."""
    begun: list[str] = []

    def visit(page: Due) -> Visit:
        begun.append(page.url)
        return visited(page)

    with Wave(pages(200), visit, threads=2) as wave:
        wave.submit()
        wave.submit()
        eventually(lambda: len(begun) == MOST_AHEAD)
        time.sleep(0.05)
        assert (len(begun), wave.under_way) == (MOST_AHEAD, MOST_AHEAD)
        gathered = len(wave.gather(5))
        wave.submit()
        assert wave.under_way == MOST_AHEAD
        eventually(lambda: len(begun) == MOST_AHEAD + gathered)


def test_large_pages_wait_until_those_before_them_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wave, "MOST_WAITING_BYTES", 10)
    begun: list[str] = []

    def visit(page: Due) -> Visit:
        begun.append(page.url)
        return Visit(page=page, kind="content", packed=b"large!")

    with Wave(pages(9), visit, threads=1) as crowd:
        crowd.submit()
        eventually(lambda: len(begun) == 2)
        time.sleep(0.05)
        assert len(begun) == 2
        taken = len(crowd.gather(5))
        while crowd.under_way:
            taken += len(crowd.gather(5))
        assert taken == len(begun) == 9
    with Wave(pages(9), visit, threads=1) as crowd:  # who waits is let go when all is over, and begins nothing
        crowd.submit()
        eventually(lambda: len(begun) == 11)
        crowd.cancel()
    assert len(begun) == 11


def test_a_slow_site_is_not_waited_for_longer_than_asked() -> None:
    release = threading.Event()

    def visit(page: Due) -> Visit:
        release.wait(10)
        return visited(page)

    with Wave(pages(1), visit, threads=1) as wave:
        wave.submit()
        assert (wave.gather(0.01), wave.under_way) == ([], 1)
        release.set()
        assert (len(wave.gather(5)), wave.under_way) == (1, 0)


def test_what_was_not_begun_never_is_once_it_is_cancelled() -> None:
    begun: list[str] = []
    release = threading.Event()

    def visit(page: Due) -> Visit:
        begun.append(page.url)
        release.wait(10)
        return visited(page)

    with Wave(pages(20), visit, threads=2) as wave:
        wave.submit()
        eventually(lambda: len(begun) == 2)
        wave.cancel()
        release.set()
    assert len(begun) == 2


def test_an_error_of_a_visit_is_the_callers() -> None:
    def visit(_: Due) -> Visit:
        raise LookupError

    with Wave(pages(1), visit, threads=1) as wave:
        wave.submit()
        with pytest.raises(LookupError):
            wave.gather(5)
