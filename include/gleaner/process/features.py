"""What the block model sees of a page: a row of numbers for each leaf of its outline.

Nothing in it depends on a language: counts and shares of words, links and signs, where a leaf stands, what its
containers are called, and what the rules say.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from include.gleaner.process.leaves import Outline
from include.gleaner.process.metadata import Head
from include.gleaner.process.traits import NAMES as TRAITS

Floats = NDArray[np.float32]

_KINDS: Final = {
    kind: number
    for number, kind in enumerate(("paragraph", "heading", "item", "row", "code", "quote", "term", "definition"))
}
_SENTENCE: Final = re.compile(r"[.!?…。！？؟۔।](?=\s|$|[\"'”’»)\]])")
_ENDS: Final = frozenset('.!?…。！？؟۔।:;"”»)')
_LONG: Final = 15  # words; of a text that is no label
_CHAIN: Final = 5  # containers around a leaf that are looked at
_FAR: Final = 30
_NOWHERE: Final = 1_000_000
_BITS: Final = np.arange(len(TRAITS), dtype=np.uint64)


def features_of(outline: Outline, head: Head, opinions: Sequence[Sequence[bool]]) -> dict[str, Floats]:
    """A column for each feature, a value for each leaf; one value alone for what is the same all over the page.

    `opinions`: what the rules keep, after each of their steps.
    """
    page = _Page(outline)
    found: dict[str, Any] = {}
    found |= page.texts()
    found |= page.places()
    found |= page.overlaps(head)
    found |= page.headings()
    found |= page.windows()
    found |= page.ancestors()
    found |= page.chain()
    found |= page.paths()
    found |= page.whole(head)
    found |= page.rules(opinions)
    return {name: np.asarray(values, dtype=np.float32) for name, values in found.items()}


class _Page:
    """The leaves as arrays, and prefix sums over them."""

    def __init__(self, outline: Outline) -> None:
        leaves, boxes = outline.leaves, outline.containers
        self.texts_ = [leaf.text for leaf in leaves]
        self.count = len(leaves)
        self.index = np.arange(self.count)
        self.kind = np.array([_KINDS[leaf.kind] for leaf in leaves])
        self.level = np.array([leaf.level for leaf in leaves])
        self.words = np.maximum(np.array([leaf.weight for leaf in leaves], dtype=np.float64), 1.0)
        self.links = np.minimum(np.array([leaf.link_weight for leaf in leaves], dtype=np.float64), self.words)
        self.linked = self.links / self.words
        self.is_heading = self.kind == 1
        self.is_long = (self.words >= _LONG) & (self.linked < 0.4)
        self.box = np.array([leaf.container for leaf in leaves])
        self.parent = np.array([max(box.parent, 0) for box in boxes])
        self.first = np.array([box.first for box in boxes])
        self.end = np.array([box.end for box in boxes])
        self.depth = np.array([box.depth for box in boxes])
        self.path = np.array([box.path for box in boxes])
        traits = np.array([box.traits for box in boxes], dtype=np.uint64)
        self.has_trait = ((traits[:, None] >> _BITS) & np.uint64(1)).astype(bool)
        self.trait_counts = self.has_trait.sum(axis=0).tolist()
        self.sentences = np.array([len(_SENTENCE.findall(text)) for text in self.texts_], dtype=np.float64)
        self.sum_words = _sums(self.words)
        self.sum_links = _sums(self.links)
        self.sum_long = _sums(self.words * self.is_long)
        self.sum_sentences = _sums(self.sentences)
        self.sum_headings = _sums(self.is_heading)
        self.sum_items = _sums(self.words * (self.kind == 2))
        self.total = self.sum_words[-1]

    def texts(self) -> dict[str, Any]:
        length = np.array([len(text) for text in self.texts_], dtype=np.float64)
        return {
            "kind": self.kind,
            "words": self.words,
            "length": length,
            "word_length": length / self.words,
            "linked": self.linked,
            "sentence_rate": self.sentences / self.words,
            "ends": [text[-1] in _ENDS for text in self.texts_],
        }

    def places(self) -> dict[str, Any]:
        counts: Counter[str] = Counter(self.texts_)
        repeated: Any = 1
        nth: Any = 0
        if len(counts) < self.count:
            seen: Counter[str] = Counter()
            nth = []
            for text in self.texts_:
                nth.append(min(seen[text], 9))
                seen[text] += 1
            repeated = [min(counts[text], 9) for text in self.texts_]
        return {
            "place_words": self.sum_words[:-1] / self.total,
            "repeated": repeated,
            "nth": nth,
            "depth": self.depth[self.box],
        }

    def overlaps(self, head: Head) -> dict[str, Any]:
        texts = [text.lower().split() if len(text) < 2_000 else () for text in self.texts_]
        found: dict[str, Any] = {}
        for name, told in (("title", head.title), ("description", head.description)):
            wanted = frozenset(told.lower().split())
            common = np.array([len(wanted.intersection(words)) for words in texts]) if wanted else np.zeros(())
            found[f"{name}_cover"] = common / max(len(wanted), 1)
        return found

    def headings(self) -> dict[str, Any]:
        last = np.maximum.accumulate(np.where(self.is_heading, self.index, -1))
        after = np.minimum.accumulate(np.where(self.is_heading, self.index, _NOWHERE)[::-1])[::-1]
        since = self.sum_words[self.index] - self.sum_words[np.maximum(last, 0)]
        tops = np.flatnonzero(self.is_heading & (self.level == 1))
        top = tops[0] if len(tops) else 0
        return {
            "since_heading": np.where(last >= 0, np.minimum(self.index - last, 60), 99),
            "words_since_heading": np.where(last >= 0, since, -1),
            "to_heading": np.minimum(after - self.index, 60),
            "from_top": np.clip(self.index - top, -300, 300) if len(tops) else np.full(self.count, -999),
            "words_from_top": (
                self.sum_words[:-1] - self.sum_words[top] if len(tops) else np.full(self.count, -_NOWHERE)
            ),
        }

    def windows(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        here = self.index
        for reach in (3, 8, 20):
            low, high = np.maximum(here - reach, 0), np.minimum(here + reach + 1, self.count)
            words = self.sum_words[high] - self.sum_words[low]
            found[f"window{reach}_words"] = words
            found[f"window{reach}_linked"] = (self.sum_links[high] - self.sum_links[low]) / words
        all_long = max(self.sum_long[-1], 1)
        found["long_before"] = self.sum_long[here] / all_long
        found["long_after"] = (self.sum_long[-1] - self.sum_long[here + 1]) / all_long
        return found

    def ancestors(self) -> dict[str, Any]:
        """For each trait how many elements above the leaf the nearest one with it is."""
        found: dict[str, Any] = {f"in_{name}": _FAR for name in TRAITS}
        there = np.flatnonzero(self.trait_counts)
        nearest = np.where(self.has_trait[:, there], self.depth[:, None], -1).astype(np.int16)
        order = np.argsort(self.depth, kind="stable")
        starts = np.searchsorted(self.depth[order], np.arange(self.depth.max() + 2))
        for level in range(1, int(self.depth.max()) + 1):
            boxes = order[starts[level] : starts[level + 1]]
            nearest[boxes] = np.maximum(nearest[boxes], nearest[self.parent[boxes]])
        mine = nearest[self.box]
        steps = np.where(mine >= 0, np.minimum(self.depth[self.box][:, None] - mine, 20), _FAR)
        return found | {f"in_{TRAITS[number]}": steps[:, at] for at, number in enumerate(there.tolist())}

    def chain(self) -> dict[str, Any]:
        """The containers around a leaf, each bigger than the one before."""
        sizes = self.end - self.first
        parents, size_list = self.parent.tolist(), sizes.tolist()
        bigger = [0] * len(parents)
        for box in range(1, len(parents)):
            above = parents[box]
            bigger[box] = above if size_list[above] > size_list[box] else bigger[above]
        up = np.array(bigger)
        around = np.where(sizes[self.box] > 1, self.box, up[self.box])
        found: dict[str, Any] = {}
        for step in range(1, _CHAIN + 1):
            first, end = self.first[around], np.maximum(self.end[around], self.first[around] + 1)
            words = np.maximum(self.sum_words[end] - self.sum_words[first], 1.0)
            found[f"box{step}_words"] = words
            found[f"box{step}_linked"] = (self.sum_links[end] - self.sum_links[first]) / words
            found[f"box{step}_share"] = words / self.total
            found[f"box{step}_sentences"] = (self.sum_sentences[end] - self.sum_sentences[first]) / words
            found[f"box{step}_items"] = (self.sum_items[end] - self.sum_items[first]) / words
            if 2 <= step <= 4:
                found[f"box{step}_headings"] = np.minimum(self.sum_headings[end] - self.sum_headings[first], 50)
            around = up[around]
        return found

    def paths(self) -> dict[str, Any]:
        """What stands in elements of the same names and classes all over the page."""
        above = self.parent[self.box]
        found: dict[str, Any] = {}
        for name, boxes in (("own", self.box), ("parent", above), ("grandparent", self.parent[above])):
            _, which = np.unique(self.path[boxes], return_inverse=True)
            words = np.bincount(which, weights=self.words)
            found[f"{name}_path_leaves"] = np.minimum(np.bincount(which)[which], 300)
            found[f"{name}_path_words"] = words[which]
            found[f"{name}_path_linked"] = (np.bincount(which, weights=self.links) / words)[which]
            found[f"{name}_path_share"] = (words / self.total)[which]
            found[f"{name}_path_long"] = (np.bincount(which, weights=self.words * self.is_long) / words)[which]
        return found

    def whole(self, head: Head) -> dict[str, Any]:
        """The same for each leaf."""
        told = {
            "words": self.total,
            "leaves": self.count,
            "linked": self.sum_links[-1] / self.total,
            "long": self.sum_long[-1] / self.total,
            "headings": min(int(self.is_heading.sum()), 80),
            "longest": float((self.words * (self.linked < 0.3)).max()),
            "items": float(self.sum_items[-1] / self.total),
            "is_article": head.is_article,
            **{name: min(count, 100) for name, count in zip(TRAITS, self.trait_counts, strict=True)},
        }
        return {f"page_{name}": value for name, value in told.items()}

    def rules(self, opinions: Sequence[Sequence[bool]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        values = np.ones(self.count)
        for number, kept in enumerate(opinions):
            values = np.array(kept, dtype=np.float64)
            found[f"rule{number}"] = values
            found[f"rule{number}_share"] = (values * self.words).sum() / self.total
        sums = _sums(values * self.words)
        for reach in (3, 10):
            low, high = np.maximum(self.index - reach, 0), np.minimum(self.index + reach + 1, self.count)
            found[f"rule_window{reach}"] = (sums[high] - sums[low]) / (self.sum_words[high] - self.sum_words[low])
        found["rule_before"] = sums[:-1] / max(sums[-1], 1)
        return found


def _sums(values: Any) -> NDArray[np.float64]:
    return np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
