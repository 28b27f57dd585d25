from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from robots import RobotFileParser

from include.gleaner.crawl import robots
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


# What RFC 9309 and Google's published matcher say, a file, a path and whether Gleaner may ask for it.
PUBLISHED = [
    # 2.2.1: the user-agent line
    ("user-agent: gleaner\ndisallow: /", "/x", False),
    ("USER-AGENT: GLEANER\nDISALLOW: /", "/x", False),
    ("user-agent: Gleaner/0.1\ndisallow: /", "/x", False),  # a version is no part of the token
    ("user-agent: Gleaner (+https://gleaner.example/bot)\ndisallow: /", "/x", False),
    ("user-agent: gleanerbot\ndisallow: /", "/x", True),  # another token
    ("user-agent: glean\ndisallow: /", "/x", True),
    ("user-agent: *\ndisallow: /", "/x", False),
    ("user-agent: * baz\ndisallow: /", "/x", False),
    ("user-agent: other\ndisallow: /", "/x", True),
    (
        "user-agent: *\ndisallow: /\n\nuser-agent: gleaner\ndisallow: /y",
        "/x",
        True,
    ),  # one's own group replaces that for all
    ("user-agent: gleaner\ndisallow: /y\n\nuser-agent: *\ndisallow: /", "/x", True),
    ("user-agent: gleaner\ndisallow:\n\nuser-agent: *\ndisallow: /", "/x", True),
    ("user-agent: gleaner\n\nuser-agent: *\ndisallow: /x", "/x", False),  # agents in a row share the rules that follow
    ("user-agent: a\nuser-agent: gleaner\nuser-agent: b\ndisallow: /x", "/x", False),
    ("user-agent: gleaner\ndisallow: /a\nuser-agent: b\ndisallow: /b\nuser-agent: gleaner\ndisallow: /c", "/c", False),
    ("user-agent: gleaner\ndisallow: /a\nuser-agent: b\ndisallow: /b\nuser-agent: gleaner\ndisallow: /c", "/a", False),
    ("user-agent: gleaner\ndisallow: /a\nuser-agent: b\ndisallow: /b\nuser-agent: gleaner\ndisallow: /c", "/b", True),
    ("disallow: /x\nuser-agent: gleaner\nallow: /", "/x", True),  # a rule before any group belongs to nobody
    # who shares a group with another does not share what else the other is told, whichever of them comes first
    ("user-agent: a\ndisallow: /\n\nuser-agent: a\nuser-agent: gleaner\ndisallow: /y", "/x", True),
    ("user-agent: b\ndisallow: /\n\nuser-agent: b\nuser-agent: gleaner\ndisallow: /y", "/x", True),
    ("user-agent: c\ndisallow: /\n\nuser-agent: c\nuser-agent: gleaner\ndisallow: /y", "/x", True),
    ("user-agent: *\ndisallow: /\n\nuser-agent: *\nuser-agent: gleaner\ndisallow: /y", "/x", True),
    ("user-agent: a\ncrawl-delay: 1\nuser-agent: *\ndisallow: /x", "/x", False),
    # 2.2.2: allow and disallow
    ("user-agent: *\ndisallow: /a\nallow: /a/b", "/a/b/c", True),  # the longest match counts, in any order
    ("user-agent: *\nallow: /a/b\ndisallow: /a", "/a/b/c", True),
    ("user-agent: *\nallow: /a\ndisallow: /a/b", "/a/b", False),
    ("user-agent: *\ndisallow: /a\nallow: /a", "/a", True),  # of equals the one that allows
    ("user-agent: *\nallow: /p\ndisallow: /", "/page", True),
    ("user-agent: *\nallow: /$\ndisallow: /", "/", True),
    ("user-agent: *\nallow: /$\ndisallow: /", "/page", False),
    ("user-agent: *\ndisallow: /page\nallow: /*.htm", "/page.htm", True),  # 5 letters against 6
    ("user-agent: *\ndisallow: /p\nallow: /*.html", "/p.html", True),
    ("user-agent: *\ndisallow:", "/x", True),
    ("user-agent: *\nallow:\ndisallow: /", "/x", False),
    ("user-agent: *\ndisallow: /", "/", False),
    ("user-agent: *\ndisallow: /x/", "/x", True),
    ("user-agent: *\ndisallow: /x", "/xyz", False),
    ("user-agent: *\ndisallow: /X", "/x", True),  # paths have upper and lower case
    ("user-agent: *\ndisallow: x", "/x", True),  # a path begins with a slash
    ("user-agent: *\ndisallow: /x?", "/x?a=1", False),
    ("user-agent: *\ndisallow: /x?", "/x", True),
    ("user-agent: *\ndisallow: /a?b=c&d", "/a?b=c&d=e", False),
    ("user-agent: *\ndisallow: /a b", "/a%20b", False),  # a blank is part of the path
    ("user-agent: *\ndisallow /x", "/x", False),
    ("user-agent: *\ndisallowed: /x", "/x", True),
    # 2.2.2: escapes
    ("user-agent: *\ndisallow: /foo/bar/ツ", "/foo/bar/%E3%83%84", False),
    ("user-agent: *\ndisallow: /foo/bar/%E3%83%84", "/foo/bar/%E3%83%84", False),
    ("user-agent: *\ndisallow: /درباره", "/%D8%AF%D8%B1%D8%A8%D8%A7%D8%B1%D9%87/x", False),
    ("user-agent: *\ndisallow: /%d8%af", "/%D8%AF", False),
    ("user-agent: *\ndisallow: /a%3cd.html", "/a%3Cd.html", False),
    # 2.2.3: special characters
    ("user-agent: *\ndisallow: /*.php", "/x/index.php?a", False),
    ("user-agent: *\ndisallow: /*.php$", "/index.php", False),
    ("user-agent: *\ndisallow: /*.php$", "/index.php?a", True),
    ("user-agent: *\ndisallow: /*.php$", "/index.php5", True),
    ("user-agent: *\ndisallow: /fish*.php", "/fishheads/catfish.php?x", False),
    ("user-agent: *\ndisallow: /fish*.php", "/Fish.php", True),
    ("user-agent: *\ndisallow: /*", "/x", False),
    ("user-agent: *\ndisallow: *x", "/a/x", False),
    ("user-agent: *\ndisallow: /a$b", "/a$b", False),
    ("user-agent: *\ndisallow: /**********************************************a$", "/" + "a" * 200 + "b", True),
    # 2.2.4 and 2.4: other lines, comments, what is no line at all
    ("user-agent: * # all\ndisallow: /x # secret", "/x", False),
    ("# disallow: /x\nuser-agent: *", "/x", True),
    ("user-agent: *\nsitemap: https://example.com/m.xml\ndisallow: /x", "/x", False),
    ("user-agent: *\ncrawl-delay: 1\ndisallow: /x", "/x", False),
    ("user-agent: *\nnonsense\ndisallow: /x", "/x", False),
    ("  user-agent :  *  \n\tdisallow\t:\t/x\t", "/x", False),
    ("user-agent: *\r\ndisallow: /x\r\n", "/x", False),
    ("user-agent: *\rdisallow: /x\r", "/x", False),
    ("\ufeffuser-agent: *\ndisallow: /x", "/x", False),
    ("user agent: *\ndisallow: /x", "/x", False),  # as people write it
    ("user-agent: *\ndissallow: /x", "/x", False),
    ("user-agent: *\n\n\ndisallow: /x", "/x", False),
    ("<html>\nuser-agent: *\ndisallow: /x\n</html>", "/x", False),
    ("user-agent: *\ndisallow: /x" + " " * 3_000, "/x", False),
    ("x" * 600_000 + "\nuser-agent: *\ndisallow: /", "/x", True),  # beyond what has to be read
    ("#" * 400_000 + "\nuser-agent: *\ndisallow: /", "/x", False),  # within
]


@pytest.mark.parametrize(("text", "path", "allowed"), PUBLISHED, ids=[f"{n}" for n in range(len(PUBLISHED))])
def test_the_published_rules(text: str, path: str, allowed: bool) -> None:
    robots = Robots.parse(text.encode(), url="https://example.com/robots.txt", agent="Gleaner")
    assert robots.allows(f"https://example.com{path}") is allowed


@pytest.mark.parametrize(
    ("text", "delay"),
    [
        ("user-agent: *\ncrawl-delay: 3", 3.0),
        ("user-agent: Gleaner/0.1\ncrawl-delay: 0.5\nuser-agent: *\ncrawl-delay: 9", 0.5),
        ("user-agent: gleaner\nuser-agent: b\ncrawl-delay: 4", 4.0),
        ("user-agent: b\ncrawl-delay: 4", 0.0),
        ("user-agent: *\ncrawl-delay: -3", 0.0),
        ("user-agent: *\ncrawl-delay: nan", 0.0),
        ("user-agent: *\ncrawl-delay: 1e9", 0.0),
        ("user-agent: *\ncrawl-delay: 99999999999999999999", 1e20),  # the throttle has its own limit
        ("crawl-delay: 5\nuser-agent: *\ndisallow:", 0.0),
        ("user-agent: *\rcrawl-delay: 2 # s", 2.0),
    ],
)
def test_crawl_delay(text: str, delay: float) -> None:
    assert Robots.parse(text.encode(), url="https://example.com/robots.txt", agent="Gleaner").crawl_delay == delay


@pytest.mark.parametrize(
    "text",
    [
        "user-agent: *\ndisallow: /x\n" * 18_000,
        "".join(f"sitemap: https://example.com/{n}?b=1&a=2\n" for n in range(12_000)) + "user-agent: *\ndisallow: /x",
    ],
    ids=["groups", "sitemaps"],
)
def test_a_file_of_thousands_of_lines_is_read_line_by_line(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    work = Counter[str]()

    def counted(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def count(*arguments: Any, **named: Any) -> Any:
            work[name] += 1
            return function(*arguments, **named)

        return count

    monkeypatch.setattr(RobotFileParser, "update_rules", counted("groups", RobotFileParser.update_rules))
    monkeypatch.setattr(robots, "canonicalize", counted("addresses", robots.canonicalize))
    found = Robots.parse(text.encode(), url="https://example.com/robots.txt", agent="Gleaner")
    assert work["groups"] <= 2
    assert work["addresses"] <= robots.MAX_SITEMAPS
    assert found.crawl_delay == 0
