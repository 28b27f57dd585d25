from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.gleaner.config import EmbedPolicy
from include.gleaner.embed.batching import Request, halves, pack, token_bound

POLICY = EmbedPolicy(max_inputs=4, max_request_tokens=100, max_input_tokens=50)


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ([], []),
        ([50], [(0,)]),
        ([25, 25, 25, 25, 1], [(0, 1, 2, 3), (4,)]),  # four inputs, then 100 tokens exactly
        ([50, 50, 1], [(0, 1), (2,)]),
        ([50, 51, 50], [(0, 2)]),  # 51 is more than an input may have
        ([40, 40, 40, 40], [(0, 1), (2, 3)]),
    ],
)
def test_packing(counts: list[int], expected: list[tuple[int, ...]]) -> None:
    plan = pack(["text"] * len(counts), counts, POLICY)
    assert [request.positions for request in plan.requests] == expected


@given(
    st.lists(st.tuples(st.text(max_size=80), st.integers(0, 70)), max_size=60),
    st.integers(1, 9),
    st.integers(1, 120),
    st.booleans(),
)
def test_every_position_comes_once_and_no_limit_is_broken(
    inputs: list[tuple[str, int]], max_inputs: int, max_request_tokens: int, counted: bool
) -> None:
    policy = replace(POLICY, max_inputs=max_inputs, max_request_tokens=max_request_tokens)
    texts = [text for text, _ in inputs]
    plan = pack(texts, [count for _, count in inputs] if counted else None, policy)
    packed = [position for request in plan.requests for position in request.positions]
    assert packed == sorted(packed)
    assert sorted([*packed, *plan.refused]) == list(range(len(texts)))
    for request in plan.requests:
        assert 0 < len(request.positions) <= max_inputs
        assert request.tokens <= max_request_tokens
        assert all(texts[position].strip() for position in request.positions)


def test_without_counts_no_text_is_refused_for_its_length() -> None:
    plan = pack(["word " * 1_000, ""], None, POLICY)
    assert [request.positions for request in plan.requests] == [(0,)]
    assert dict(plan.refused) == {1: "empty text"}


def test_counts_must_match() -> None:
    with pytest.raises(ValueError, match="1 token counts for 2 texts"):
        pack(["a", "b"], [1], POLICY)


@pytest.mark.parametrize(("text", "bound"), [("abc", 3), ("سلام", 8), ("\ud800", 3)])
def test_the_bound_is_the_length_in_utf8(text: str, bound: int) -> None:
    assert token_bound(text) == bound


def test_halves_share_nothing_and_lose_nothing() -> None:
    left, right = halves(Request(positions=(1, 5, 9), tokens=10))
    assert (left.positions, right.positions) == ((1,), (5, 9))
    assert (left.tokens, right.tokens) == (3, 7)  # 10 * 1 // 3, and the rest
