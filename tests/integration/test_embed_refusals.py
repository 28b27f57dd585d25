"""What the endpoint refuses for good: found alone, told at the first call, and never with a key or a text."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from include.gleaner.config import EmbedPolicy
from include.gleaner.embed import open_embedder
from include.gleaner.embed.dispatch import REFUSED_AT_FIRST
from include.gleaner.errors import (
    EmbeddingRefusedError,
)
from tests.support.embedding_client import (
    SECRET,
    assert_all_right,
    assert_silent,
    embedder_for,
    expected,
    policy_for,
    refused_in,
    texts_of,
)
from tests.support.embedding_faults import API_KEY
from tests.support.embedding_server import EmbeddingServer


def test_an_input_that_is_too_long_by_count_is_refused_unasked(endpoint: EmbeddingServer) -> None:
    texts = ["short", "word " * 9_000, " \n"]
    batches = list(embedder_for(endpoint).embed(texts, [1, 9_000, 1]))
    assert refused_in(batches) == {1: "9000 tokens, the limit is 8191", 2: "empty text"}
    assert_all_right(batches, texts, without=[1, 2])
    assert endpoint.stats().most_inputs == 1


def test_an_input_that_only_the_server_finds_too_long_is_refused_alone(endpoint: EmbeddingServer) -> None:
    texts = [*texts_of(7), f"{SECRET} " * 5_000]
    batches = list(embedder_for(endpoint).embed(texts, [9] * 8))
    assert refused_in(batches) == {7: "HTTP 400 invalid_request_error: longer than the model reads"}
    assert_all_right(batches, texts, without=[7])
    assert endpoint.stats().repeated == 0


def test_refused_inputs_are_found_and_the_others_kept(endpoint: EmbeddingServer) -> None:
    endpoint.configure(refuse_marker="forbidden")
    texts = texts_of(64)
    bad = [3, 4, 40]
    for position in bad:
        texts[position] = f"{SECRET} forbidden {position}"
    batches = list(embedder_for(endpoint, max_inputs=64).embed(texts))
    assert_all_right(batches, texts, without=bad)
    assert refused_in(batches) == dict.fromkeys(bad, "HTTP 400 invalid_request_error invalid_input")
    stats = endpoint.stats()
    assert stats.repeated == 0
    assert stats.calls <= 1 + 3 * 2 * 6  # each refused input costs two requests a level, log2(64) levels


def test_an_endpoint_that_refuses_everything_is_not_asked_for_everything(endpoint: EmbeddingServer) -> None:
    endpoint.configure(refuse_all=True)
    with pytest.raises(EmbeddingRefusedError) as caught:
        list(embedder_for(endpoint, max_inputs=2_048).embed(texts_of(2_000)))
    assert len(caught.value.positions) >= REFUSED_AT_FIRST
    assert endpoint.stats().calls < 150
    assert_silent(caught.value)


def test_an_input_that_always_gives_nan_is_refused_alone(endpoint: EmbeddingServer) -> None:
    endpoint.configure(nan_first=1_000, nan_marker="broken")
    texts = [*texts_of(9), "broken"]
    batches = list(embedder_for(endpoint, attempts=3).embed(texts))
    assert_all_right(batches, texts, without=[9])
    assert list(refused_in(batches)) == [9]
    assert (endpoint.stats().calls, endpoint.stats().repeated) == (3, 0)


@pytest.mark.parametrize(
    ("key", "changes", "told"),
    [
        ("sk-wrong-key", {}, "HTTP 401 invalid_request_error invalid_api_key: the key was not accepted"),
        ("", {}, "HTTP 401 invalid_request_error: the key was not accepted"),
        (API_KEY, {"model": "no-such-model"}, "HTTP 404 invalid_request_error model_not_found"),
        (API_KEY, {"dimensions": 9_999}, "HTTP 400 invalid_request_error"),
    ],
)
def test_what_is_wrong_for_good_is_told_at_the_first_call(
    endpoint: EmbeddingServer, caplog: pytest.LogCaptureFixture, key: str, changes: dict[str, object], told: str
) -> None:
    caplog.set_level(logging.INFO)
    with pytest.raises(EmbeddingRefusedError) as caught:
        list(embedder_for(endpoint, key=key, **changes).embed(texts_of(10)))
    assert told in str(caught.value)
    assert "sk-" not in str(caught.value)
    assert_silent(caught.value, caplog)
    assert endpoint.stats().calls == 1


def test_vectors_of_another_length_are_refused_with_the_cure(endpoint: EmbeddingServer) -> None:
    endpoint.configure(wrong_dimensions=32)
    with pytest.raises(EmbeddingRefusedError, match=r"32 dimensions .* 64 are expected; correct the extra"):
        list(embedder_for(endpoint).embed(texts_of(5)))


@pytest.mark.parametrize("key", ["sk-a\nb", "sk a", "کلید"])
def test_a_key_that_cannot_be_sent_is_refused_unsent(endpoint: EmbeddingServer, key: str) -> None:
    with pytest.raises(EmbeddingRefusedError) as caught:
        open_embedder(policy_for(endpoint), key)
    assert key not in str(caught.value)


@pytest.mark.parametrize("address", ["http://[broken", "not an address", ""])
def test_an_address_that_is_none(address: str) -> None:
    with pytest.raises(EmbeddingRefusedError, match="needs to be like https://") as caught:
        open_embedder(EmbedPolicy(model="m", dimensions=4, base_url=address), API_KEY)
    assert_silent(caught.value)


def test_texts_that_are_no_utf8_are_sent_without_what_is_none(endpoint: EmbeddingServer) -> None:
    (batch,) = embedder_for(endpoint).embed(["before\ud800 \x00after"], [3])
    np.testing.assert_allclose(batch.vectors, expected(["before after"]), atol=1e-6)
