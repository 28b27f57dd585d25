from __future__ import annotations

import gzip
import time
from typing import Any

import pytest

from include.gleaner.config import CrawlPolicy
from include.gleaner.crawl.client import Client
from include.gleaner.crawl.throttle import Throttle
from tests.support.website import Reply, TestWebsite


def client_for(site: TestWebsite, pauses: list[float] | None = None, **policy: Any) -> Client:
    pause = (lambda _: None) if pauses is None else pauses.append
    return Client(CrawlPolicy(local_hosts=(site.host,), **policy), pause=pause)


@pytest.mark.parametrize(
    ("reply", "fault", "tries"),
    [
        (Reply(status=500), "http_500", 3),
        (Reply(status=503), "http_503", 3),
        (Reply(status=403), "http_403", 1),
        (Reply(body=b"x" * 2_000), "too_large", 1),
        (Reply(body=gzip.compress(b"x" * 2_000_000), headers={"Content-Encoding": "gzip"}), "too_large", 1),
        (Reply(body=b"x" * 100, length=900), "cut_off", 3),
        (Reply(body=b"xx", headers={"Content-Encoding": "gzip"}), "bad_encoding", 3),
    ],
)
def test_faults(reply: Reply, fault: str, tries: int) -> None:
    with TestWebsite({"/": reply}) as site, client_for(site, max_body_bytes=1_000) as client:
        answer = client.fetch(site.url)
        assert (answer.fault, answer.body, answer.attempts) == (fault, b"", tries)
        assert site.requests["/"] == tries


def test_a_page_that_drips_ends_at_the_deadline() -> None:
    with (
        TestWebsite({"/": Reply(body=b"x" * 1_000, drip=0.05)}) as site,
        client_for(site, deadline_seconds=0.5) as client,
    ):
        began = time.monotonic()
        answer = client.fetch(site.url)
        # It would take 50 s; ten times the deadline is a generous sign that it was cut.
        assert time.monotonic() - began < 5
        assert (answer.fault, answer.attempts) == ("timeout", 1)


def test_retry_after_is_waited_for_up_to_a_limit() -> None:
    pauses: list[float] = []
    with (
        TestWebsite({"/": Reply(status=429, headers={"Retry-After": "7"})}) as site,
        client_for(site, pauses) as client,
    ):
        assert client.fetch(site.url).fault == "http_429"
    assert len(pauses) == 2
    assert all(pause >= 7 for pause in pauses)
    pauses.clear()
    with (
        TestWebsite({"/": Reply(status=429, headers={"Retry-After": "86400"})}) as site,
        client_for(site, pauses) as client,
    ):
        assert client.fetch(site.url).attempts == 1
    assert not pauses


def test_a_fault_that_passes_is_no_fault() -> None:
    replies = iter([Reply(status=502), Reply(body="well")])
    with TestWebsite({"/": lambda _: next(replies)}) as site, client_for(site) as client:
        answer = client.fetch(site.url)
        assert (answer.status, answer.fault, answer.body, answer.attempts) == (200, None, b"well", 2)


def test_redirects_are_told_and_not_followed() -> None:
    with TestWebsite({"/": Reply(status=302, headers={"Location": "/next"})}) as site, client_for(site) as client:
        answer = client.fetch(site.url)
        assert (answer.status, answer.location, answer.fault) == (302, "/next", None)
        assert not site.requests["/next"]


def test_what_is_no_page_is_not_read() -> None:
    video = Reply(body=b"x" * 500, headers={"Content-Type": "video/mp4"})
    with TestWebsite({"/": video}) as site, client_for(site) as client:
        answer = client.fetch(site.url)
        assert (answer.body, answer.media_type) == (b"", "video/mp4")


def test_the_throttle_spaces_requests_to_one_host_only() -> None:
    now = [0.0]
    waits: list[float] = []

    def pause(seconds: float) -> None:
        waits.append(seconds)
        now[0] += seconds

    throttle = Throttle(0.5, 4, clock=lambda: now[0], pause=pause)
    throttle.slow_down("slow", 2.0)
    throttle.slow_down("slow", 0.1)  # can only make it slower
    for host in ("a", "a", "b", "slow", "slow"):
        with throttle.turn(host):
            pass
    assert waits == [0.5, 2.0]
    throttle.back_off("b", 10.0)
    with throttle.turn("b"):
        pass
    assert waits[-1] == 10.0
