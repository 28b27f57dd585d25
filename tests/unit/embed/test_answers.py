from __future__ import annotations

import base64
import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.gleaner.embed.answers import UnusableAnswerError, WrongDimensionsError, read_answer


def item(index: object, values: list[float] | None = None) -> dict[str, Any]:
    return {"index": index, "embedding": base64.b64encode(np.array(values or [3.0, 4.0], "<f4").tobytes()).decode()}


def body(*items: object, **more: object) -> bytes:
    return json.dumps({"data": list(items), **more}).encode()


def test_vectors_come_by_index_with_norm_one() -> None:
    answer = read_answer(body(item(1, [0.0, 2.0]), item(0), usage={"total_tokens": 7}), 2, 2)
    np.testing.assert_allclose(answer.vectors, [[0.6, 0.8], [0.0, 1.0]], atol=1e-7)  # 3/5, 4/5
    assert answer.vectors.dtype == np.float32
    assert answer.usable.all()
    assert answer.tokens == 7


@pytest.mark.parametrize(
    "vector",
    [[math.nan, 1.0], [math.inf, 1.0], [-math.inf, 0.0], [0.0, 0.0], [1e-30, 0.0], [None, 1.0], [1e300, 1.0]],
)
def test_a_vector_without_direction_costs_itself_alone(vector: list[Any]) -> None:
    answer = read_answer(body(item(0), {"index": 1, "embedding": vector}, item(2)), 3, 2)
    assert answer.usable.tolist() == [True, False, True]
    assert np.isfinite(answer.vectors[answer.usable]).all()


def test_the_largest_numbers_that_float32_has_are_no_overflow() -> None:
    answer = read_answer(body(item(0, [3e38, 3e38])), 1, 2)
    np.testing.assert_allclose(answer.vectors, [[math.sqrt(0.5), math.sqrt(0.5)]], atol=1e-6)


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"<html>",
        b"[" * 100_000,
        b"\xff\xfe",
        b"null",
        b"[]",
        b"{}",
        b'{"data": null}',
        body("text", "text"),
        body(item(0)),  # one for two
        body(item(0), item(1), item(2)),
        body(item(0), item(0)),
        body(item(0), item(2)),
        body(item(0), item(-1)),
        body(item(0), item("1")),
        body(item(0), item(True)),
        body(item(0), item(1.0)),
        body(item(0), {"embedding": [1.0, 2.0]}),
        body(item(0), {"index": 1}),
        body(item(0), {"index": 1, "embedding": "*not base64*"}),
        body(item(0), {"index": 1, "embedding": "QUJD"}),  # three bytes
        body(item(0), {"index": 1, "embedding": ""}),
        body(item(0), {"index": 1, "embedding": []}),
        body(item(0), {"index": 1, "embedding": ["1", "2"]}),
        body(item(0), {"index": 1, "embedding": [True, False]}),
        body(item(0), {"index": 1, "embedding": [[1.0], [2.0]]}),
        body(item(0), {"index": 1, "embedding": [10**400, 1]}),
    ],
)
def test_what_is_no_answer_is_refused_without_being_quoted(bad: bytes) -> None:
    with pytest.raises(UnusableAnswerError) as caught:
        read_answer(bad, 2, 2)
    assert not isinstance(caught.value, WrongDimensionsError)
    assert "base64*" not in str(caught.value)
    assert len(str(caught.value)) < 80


def test_another_length_is_told() -> None:
    with pytest.raises(WrongDimensionsError) as caught:
        read_answer(body(item(0), item(1, [1.0, 2.0, 3.0])), 2, 2)
    assert caught.value.dimensions == 3


@pytest.mark.parametrize(
    "usage", [None, 7, {}, {"total_tokens": "7"}, {"total_tokens": -1}, {"total_tokens": 0}, {"total_tokens": True}]
)
def test_usage_that_says_nothing(usage: object) -> None:
    assert read_answer(body(item(0), usage=usage), 1, 2).tokens is None


_JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["index", "embedding", "data"]), inner),
    max_leaves=12,
)


@given(st.lists(_JSON, max_size=3))
def test_no_json_raises_anything_else(items: list[Any]) -> None:
    try:
        answer = read_answer(json.dumps({"data": items}).encode(), max(len(items), 1), 2)
    except UnusableAnswerError:
        return
    assert answer.vectors.shape == (len(items), 2)
