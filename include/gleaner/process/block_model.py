"""The block model: how likely each leaf of a page is content. Small trees, read by numpy.

`tools/train_block_model.py` makes `block_model.npz`; `block_model.md` says from what, and how good it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

MODEL: Final = Path(__file__).with_suffix(".npz")
MAX_LEAVES: Final = 16  # of one tree: a bit each
_ROWS: Final = 64  # leaves that are judged at once: what fits into the cache
_DIGITS: Final = 6  # so that the last bits of an exponential, which differ between machines, decide nothing

# The number of the lowest bit that is set, for all there are.
_LOWEST: Final = np.array([(mask & -mask).bit_length() - 1 if mask else 0 for mask in range(1 << MAX_LEAVES)], np.uint8)


@dataclass(frozen=True, kw_only=True)
class BlockModel:
    """Trees whose splits are laid out one after another.

    A split that a row fails takes the leaves on its left away: `masks` has a bit for each leaf that stays. The lowest
    bit that is left over in the end is the row's leaf.
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
        # A row for each split, so that what lies side by side is worked on together.
        columns = np.stack([features[name] for name in self.names])
        thresholds, masks = self.threshold[:, np.newaxis], self.masks[:, np.newaxis]
        sums = np.empty(columns.shape[1], dtype=np.float64)
        for start in range(0, len(sums), _ROWS):
            fails = columns[:, start : start + _ROWS][self.feature] > thresholds
            left = np.where(fails, masks, np.uint16(0xFFFF))
            leaf = _LOWEST[np.bitwise_and.reduceat(left, self.starts, axis=0)]
            sums[start : start + _ROWS] = self.values[leaf + self.offsets[:, np.newaxis]].sum(axis=0, dtype=np.int64)
        chances: NDArray[np.float64] = np.round(1.0 / (1.0 + np.exp(-sums * self.scale)), _DIGITS)
        return chances


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
