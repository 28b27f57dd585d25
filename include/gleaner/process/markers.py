"""What an element's tag, class, id and role say about its place on the page, as bit flags."""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import pairwise
from typing import Final

from include.gleaner.process.tree import Node

NAV: Final = 1 << 0
FOOTER: Final = 1 << 1
HEADER: Final = 1 << 2
ASIDE: Final = 1 << 3
MAIN: Final = 1 << 4
ARTICLE: Final = 1 << 5
HIDDEN: Final = 1 << 6
NOSCRIPT: Final = 1 << 7
FORM: Final = 1 << 8
C_NAV: Final = 1 << 9
C_FOOT: Final = 1 << 10
C_SIDE: Final = 1 << 11
C_SHARE: Final = 1 << 12
C_AD: Final = 1 << 13
C_COOKIE: Final = 1 << 14
C_NEWS: Final = 1 << 15
C_RELATED: Final = 1 << 16
C_COMMENT: Final = 1 << 17
C_CONTENT: Final = 1 << 18
C_HIDDEN: Final = 1 << 19
BODY_TEXT: Final = 1 << 20  # itemprop="articleBody" and the like
C_DECOR: Final = 1 << 21  # permalinks, edit links, line numbers: never text, wherever they stand
C_META: Final = 1 << 22  # who wrote it and when, in words of its own
C_BANNER: Final = 1 << 23
UNSEEN: Final = 1 << 24  # not shown to anybody, as far as its own markup tells: that is HIDDEN as well

_TAGS: Final = {
    "nav": NAV,
    "footer": FOOTER,
    "header": HEADER,
    "aside": ASIDE,
    "main": MAIN,
    "article": ARTICLE,
    "noscript": NOSCRIPT,
    "form": FORM,
    "dialog": C_COOKIE,
    "menu": NAV,
}
_ROLES: Final = {
    "navigation": NAV,
    "menu": NAV,
    "menubar": NAV,
    "search": NAV,
    "contentinfo": FOOTER,
    "banner": HEADER,
    "complementary": ASIDE,
    "main": MAIN,
    "article": ARTICLE,
    "dialog": C_COOKIE,
    "alertdialog": C_COOKIE,
    "toolbar": C_NAV,
    "tooltip": HIDDEN,
}
_TOKENS: Final = {
    C_NAV: """nav navbar navigation menu menubar submenu megamenu dropdown navheader navfooter docnav topnav sidenav subnav
        leftnav rightnav navlinks navmenu breadcrumb breadcrumbs crumb crumbs pagination pager quickview topbar skiplink
        mainnav sitenav tocnav languages langs""",
    C_FOOT: "footer foot colophon sitefooter pagefooter copyright bottombar",
    C_SIDE: "sidebar side rail widget widgets sphinxsidebar leftsidebar rightsidebar",
    C_SHARE: "share sharing social sharedaddy addtoany socials sharebar",
    C_AD: "ad ads advert adverts advertisement sponsor sponsored outbrain taboola dfp",
    C_BANNER: "banner promo promotion announcement",
    C_COOKIE: "cookie cookies consent gdpr onetrust cookiebanner modal popup lightbox toast",
    C_NEWS: "newsletter subscribe subscription signup optin mailchimp",
    C_RELATED: "related recommended recommendations recommend similar trending alsolike upsell crosssell upsells",
    C_COMMENT: "comments respond disqus commentlist commentform comment",
    C_CONTENT: "content entry story body text prose markdown richtext main primary article documentation document post",
    C_META: "byline postmeta entrymeta articlemeta",
}
# Whole names, not words in names: "overflow-hidden" hides nothing, "permalink-content" is the content.
_NAMES: Final = {
    C_HIDDEN: """hidden sr-only visually-hidden visuallyhidden screen-reader-text screen-reader-only offscreen invisible
        d-none is-hidden u-hidden element-invisible""",
    C_DECOR: """headerlink permalink anchor-link anchorlink anchorjs-link header-anchor heading-anchor hash-link mw-editsection
        linenos lineno line-numbers-rows linenodiv copybtn copy-button""",
}
_NAME_BITS: Final = {name: bit for bit, names in _NAMES.items() for name in names.split()}
MOST_REMEMBERED: Final = 2_000  # characters; a style may hold a whole picture, and thousands of them are remembered
_SHOWN_ELSEWHERE: Final = re.compile(r"(?:^|[\s:-])(?:block|flex|grid|inline|table|visible)(?:\s|$)")
_BITS: Final = {word: bit for bit, words in _TOKENS.items() for word in words.split()}
_WORDS: Final = re.compile(r"[a-z]+|[A-Z]+(?![a-z])|[A-Z][a-z]*")
# By display and visibility, or moved off the screen, or cut down to nothing. Not by opacity: that is how pages begin
# whose parts appear when they are scrolled to.
_NOT_SHOWN: Final = re.compile(
    r"""display\s*:\s*none | visibility\s*:\s*(?:hidden|collapse)
    | (?<![\w-])(?:left|right|top|text-indent|margin-left|margin-top)\s*:\s*-(?:\d{4} | \d{3,}(?:r?em|v[wh]|%))
    | (?<![\w-])clip\s*:\s*rect\((?:\s*+[01](?:px)?[\s,]*+){4}\) | clip-path\s*:\s*inset\((?:50|100)%
    | transform\s*:\s*scale\(\s*0\s*\)""",
    re.I | re.X,
)
_NO_SIZE: Final = re.compile(r"font-size\s*:\s*0(?:\.0*)?\s*(?:[a-z%]|;|!|$)", re.I)
_TEXTUAL: Final = frozenset(
    ("p", "h1", "h2", "h3", "h4", "h5", "h6", "span", "font", "b", "i", "em", "strong", "small", "a")
)
_BODY_PROPS: Final = frozenset(("articleBody", "text", "description", "reviewBody"))


@lru_cache(maxsize=8192)
def of_names(names: str) -> int:
    """Flags of a class or id attribute: "siteNav", "site-nav" and "site_nav" say the same. Give it MOST_REMEMBERED at most."""
    flags = 0
    for name in names.split()[:40]:
        flags |= _NAME_BITS.get(name, 0)
        words = [word.lower() for word in _WORDS.findall(name[:120])]
        for word in words:
            flags |= _BITS.get(word, 0)
        for first, second in pairwise(words):
            flags |= _BITS.get(first + second, 0)
        if len(words) > 2:
            flags |= _BITS.get("".join(words), 0)
    # "hidden lg:block" is hidden on small screens only.
    if flags & C_HIDDEN and _SHOWN_ELSEWHERE.search(names):
        flags &= ~C_HIDDEN
    return flags


def of_element(tag: Node) -> int:
    """All flags of an element."""
    flags = _TAGS.get(tag.name, 0)
    attributes = tag.attrs
    if not attributes:
        return flags
    if value := attributes.get("class"):
        flags |= of_names(value[:MOST_REMEMBERED])
    if value := attributes.get("id"):
        flags |= of_names(value[:MOST_REMEMBERED])
    if value := attributes.get("role"):
        flags |= _ROLES.get(str(value).strip().lower(), 0)
    if attributes.get("aria-hidden") == "true":
        flags |= HIDDEN
    if "hidden" in attributes and not _is_streamed(attributes.get("id")):
        flags |= HIDDEN | UNSEEN
    if (value := attributes.get("style")) and is_unseen(tag, value):
        flags |= HIDDEN | UNSEEN
    if attributes.get("itemprop") in _BODY_PROPS:
        flags |= BODY_TEXT
    return flags


def is_hidden_inline(tag: Node) -> bool:
    """Whether text inside a line is not shown, or shown a second time for the eye only."""
    attributes = tag.attrs
    # Links around whole cards are often kept from screen readers, which get another one: these are text.
    if "hidden" in attributes or (attributes.get("aria-hidden") == "true" and tag.name != "a"):
        return True
    if (value := attributes.get("class")) and of_names(value[:MOST_REMEMBERED]) & (C_DECOR | C_HIDDEN):
        return True
    return bool((value := attributes.get("style")) and is_unseen(tag, value))


def is_hidden(tag: Node) -> bool:
    """Whether an element's own attributes keep it from everybody's eyes."""
    attributes = tag.attrs
    if not attributes:
        return False
    return "hidden" in attributes or bool((value := attributes.get("style")) and is_unseen(tag, value))


def is_unseen(tag: Node, style: str) -> bool:
    """Whether an element's own style keeps its text from everybody's eyes."""
    # Around blocks a size of 0 is there to take out the gaps between them, and they have sizes of their own.
    hides = _hides(style) if len(style) <= MOST_REMEMBERED else _hides.__wrapped__(style)
    return hides or (tag.name in _TEXTUAL and "font-size" in style and bool(_NO_SIZE.search(style)))


@lru_cache(maxsize=8192)
def _hides(style: str) -> bool:
    return bool(_NOT_SHOWN.search(style))


def _is_streamed(name: object) -> bool:
    """React sends late parts of a page as <div hidden id="S:1"> and moves them into place by script."""
    return bool(re.fullmatch(r"[SB]:[0-9a-f]{1,4}", str(name or "")))
