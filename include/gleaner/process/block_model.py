"""The block model: how likely each leaf of a page is content. Small trees, read by numpy.

`tools/train_block_model.py` makes `block_model.npz`; `block_model.md` says from what, and how good it is.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

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
    bounds: tuple[list[float], ...]  # the same
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

    def chances(self, features: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float64]:
        """For each leaf of a page the probability that it is content; `features` as of features_of."""
        table = self._table
        ranks: list[Any] = [
            steps.searchsorted(values) if (values := features[name]).ndim else bisect_left(bounds, values.item())
            for name, steps, bounds in zip(self.names, table.steps, table.bounds, strict=True)
        ]
        count = max(values.size for values in features.values())
        whole = np.full(len(self.starts), _ALL, np.uint16)  # what the page decides for all of its leaves
        columns: list[tuple[NDArray[np.uint16], NDArray[np.intp]]] = []
        for members, rows in table.groups:
            place = sum([ranks[feature] * stride for feature, stride in members])
            if isinstance(place, int):
                whole &= rows[place]
            else:
                columns.append((rows, place))
        sums = np.empty(count, dtype=np.float64)
        for start in range(0, count, _ROWS):
            left = np.repeat(whole[np.newaxis], min(_ROWS, count - start), axis=0)
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
        return _Table(steps=steps, bounds=tuple(each.tolist() for each in steps), groups=tuple(groups))


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
