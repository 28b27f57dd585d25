from __future__ import annotations

import pytest

from include.gleaner.crawl.links import read_head

URL = "https://example.com/dir/page"


def test_links_are_canonical_in_order_and_once() -> None:
    body = b"""<a href="b">b</a><a href=" /a?utm_medium=x ">a</a><a href="b#part">b</a><a href="mailto:x@y">m</a>
    <a rel="nofollow" href="/paid">p</a><area href="../map"><a href="http://[bad">x</a><a>none</a>
    <a href="//other.org/">o</a>"""
    assert read_head(body, url=URL).links == (
        "https://example.com/dir/b", "https://example.com/a", "https://example.com/map", "https://other.org/",
    )  # fmt: skip


def test_the_base_element_counts() -> None:
    assert read_head(b'<base href="/other/"><a href="x">', url=URL).links == ("https://example.com/other/x",)


def test_what_is_written_alike_before_and_after_the_base_element_is_not_the_same() -> None:
    links = read_head(b'<body><a href="x#a"></a><base href="/other/"><a href="x#b"></a><a href="x"></a>', url=URL).links
    assert len(links) == 2
    assert links[1] == "https://example.com/other/x"


def test_canonical_refresh_and_language_alternates() -> None:
    head = read_head(
        b'<head><link rel="canonical" href="/real"><link rel="alternate" hreflang="fa" href="/fa/">'
        b'<link rel="alternate" type="application/rss+xml" href="/feed">'
        b"<meta http-equiv='Refresh' content='0; URL=/next'>",
        url=URL,
    )
    assert head.canonical == "https://example.com/real"
    assert head.refresh == "https://example.com/next"
    assert head.links == ("https://example.com/fa/",)
    assert read_head(b'<meta http-equiv="refresh" content="300">', url=URL).refresh is None
    assert read_head(b'<meta http-equiv="refresh" content="300; url=/later">', url=URL).refresh is None


@pytest.mark.parametrize(
    ("meta", "header", "noindex", "nofollow"),
    [
        ("", "", False, False),
        ('<meta name="ROBOTS" content="NOINDEX, follow">', "", True, False),
        ('<meta name="robots" content="none">', "", True, True),
        ('<meta name="gleaner" content="noindex">', "", True, False),
        ('<meta name="googlebot" content="noindex">', "", False, False),
        ("", "noindex", True, False),
        ("", "googlebot: noindex", False, False),
        ("", "googlebot: noindex, nofollow", False, False),
        ("", "Gleaner: nofollow", False, True),
        ("", "max-snippet:-1, noindex", True, False),
    ],
)
def test_robots_directives(meta: str, header: str, noindex: bool, nofollow: bool) -> None:
    head = read_head(f"{meta}<a href='/x'>".encode(), url=URL, robots_tag=header, agent="Gleaner")
    assert (head.noindex, head.nofollow) == (noindex, nofollow)
    assert bool(head.links) is not nofollow


def test_encodings() -> None:
    expected = ("https://example.com/%D8%A2%D8%A8",)
    text = '<a href="/آب">'
    assert read_head(text.encode(), url=URL).links == expected
    assert read_head(text.encode("utf-16"), url=URL).links == expected
    assert (
        read_head(text.encode("windows-1256"), url=URL, content_type="text/html; charset=windows-1256").links
        == expected
    )


@pytest.mark.parametrize("body", [b"", b"   ", b"\x00", b"<", b"<!---->", b"<div>" * 20_000, bytes(range(256))])
def test_nothing_breaks_it(body: bytes) -> None:
    assert read_head(body, url=URL).links == ()


def test_the_limit_of_links_is_told() -> None:
    body = "".join(f'<a href="/{n}">' for n in range(20)).encode()
    head = read_head(body, url=URL, max_links=10)
    assert len(head.links) == 10
    assert head.truncated
