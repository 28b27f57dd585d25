from __future__ import annotations

import pytest

from include.gleaner.crawl import links
from include.gleaner.crawl.links import MAX_TREE, read_head
from include.gleaner.crawl.urls import canonicalize

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


def test_a_fault_in_a_page_does_not_change_its_encoding() -> None:
    text = "<p>" + "این صفحه دربارهٔ آب است. " * 5 + '<a href="/آب">'
    for content_type in ("text/html", "text/html; charset=utf-8"):
        assert read_head(text.encode() + b"\xff", url=URL, content_type=content_type).links == (
            "https://example.com/%D8%A2%D8%A8",
        )


@pytest.mark.parametrize("tag", ["noscript", "template"])
def test_what_is_not_meant_for_readers_of_the_page_is_passed_over(tag: str) -> None:
    inert = f"<{tag}><meta http-equiv=refresh content='0;url=/nojs'><meta name=robots content=none></{tag}>"
    for body in (f"<head>{inert}<title>x</title></head><p><a href=/x>x</a>", f"<body><p><a href=/x>x</a>{inert}"):
        head = read_head(body.encode(), url=URL)
        assert (head.refresh, head.noindex, head.links) == (None, False, ("https://example.com/x",))
    after = read_head(f"<head>{inert}<meta name=robots content=noindex></head><p>x".encode(), url=URL)
    assert after.noindex
    assert read_head(b"<noscript><a href=/x>x</a></noscript>", url=URL).links == ("https://example.com/x",)


@pytest.mark.parametrize("body", [b"", b"   ", b"\x00", b"<", b"<!---->", b"<div>" * 20_000, bytes(range(256))])
def test_nothing_breaks_it(body: bytes) -> None:
    assert read_head(body, url=URL).links == ()


def test_the_limit_of_links_is_told() -> None:
    body = "".join(f'<a href="/{n}">' for n in range(20)).encode()
    head = read_head(body, url=URL, max_links=10)
    assert len(head.links) == 10
    assert head.truncated


@pytest.mark.parametrize("depth", [2_000, 3_000])
def test_a_page_may_nest_deeper_than_a_tree_can(depth: int) -> None:
    body = b"<a href=/1>" + b"<div>" * depth + b"<a href=/2>" + b"</div>" * depth + b"<a href=/3>"
    assert read_head(body, url=URL).links == tuple(f"https://example.com/{n}" for n in (1, 2, 3))


def test_what_follows_the_end_of_the_page_counts() -> None:
    body = b"<html><body><body id=b><a href=/1></body><a href=/2></html><a href=/3><p><a href=/4></p>"
    assert read_head(body, url=URL).links == tuple(f"https://example.com/{n}" for n in (1, 2, 3, 4))


def test_a_page_too_big_for_a_tree_is_read_the_same() -> None:
    head = b"<head><base href=/docs/><link rel=canonical href=page><meta name=robots content=noindex></head>"
    body = head + b"".join(b"<p>text <a href='%d?a=1&amp;b=2'>x</a></p>" % n for n in range(1_000))
    big = body + b"<p>text</p>" * (MAX_TREE // 10)
    assert read_head(big, url=URL) == read_head(body, url=URL)
    assert len(read_head(big, url=URL, robots_tag="all").links) == 1_000


@pytest.mark.parametrize(
    "markup",
    [
        "<a href='/{}?a'>",
        "<link rel=canonical href='/{}?a'>",
        "<link rel=alternate type=application/rss+xml href='/{}'>",
    ],
)
def test_addresses_that_do_not_count_any_more_cost_nothing(markup: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def counted(url: str, base: str | None = None) -> str | None:
        asked.append(url)
        return canonicalize(url, base)

    monkeypatch.setattr(links, "canonicalize", counted)
    read_head("".join(markup.format(number) for number in range(500)).encode(), url=URL, max_links=20)
    assert len(asked) <= 21
