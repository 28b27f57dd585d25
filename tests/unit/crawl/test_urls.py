from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.gleaner.config import CrawlPolicy
from include.gleaner.crawl.urls import Scope, canonicalize


@pytest.mark.parametrize(
    ("address", "canonical"),
    [
        ("HTTP://Example.COM:80/a/../b#part", "http://example.com/b"),
        ("https://example.com", "https://example.com/"),
        ("https://example.com/?utm_source=x&b=2&a=1&gclid=9", "https://example.com/?a=1&b=2"),
        ("https://example.com/?gad_source=1&a=1&osCsid=0af&zenid=9c", "https://example.com/?a=1"),
        ("https://example.com/?ref=mail", "https://example.com/?ref=mail"),  # it may choose the content: it stays
        ("https://example.com/index.php?/topic/1-x/", "https://example.com/index.php?/topic/1-x/"),  # a path, to some
        ("https://example.com/x.nsf?OpenDocument#a", "https://example.com/x.nsf?OpenDocument"),
        ("https://example.com/?/آ%d8%a2", "https://example.com/?/%D8%A2%D8%A2"),
        ("https://example.com/?utm_source", "https://example.com/"),
        ("https://example.com/?b&a=1", "https://example.com/?a=1&b="),
        ("https://münchen.de/ä", "https://xn--mnchen-3ya.de/%C3%A4"),
        ("https://example.com/a b", "https://example.com/a%20b"),
        ("https://example.com/کتاب", "https://example.com/%DA%A9%D8%AA%D8%A7%D8%A8"),
        ("http://127.1/", "http://127.0.0.1/"),
        ("ftp://example.com/", None),
        ("javascript:alert(1)", None),
        ("https://user:secret@example.com/", None),
        ("https://example.com:99999/", None),
        ("https:///", None),
        ("/relative", None),
        ("https://example.com/" + "a" * 2_000, None),
        ("", None),
    ],
)
def test_an_address_has_one_form(address: str, canonical: str | None) -> None:
    assert canonicalize(address) == canonical


@given(st.text(max_size=60), st.sampled_from([None, "https://example.com/a/b?c=d"]))
def test_canonicalizing_never_raises_and_is_stable(text: str, base: str | None) -> None:
    once = canonicalize(text, base)
    assert once is None or canonicalize(once) == once


@pytest.mark.parametrize(
    ("root", "url", "inside"),
    [
        ("https://example.com/", "https://example.com/any/page", True),
        ("https://example.com/", "http://www.example.com/page", True),
        ("https://example.com/", "https://blog.example.com/", False),
        ("https://example.com/", "https://example.com.evil.org/", False),
        ("https://example.com/", "https://example.com:8443/", False),
        ("https://example.com/", "https://example.com/photo.JPG", False),
        ("https://example.com/", "https://example.com/v1.2", True),
        ("https://example.com/docs/", "https://example.com/docs/a", True),
        ("https://example.com/docs/index.html", "https://example.com/docs/a", True),
        ("https://example.com/docs", "https://example.com/docs/a", True),
        ("https://example.com/docs/", "https://example.com/documents", False),
        ("https://example.com/docs/", "https://example.com/", False),
    ],
)
def test_scope(root: str, url: str, inside: bool) -> None:
    assert Scope.of(root, CrawlPolicy()).allows(url) is inside


def test_patterns_narrow_the_scope_but_never_the_start_page() -> None:
    scope = Scope.of("https://example.com/", CrawlPolicy(include=("/blog/",), exclude=("draft",)))
    assert scope.allows("https://example.com/")
    assert scope.allows("https://example.com/blog/1")
    assert not scope.allows("https://example.com/blog/draft-1")
    assert not scope.allows("https://example.com/shop")


def test_a_start_page_that_moved_takes_its_scope_along() -> None:
    scope = Scope.of("http://old.example/", CrawlPolicy()).moved_to("https://new.example/en/")
    assert scope.allows("https://new.example/en/a")
    assert scope.allows("http://old.example/b")
    assert not scope.allows("https://third.example/")
