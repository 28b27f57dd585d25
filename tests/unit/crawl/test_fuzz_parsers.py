"""Nothing that a server sends makes a parser raise, run away, or hand on what is no address."""

from __future__ import annotations

import gzip

from hypothesis import given
from hypothesis import strategies as st

from include.gleaner.crawl.link_encoding import encoding_of
from include.gleaner.crawl.links import MAX_FEEDS, PageHead, read_head
from include.gleaner.crawl.robots import Robots
from include.gleaner.crawl.sitemap import parse_sitemap
from include.gleaner.crawl.traps import Traps
from include.gleaner.crawl.urls import canonicalize

URL = "https://example.com/dir/page"
PAGE = """<!doctype html><html><head><meta charset="utf-8"><base href="/b/"><title>T</title>
<link rel="canonical" href="/c"><link rel="alternate" type="application/rss+xml" href="f.xml">
<link rel=next href="?p=2">
<meta name="robots" content="max-snippet:-1, nofollow"><meta http-equiv="refresh" content="3; url='/r'"></head>
<body><a href="x?a=1&amp;b=آب#f" rel="ugc">x</a><map><area href=//o.example/></map><iframe src="i"></iframe>
<a href="javascript:void(0)">j</a><!-- <a href="no"> --><script>"<a href='s'>"</script></body></html>""".encode()
SITEMAP = b"""<?xml version="1.0" encoding="UTF-8"?><!DOCTYPE urlset [<!ENTITY a "https://example.com/entity">]>
<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9" xmlns:xhtml="http://www.w3.org/1999/xhtml"><url>
<loc>https://example.com/1</loc><lastmod>2026-01-02T03:04:05Z</lastmod><priority>0.8</priority>
<xhtml:link rel="alternate" hreflang="fa" href="https://example.com/fa/1"/></url><url><loc>&a;</loc></url></urlset>"""
INDEX = b"<sitemapindex><sitemap><loc>/a.xml</loc></sitemap><sitemap><loc>b.xml</loc></sitemap></sitemapindex>"
RSS = b"""<rss version="2.0"><channel><link>/</link><item><title>t</title><link>/i</link>
<pubDate>Mon, 05 Jan 2026 10:00:00 GMT</pubDate></item><item><guid>https://example.com/g</guid></item></channel></rss>"""
ATOM = b"""<feed xmlns="http://www.w3.org/2005/Atom"><entry><link href="/e"/>
<updated>2026-01-02</updated></entry></feed>"""
ROBOTS = "\ufeffUser-agent: *\nDisallow: /*.php$\nAllow: /آ\nCrawl-delay: 2\nSitemap: /m.xml\n".encode()


@st.composite
def mutated(draw: st.DrawFn, *seeds: bytes) -> bytes:
    """One of the seeds: cut, doubled, with bytes changed or put in, in another encoding."""
    data = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(0, 6))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        kind = draw(st.integers(0, 4))
        if kind == 0:
            del data[at:]
        elif kind == 1:
            data[at : at + draw(st.integers(0, 9))] = draw(st.binary(max_size=9))
        elif kind == 2:
            data[at:at] = draw(
                st.sampled_from([b"<", b">", b"&", b"\0", b'"', b"<!--", b"]]>", b"\xff\xfe", b"<a href="])
            )
        elif kind == 3:
            end = draw(st.integers(at, len(data)))
            data[at:at] = data[at:end] * draw(st.integers(1, 30))
        else:
            data = bytearray(
                bytes(data).decode("utf-8", "replace").encode(draw(st.sampled_from(["utf-16", "cp1256"])), "replace")
            )
    return bytes(data)


def check_head(head: PageHead) -> None:
    addresses = [*head.links, *head.feeds, *(address for address in (head.canonical, head.refresh) if address)]
    assert all(canonicalize(address) == address for address in addresses)
    assert len(set(head.links)) == len(head.links) <= 2_000
    assert len(head.feeds) <= MAX_FEEDS
    assert not head.nofollow or not head.links


HEADERS = st.sampled_from(
    ["", "text/html", "text/html; charset=utf-16", "text/html; charset=x", 'text/html;charset="cp1256']
)


@given(st.one_of(st.binary(max_size=400), mutated(PAGE, RSS)), HEADERS, st.text(max_size=30))
def test_pages(body: bytes, content_type: str, tag: str) -> None:
    check_head(read_head(body, url=URL, content_type=content_type, robots_tag=tag, agent="Gleaner"))
    assert body.decode(encoding_of(body, content_type), "replace") is not None


@given(st.one_of(st.binary(max_size=400), mutated(SITEMAP, INDEX, RSS, ATOM, b"https://example.com/a\nhttps://example.com/b")),
       st.booleans())  # fmt: skip
def test_sitemaps_and_feeds(body: bytes, is_packed: bool) -> None:
    found = parse_sitemap(gzip.compress(body) if is_packed else body, url=URL)
    assert all(canonicalize(entry.url) == entry.url and 0 <= entry.priority <= 1 for entry in found.entries)
    assert all(canonicalize(address) == address for address in found.sitemaps)
    assert len({entry.url for entry in found.entries}) == len(found.entries)


@given(st.one_of(st.binary(max_size=400), mutated(ROBOTS)), st.text(max_size=40))
def test_robots(body: bytes, path: str) -> None:
    robots = Robots.parse(body, url=URL, agent="Gleaner")
    url = canonicalize(f"https://example.com/{path}")
    if url is not None:
        assert robots.allows(url) in (True, False)
    assert 0 <= robots.crawl_delay < float("inf")
    assert all(canonicalize(address) == address for address in robots.sitemaps)


@given(st.lists(st.text("/ab01?=&-2026", max_size=30), max_size=60))
def test_traps_never_lose_an_address_without_telling(paths: list[str]) -> None:
    traps = Traps()
    urls = {url for path in paths if (url := canonicalize(f"https://example.com/{path}"))}
    left_out = {url for url in urls if traps.depth_of(url, 1) is None}
    assert sum(trap["left_out"] for trap in traps.told()) == len(left_out)
