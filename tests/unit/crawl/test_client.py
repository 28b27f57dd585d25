"""One request: what is asked for, what is read of the answer, and what a server cannot do to us."""

from __future__ import annotations

import gzip
import socket
import threading
import time
import zlib
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from include.gleaner.config import CrawlPolicy
from include.gleaner.crawl import guard
from include.gleaner.crawl.client import Client
from tests.support.website import Raw, Reply, TestWebsite, page


def client_for(site: TestWebsite, **policy: Any) -> Client:
    return Client(CrawlPolicy(local_hosts=(site.host,), **policy))


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


EMPTY_BLOCK = b"\x00\x00\x00\xff\xff"  # of deflate: five bytes that decompress to nothing


@pytest.mark.parametrize(
    ("reply", "fault"),
    [
        (Reply(status=500), "http_500"),
        (Reply(status=503), "http_503"),
        (Reply(status=403), "http_403"),
        (Reply(body=b"x" * 2_000), "too_large"),
        (Reply(body=gzip.compress(b"x" * 2_000_000), headers={"Content-Encoding": "gzip"}), "too_large"),
        (Reply(body=zlib.compress(b"x" * 2_000_000), headers={"Content-Encoding": "deflate"}), "too_large"),
        (Reply(body=raw_deflate(b"x" * 2_000_000), headers={"Content-Encoding": "deflate"}), "too_large"),
        (
            Reply(body=gzip.compress(gzip.compress(b"x" * 90_000_000)), headers={"Content-Encoding": "gzip, gzip"}),
            "too_large",
        ),
        (Reply(body=b"\x78\x9c" + EMPTY_BLOCK * 10_000, headers={"Content-Encoding": "deflate"}), "too_large"),
        (Reply(body=b"x", headers={"Content-Encoding": "gzip, gzip, gzip"}), "bad_encoding"),
        (Reply(body=b"x" * 100, length=900), "cut_off"),
        (Reply(body=gzip.compress(b"abc" * 100, mtime=0)[:-12], headers={"Content-Encoding": "gzip"}), "cut_off"),
        (Reply(body=b"xx", headers={"Content-Encoding": "gzip"}), "bad_encoding"),
        (Reply(body=b"\x28\xb5\x2f\xfd", headers={"Content-Encoding": "zstd"}), "bad_encoding"),
        (Raw(b"SSH-2.0-OpenSSH_9.2\r\n"), "bad_response"),
        (Raw(b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: 1\r\n" % n for n in range(500)) + b"\r\n"), "bad_response"),
        (Raw(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n"), "bad_response"),
        (Raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"), "cut_off"),
        (Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\n<p>xy"), "bad_response"),
        (Raw(b""), "no_connection"),
    ],
)
def test_faults(reply: Reply | Raw, fault: str) -> None:
    with TestWebsite({"/": reply}) as site, client_for(site, max_body_bytes=1_000) as client:
        answer = client.fetch(site.url)
        assert (answer.fault, answer.body) == (fault, b"")


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("", b"hello"),
        ("identity", b"hello"),
        ("utf-8", b"hello"),  # no encoding of content, and browsers do not mind
        ("none, gzip", gzip.compress(b"hello", mtime=0)),
        ("gzip", gzip.compress(b"hello", mtime=0)),
        ("x-gzip", gzip.compress(b"hel", mtime=0) + gzip.compress(b"lo", mtime=0)),
        ("gzip", gzip.compress(b"hello", mtime=0) + b"\0\0 and padding"),
        ("deflate", zlib.compress(b"hello")),
        ("deflate", raw_deflate(b"hello")),
        ("deflate, gzip", gzip.compress(zlib.compress(b"hello"), mtime=0)),
        ("GZIP", gzip.compress(b"hello", mtime=0)),
        ("gzip", b""),
    ],
)
def test_content_encodings_are_undone(encoding: str, body: bytes) -> None:
    with (
        TestWebsite({"/": Reply(body=body, headers={"Content-Encoding": encoding})}) as site,
        client_for(site) as client,
    ):
        assert client.fetch(site.url).body == (b"hello" if body else b"")


@pytest.mark.parametrize(
    ("headers", "media_type", "is_read"),
    [
        (b"Content-Type: TEXT/HTML ;charset=x\r\n", "text/html", True),
        (b"Content-Type: text/html\r\nContent-Type: text/html; charset=utf-8\r\n", "text/html", True),
        (b"Content-Type: application/json, text/html\r\n", "text/html", True),
        (b"Content-Type: text/html, application/json\r\n", "application/json", False),
        (b"Content-Type: html\r\n", "", True),
        (b"Content-Type: */*\r\n", "", True),
        (b"", "", True),
    ],
)
def test_what_type_a_server_means(headers: bytes, media_type: str, is_read: bool) -> None:
    answer = Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n" + headers + b"\r\nhello")
    with TestWebsite({"/": answer}) as site, client_for(site) as client:
        told = client.fetch(site.url)
    assert (told.media_type, told.body) == (media_type, b"hello" if is_read else b"")


def test_a_page_that_drips_ends_at_the_deadline() -> None:
    with (
        TestWebsite({"/": Reply(body=b"x" * 1_000, drip=0.05)}) as site,
        client_for(site, deadline_seconds=0.5) as client,
    ):
        began = time.monotonic()
        answer = client.fetch(site.url)
        assert time.monotonic() - began < 15  # it would take 50 s
        assert answer.fault == "timeout"


def test_headers_that_drip_end_at_the_deadline_too() -> None:
    slow = Raw(b"HTTP/1.1 200 OK\r\n" + b"X-Slow: yes\r\n" * 90, drip=0.2)
    with TestWebsite({"/": slow}) as site, client_for(site, deadline_seconds=0.5) as client:
        began = time.monotonic()
        assert client.fetch(site.url).fault == "timeout"
        assert time.monotonic() - began < 10  # it would take 20 s


def test_closing_ends_what_is_under_way() -> None:
    with TestWebsite({"/": Reply(body=b"x" * 1_000, drip=0.1)}) as site:
        client = client_for(site)
        answers: list[Any] = []
        thread = threading.Thread(target=lambda: answers.append(client.fetch(site.url)))
        thread.start()
        while not site.requests["/"]:
            time.sleep(0.01)
        client.close()
        thread.join(timeout=10)
        assert [answer.fault for answer in answers] != [None]
        assert client.fetch(site.url).fault is not None


def test_closing_while_a_connection_is_made_ends_it_too(monkeypatch: pytest.MonkeyPatch) -> None:
    connect = guard._connect

    def closed_meanwhile(*arguments: Any) -> socket.socket:
        sock = connect(*arguments)
        client.close()  # the connection does not have this socket yet, so it cannot be cut
        return sock

    monkeypatch.setattr(guard, "_connect", closed_meanwhile)
    with TestWebsite({"/": "<p>hello"}) as site:
        client = client_for(site)
        assert client.fetch(site.url).fault is not None


@pytest.mark.parametrize(
    ("value", "low", "high"),
    [
        ("7", 7, 7),
        (timedelta(seconds=100), 80, 101),
        ("Mon, 01 Jan 2024 00:00:00 GMT", 0, 0),
    ],
)
def test_retry_after_is_told_in_seconds(value: str | timedelta, low: float, high: float) -> None:
    if isinstance(value, timedelta):  # from when the test runs, which may be long after it was collected
        value = format_datetime(datetime.now(UTC) + value, usegmt=True)
    reply = Reply(status=429, headers={"Retry-After": value})
    with TestWebsite({"/": reply}) as site, client_for(site) as client:
        told = client.fetch(site.url).retry_after
        assert told is not None
        assert low <= told <= high


@pytest.mark.parametrize("hours", [-5, 5])
def test_a_date_to_retry_after_is_by_the_clock_of_the_server(hours: int) -> None:
    there = datetime.now(UTC) + timedelta(hours=hours)
    until = format_datetime(there + timedelta(seconds=30), usegmt=True)
    headers = {"Retry-After": until, "Date": format_datetime(there, usegmt=True)}
    raw = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    reply = Raw(f"HTTP/1.1 429 Slow\r\n{raw}Content-Length: 0\r\n\r\n".encode())
    with TestWebsite({"/": reply}) as site, client_for(site) as client:
        assert client.fetch(site.url).retry_after == 30


@pytest.mark.parametrize("value", ["", "soon", "-5", "1e9", "99999999999999999999"])
def test_a_retry_after_that_says_nothing_does_no_harm(value: str) -> None:
    with (
        TestWebsite({"/": Reply(status=503, headers={"Retry-After": value})}) as site,
        client_for(site) as client,
    ):
        assert client.fetch(site.url).fault == "http_503"


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


def test_a_connection_is_used_again_after_answers_without_a_page() -> None:
    routes = {
        "/": "x",
        "/missing": Reply(status=404, body="x" * 5_000),
        "/moved": Reply(status=301, body="x" * 500, headers={"Location": "/"}),
        "/same": Reply(status=304),
    }
    with TestWebsite(routes) as site, client_for(site) as client:
        for path in ("missing", "moved", "same", "", "missing"):
            client.fetch(site.url + path)
        assert site.connections == 1


def test_a_connection_that_the_server_closed_meanwhile_costs_the_page_nothing() -> None:
    replies: list[Reply | Raw] = [Raw(b""), Raw(b""), Reply(body=page("there"))]
    with TestWebsite({"/first": page("first"), "/then": lambda _: replies.pop(0)}) as site, client_for(site) as client:
        assert client.fetch(f"{site.url}then").fault == "no_connection"  # on a new connection it is the site's answer
        assert site.requests["/then"] == 1
        assert client.fetch(f"{site.url}first").fault is None
        assert b"there" in client.fetch(f"{site.url}then").body
        assert site.requests["/then"] == 3


def test_what_a_server_says_before_its_answer_is_passed_over() -> None:
    early = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n" * 2 + b"HTTP/1.1 102 Processing\r\n\r\n"
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 4\r\n\r\n<p>x"
    with TestWebsite({"/": Raw(early + answer)}) as site, client_for(site) as client:
        found = client.fetch(site.url)
        assert (found.status, found.fault, found.body) == (200, None, b"<p>x")


def test_a_chunk_of_negative_size_is_not_read_until_the_end() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n"
    endless = Raw(head + b"x" * 2_000, drip=0.03)
    with TestWebsite({"/": endless}) as site, client_for(site, deadline_seconds=2.0) as client:
        assert client.fetch(site.url).fault == "cut_off"  # and not "timeout": the rest was not waited for


@pytest.mark.parametrize("status", [101, 204, 304])
def test_the_rest_of_an_answer_is_not_taken_for_the_next(status: int) -> None:
    other = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<p>two"
    rest = other if status == 101 else b"hello" + other

    def answer(listener: socket.socket) -> None:
        head = b"HTTP/1.1 %d x\r\n" % status + (b"" if status == 101 else b"Content-Length: 5\r\n") + b"\r\n"
        with listener.accept()[0] as first:
            first.recv(4_096)
            first.sendall(head)
            if first.recv(4_096):  # the rest comes when the connection is used again
                first.sendall(rest)
            with listener.accept()[0] as second:
                second.recv(4_096)
                second.sendall(other.replace(b"two", b"own"))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = threading.Thread(target=answer, args=(listener,), daemon=True)
        server.start()
        host = f"127.0.0.1:{listener.getsockname()[1]}"
        with Client(CrawlPolicy(local_hosts=(host,))) as client:
            assert client.fetch(f"http://{host}/one").status == status
            assert client.fetch(f"http://{host}/two").body == b"<p>own"
        server.join(10)
