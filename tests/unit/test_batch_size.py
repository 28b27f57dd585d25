"""Batches fill the slots, are worth a task, and are never too many."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.gleaner.config import MAX_BATCHES
from include.gleaner.pipeline.planning import LARGEST_BATCH, SMALLEST_BATCH, batch_size


def batches(pages: int, largest: int = LARGEST_BATCH, slots: int = 4) -> int:
    return -(-pages // batch_size(pages, largest, slots))


@pytest.mark.parametrize(
    ("pages", "largest", "expected"),
    [(1, 500, 1), (8, 500, 1), (20, 500, 3), (200, 500, 4), (2_000, 500, 4), (2_001, 500, 8), (5_000, 500, 12),
     (5_000, LARGEST_BATCH, 4), (10_001, LARGEST_BATCH, 8), (100_000, LARGEST_BATCH, 40),
     (200, 50, 4), (201, 50, 8), (240, 1, 240), (1_000_000, 500, 1_000), (100_000, 1, 1_000)],
)  # fmt: skip
def test_how_many_there_are(pages: int, largest: int, expected: int) -> None:
    assert batches(pages, largest) == expected


@given(st.integers(1, 2_000_000), st.integers(1, 500), st.integers(1, 64))
def test_they_are_never_too_many_nor_too_small_nor_too_large(pages: int, largest: int, slots: int) -> None:
    size, count = batch_size(pages, largest, slots), batches(pages, largest, slots)
    assert 1 <= count <= MAX_BATCHES
    assert size <= max(largest, -(-pages // MAX_BATCHES))
    assert size >= min(SMALLEST_BATCH, largest)
    if largest >= SMALLEST_BATCH and SMALLEST_BATCH * slots <= pages:
        assert count > slots // 2  # rounding leaves some slots empty, never half of them
