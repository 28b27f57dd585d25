"""The block model: how likely each leaf of a page is content. Small trees, read by numpy.

`tools/train_block_model.py` makes `block_model.npz`; `block_model.md` says from what, and how good it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from include.gleaner.process.features import Features

MODEL: Final = Path(__file__).with_suffix(".npz")
MAX_LEAVES: Final = 16  # of one tree: a bit each
_ALL: Final = (1 << MAX_LEAVES) - 1
_ONE: Final = np.uint16(1)
_ROWS: Final = 256  # leaves that are judged at once: what fits into the cache
_GROUP: Final = 128  # rows of the table for several features together
_DIGITS: Final = 6  # so that the last bits of an exponential, which differ between machines, decide nothing


@dataclass(frozen=True, kw_only=True)
class _Table:
    """The splits of a model by feature: what stays of every tree, for each place among a feature's thresholds.

    Features with few thresholds share a group, whose rows are there for each combination of their places.
    """

    steps: tuple[NDArray[np.float32], ...]  # thresholds of each feature, ascending
    groups: tuple[tuple[tuple[tuple[int, int], ...], NDArray[np.uint16]], ...]  # (feature, stride) of members; the rows


@dataclass(frozen=True, kw_only=True)
class BlockModel:
    """Trees whose splits are laid out one after another.

    A split that a row fails takes the leaves on its left away: `masks` has a bit for each leaf that stays. The lowest
    bit that is left over in the end is the row's leaf. (QuickScorer, Lucchese et al., SIGIR 2015.)
    """

    names: tuple[str, ...]  # of the features
    feature: NDArray[np.intp]  # of each split
    threshold: NDArray[np.float32]
    masks: NDArray[np.uint16]
    starts: NDArray[np.intp]  # first split of each tree
    values: NDArray[np.int16]  # of the leaves, tree after tree
    offsets: NDArray[np.intp]  # first value of each tree
    scale: float

    @classmethod
    def load(cls, path: Path = MODEL) -> BlockModel:
        """Read a model that `save` wrote."""
        with np.load(path, allow_pickle=False) as stored:
            return cls(
                names=tuple(str(name) for name in stored["names"]),
                feature=stored["feature"].astype(np.intp),
                threshold=stored["threshold"],
                masks=stored["masks"],
                starts=stored["starts"].astype(np.intp),
                values=stored["values"],
                offsets=stored["offsets"].astype(np.intp),
                scale=float(stored["scale"]),
            )

    def save(self, path: Path = MODEL) -> None:
        """Write the model."""
        np.savez_compressed(
            path,
            names=np.array(self.names),
            feature=self.feature.astype(np.uint8),
            threshold=self.threshold,
            masks=self.masks,
            starts=self.starts.astype(np.uint16),
            values=self.values,
            offsets=self.offsets.astype(np.uint16),
            scale=np.float64(self.scale),
        )

    def chances(self, features: Features) -> NDArray[np.float64]:
        """For each leaf of the pages the probability that it is content."""
        table, page = self._table, features.page
        pages = int(page[-1]) + 1
        whole = np.full((pages, len(self.starts)), _ALL, np.uint16)  # what each page decides for all of its leaves
        columns: list[tuple[NDArray[np.uint16], NDArray[np.intp]]] = []
        for members, rows in table.groups:
            of_pages: Any = 0
            of_leaves: Any = None
            for feature, stride in members:
                name, steps = self.names[feature], table.steps[feature]
                if name in features.leaves:
                    ranks = steps.searchsorted(features.leaves[name]) * stride
                    of_leaves = ranks if of_leaves is None else of_leaves + ranks
                else:
                    of_pages = of_pages + steps.searchsorted(features.pages[name]) * stride
            if of_leaves is None:
                whole &= rows[of_pages]
            else:
                columns.append((rows, of_leaves if isinstance(of_pages, int) else of_leaves + of_pages[page]))
        count = len(page)
        sums = np.empty(count, dtype=np.float64)
        for start in range(0, count, _ROWS):
            left = whole[page[start : start + _ROWS]]
            stays = np.empty_like(left)
            for rows, places in columns:
                left &= rows.take(places[start : start + _ROWS], axis=0, out=stays, mode="clip")
            lowest = np.bitwise_count(~left & (left - _ONE))  # the number of the lowest bit: so many are below it
            leaves = self.values.take(lowest + self.offsets, mode="clip")
            sums[start : start + _ROWS] = leaves.sum(axis=1, dtype=np.int64)
        chances: NDArray[np.float64] = np.round(1.0 / (1.0 + np.exp(-sums * self.scale)), _DIGITS)
        return chances

    @cached_property
    def _table(self) -> _Table:
        steps = tuple(np.unique(self.threshold[self.feature == number]) for number in range(len(self.names)))
        tree = np.repeat(np.arange(len(self.starts)), np.diff(np.append(self.starts, len(self.feature))))
        groups: list[tuple[tuple[tuple[int, int], ...], NDArray[np.uint16]]] = []
        members: list[tuple[int, int]] = []
        rows = np.full((1, len(self.starts)), _ALL, np.uint16)
        for number, thresholds in enumerate(steps):
            stays = np.full((len(thresholds) + 1, len(self.starts)), _ALL, np.uint16)
            for split in np.flatnonzero(self.feature == number):
                stays[np.searchsorted(thresholds, self.threshold[split]) + 1 :, tree[split]] &= self.masks[split]
            if members and len(rows) * len(stays) > _GROUP:
                groups.append((tuple(members), rows))
                members, rows = [], np.full((1, len(self.starts)), _ALL, np.uint16)
            members.append((number, len(rows)))
            rows = (stays[:, np.newaxis] & rows).reshape(-1, len(self.starts))
        groups.append((tuple(members), rows))
        return _Table(steps=steps, groups=tuple(groups))


@lru_cache(maxsize=1)
def block_model() -> BlockModel:
    """The model that ships with the package, read once."""
    return BlockModel.load()


def best_choice(chances: NDArray[np.float64], words: NDArray[np.float64]) -> tuple[NDArray[Any], float]:
    """Which leaves to take so that F1 over the words is expected to be the highest, and how high that is.

    The best choice is always the likeliest leaves down to some probability, so that all choices can be tried.
    """
    order = np.argsort(-chances, kind="stable")
    expected = np.cumsum((chances * words)[order])
    scores = 2.0 * expected / (np.cumsum(words[order]) + expected[-1] + 1e-9)
    last = int(scores.argmax())
    chosen = np.zeros(len(chances), dtype=bool)
    chosen[order[: last + 1]] = True
    return chosen, float(scores[last])
