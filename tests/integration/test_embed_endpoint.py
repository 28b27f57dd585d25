"""The endpoint embedder against a strict endpoint that fails in every way the real one does."""

from __future__ import annotations

import logging
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from include.gleaner.config import EmbedPolicy
from include.gleaner.embed import Embedder, open_embedder
from include.gleaner.embed.client import EndpointEmbedder
from include.gleaner.embed.dispatch import REFUSED_AT_FIRST
from include.gleaner.errors import (
    EmbeddingError,
    EmbeddingQuotaError,
    EmbeddingRefusedError,
    EmbeddingUnavailableError,
)
from include.gleaner.models import EmbeddedBatch
from tests.support.embedding_server import API_KEY, EmbeddingServer, vector_of

SECRET = "zanzibar"  # in every text, so that a message that quotes one is noticed


@pytest.fixture
def server() -> Iterator[EmbeddingServer]:
    with EmbeddingServer() as running:
        yield running


def policy_for(server: EmbeddingServer, **changes: object) -> EmbedPolicy:
    policy = EmbedPolicy(
        model="text-embedding-3-small",
        dimensions=64,
        base_url=server.url,
        max_inputs=10,
        timeout_seconds=20.0,
        max_wait_seconds=3.0,
    )
    return replace(policy, **changes)  # type: ignore[arg-type]


def embedder_for(server: EmbeddingServer, key: str = API_KEY, **changes: object) -> Embedder:
    return EndpointEmbedder(policy_for(server, **changes), key, backoff_seconds=0.01)


def texts_of(count: int) -> list[str]:
    return [f"text number {number} of {SECRET}" for number in range(count)]


def expected(texts: Sequence[str], dimensions: int = 64) -> NDArray[np.float32]:
    return np.stack([vector_of(text, dimensions) for text in texts])


def by_position(batches: Sequence[EmbeddedBatch]) -> dict[int, NDArray[np.float32]]:
    vectors: dict[int, NDArray[np.float32]] = {}
    for batch in batches:
        for position, vector in zip(batch.positions, batch.vectors, strict=True):
            assert position not in vectors
            vectors[position] = vector
    return vectors


def refused_in(batches: Sequence[EmbeddedBatch]) -> dict[int, str]:
    return {position: reason for batch in batches for position, reason in batch.refused.items()}


def assert_all_right(batches: Sequence[EmbeddedBatch], texts: Sequence[str], without: Sequence[int] = ()) -> None:
    vectors = by_position(batches)
    assert sorted(vectors) == [at for at in range(len(texts)) if at not in without]
    for position, vector in vectors.items():
        np.testing.assert_allclose(vector, vector_of(texts[position], len(vector)), atol=1e-6)


def assert_silent(error: BaseException, caplog: pytest.LogCaptureFixture | None = None) -> None:
    """Neither the error, its chain as it is printed, nor the log has the key or a text."""
    told = "".join(traceback.format_exception(error)) + str(error)
    if caplog is not None:
        told += caplog.text
    assert API_KEY not in told
    assert SECRET not in told


def kept_until(embedder: Embedder, texts: Sequence[str], error: type[EmbeddingError]) -> list[EmbeddedBatch]:
    """What was handed out before the error came."""
    batches: list[EmbeddedBatch] = []
    with pytest.raises(error) as caught:
        take(batches, embedder.embed(texts))
    assert_silent(caught.value)
    return batches


def take(batches: list[EmbeddedBatch], answers: Iterator[EmbeddedBatch]) -> None:
    """Like `extend`, but an error leaves what came before it."""
    for answer in answers:
        batches.append(answer)


def test_vectors_stand_for_their_texts_and_have_norm_one(server: EmbeddingServer) -> None:
    texts = texts_of(35)
    batches = list(embedder_for(server).embed(texts, [9] * 35))
    assert_all_right(batches, texts)
    assert sum(len(batch.positions) for batch in batches) == 35
    assert all(batch.vectors.dtype == np.float32 for batch in batches)
    np.testing.assert_allclose(np.linalg.norm(np.concatenate([b.vectors for b in batches]), axis=1), 1.0, atol=1e-6)
    assert sum(batch.tokens for batch in batches) == server.stats().tokens


def test_five_thousand_inputs_go_into_three_requests(server: EmbeddingServer) -> None:
    texts = texts_of(5_000)
    batches = list(embedder_for(server, max_inputs=2_048).embed(texts, [12] * 5_000))
    assert_all_right(batches, texts)
    stats = server.stats()
    assert (stats.calls, stats.inputs, stats.most_inputs, stats.repeated) == (3, 5_000, 2_048, 0)


def test_requests_stay_within_the_token_limit_without_counts(server: EmbeddingServer) -> None:
    texts = [f"{number} " + "قیمت کتاب در فروشگاه تهران " * 60 for number in range(60)]
    batches = list(embedder_for(server, max_inputs=2_048, max_request_tokens=60_000).embed(texts))
    assert_all_right(batches, texts)
    assert server.stats().most_tokens <= 60_000


def test_an_input_that_is_too_long_by_count_is_refused_unasked(server: EmbeddingServer) -> None:
    texts = ["short", "word " * 9_000, " \n"]
    batches = list(embedder_for(server).embed(texts, [1, 9_000, 1]))
    assert refused_in(batches) == {1: "9000 tokens, the limit is 8191", 2: "empty text"}
    assert_all_right(batches, texts, without=[1, 2])
    assert server.stats().most_inputs == 1


def test_an_input_that_only_the_server_finds_too_long_is_refused_alone(server: EmbeddingServer) -> None:
    texts = [*texts_of(7), f"{SECRET} " * 5_000]
    batches = list(embedder_for(server).embed(texts, [9] * 8))
    assert refused_in(batches) == {7: "HTTP 400 invalid_request_error: longer than the model reads"}
    assert_all_right(batches, texts, without=[7])
    assert server.stats().repeated == 0


def test_order_is_by_index_not_by_arrival(server: EmbeddingServer) -> None:
    server.configure(shuffle=True)
    texts = texts_of(25)
    assert_all_right(list(embedder_for(server).embed(texts)), texts)


def test_lists_instead_of_base64_and_no_usage_are_understood(server: EmbeddingServer) -> None:
    server.configure(lists=True, no_usage=True)
    texts = texts_of(12)
    batches = list(embedder_for(server).embed(texts, [7] * 12))
    assert_all_right(batches, texts)
    assert sum(batch.tokens for batch in batches) == 12 * 7


@pytest.mark.parametrize(
    "fault",
    [
        {"error_every": 3},
        {"error_first": 2, "error_status": 503},
        {"drop_every": 3},
        {"rate_limit_every": 3},
        {"rate_limit_every": 3, "retry_after": "0.05"},
        {"rate_limit_first": 3, "retry_after": "0"},
        {"wrong_count_first": 2},
        {"repeated_index_first": 2},
        {"cut_first": 2},
        {"garbage_first": 2},
        {"nan_first": 2},
    ],
    ids=lambda fault: "-".join(fault),
)
def test_faults_of_the_moment_cost_no_text_twice(server: EmbeddingServer, fault: dict[str, Any]) -> None:
    server.configure(**fault)
    texts = texts_of(95)
    batches = list(embedder_for(server).embed(texts))
    assert_all_right(batches, texts)
    stats = server.stats()
    assert stats.repeated == 0
    assert stats.inputs == 95
    assert stats.calls > 10  # the fault did happen


def test_an_endpoint_that_hangs_or_trickles_is_left(server: EmbeddingServer) -> None:
    texts = texts_of(10)
    for fault in ({"hang_first": 1}, {"hang_first": 0, "trickle_first": 1}):
        server.reset()
        server.configure(**fault)
        batches = list(embedder_for(server, timeout_seconds=1.5).embed(texts))
        assert_all_right(batches, texts)
        assert server.stats().calls == 2


def test_a_rate_limit_is_waited_for_as_long_as_it_says(server: EmbeddingServer) -> None:
    server.configure(rate_limit_first=1, retry_after="0.4")
    began = time.monotonic()
    assert_all_right(list(embedder_for(server).embed(texts_of(5))), texts_of(5))
    assert time.monotonic() - began >= 0.4
    assert server.stats().calls == 2


def test_a_rate_limit_halves_what_is_under_way(server: EmbeddingServer) -> None:
    server.configure(rate_limit_first=8, retry_after="0.05", latency_ms=30, together=8)
    texts = texts_of(160)
    answers = embedder_for(server, concurrency=8).embed(texts)
    first = next(answers)
    # All eight were refused: 8 requests halved to 4, then 5 after the first answer.
    assert server.stats().most_under_way == 8
    server.configure(together=0)
    server.reset()
    assert_all_right([first, *answers], texts)
    assert server.stats().most_under_way < 8


def test_requests_are_under_way_together_and_while_the_caller_stores(server: EmbeddingServer) -> None:
    server.configure(latency_ms=50, together=4)
    texts = texts_of(80)
    answers = embedder_for(server, concurrency=4).embed(texts)
    batches = [next(answers)]
    deadline = time.monotonic() + 60
    while server.stats().answered < 5 and time.monotonic() < deadline:
        threading.Event().wait(0.01)
    assert server.stats().answered >= 5  # asked for although nobody has taken the second answer yet
    batches.extend(answers)
    assert_all_right(batches, texts)
    assert server.stats().most_under_way == 4


def test_a_wait_that_is_too_long_is_given_back_at_once(server: EmbeddingServer) -> None:
    server.configure(rate_limit_every=4, retry_after="600")
    texts = texts_of(60)
    began = time.monotonic()
    batches: list[EmbeddedBatch] = []
    with pytest.raises(EmbeddingQuotaError) as caught:
        take(batches, embedder_for(server).embed(texts))
    assert time.monotonic() - began < 10
    assert 590 < caught.value.retry_after < 700
    assert_silent(caught.value)
    # Whatever was answered was handed out, also what was under way when the error came.
    assert sum(len(batch.positions) for batch in batches) == server.stats().inputs >= 30


def test_endless_rate_limits_end(server: EmbeddingServer) -> None:
    server.configure(rate_limit_every=1)
    with pytest.raises(EmbeddingQuotaError) as caught:
        list(embedder_for(server, max_wait_seconds=0.5).embed(texts_of(20)))
    assert_silent(caught.value)


def test_a_used_up_quota_is_told_at_once_and_the_rest_is_kept(server: EmbeddingServer) -> None:
    server.configure(quota_after=3)
    texts = texts_of(100)
    batches = kept_until(embedder_for(server), texts, EmbeddingQuotaError)
    assert len(by_position(batches)) == server.stats().inputs == 30
    assert server.stats().calls <= 3 + 4  # nothing was asked again
    server.configure(quota_after=0)
    done = by_position(batches)
    rest = [text for at, text in enumerate(texts) if at not in done]
    assert_all_right(list(embedder_for(server).embed(rest)), rest)
    assert server.stats().repeated == 0


def test_refused_inputs_are_found_and_the_others_kept(server: EmbeddingServer) -> None:
    server.configure(refuse_marker="forbidden")
    texts = texts_of(64)
    bad = [3, 4, 40]
    for position in bad:
        texts[position] = f"{SECRET} forbidden {position}"
    batches = list(embedder_for(server, max_inputs=64).embed(texts))
    assert_all_right(batches, texts, without=bad)
    assert refused_in(batches) == dict.fromkeys(bad, "HTTP 400 invalid_request_error invalid_input")
    stats = server.stats()
    assert stats.repeated == 0
    assert stats.calls <= 1 + 3 * 2 * 6  # each refused input costs two requests a level, log2(64) levels


def test_an_endpoint_that_refuses_everything_is_not_asked_for_everything(server: EmbeddingServer) -> None:
    server.configure(refuse_all=True)
    with pytest.raises(EmbeddingRefusedError) as caught:
        list(embedder_for(server, max_inputs=2_048).embed(texts_of(2_000)))
    assert len(caught.value.positions) >= REFUSED_AT_FIRST
    assert server.stats().calls < 150
    assert_silent(caught.value)


def test_an_input_that_always_gives_nan_is_refused_alone(server: EmbeddingServer) -> None:
    server.configure(nan_first=1_000, nan_marker="broken")
    texts = [*texts_of(9), "broken"]
    batches = list(embedder_for(server, attempts=3).embed(texts))
    assert_all_right(batches, texts, without=[9])
    assert list(refused_in(batches)) == [9]
    assert (server.stats().calls, server.stats().repeated) == (3, 0)


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
    server: EmbeddingServer, caplog: pytest.LogCaptureFixture, key: str, changes: dict[str, object], told: str
) -> None:
    caplog.set_level(logging.INFO)
    with pytest.raises(EmbeddingRefusedError) as caught:
        list(embedder_for(server, key=key, **changes).embed(texts_of(10)))
    assert told in str(caught.value)
    assert "sk-" not in str(caught.value)
    assert_silent(caught.value, caplog)
    assert server.stats().calls == 1


def test_vectors_of_another_length_are_refused_with_the_cure(server: EmbeddingServer) -> None:
    server.configure(wrong_dimensions=32)
    with pytest.raises(EmbeddingRefusedError, match=r"32 dimensions .* 64 are expected; correct the extra"):
        list(embedder_for(server).embed(texts_of(5)))


def test_an_endpoint_without_a_key_is_asked_without_one(server: EmbeddingServer) -> None:
    server.configure(api_key="")
    assert_all_right(list(embedder_for(server, key="").embed(texts_of(3))), texts_of(3))


@pytest.mark.parametrize("key", ["sk-a\nb", "sk a", "کلید"])
def test_a_key_that_cannot_be_sent_is_refused_unsent(server: EmbeddingServer, key: str) -> None:
    with pytest.raises(EmbeddingRefusedError) as caught:
        open_embedder(policy_for(server), key)
    assert key not in str(caught.value)


def test_an_endpoint_that_is_not_there(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with EmbeddingServer() as gone:
        embedder = embedder_for(gone, attempts=2)
    batches = kept_until(embedder, texts_of(30), EmbeddingUnavailableError)
    assert [(batch.positions, dict(batch.refused)) for batch in batches] == [((), {})]
    assert 4 <= batches[0].patience.failures <= 6  # three requests, twice; whoever gives up first ends it for all
    assert SECRET not in caplog.text


def test_server_errors_without_end(server: EmbeddingServer) -> None:
    server.configure(error_every=1)
    with pytest.raises(EmbeddingUnavailableError, match="HTTP 500") as caught:
        list(embedder_for(server, attempts=3, concurrency=1).embed(texts_of(30)))
    assert server.stats().calls <= 3 * 3
    assert_silent(caught.value)


@pytest.mark.parametrize("address", ["http://[broken", "not an address", ""])
def test_an_address_that_is_none(address: str) -> None:
    with pytest.raises(EmbeddingRefusedError, match="needs to be like https://") as caught:
        open_embedder(EmbedPolicy(model="m", dimensions=4, base_url=address), API_KEY)
    assert_silent(caught.value)


def test_closing_early_cancels_what_is_under_way(server: EmbeddingServer) -> None:
    server.configure(latency_ms=20)
    answers = embedder_for(server, concurrency=2).embed(texts_of(200))
    next(answers)
    server.configure(hang_first=1_000)
    threads = threading.active_count()
    began = time.monotonic()
    answers.close()  # type: ignore[attr-defined]
    assert time.monotonic() - began < 15  # not the 20 s of the timeout
    assert not [thread for thread in threading.enumerate() if thread.name == "embedding-requests"]
    assert threading.active_count() < threads
    assert server.stats().calls < 20


def test_texts_that_are_no_utf8_are_sent_without_what_is_none(server: EmbeddingServer) -> None:
    (batch,) = embedder_for(server).embed(["before\ud800 \x00after"], [3])
    np.testing.assert_allclose(batch.vectors, expected(["before after"]), atol=1e-6)


def test_a_query_finds_the_text_that_shares_its_words(server: EmbeddingServer) -> None:
    embedder = embedder_for(server, dimensions=512)
    texts = ["reset the router with the button", "return an order within three days", "بازگرداندن کالا تا سه روز"]
    vectors = by_position(list(embedder.embed(texts)))
    for query, at in (("router reset", 0), ("return order", 1), ("بازگرداندن کالا", 2)):
        scores = np.stack([vectors[0], vectors[1], vectors[2]]) @ embedder.embed_query(query)
        assert int(scores.argmax()) == at
    with pytest.raises(EmbeddingRefusedError):
        embedder.embed_query("   ")
