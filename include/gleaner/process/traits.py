"""What kind of thing an element says it is, for the block model: a trait for each tag and for each family of names.

Names of classes and ids are English whatever language a page is in, so that this works for pages in any of them.
"""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import pairwise
from typing import Final

from include.gleaner.process.tree import Node

_TAGS: Final = tuple(
    "nav header footer aside main article section form table ul li td a noscript".split()  # noqa: SIM905
)
_FAMILIES: Final = {
    "account": "login signin account profile avatar user username member members author byline bio rank",
    "advert": "ad ads advert advertisement sponsor sponsored promo promotion dfp outbrain taboola banner",
    "answer": "answer question post posts message messages thread topic topics forum reply replies discussion",
    "body": "body content text copy prose rte richtext wysiwyg markdown entry story articlebody bodytext mw",
    "card": "card cards tile tiles grid teaser teasers item items list listing listings result results loop box",
    "comment": "comment comments respond disqus commentlist",
    "consent": "cookie cookies consent gdpr modal popup overlay dialog onetrust notice alert toast paywall",
    "crumb": "breadcrumb breadcrumbs crumb crumbs",
    "filter": "filter filters facet facets sort sorting refine search",
    "foot": "footer foot colophon bottom copyright",
    "head": "header masthead topbar top head",
    "hidden": "hidden hide sr invisible offscreen visuallyhidden screenreader sronly",
    "legal": "legal disclaimer terms privacy license",
    "main": "main primary center page single wrapper container",
    "menu": "menu menus nav navbar navigation submenu megamenu dropdown sidenav subnav",
    "more": "related recommended recommendations similar more also popular trending latest recent suggested upsell",
    "newsletter": "newsletter subscribe subscription signup optin mailchimp cta",
    "product": "product products price prices sku spec specs specification variant detail details feature",
    "review": "review reviews rating ratings star stars testimonial testimonials",
    "share": "share sharing social socials follow facebook twitter whatsapp telegram addtoany",
    "shop": "cart basket checkout buy addtocart shipping delivery quantity stock wishlist",
    "side": "sidebar side rail widget widgets secondary complementary",
    "toc": "toc contents outline index anchor anchors",
}
NAMES: Final = (*(f"tag_{name}" for name in _TAGS), *_FAMILIES, "itemprop", "concealed")
_OF_TAG: Final = {name: 1 << number for number, name in enumerate(_TAGS)}
_OF_WORD: Final[dict[str, int]] = {}
for _number, _words in enumerate(_FAMILIES.values(), len(_TAGS)):
    for _word in _words.split():
        _OF_WORD[_word] = _OF_WORD.get(_word, 0) | 1 << _number
_ITEMPROP: Final = 1 << len(_TAGS) + len(_FAMILIES)
_CONCEALED: Final = _ITEMPROP << 1
_BODY_PROPS: Final = frozenset(("articleBody", "text", "description", "reviewBody"))
_MOST_NAMES: Final = 400  # characters
_WORDS: Final = re.compile(r"[a-z]+|[A-Z]+(?![a-z])|[A-Z][a-z]*")


@lru_cache(maxsize=8192)
def _of_names(names: str) -> int:
    traits = 0
    words = [word.lower() for word in _WORDS.findall(names)]
    for word in words:
        traits |= _OF_WORD.get(word, 0)
    for first, second in pairwise(words):
        traits |= _OF_WORD.get(first + second, 0)
    return traits


def traits_of(tag: Node) -> int:
    """The element's traits as bits, in the order of NAMES."""
    traits = _OF_TAG.get(tag.name, 0)
    attributes = tag.attrs
    if not attributes:
        return traits
    if value := attributes.get("class"):
        traits |= _of_names(value[:_MOST_NAMES])
    if value := attributes.get("id"):
        traits |= _of_names(value[:_MOST_NAMES])
    if attributes.get("itemprop") in _BODY_PROPS:
        traits |= _ITEMPROP
    if attributes.get("aria-hidden") == "true" or "hidden" in attributes:
        traits |= _CONCEALED
    return traits
