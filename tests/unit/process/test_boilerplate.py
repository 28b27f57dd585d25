from __future__ import annotations

import pytest

from include.gleaner.models import Document, NotContent
from tests.support.documents import document, read, text_of

NAV = "<nav><ul><li><a href='/a'>Shop all things</a><li><a href='/b'>Help centre</a></ul></nav>"
FOOTER = "<footer><p>© 2026 Brook Ltd. All rights reserved.</p><a href='/imprint'>Imprint</a></footer>"
COOKIES = "<div class='cookie-banner' role='dialog'><p>We use cookies for your basket.</p><button>Accept</button></div>"
STORY = "<h1>Pipes</h1>" + "".join(
    f"<p>Paragraph {number} says how a pipe of so many millimetres is laid in the garden, and why it may not freeze</p>"
    for number in range(6)
)


@pytest.mark.parametrize(
    "html",
    [
        f"<body>{COOKIES}<header>{NAV}</header><main>{STORY}</main>{FOOTER}",
        f"<body>{COOKIES}{NAV}{STORY}{FOOTER}",
        f"<body>{NAV}<div class='content'>{STORY}</div>{FOOTER}{COOKIES}",
        f"<div><div role=navigation>{NAV[5:-6]}</div>{STORY}<div role=contentinfo>{FOOTER[8:-9]}</div></div>{COOKIES}",
        f"<body><div class=site-nav>{NAV[5:-6]}</div>{STORY}<div class=site-footer>{FOOTER[8:-9]}</div>{COOKIES}",
        f"<body>{NAV}<aside class=sidebar><h3>Popular</h3><p>Read our other notes.</p></aside>{STORY}{FOOTER}{COOKIES}",
        f"<title>Pipes</title><main>{STORY}</main>{FOOTER}{COOKIES}",  # <head> and <body> may be left out
    ],
)
def test_only_the_story_is_left(html: str) -> None:
    assert text_of(document(html)) == text_of(document(f"<body>{STORY}"))


@pytest.mark.parametrize(
    "html",
    [
        f"<body>{COOKIES}<header>{NAV}</header><main></main>{FOOTER}",
        f"<body>{COOKIES}{NAV}{FOOTER}",
        f"<body>{NAV}<main><h1></h1><p> &nbsp; </p></main>{FOOTER}",
        f"<body>{NAV}{FOOTER}",
        "",
        "<!doctype html>",
        "  \n",
        "<!-- nothing -->",
    ],
)
def test_a_page_without_content_is_empty(html: str) -> None:
    assert read(f"<html><title>Events</title>{html}" if "<body>" in html else html) == NotContent(reason="empty")


@pytest.mark.parametrize("tag", ["footer", "nav", "aside", "div class=cookie-banner", "div class=sidebar", "header"])
def test_a_page_in_wrong_markup_is_not_lost(tag: str) -> None:
    found = read(f"<body><{tag}>{STORY}{STORY}</{tag.split()[0]}>")
    assert isinstance(found, Document)
    assert "Paragraph 5 says" in text_of(found)


def test_a_page_about_cookies_is_content() -> None:
    html = "<h1>Cookies</h1><div class='cookie-policy'>" + STORY.replace("pipe", "cookie") + "</div>"
    assert "Paragraph 0 says how a cookie" in text_of(document(f"<body>{NAV}<main>{html}</main>{FOOTER}"))
