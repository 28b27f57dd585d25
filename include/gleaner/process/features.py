"""What the block model sees of pages: a row of numbers for each leaf of their outlines.

Several pages are looked at together, one after another in the same arrays: most pages are small, and numpy takes as
long for a few numbers as for a thousand. No number of a page depends on those beside it.

Nothing in it depends on a language: counts and shares of words, links and signs, where a leaf stands, what its
containers are called, and what the rules say.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
_NO_TITLE: Final = 2_000  # characters, from which on a text is not compared with the title
_BITS: Final = np.arange(len(TRAITS), dtype=np.uint64)


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A page as it is when the model is asked."""

    outline: Outline
    head: Head
    opinions: Sequence[Sequence[bool]]  # what the rules keep, after each of their steps


@dataclass(frozen=True, kw_only=True)
class Features:
    """The features of some pages, each in one of the two mappings."""

    leaves: Mapping[str, Floats]  # a value for each leaf of the first page, of the second one, ...
    pages: Mapping[str, Floats]  # a value for each page: what is the same for all of its leaves
    page: NDArray[np.intp]  # of each leaf, which of the pages

    def of_leaves(self, name: str) -> Floats:
        """A value for each leaf, whichever mapping it is in."""
        return self.leaves[name] if name in self.leaves else self.pages[name][self.page]


def features_of(pages: Sequence[Seen]) -> Features:
    """All features of the pages, each of which has a leaf at least."""
    seen = _Pages([page.outline for page in pages])
    heads = [page.head for page in pages]
    leaves: dict[str, Any] = {}
    leaves |= seen.texts()
    leaves |= seen.places()
    leaves |= seen.overlaps(heads)
    leaves |= seen.headings()
    leaves |= seen.windows()
    leaves |= seen.ancestors()
    leaves |= seen.chain()
    leaves |= seen.paths()
    rules, shares = seen.rules([page.opinions for page in pages])
    leaves |= rules
    whole = seen.absent() | seen.whole(heads) | shares
    return Features(
        leaves={name: np.asarray(values, dtype=np.float32) for name, values in leaves.items()},
        pages={name: np.asarray(values, dtype=np.float32) for name, values in whole.items()},
        page=seen.page,
    )


class _Pages:
    """The leaves of all pages as arrays, and prefix sums over them."""

    def __init__(self, outlines: Sequence[Outline]) -> None:
        leaves = [leaf for outline in outlines for leaf in outline.leaves]
        boxes = [box for outline in outlines for box in outline.containers]
        counts = np.array([len(outline.leaves) for outline in outlines])
        box_counts = np.array([len(outline.containers) for outline in outlines])
        self.pages = len(outlines)
        self.ends = np.cumsum(counts)  # of each page in the arrays of leaves
        self.starts = self.ends - counts
        self.box_starts = np.cumsum(box_counts) - box_counts
        self.page = np.repeat(np.arange(self.pages), counts)  # of each leaf
        self.low, self.high = self.starts[self.page], self.ends[self.page]
        leaf_shift, box_shift = np.repeat(self.starts, box_counts), np.repeat(self.box_starts, box_counts)
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
        self.box = np.array([leaf.container for leaf in leaves]) + self.box_starts[self.page]
        self.parent = np.array([max(box.parent, 0) for box in boxes]) + box_shift
        self.first = np.array([box.first for box in boxes]) + leaf_shift
        self.end = np.array([box.end for box in boxes]) + leaf_shift
        self.depth = np.array([box.depth for box in boxes])
        self.path = np.array([box.path for box in boxes]) + box_shift  # a page has no more paths than boxes
        traits = np.array([box.traits for box in boxes], dtype=np.uint64)
        self.has_trait = ((traits[:, None] >> _BITS) & np.uint64(1)).astype(bool)
        self.trait_counts = np.add.reduceat(self.has_trait, self.box_starts, axis=0, dtype=np.int64)  # of each page
        self.sentences = np.array([len(_SENTENCE.findall(text)) for text in self.texts_], dtype=np.float64)
        self.sum_words = _sums(self.words)
        self.sum_links = _sums(self.links)
        self.sum_long = _sums(self.words * self.is_long)
        self.sum_sentences = _sums(self.sentences)
        self.sum_headings = _sums(self.is_heading)
        self.sum_items = _sums(self.words * (self.kind == 2))
        self.total = self._whole(self.sum_words)
        self.total_here = self.total[self.page]

    def _whole(self, sums: NDArray[np.float64]) -> NDArray[np.float64]:
        """The sum of each page."""
        return np.asarray(sums[self.ends] - sums[self.starts])

    def _around(self, reach: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """First and end of the leaves around each one on its page."""
        return np.maximum(self.index - reach, self.low), np.minimum(self.index + reach + 1, self.high)

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
        repeated, nth = np.ones(self.count), np.zeros(self.count)
        for start, end in zip(self.starts.tolist(), self.ends.tolist(), strict=True):
            texts = self.texts_[start:end]
            counts: Counter[str] = Counter(texts)
            if len(counts) < len(texts):
                seen: Counter[str] = Counter()
                for at, text in enumerate(texts, start):
                    nth[at] = min(seen[text], 9)
                    seen[text] += 1
                repeated[start:end] = [min(counts[text], 9) for text in texts]
        return {
            "place_words": (self.sum_words[:-1] - self.sum_words[self.low]) / self.total_here,
            "repeated": repeated,
            "nth": nth,
            "depth": self.depth[self.box],
        }

    def overlaps(self, heads: Sequence[Head]) -> dict[str, Any]:
        title_cover, description_cover = np.zeros(self.count), np.zeros(self.count)
        for head, start, end in zip(heads, self.starts.tolist(), self.ends.tolist(), strict=True):
            title, description = frozenset(head.title.lower().split()), frozenset(head.description.lower().split())
            either = title | description
            texts = self.texts_[start:end]
            told = [either.intersection(text.lower().split()) if len(text) < _NO_TITLE else () for text in texts]
            title_cover[start:end] = [len(title.intersection(words)) if words else 0 for words in told]
            title_cover[start:end] /= max(len(title), 1)
            description_cover[start:end] = [len(description.intersection(words)) if words else 0 for words in told]
            description_cover[start:end] /= max(len(description), 1)
        return {"title_cover": title_cover, "description_cover": description_cover}

    def headings(self) -> dict[str, Any]:
        last = np.maximum.accumulate(np.where(self.is_heading, self.index, -1))
        after = np.minimum.accumulate(np.where(self.is_heading, self.index, _NOWHERE)[::-1])[::-1]
        is_below, is_above = last >= self.low, after < self.high
        since = self.sum_words[self.index] - self.sum_words[np.maximum(last, 0)]
        tops = np.append(np.flatnonzero(self.is_heading & (self.level == 1)), self.count)
        top = tops[np.searchsorted(tops, self.starts)][self.page]  # the first one of the page, or of a later page
        has_top = top < self.high
        return {
            "since_heading": np.where(is_below, np.minimum(self.index - last, 60), 99),
            "words_since_heading": np.where(is_below, since, -1),
            "to_heading": np.where(is_above, np.minimum(after - self.index, 60), 60),
            "from_top": np.where(has_top, np.clip(self.index - top, -300, 300), -999),
            "words_from_top": np.where(has_top, self.sum_words[:-1] - self.sum_words[top], -_NOWHERE),
        }

    def windows(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for reach in (3, 8, 20):
            low, high = self._around(reach)
            words = self.sum_words[high] - self.sum_words[low]
            found[f"window{reach}_words"] = words
            found[f"window{reach}_linked"] = (self.sum_links[high] - self.sum_links[low]) / words
        all_long = np.maximum(self._whole(self.sum_long), 1)[self.page]
        found["long_before"] = (self.sum_long[self.index] - self.sum_long[self.low]) / all_long
        found["long_after"] = (self.sum_long[self.high] - self.sum_long[self.index + 1]) / all_long
        return found

    def ancestors(self) -> dict[str, Any]:
        """For each trait that there is, how many elements above the leaf the nearest one with it is."""
        there = np.flatnonzero(self.trait_counts.any(axis=0))
        nearest = np.where(self.has_trait[:, there], self.depth[:, None], -1).astype(np.int16)
        order = np.argsort(self.depth, kind="stable")
        starts = np.searchsorted(self.depth[order], np.arange(self.depth.max() + 2))
        for level in range(1, int(self.depth.max()) + 1):
            boxes = order[starts[level] : starts[level + 1]]
            nearest[boxes] = np.maximum(nearest[boxes], nearest[self.parent[boxes]])
        mine = nearest[self.box]
        steps = np.where(mine >= 0, np.minimum(self.depth[self.box][:, None] - mine, 20), _FAR)
        return {f"in_{TRAITS[number]}": steps[:, at] for at, number in enumerate(there.tolist())}

    def absent(self) -> dict[str, Any]:
        """The traits that nothing has on any of the pages."""
        far = np.full(self.pages, _FAR)
        return {f"in_{TRAITS[number]}": far for number in np.flatnonzero(~self.trait_counts.any(axis=0)).tolist()}

    def chain(self) -> dict[str, Any]:
        """The containers around a leaf, each bigger than the one before."""
        sizes = self.end - self.first
        parents, size_list = self.parent.tolist(), sizes.tolist()
        bigger = list(parents)  # of a root itself
        for box, above in enumerate(parents):
            if size_list[above] <= size_list[box]:
                bigger[box] = bigger[above]
        up = np.array(bigger)
        around = np.where(sizes[self.box] > 1, self.box, up[self.box])
        found: dict[str, Any] = {}
        for step in range(1, _CHAIN + 1):
            first, end = self.first[around], np.maximum(self.end[around], self.first[around] + 1)
            words = np.maximum(self.sum_words[end] - self.sum_words[first], 1.0)
            found[f"box{step}_words"] = words
            found[f"box{step}_linked"] = (self.sum_links[end] - self.sum_links[first]) / words
            found[f"box{step}_share"] = words / self.total_here
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
            which = self.path[boxes]
            words = np.bincount(which, weights=self.words)[which]
            found[f"{name}_path_leaves"] = np.minimum(np.bincount(which)[which], 300)
            found[f"{name}_path_words"] = words
            found[f"{name}_path_linked"] = np.bincount(which, weights=self.links)[which] / words
            found[f"{name}_path_share"] = words / self.total_here
            found[f"{name}_path_long"] = np.bincount(which, weights=self.words * self.is_long)[which] / words
        return found

    def whole(self, heads: Sequence[Head]) -> dict[str, Any]:
        """The same for each leaf of a page."""
        told = {
            "words": self.total,
            "leaves": self.ends - self.starts,
            "linked": self._whole(self.sum_links) / self.total,
            "long": self._whole(self.sum_long) / self.total,
            "headings": np.minimum(self._whole(self.sum_headings), 80),
            "longest": np.maximum.reduceat(self.words * (self.linked < 0.3), self.starts),
            "items": self._whole(self.sum_items) / self.total,
            "is_article": [head.is_article for head in heads],
            **dict(zip(TRAITS, np.minimum(self.trait_counts, 100).T, strict=True)),
        }
        return {f"page_{name}": value for name, value in told.items()}

    def rules(self, opinions: Sequence[Sequence[Sequence[bool]]]) -> tuple[dict[str, Any], dict[str, Any]]:
        """(of each leaf, of each page)."""
        found: dict[str, Any] = {}
        shares: dict[str, Any] = {}
        sums = self.sum_words
        for number, kept in enumerate(zip(*opinions, strict=True)):
            found[f"rule{number}"] = values = np.concatenate(kept).astype(np.float64)
            sums = _sums(values * self.words)
            shares[f"rule{number}_share"] = self._whole(sums) / self.total
        for reach in (3, 10):
            low, high = self._around(reach)
            found[f"rule_window{reach}"] = (sums[high] - sums[low]) / (self.sum_words[high] - self.sum_words[low])
        found["rule_before"] = (sums[:-1] - sums[self.low]) / np.maximum(self._whole(sums), 1)[self.page]
        return found, shares


def _sums(values: Any) -> NDArray[np.float64]:
    return np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
