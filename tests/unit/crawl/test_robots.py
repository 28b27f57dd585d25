from __future__ import annotations

import pytest

from include.gleaner.crawl.robots import Robots

FILE = b"""\xef\xbb\xbf# comment
User-agent: *
Disallow: /private
Allow: /private/open
Disallow: /*.cgi$
Crawl-delay: 7

User-agent: gleaner
User-agent: otherbot
Disallow: /only-ours
Crawl-delay: 2.5

Sitemap: https://example.com/maps/main.xml?a=1&utm_source=r
Sitemap: https://cdn.example/map.xml
"""


@pytest.mark.parametrize(
    ("agent", "path", "allowed"),
    [
        ("Someone", "/private", False),
        ("Someone", "/private/open/x", True),
        ("Someone", "/a.cgi", False),
        ("Someone", "/a.cgi?x", True),
        ("Gleaner", "/private", True),  # a group of one's own replaces the group for all
        ("Gleaner", "/only-ours", False),
    ],
)
def test_rules(agent: str, path: str, allowed: bool) -> None:
    robots = Robots.parse(FILE, url="https://example.com/robots.txt", agent=agent)
    assert robots.allows(f"https://example.com{path}") is allowed


def test_delay_and_sitemaps() -> None:
    robots = Robots.parse(FILE, url="https://example.com/robots.txt", agent="Gleaner")
    assert robots.crawl_delay == 2.5
    assert Robots.parse(FILE, url="https://example.com/robots.txt", agent="Someone").crawl_delay == 7.0
    assert robots.sitemaps == ("https://example.com/maps/main.xml?a=1", "https://cdn.example/map.xml")


@pytest.mark.parametrize(
    "body", [b"", b"\x00\xff\xfe" * 100, b"<html>not found</html>", b"Disallow: /", b"User-agent: *"]
)
def test_what_is_no_robots_txt_forbids_nothing(body: bytes) -> None:
    assert Robots.parse(body, url="https://example.com/robots.txt", agent="Gleaner").allows("https://example.com/a")
