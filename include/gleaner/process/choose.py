"""Which leaves of a page are its content: the block model decides, the rules advise it and stand in for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import groupby, pairwise
from operator import itemgetter
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from include.gleaner.process import markers
from include.gleaner.process.block_model import BlockModel, best_choice, block_model
from include.gleaner.process.extract import HARD_SHARE, Shares, content_of, opinions_of
from include.gleaner.process.features import Seen, features_of
from include.gleaner.process.leaves import Leaf, Outline
from include.gleaner.process.metadata import Head

_WHOLE: Final = frozenset(("row", "item", "term", "definition", "quote"))  # a table or a list is kept or dropped whole
_LEAST_LEAVES: Final = 15  # the model has learned from pages with a frame around them; less is left to the rules
_LEAST_WORDS: Final = 80
_MOST_LEAVES: Final = 20_000  # the features of so many take 30 MB, and no page for people has more
_LONGEST_GAP: Final = 5  # leaves
_DOUBT: Final = 0.2  # a chance; a short line too many is better than the title of a box too few
_STEPS_AROUND: Final = 2  # elements
_LISTS: Final = frozenset(("ul", "ol", "li", "menu", "dir", "dl", "dd", "blockquote"))
_MOST_NESTED: Final = 50  # lists in lists; hostile pages have thousands
_MOST_IMAGES: Final = 1_000  # of a page
_LINKED: Final = 0.5
_RUNNING_WORDS: Final = 50
_RUNNING_SHARE: Final = 0.3  # of what is kept
_LEAST_CHANCE: Final = 0.2  # of the best leaf; below it the model knows no content here


def main_content(outline: Outline, head: Head, model: BlockModel | None = None) -> list[int]:
    """Indices of the leaves that are content, in reading order; empty only when all is menus and footers."""
    return main_contents([(outline, head)], model)[0]


def main_contents(pages: Sequence[tuple[Outline, Head]], model: BlockModel | None = None) -> list[list[int]]:
    """The same for several pages. None changes what is found in another; together they take less time."""
    judged = {
        at: Seen(outline=outline, head=head, opinions=opinions_of(outline, is_article=head.is_article))
        for at, (outline, head) in enumerate(pages)
        if _has_frame(outline)
    }
    chances = np.array([])
    if judged:
        chances = (model or block_model()).chances(features_of(list(judged.values())))
    found: list[list[int]] = []
    first = 0  # of the page's leaves among all that were judged
    for at, (outline, head) in enumerate(pages):
        chosen: list[int] | None = None
        if at in judged:
            end = first + len(outline.leaves)
            chosen = _chosen(outline, judged[at].opinions, chances[first:end])
            first = end
        found.append(content_of(outline, is_article=head.is_article) if chosen is None else chosen)
    return found


def _has_frame(outline: Outline) -> bool:
    """Whether the page is one of those that the model knows."""
    leaves = outline.leaves
    if not _LEAST_LEAVES <= len(leaves) <= _MOST_LEAVES:
        return False
    return sum(max(leaf.weight, 0.1) for leaf in leaves) >= _LEAST_WORDS


def _chosen(outline: Outline, opinions: Sequence[Sequence[bool]], chances: NDArray[np.float64]) -> list[int] | None:
    """The leaves that are content by these chances; None when the model knows no content here."""
    leaves = outline.leaves
    words = np.array([max(leaf.weight, 0.1) for leaf in leaves])
    _level(chances, words, leaves)
    if chances.max() < _LEAST_CHANCE:
        return None
    chosen, _ = best_choice(chances, words)
    _without_unseen(chosen, outline)
    _without_gaps(chosen, chances, outline, opinions[-1])
    _with_lists(chosen, outline, opinions[0])
    _with_headings(chosen, leaves, opinions[0])
    return [int(index) for index in np.flatnonzero(chosen)]


def with_images(outline: Outline, chosen: Sequence[int]) -> list[Leaf]:
    """The chosen leaves, and the descriptions of images in their midst that say something new."""
    leaves, kept = outline.leaves, set(chosen)
    found = [(float(index), leaves[index]) for index in chosen]
    texts = {leaf.text for _, leaf in found}
    for image in outline.images[:_MOST_IMAGES]:
        beside = [leaves[near] for near in (image.place - 1, image.place) if near in kept]
        is_inside = len(beside) == 2 or (beside and image.place >= len(leaves))
        if is_inside and image.text not in texts and not any(image.text in leaf.text for leaf in beside):
            found.append((image.place - 0.5, image))
            texts.add(image.text)
    return [leaf for _, leaf in sorted(found, key=itemgetter(0))]


def _without_unseen(chosen: NDArray[Any], outline: Outline) -> None:
    """What nobody is shown is not read either: it may be meant for machines that read pages."""
    boxes = outline.containers
    if not any(box.flags & markers.UNSEEN for box in boxes):
        return
    weights = Shares([leaf.weight for leaf in outline.leaves])
    links = Shares([leaf.link_weight for leaf in outline.leaves])
    unseen = [False] * len(boxes)
    for index in range(1, len(boxes)):
        box = boxes[index]
        is_part = False
        if box.flags & markers.UNSEEN:
            words = weights.of(box.first, box.end)
            # A whole page that is hidden until its scripts have run is shown in the end; a menu is not all of a page.
            is_part = weights.share(box) < HARD_SHARE or links.of(box.first, box.end) > _LINKED * words
        unseen[index] = unseen[box.parent] or is_part
    for index, leaf in enumerate(outline.leaves):
        if unseen[leaf.container]:
            chosen[index] = False


def _level(chances: NDArray[np.float64], words: NDArray[np.float64], leaves: list[Leaf]) -> None:
    """What belongs together gets one chance."""
    for group, run in groupby(range(len(leaves)), key=lambda index: leaves[index].group):
        if group:
            whole = [index for index in run if leaves[index].kind in _WHOLE]
            if len(whole) > 1:
                chances[whole] = (chances[whole] * words[whole]).sum() / words[whole].sum()


def _without_gaps(
    chosen: NDArray[Any], chances: NDArray[np.float64], outline: Outline, advised: Sequence[bool]
) -> None:
    """A few lines between two that are kept are kept if the rules want them, and they are in one box or in doubt."""
    for before, after in pairwise(np.flatnonzero(chosen).tolist()):
        gap = range(before + 1, after)
        if not 0 < len(gap) <= _LONGEST_GAP or not all(advised[index] for index in gap):
            continue
        boxes = [_around(outline, index) for index in range(before, after + 1)]
        if chances[before + 1 : after].min() >= _DOUBT or boxes[0].intersection(*boxes[1:]):
            chosen[before:after] = True


def _around(outline: Outline, index: int) -> set[int]:
    """The boxes that a leaf stands in, as far as they count as one place."""
    box = outline.leaves[index].container
    boxes = {box, _place_of(outline, index)}
    for _ in range(_STEPS_AROUND):
        box = max(outline.containers[box].parent, 0)
        boxes.add(box)
    return boxes


def _with_lists(chosen: NDArray[Any], outline: Outline, unmarked: Sequence[bool]) -> None:
    """A list of links is a menu, but not where it stands in the middle of the running text."""
    leaves = outline.leaves
    prose: Counter[int] = Counter()  # words right inside a box, or in its lists
    total = 0
    for index in np.flatnonzero(chosen).tolist():
        leaf = leaves[index]
        total += leaf.weight
        if leaf.kind in ("paragraph", "item") and leaf.link_weight < _LINKED * leaf.weight:
            prose[_place_of(outline, index)] += leaf.weight
    running = {box for box, words in prose.items() if words >= max(_RUNNING_WORDS, _RUNNING_SHARE * total)}
    for index, leaf in enumerate(leaves):
        if leaf.kind == "item" and unmarked[index] and _place_of(outline, index) in running:
            chosen[index] = True


def _place_of(outline: Outline, index: int) -> int:
    """The box that a leaf stands in, or that its list or quote stands in."""
    boxes = outline.containers
    box = max(boxes[outline.leaves[index].container].parent, 0)
    for _ in range(_MOST_NESTED):
        if box <= 0 or boxes[box].name not in _LISTS:
            break
        box = boxes[box].parent
    return box


def _with_headings(chosen: NDArray[Any], leaves: list[Leaf], unmarked: Sequence[bool]) -> None:
    """A text that is kept keeps the headings right above it, if no rule has dropped them as navigation."""
    below = False  # whether what comes next, below deeper headings only, is kept
    level = 7
    for index in range(len(leaves) - 1, -1, -1):
        leaf = leaves[index]
        if leaf.kind != "heading":
            below, level = bool(chosen[index]), 7
        elif below and leaf.level < level and unmarked[index]:
            chosen[index] = True
            level = leaf.level
        else:
            below = below and leaf.level < level
