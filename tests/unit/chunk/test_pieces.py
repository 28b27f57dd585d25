"""The smallest pieces that a chunk boundary may fall between."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from include.gleaner.chunk.pieces import count_bounded, is_within


@given(st.text(alphabet="ab c.\nسلام‌۱é日😀", max_size=60), st.integers(0, 80))
def test_whether_a_text_is_within_a_budget_is_never_a_guess(text: str, budget: int) -> None:
    assert is_within(text, budget) == (count_bounded(text) <= budget)
