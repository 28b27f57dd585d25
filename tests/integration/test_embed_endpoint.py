"""The endpoint embedder against a strict endpoint: how it packs and asks, and what comes back."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from include.gleaner.errors import (
    EmbeddingRefusedError,
)
from tests.support.embedding_client import (
    assert_all_right,
    by_position,
    embedder_for,
    texts_of,
)
from tests.support.embedding_server import EmbeddingServer


def test_vectors_stand_for_their_texts_and_have_norm_one(endpoint: EmbeddingServer) -> None:
    texts = texts_of(35)
    batches = list(embedder_for(endpoint).embed(texts, [9] * 35))
    assert_all_right(batches, texts)
    assert sum(len(batch.positions) for batch in batches) == 35
    assert all(batch.vectors.dtype == np.float32 for batch in batches)
    np.testing.assert_allclose(np.linalg.norm(np.concatenate([b.vectors for b in batches]), axis=1), 1.0, atol=1e-6)
    assert sum(batch.tokens for batch in batches) == endpoint.stats().tokens


def test_five_thousand_inputs_go_into_three_requests(endpoint: EmbeddingServer) -> None:
    texts = texts_of(5_000)
    batches = list(embedder_for(endpoint, max_inputs=2_048).embed(texts, [12] * 5_000))
    assert_all_right(batches, texts)
    stats = endpoint.stats()
    assert (stats.calls, stats.inputs, stats.most_inputs, stats.repeated) == (3, 5_000, 2_048, 0)


def test_requests_stay_within_the_token_limit_without_counts(endpoint: EmbeddingServer) -> None:
    texts = [f"{number} " + "قیمت کتاب در فروشگاه تهران " * 60 for number in range(60)]
    batches = list(embedder_for(endpoint, max_inputs=2_048, max_request_tokens=60_000).embed(texts))
    assert_all_right(batches, texts)
    assert endpoint.stats().most_tokens <= 60_000


def test_order_is_by_index_not_by_arrival(endpoint: EmbeddingServer) -> None:
    endpoint.configure(shuffle=True)
    texts = texts_of(25)
    assert_all_right(list(embedder_for(endpoint).embed(texts)), texts)


def test_lists_instead_of_base64_and_no_usage_are_understood(endpoint: EmbeddingServer) -> None:
    endpoint.configure(lists=True, no_usage=True)
    texts = texts_of(12)
    batches = list(embedder_for(endpoint).embed(texts, [7] * 12))
    assert_all_right(batches, texts)
    assert sum(batch.tokens for batch in batches) == 12 * 7


def test_requests_are_under_way_together_and_while_the_caller_stores(endpoint: EmbeddingServer) -> None:
    endpoint.configure(latency_ms=50, together=4)
    texts = texts_of(80)
    answers = embedder_for(endpoint, concurrency=4).embed(texts)
    batches = [next(answers)]
    deadline = time.monotonic() + 60
    while endpoint.stats().answered < 5 and time.monotonic() < deadline:
        threading.Event().wait(0.01)
    assert endpoint.stats().answered >= 5  # asked for although nobody has taken the second answer yet
    batches.extend(answers)
    assert_all_right(batches, texts)
    assert endpoint.stats().most_under_way == 4


def test_an_endpoint_without_a_key_is_asked_without_one(endpoint: EmbeddingServer) -> None:
    endpoint.configure(api_key="")
    assert_all_right(list(embedder_for(endpoint, key="").embed(texts_of(3))), texts_of(3))


def test_closing_early_cancels_what_is_under_way(endpoint: EmbeddingServer) -> None:
    def threads() -> set[str]:
        """But for those of the test's endpoint, which come and go with connections."""
        return {one.name for one in threading.enumerate() if "process_request_thread" not in one.name}

    endpoint.configure(latency_ms=20)
    before = threads()
    answers = embedder_for(endpoint, concurrency=2).embed(texts_of(200))
    next(answers)
    assert "embedding-requests" in threads()
    endpoint.configure(hang_first=1_000)
    began = time.monotonic()
    answers.close()  # type: ignore[attr-defined]
    assert time.monotonic() - began < 15  # not the 20 s of the timeout
    assert threads() <= before
    assert endpoint.stats().calls < 20


def test_a_query_finds_the_text_that_shares_its_words(endpoint: EmbeddingServer) -> None:
    embedder = embedder_for(endpoint, dimensions=512)
    texts = ["reset the router with the button", "return an order within three days", "بازگرداندن کالا تا سه روز"]
    vectors = by_position(list(embedder.embed(texts)))
    for query, at in (("router reset", 0), ("return order", 1), ("بازگرداندن کالا", 2)):
        scores = np.stack([vectors[0], vectors[1], vectors[2]]) @ embedder.embed_query(query)
        assert int(scores.argmax()) == at
    with pytest.raises(EmbeddingRefusedError):
        embedder.embed_query("   ")
