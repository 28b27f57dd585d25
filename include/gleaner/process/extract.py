"""Which leaves of a page are its content: an ordered list of rules over the outline, no model, no thresholds in time.

1. Drop what its markup says it is not content: navigation, footers, banners, cookie walls, hidden parts, ...
2. If an element that claims to be the main content holds enough of what is left, keep to it.
3. Drop runs of links: menus and teasers without telling markup.
4. Drop headings that have lost all that stood below them.
Nothing is dropped on its name alone when it is most of the page: names lie, and a page with text never comes out empty.
"""

from __future__ import annotations

from itertools import accumulate
from typing import Final

from include.gleaner.process import markers as m
from include.gleaner.process.leaves import Container, Outline

_HARD: Final = m.NAV | m.FOOTER | m.HIDDEN
_SOFT: Final = m.C_NAV | m.C_FOOT | m.C_SHARE | m.C_AD | m.C_COOKIE | m.C_NEWS | m.C_RELATED | m.NOSCRIPT
_SMALL: Final = m.C_BANNER | m.C_META
_CLAIMS: Final = m.MAIN | m.ARTICLE | m.BODY_TEXT

HARD_SHARE: Final = 0.7  # of the page; a "footer" with more than that is a page inside wrong markup
_SOFT_SHARE: Final = 0.3
_RELATED_SHARE: Final = 0.5  # below a short text there is often more of the others than of itself
_SMALL_SHARE: Final = 0.05  # a banner that says more than that says something
_BANNER_WORDS: Final = 200  # a cookie banner has no more, and
_BANNER_SHARE: Final = 0.9  # what is all of the page is not a banner on it
_MAIN_SHARE: Final = 0.35  # of what is left after dropping
_LINKED: Final = 0.66  # share of words inside links from which on a run is a menu
_LINKED_PAGE: Final = 0.45  # a page with more links than that is a list of links: leave it whole
_COMMON_SHARE: Final = 0.5  # of the page; a mark on more than that marks nothing
_MAIN_IN_MENU: Final = 0.1
_PARAGRAPH_DEPTH: Final = 2  # elements around a paragraph that are still part of it
_MOST_NESTED: Final = 200  # elements in elements; hostile pages have thousands
_WINDOW: Final = 2  # leaves on either side


class Shares:
    """Weights of runs of leaves, by prefix sums."""

    def __init__(self, weights: list[int]) -> None:
        self._sums = [0, *accumulate(weights)]
        self.total = max(self._sums[-1], 1)

    def of(self, first: int, end: int) -> int:
        return self._sums[end] - self._sums[first]

    def share(self, container: Container) -> float:
        return self.of(container.first, container.end) / self.total


def content_of(outline: Outline, *, is_article: bool = False) -> list[int]:
    """Indices of the leaves that are content, in reading order; empty only when all is menus and footers."""
    leaves = outline.leaves
    if not leaves:
        return []
    kept = without_orphans(outline, opinions_of(outline, is_article=is_article)[-1])
    return kept or _fallback(outline)


def opinions_of(outline: Outline, *, is_article: bool = False) -> tuple[list[bool], ...]:
    """For each leaf whether it is kept: after the first rule, after the second, after the third."""
    unmarked = _without_marked(outline, _SOFT | m.C_COMMENT if is_article else _SOFT)
    main = _within_main(outline, unmarked)
    return unmarked, main, _without_links(outline, main)


def _without_marked(outline: Outline, soft: int) -> list[bool]:
    containers, leaves = outline.containers, outline.leaves
    text = Shares([leaf.weight for leaf in leaves])
    links = Shares([leaf.link_weight for leaf in leaves])
    telling = ~_common_flags(containers, text, soft)
    holds_main = _holding_main(containers, text)
    dropped = [False] * len(containers)
    inside_main = [False] * len(containers)
    for index, box in enumerate(containers):
        flags = box.flags & telling
        if index:
            dropped[index] = dropped[box.parent]
            inside_main[index] = inside_main[box.parent]
        if flags & _CLAIMS:
            inside_main[index] = True
        if flags & m.C_SIDE and _is_inset(outline, box, text, links):
            flags &= ~m.C_SIDE
        if flags and not dropped[index] and not holds_main[index]:
            words = text.of(box.first, box.end)
            linked = links.of(box.first, box.end) / max(words, 1)
            dropped[index] = _is_marked(flags, text.share(box), words, linked, inside_main[index], soft)
    return [not dropped[leaf.container] for leaf in leaves]


def _is_inset(outline: Outline, box: Container, text: Shares, links: Shares) -> bool:
    """Whether a "sidebar" is a box in the running text, as manuals have: with prose of its own parent beside it."""
    beside = [outline.leaves[at] for at in (box.first - 1, box.end) if 0 <= at < len(outline.leaves)]
    linked = links.of(box.first, box.end) > 0.3 * text.of(box.first, box.end)
    return not linked and any(
        _is_below(outline, leaf.container, box.parent) and leaf.link_weight <= 0.5 * leaf.weight for leaf in beside
    )


def _is_below(outline: Outline, container: int, ancestor: int) -> bool:
    """Whether `container` belongs to `ancestor` itself: as one of its paragraphs, or inside another inset of it."""
    for steps in range(_MOST_NESTED):
        if container <= 0 or container == ancestor:
            return container == ancestor
        box = outline.containers[container]
        if box.parent == ancestor:
            return bool(box.flags & m.C_SIDE) or (not box.flags and steps <= _PARAGRAPH_DEPTH)
        container = box.parent
    return False


def _common_flags(containers: list[Container], text: Shares, soft: int) -> int:
    """Marks that most of the page carries, so that they tell nothing: a site may call every box "modal"."""
    common = 0
    bit = 1
    seen = 0
    for box in containers:
        seen |= box.flags
    while bit <= soft | m.C_SIDE | m.C_HIDDEN:
        if bit & seen & (soft | m.C_SIDE | m.C_HIDDEN):
            covered = end = 0
            for box in containers:  # outermost ones only: those inside begin before the last one ended
                if box.flags & bit and box.first >= end:
                    covered += text.of(box.first, box.end)
                    end = box.end
            if covered > _COMMON_SHARE * text.total:
                common |= bit
        bit <<= 1
    return common


def _holding_main(containers: list[Container], text: Shares) -> list[bool]:
    """Which containers have the main content inside, in broken markup even a <nav> may."""
    holds = [False] * len(containers)
    for index in range(len(containers) - 1, 0, -1):
        box = containers[index]
        if holds[index] or (box.flags & m.MAIN and not box.flags & _HARD and text.share(box) > _MAIN_IN_MENU):
            holds[box.parent] = True
    return holds


def _is_marked(flags: int, share: float, words: int, linked: float, inside_main: bool, soft: int) -> bool:
    if flags & _HARD:
        return share < HARD_SHARE or linked > 0.5
    if flags & m.HEADER:
        return share < _SOFT_SHARE and not inside_main
    if flags & m.ASIDE:
        return share < 0.5
    if flags & m.C_SIDE:
        return share < _SOFT_SHARE and not (inside_main and linked < 0.3)
    if flags & m.C_HIDDEN:
        return share < _SOFT_SHARE
    if flags & _SMALL and share < _SMALL_SHARE:
        return True
    if flags & m.C_COOKIE and words <= _BANNER_WORDS and share < _BANNER_SHARE and not inside_main:
        return True  # on an empty page the banner is most of what there is, and still no content
    if flags & m.C_RELATED and not flags & m.C_CONTENT:
        return share < _RELATED_SHARE
    if flags & soft:
        return share < _SOFT_SHARE and not (flags & m.C_CONTENT and share > 0.1)
    return False


def _within_main(outline: Outline, keep: list[bool]) -> list[bool]:
    text = Shares([leaf.weight if kept else 0 for leaf, kept in zip(outline.leaves, keep, strict=True)])
    for claim in (m.MAIN | m.BODY_TEXT, m.ARTICLE):
        found = [box for box in outline.containers if box.flags & claim and text.share(box) > _MAIN_SHARE]
        if found:
            best = max(found, key=lambda box: text.of(box.first, box.end))
            return [kept and best.first <= index < best.end for index, kept in enumerate(keep)]
    return keep


def _without_links(outline: Outline, keep: list[bool]) -> list[bool]:
    leaves = outline.leaves
    text = Shares([leaf.weight if kept else 0 for leaf, kept in zip(leaves, keep, strict=True)])
    links = Shares([leaf.link_weight if kept else 0 for leaf, kept in zip(leaves, keep, strict=True)])
    count = len(leaves)
    if links.of(0, count) / text.total >= _LINKED_PAGE:
        return keep
    result = list(keep)
    for index, leaf in enumerate(leaves):
        if keep[index] and leaf.link_weight > _LINKED * leaf.weight:
            first, end = max(index - _WINDOW, 0), min(index + _WINDOW + 1, count)
            if links.of(first, end) > _LINKED * text.of(first, end):
                result[index] = False
    return result


def without_orphans(outline: Outline, keep: list[bool]) -> list[int]:
    """A heading stays when something below it stays, or when nothing below it was dropped."""
    leaves = outline.leaves
    kept: list[int] = []
    dropped_below = False
    level_below = 0  # of the nearest heading below that stays; 7 when it is text
    for index in range(len(leaves) - 1, -1, -1):
        leaf = leaves[index]
        if not keep[index]:
            dropped_below = dropped_below or leaf.kind != "heading"
            continue
        if leaf.kind == "heading":
            if dropped_below and level_below <= leaf.level:
                continue
            level_below = leaf.level
        else:
            level_below = 7
        dropped_below = False
        kept.append(index)
    kept.reverse()
    return kept if any(leaves[index].weight for index in kept) else []


def _fallback(outline: Outline) -> list[int]:
    marks = _HARD | m.HEADER | m.C_COOKIE | m.C_FOOT
    inside = [False] * len(outline.containers)
    for index, box in enumerate(outline.containers[1:], 1):
        inside[index] = inside[box.parent] or bool(box.flags & marks)
    return [
        index
        for index, leaf in enumerate(outline.leaves)
        if leaf.link_weight <= 0.5 * leaf.weight and not inside[leaf.container]
    ]
