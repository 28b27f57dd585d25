"""The smallest pieces that a chunk boundary may fall between."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from include.gleaner.chunk.tokens import Meter, count_tokens
from include.gleaner.config import DEFAULT_ENCODING
from include.gleaner.models import TokenLimit

TEXTS = st.text(alphabet="ab c.\nسلام‌۱é日😀", max_size=60)


@given(TEXTS, st.integers(0, 80), st.booleans())
def test_whether_a_text_is_within_a_budget_is_never_a_guess(text: str, budget: int, limited: bool) -> None:
    limit = TokenLimit(count=lambda text: 3 * len(text), most=100) if limited else None
    meter = Meter(DEFAULT_ENCODING, 100, limit)
    assert meter.is_within(text, budget) == (meter.size(text) <= budget)


@given(TEXTS, st.integers(1, 40), st.integers(1, 40))
def test_a_size_above_the_budget_means_above_either_limit(text: str, most: int, limit: int) -> None:
    meter = Meter(DEFAULT_ENCODING, most, TokenLimit(count=len, most=limit))
    size, tokens = meter.measure(text)
    assert tokens == count_tokens(text)
    assert (size <= most) == (tokens <= most and len(text) <= limit)
